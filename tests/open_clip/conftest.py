"""open_clip needs torchvision, which nothing else does; without it these tests are skipped.

``make test`` puts torchvision into a folder of its own and runs this folder in a second process,
with that folder on PYTHONPATH: a torchvision that does not fit torch breaks transformers too.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_open_clip import ARCHITECTURES, CONFIG, WEIGHTS, word_tokenizer


@pytest.fixture(scope="session", autouse=True)
def torchvision() -> Iterator[None]:
    """Skip where torchvision is not there; make one import that was built for another torch."""
    for name in ("open_clip", "torchvision", "timm"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}: see tests/open_clip/conftest.py")
    import torch

    stand_in = None
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        # A CUDA wheel beside the CPU build of torch. Its compiled operators do not load, and
        # nobody here calls them: their names are enough.
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        stand_in = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            stand_in.define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        importlib.import_module("torchvision")
    yield
    del stand_in


@pytest.fixture(scope="session")
def open_clip(torchvision: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The package, which knows ``ARCHITECTURES`` besides its own."""
    package = importlib.import_module("open_clip")
    words = word_tokenizer(tmp_path_factory.mktemp("words"))
    ARCHITECTURES["tiny-siglip"]["text_cfg"]["hf_tokenizer_name"] = str(words)
    folder = tmp_path_factory.mktemp("architectures")
    for name, config in ARCHITECTURES.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    package.add_model_config(folder)
    return package


@pytest.fixture(scope="session")
def weights(open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a file with random weights of an architecture, made once; not to be changed."""
    import torch
    from safetensors.torch import save_file

    made: dict[str, Path] = {}

    def file(arch: str) -> Path:
        arch = arch.removesuffix("-quickgelu")  # which changes the activation alone
        if arch not in made:
            torch.manual_seed(len(arch))
            model = open_clip.create_model(arch)
            for name, tensor in model.state_dict().items():
                if arch.startswith("tiny") and tensor.is_floating_point() and tensor.ndim:
                    # Away from the small random start, where every feature is nearly the same.
                    scale = 0.02 if "running_var" in name else 0.2
                    tensor.add_(scale * torch.randn_like(tensor).abs())
            made[arch] = tmp_path_factory.mktemp("weights") / f"{arch}.safetensors"
            state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
            save_file(state, made[arch])
        return made[arch]

    return file


@pytest.fixture(scope="session")
def build(open_clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Write a model of any architecture, with random weights that a training can start from.

    Returns:
        Its spec.
    """
    import torch
    from safetensors.torch import save_file

    def spec(config: dict[str, Any]) -> str:
        folder = tmp_path_factory.mktemp("model")
        (folder / CONFIG).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        with torch.no_grad():
            for tensor in model.parameters():
                tensor += 0.1 * torch.randn_like(tensor)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the mean over all that it sees
        if isinstance(config["vision_cfg"]["layers"], list):
            side = config["vision_cfg"]["image_size"]
            model.train().visual(torch.randn(16, 3, side, side))
        save_file({n: t.contiguous() for n, t in model.state_dict().items()}, folder / WEIGHTS)
        return f"open_clip:local-dir:{folder}"

    return spec


@pytest.fixture(scope="session")
def pictures(photos: Path) -> list[Any]:
    """A few photographs of different shapes."""
    from handful.encoders.decode import open_image

    return [open_image(path) for path in sorted(photos.glob("*/*.webp"))[::21]]
