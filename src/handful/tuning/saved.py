"""The saved form of a tuned encoder: the trained part alone, never the base."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.tuning import registry
from handful.tuning.clip_lora import LowRank
from handful.tuning.tuned_encoder import TunedEncoder, open_tuned
from handful.tuning.tuning import Prompts

__all__ = ["PEFT", "WEIGHTS", "load_tuned", "save_tuned"]

WEIGHTS = "tuning.safetensors"
PEFT = "peft"  # a folder for other programs; nothing is read from it here
_CLASSES = "class_embeddings"
_ANEW = "copy it again, or fit and save again"


def save_tuned(tuned: TunedEncoder, folder: Path) -> dict[str, Any]:
    """Write what was trained into ``folder`` as ``tuning.safetensors``.

    Low-rank updates are written once more into the folder ``peft``, in PEFT's format.

    Returns:
        A JSON object, which :func:`load_tuned` wants back together with the folder.
    """
    from safetensors.numpy import save

    arrays = {f"trained.{name}": array for name, array in tuned.tuned.arrays().items()}
    content = save({**arrays, _CLASSES: tuned.class_embeddings})
    (folder / WEIGHTS).write_bytes(content)
    if isinstance(tuned.tuned, LowRank):
        tuned.tuned.save_peft(folder / PEFT)
    return {
        "method": tuned.tuning.name,
        "settings": tuned.tuning.settings(),
        "seed": tuned.seed,
        "prompts": tuned.prompts.to_json(),
        "encoder": tuned.base.fingerprint,
        "fingerprint": tuned.fingerprint,
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def load_tuned(folder: Path, told: Any, base: Encoder) -> TunedEncoder:
    """Read what :func:`save_tuned` wrote.

    Args:
        folder: where ``tuning.safetensors`` is.
        told: the JSON object.
        base: the encoder that was trained.

    Raises:
        InputError: the file is missing or damaged, or ``base`` is another encoder.
    """
    from safetensors.numpy import load

    path = folder / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    try:
        told = _checked(told)
        if told["encoder"] == base.fingerprint:
            if hashlib.sha256(content).hexdigest() != told["sha256"]:
                raise ValueError("its content is not what was written")
            arrays = load(content)
            tuning = registry.get(told["method"])(**told["settings"])
            tuning.check_settings()
            prompts = Prompts.from_json(told["prompts"])
            tuned = open_tuned(tuning, base, prompts, told["seed"])
            classes = arrays.pop(_CLASSES)
            tuned.load({name.removeprefix("trained."): array for name, array in arrays.items()})
            if classes.shape != (len(tuned.prompts.names), base.dim):
                raise ValueError(f"class embeddings have shape {classes.shape}")
            found = TunedEncoder(base, tuning, tuned, told["seed"], classes)
            if found.fingerprint != told["fingerprint"]:
                raise ValueError("it is not what its fingerprint says")
            return found
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be used ({error}): {_ANEW}.") from error
    raise InputError(
        f"{path} was trained in the encoder {told['encoder'][:12]}, and {base.spec} is "
        f"{base.fingerprint[:12]}: give the encoder that it was trained in."
    )


def _checked(told: Any) -> dict[str, Any]:
    match told:
        case {
            "method": str(),
            "settings": dict(),
            "seed": int(),
            "encoder": str(),
            "fingerprint": str(),
            "sha256": str(),
        }:
            return dict(told)
    raise ValueError("what is told of it is incomplete")
