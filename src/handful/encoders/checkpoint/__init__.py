"""Encoders from checkpoints of ``transformers``: ``hf:`` of the hub, ``dir:`` of a local folder.

``hub`` brings the files, ``files`` reads the weights, ``model`` builds the model, ``families``
knows what differs between models, ``text`` and ``image_settings`` prepare what the towers are
given.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from handful.encoders.fingerprint import PROBE, fingerprint
from handful.encoders.options import Options
from handful.encoders.two_tower import TwoTowerEncoder, computing_device
from handful.errors import InputError

__all__ = ["load_folder", "load_hub"]

# Of a vision-only model, which was trained with none: that of lite, whose image tower is one.
VISION_SCALE = 30.0


def load_hub(name: str, options: Options) -> TwoTowerEncoder:
    """Load ``NAME`` or ``NAME@REVISION`` from the Hugging Face cache or hub.

    The encoder's spec names the commit, so that what is saved with it finds the same weights.

    Raises:
        InputError: the files cannot be had, or are no encoder.
    """
    from handful.encoders.checkpoint.hub import fetch

    repository, _, revision = name.partition("@")
    snapshot = fetch(repository, revision or None)
    spec = f"hf:{repository}@{snapshot.commit}{options}"
    encoder = _load(snapshot.folder, repository, spec, options)
    if snapshot.downloaded:
        _first_contact(encoder)
    return encoder


def load_folder(path: str, options: Options) -> TwoTowerEncoder:
    """Load a checkpoint from a local folder.

    Raises:
        InputError: no such folder, or it holds no encoder.
    """
    folder = Path(path).expanduser()
    if not path or not folder.is_dir():
        raise InputError(
            f"the encoder 'dir:{path}' names no folder: give one that save_pretrained wrote (for a"
            " saved classifier whose encoder has moved: --encoder dir:FOLDER)."
        )
    return _load(folder, str(folder), f"dir:{folder.resolve()}{options}", options)


def _load(folder: Path, name: str, spec: str, options: Options) -> TwoTowerEncoder:
    from handful.encoders.checkpoint.families import FAMILIES, facts_of, image_tower
    from handful.encoders.checkpoint.image_settings import read_preprocess
    from handful.encoders.checkpoint.model import load_model
    from handful.encoders.checkpoint.text import CheckpointTexts, load_tokenizer

    device = computing_device()
    model = load_model(folder, name)
    config = model.config
    patch = getattr(getattr(config, "vision_config", config), "patch_size", None)
    preprocess = options.applied(read_preprocess(folder, config.model_type, patch))
    family = FAMILIES.get(config.model_type)
    texts = CheckpointTexts(model, load_tokenizer(folder), family) if family else None
    facts: dict[str, Any] = facts_of(config)
    if options.dtype != "float32":
        facts["dtype"] = options.dtype
    digest = fingerprint(
        model.state_dict(), facts, preprocess, [texts.token_ids(t) for t in PROBE] if texts else ()
    )
    # Read before a narrower format rounds them.
    scale, bias = _number(model, "logit_scale"), _number(model, "logit_bias")
    dtype = getattr(torch, options.dtype)
    model.to(device, dtype)
    encoder = TwoTowerEncoder(
        spec=spec,
        fingerprint=digest,
        preprocess=preprocess,
        dim=0,
        image_tower=image_tower(model),
        text_tower=texts,
        logit_scale=math.exp(scale) if family else VISION_SCALE,
        logit_bias=bias,
        default_templates=family.templates if family else (),
        device=device,
        dtype=dtype,
    )
    encoder.dim = _width(encoder, name)
    return encoder


def _number(model: Any, name: str) -> float:
    """Return a parameter of one number, 0 where the model has none of this name."""
    value = getattr(model, name, None)
    return 0.0 if value is None else float(value.detach().float().flatten()[0])


def _width(encoder: TwoTowerEncoder, name: str) -> int:
    """Encode one black picture: the width of the features, and proof that the parts fit."""
    size = encoder.preprocess.size
    x = torch.zeros(1, 3, size, size, device=encoder.device, dtype=encoder.dtype)
    try:
        with torch.inference_mode():
            return int(encoder.image_tower(x).shape[1])
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0][:160]
        raise InputError(
            f"the image tower of {name} refuses pictures of {size} × {size} pixels, the size that"
            f" its preprocessor file asks for ({reason}): the two do not belong together."
        ) from error


def _first_contact(encoder: TwoTowerEncoder) -> None:
    """Check a checkpoint once, after its first download, and say what came out."""
    from handful.encoders.check import check, one_line
    from handful.progress import notice

    notice(one_line(check(encoder)))
