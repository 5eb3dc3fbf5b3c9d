"""What a spec of ``open_clip:`` names: a tag of open_clip, a file, a folder or a repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handful.encoders.checkpoint.files import read_json
from handful.encoders.open_clip.download import CONFIG, bring
from handful.errors import InputError, did_you_mean
from handful.progress import notice

__all__ = ["Source", "find_source"]

HUB, FOLDER = "hf-hub:", "local-dir:"
# The better format first.
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
FOLDER_WEIGHTS = (*WEIGHTS, "model.safetensors", "pytorch_model.bin")
PIXELS = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class Source:
    """Where the parts of a model are.

    Attributes:
        name: what comes after ``open_clip:`` in the encoder's spec.
        model: what open_clip is asked for.
        config: of the architecture, as the files of open_clip write it.
        weights: a file.
        tokenizer: makes the tokenizer.
        preprocess: what is known of the preprocessing besides the architecture.
        is_tag: whether open_clip vouches for the weights.
    """

    name: str
    model: str
    config: Mapping[str, Any]
    weights: Path
    tokenizer: Callable[[], Any]
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    is_tag: bool = False

    @property
    def quick_gelu(self) -> bool:
        """Whether the transformers compute quick GELU instead of GELU."""
        return bool(self.config.get("quick_gelu"))

    @property
    def elsewhere(self) -> str | None:
        """The repository of the hub that open_clip asks for the text tower or its tokenizer."""
        text = self.config["text_cfg"]
        name: str | None = text.get("hf_model_name") or text.get("hf_tokenizer_name")
        return name


def find_source(package: Any, name: str) -> Source:
    """Find what ``name`` means; download the weights where they are not there yet.

    Raises:
        InputError: it means nothing, or its files cannot be had.
    """
    if name.startswith(HUB):
        repository, _, revision = name.removeprefix(HUB).partition("@")
        return _repository(package, repository, revision or "main")
    if name.startswith(FOLDER):
        return _folder(package, name, Path(name.removeprefix(FOLDER)).expanduser())
    arch, _, weights = name.partition("/")
    if arch not in package.list_models():
        raise _unknown_architecture(package, name, arch)
    if package.is_pretrained_cfg(arch, weights):
        return _tag(package, name, arch, weights)
    if weights and Path(weights).expanduser().is_file():
        return _file(package, name, arch, Path(weights).expanduser())
    known = package.list_pretrained_tags_by_model(arch)
    raise InputError(
        f"the encoder 'open_clip:{name}' names"
        + (f" the weights {weights!r}, no tag of {arch} and no file" if weights else " no weights")
        + f": give open_clip:{arch}/WEIGHTS with "
        + (f"one of {', '.join(known)}, or " if known else "")
        + f"the path of a file.{did_you_mean(weights, known)}"
    )


def _unknown_architecture(package: Any, name: str, arch: str) -> InputError:
    models = package.list_models()
    # What open_clip calls ViT-B-32, OpenAI calls ViT-B/32.
    by_lower, parts = {model.lower(): model for model in models}, name.lower().split("/")
    meant = next((m for n in (1, 2) if (m := by_lower.get("-".join(parts[:n])))), arch)
    return InputError(
        f"the encoder 'open_clip:{name}' names the architecture {arch!r}, which is unknown: give"
        f" one of the {len(models)} that open_clip.list_models() returns, and its weights, such as"
        f" open_clip:ViT-B-32/openai.{did_you_mean(meant, models)}"
    )


def _tag(package: Any, name: str, arch: str, tag: str) -> Source:
    about, config = package.get_pretrained_cfg(arch, tag), package.get_model_config(arch)
    # open_clip takes the architecture's word and only warns: ViT-B-32/openai would be wrong.
    config["quick_gelu"] = bool(about.get("quick_gelu") or config.get("quick_gelu"))
    repository, _, file = about["hf_hub"].rpartition("/")
    files = (Path(file).with_suffix(".safetensors").name, file) if file else WEIGHTS
    weights = bring(repository, files)
    return Source(
        name, arch, config, weights, lambda: package.get_tokenizer(arch), about, is_tag=True
    )


def _file(package: Any, name: str, arch: str, path: Path) -> Source:
    config, other = package.get_model_config(arch), f"{arch}-quickgelu"
    known = [
        {key: package.get_pretrained_cfg(arch, tag)[key] for key in PIXELS}
        for tag in package.list_pretrained_tags_by_model(arch)
    ]
    doubts = []
    if not config.get("quick_gelu") and other in package.list_models():
        doubts.append(f"plain GELU (weights that need quick GELU need {other})")
    # An architecture does not say how images are prepared; what all its weights share will do.
    agreed = known[0] if known and all(about == known[0] for about in known) else {}
    if known and not agreed:
        doubts.append(f"OpenAI's preprocessing (some weights of {arch} need another)")
    if doubts:
        notice(f"{path} runs with {' and '.join(doubts)}")
    return Source(name, arch, config, path, lambda: package.get_tokenizer(arch), agreed)


def _folder(package: Any, name: str, folder: Path) -> Source:
    weights = next((folder / n for n in FOLDER_WEIGHTS if (folder / n).is_file()), None)
    if weights is None or not (folder / CONFIG).is_file():
        raise InputError(
            f"the encoder 'open_clip:{name}' names no folder with a model of open_clip: expected"
            f" {CONFIG} in it, and {' or '.join(WEIGHTS)}."
        )
    model = f"{FOLDER}{folder}"
    return Source(name, model, _config(folder), weights, lambda: package.get_tokenizer(model))


def _repository(package: Any, repository: str, revision: str) -> Source:
    folder = bring(repository, (CONFIG,), revision).parent
    config, model = _config(folder), f"{FOLDER}{folder}"
    text = config["text_cfg"]

    def tokenizer() -> Any:
        if not text.get("hf_tokenizer_name"):
            return package.get_tokenizer(model)
        # open_clip would look for it in the folder.
        return package.tokenizer.HFTokenizer(
            text["hf_tokenizer_name"],
            context_length=text.get("context_length", package.tokenizer.DEFAULT_CONTEXT_LENGTH),
            tokenizer_mode=text.get("tokenizer_mode"),
            **text.get("tokenizer_kwargs", {}),
        )

    weights = bring(repository, WEIGHTS, folder.name)
    return Source(f"{HUB}{repository}@{folder.name}", model, config, weights, tokenizer)


def _config(folder: Path) -> dict[str, Any]:
    config: Any = read_json(folder / CONFIG).get("model_cfg")
    wanted = {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict}
    if not isinstance(config, dict) or not all(
        isinstance(config.get(key), kind) for key, kind in wanted.items()
    ):
        raise InputError(
            f"{folder / CONFIG} describes no model: expected model_cfg with {', '.join(wanted)},"
            " as open_clip writes it."
        )
    # open_clip hands these on to transformers as they are.
    if "trust_remote_code" in (config["text_cfg"].get("tokenizer_kwargs") or {}):
        raise InputError(
            f"{folder / CONFIG} asks for trust_remote_code, so that its tokenizer could run code"
            " from the hub: it is refused, give another model."
        )
    return config
