"""A correction: a second image space of an encoder, in which images are compared with images.

"CLIP Adaptation by Intra-modal Overlap Reduction" (BMVC 2024): CLIP learnt to compare images with
texts, so that cosines between images of one class and of two classes overlap. A light adapter,
trained once on a generic image set, gives features that are used only between images; texts are
compared with the original ones. Features of both spaces stand side by side: ``[original |
corrected]``, ``(N, 2·D)``.

Two forms. ``blocks`` is the published one: a bottleneck beside the MLP of the blocks of a vision
transformer. ``projection`` is ours: a bottleneck behind the frozen encoder, on its features, for
every encoder and for features files.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.tuning.towers import has_image_blocks

__all__ = ["FORMS", "OBJECTIVES", "Correction", "default_form"]

FORMS = ("blocks", "projection")
OBJECTIVES = ("supervised", "dino")

_LAYER = "-mlp."  # in names of the form blocks: 3-mlp.down.weight
_PARTS = ("down.weight", "down.bias", "up.weight", "up.bias")


def default_form(encoder: Encoder | None) -> str:
    """Return ``blocks`` where the image tower can be opened up, else ``projection``.

    Args:
        encoder: None stands for a features file.
    """
    return "blocks" if encoder is not None and has_image_blocks(encoder) else "projection"


@dataclass(frozen=True, eq=False)
class Correction:
    """What was trained, whom it belongs to and what taught it; checked when it is made.

    Attributes:
        form: ``blocks`` or ``projection``.
        objective: ``supervised`` or ``dino``.
        settings: of the adapter (``width``, ``scale``, ``dropout``; of blocks also ``layers``) and
            of its training.
        arrays: the adapter alone, float32, by name.
        encoder: spec of the encoder, or the name that a features file gave it.
        encoder_fingerprint: of the encoder; None: a features file that did not tell.
        dim: D, width of the features.
        class_names: of the generic set; none where labels were not used.
        digests: SHA-256 of every image that was trained on (of rows: see ``row_digests``), uint8
            ``(n, 32)``, by which evaluation knows them again.
        record: of the training: images, steps, seconds, losses, versions; JSON values.

    Raises:
        ValueError: parts that do not fit each other.
    """

    form: str
    objective: str
    settings: Mapping[str, Any]
    arrays: Mapping[str, npt.NDArray[np.float32]]
    encoder: str
    encoder_fingerprint: str | None
    dim: int
    class_names: tuple[str, ...]
    digests: npt.NDArray[np.uint8]
    record: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.form not in FORMS or self.objective not in OBJECTIVES:
            raise ValueError(f"it is of the form {self.form!r}, objective {self.objective!r}")
        scale = self.settings.get("scale")
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not _finite(scale):
            raise ValueError(f"its scale is {scale!r}")
        if self.digests.dtype != np.uint8 or self.digests.shape[1:] != (32,):
            raise ValueError(f"digests are {self.digests.dtype} {self.digests.shape}")
        _check_arrays(self.arrays, self.form, self.dim)

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the blocks with an adapter, ascending; none of the form ``projection``."""
        return tuple(sorted({int(n.partition(_LAYER)[0]) for n in self.arrays if _LAYER in n}))

    @property
    def width(self) -> int:
        """Width r of the bottlenecks."""
        return next(len(a) for name, a in self.arrays.items() if name.endswith("down.bias"))

    @property
    def scale(self) -> float:
        """Factor κ on what the adapter adds."""
        return float(self.settings["scale"])

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all that the corrected features depend on."""
        digest = hashlib.sha256(b"correction-1\n")
        digest.update(json.dumps([self.encoder_fingerprint, self.form, self.scale]).encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"\n{name} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array, "<f4").data)
        return digest.hexdigest()

    def trained_parameters(self) -> int:
        """Return how many numbers an optimiser set, those that were thrown away not counted."""
        return sum(array.size for array in self.arrays.values())

    def taught(self, digests: Iterable[str]) -> int:
        """Return how many of these images it was trained on; known by SHA-256, in hexadecimal."""
        own = {row.tobytes().hex() for row in self.digests}
        return sum(digest in own for digest in digests)

    def check(self, fingerprint: str | None, spec: str) -> None:
        """Refuse another encoder than the one that was corrected.

        Args:
            fingerprint: of the encoder; None: of a features file that does not tell.
            spec: its name, for the message.

        Raises:
            InputError: the fingerprint is known on both sides, and another.
        """
        own = self.encoder_fingerprint
        if own is not None and fingerprint is not None and own != fingerprint:
            raise InputError(
                f"the correction belongs to the encoder {self.encoder} ({own[:12]}), and {spec} is"
                f" {fingerprint[:12]}: give the encoder that it was trained for, or train one for"
                " this with 'handful correct train'."
            )

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write one ``.safetensors`` file, whole or not at all; see :meth:`load`.

        Raises:
            InputError: another ending, the file exists and ``overwrite`` is false, or it cannot be
                written.
        """
        from handful.tuning.correction_file import write_correction

        write_correction(self, Path(path), overwrite=overwrite)

    @classmethod
    def load(cls, path: Path | str) -> Correction:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: no such file, a foreign or a damaged one.
        """
        from handful.tuning.correction_file import read_correction

        return read_correction(Path(path))


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond all floats
        return False


def _check_arrays(arrays: Mapping[str, npt.NDArray[np.float32]], form: str, dim: int) -> None:
    """Refuse what is not whole bottlenecks of one width.

    Raises:
        ValueError: naming the array.
    """
    places = {""} if form == "projection" else {_place(name) for name in arrays}
    expected = {place + part for place in places for part in _PARTS}
    if not places or set(arrays) != expected:
        odd = sorted(set(arrays) ^ expected)
        raise ValueError(f"the adapter is not whole ({odd[0] if odd else 'nothing in it'})")
    first = arrays[f"{min(places)}down.weight"]
    r, wide = first.shape if first.ndim == 2 else (0, 0)
    if form == "projection" and wide != dim:
        raise ValueError(f"the adapter takes {wide} numbers, and the features have {dim}")
    shapes = dict(zip(_PARTS, ((r, wide), (r,), (wide, r), (wide,)), strict=True))
    for name, array in arrays.items():
        shape = next(shape for part, shape in shapes.items() if name.endswith(part))
        if array.dtype != np.float32 or array.shape != shape or not array.size:
            raise ValueError(f"{name} is {array.dtype} {array.shape}: expected float32 {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinity")


def _place(name: str) -> str:
    number, found, _ = name.partition(_LAYER)
    if not found or not (number.isascii() and number.isdigit() and number == str(int(number))):
        raise ValueError(f"{name} is no part of an adapter")
    return number + found
