"""From a folder with a checkpoint to a model of ``transformers``, whole and in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from handful.encoders.checkpoint.families import FAMILIES
from handful.encoders.checkpoint.files import read_json, read_weights
from handful.errors import InputError

__all__ = ["load_model", "quiet"]

# Tensors that no feature depends on: buffers that older savers wrote, and the heads of
# classifiers and of pre-training, which a vision-only checkpoint may bring along.
BUFFERS = ("position_ids", "num_batches_tracked")
HEADS = (
    "classifier",
    "head",
    "fc",
    "decoder",
    "lm_head",
    "cls_classifier",
    "distillation_classifier",
)


def load_model(folder: Path, name: str) -> Any:
    """Return the model in a folder, float32, on the processor, in evaluation mode.

    Args:
        folder: with ``config.json`` and weights.
        name: of the checkpoint, for messages.

    Raises:
        InputError: no such model, one that is neither two-tower nor vision-only, or weights that
            are damaged, missing or left over.
    """
    config = _config(folder, name)
    model_class = _model_class(config, name)
    tensors = read_weights(folder)
    model, missing, unexpected, mismatched = _build(model_class, config, tensors, name)
    two_towers = config.model_type in FAMILIES
    if not two_towers and missing and all(key.startswith("pooler.") for key in missing):
        # Saved from a classifier, which has no pooling layer: the class token is its feature.
        model, missing, unexpected, mismatched = _build(
            model_class, config, tensors, name, add_pooling_layer=False
        )
    unexpected = [key for key in unexpected if not key.endswith(BUFFERS)]
    if not two_towers:
        unexpected = [key for key in unexpected if key.partition(".")[0] not in HEADS]
    for what, keys in (
        ("lacks", missing),
        ("has, besides what the model knows,", unexpected),
        ("has in another shape than its config.json says", mismatched),
    ):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise InputError(
                f"the checkpoint {name} {what} {', '.join(sorted(keys)[:3])}{more}: its features"
                " would be wrong in silence; get the model anew, or check that config.json"
                " belongs to its weights."
            )
    return model.eval().requires_grad_(False)


def _config(folder: Path, name: str) -> Any:
    from transformers import AutoConfig

    path = folder / "config.json"
    if not path.is_file():
        raise InputError(
            f"{folder} has no config.json: expected a folder as save_pretrained writes it."
        )
    given = read_json(path)
    kind = given.get("model_type")
    if "auto_map" in given:
        raise InputError(
            f"the checkpoint {name} brings program code of its own, which handful does not run:"
            " use a model whose architecture transformers has."
        )
    try:
        with quiet():
            return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        import transformers

        if kind is None or (isinstance(kind, str) and "model type" in str(error)):
            raise InputError(
                f"the model type {kind!r} of {name} is unknown to transformers"
                f" {transformers.__version__}: upgrade it (pip install -U transformers), or use a"
                " CLIP or SigLIP model."
            ) from error
        reason = str(error).strip().partition("\n")[0][:160]
        raise InputError(f"{path} is not a configuration ({reason}): get the file anew.") from error


def _model_class(config: Any, name: str) -> Any:
    from transformers import AutoModel

    try:
        found = AutoModel._model_mapping[type(config)]
    except KeyError:
        raise InputError(
            f"the model type {config.model_type!r} of {name} is no encoder: use a CLIP or SigLIP"
            " model, or an image model."
        ) from None
    except (ImportError, RuntimeError) as error:
        # Seen with a torchvision that was built for another torch: all of transformers fails.
        raise InputError(
            f"transformers cannot be imported here ({_first_cause(error)}): if torchvision is"
            f" installed, it must be the one made for torch {torch.__version__}; reinstall it, or"
            " remove it, handful does not need it."
        ) from error
    found = found[0] if isinstance(found, tuple) else found
    if config.model_type in FAMILIES:
        return found
    if hasattr(found, "get_text_features"):
        raise InputError(
            f"the model type {config.model_type!r} of {name} is a dual encoder that handful does"
            f" not know: it knows {', '.join(FAMILIES)}, and image models without text."
        )
    if getattr(found, "main_input_name", "") != "pixel_values":
        raise InputError(
            f"the model type {config.model_type!r} of {name} does not encode images: use a CLIP or"
            " SigLIP model, or an image model such as DINOv2."
        )
    return found


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().partition("\n")[0][:120]


def _build(
    model_class: Any, config: Any, tensors: dict[str, torch.Tensor], name: str, **extra: Any
) -> tuple[Any, list[str], list[str], list[str]]:
    try:
        # The fork keeps the random start of the layers out of the caller's generator.
        with quiet(), torch.random.fork_rng(devices=[]):
            model, found = model_class.from_pretrained(
                None,
                config=config,
                state_dict=dict(tensors),
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **extra,
            )
    except (RuntimeError, ValueError, TypeError, KeyError, OSError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0][:160]
        raise InputError(
            f"the model {name} cannot be built from its config.json and weights ({reason})."
        ) from error
    mismatched = [key[0] if isinstance(key, tuple) else key for key in found["mismatched_keys"]]
    return model, list(found["missing_keys"]), list(found["unexpected_keys"]), mismatched


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the bars and the advice of ``transformers`` from the user's terminal."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
