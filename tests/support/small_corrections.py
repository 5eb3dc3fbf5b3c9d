"""Small corrections that nobody has trained, for tests of what is done with one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from handful import methods
from handful.encoders.protocol import Encoder
from handful.tuning.correction import Correction

__all__ = ["correction_for", "digests_of", "of_encoder", "small_correction"]


def digests_of(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def small_correction(
    dim: int,
    *,
    fingerprint: str | None = None,
    encoder: str = "test",
    identity: bool = False,
    taught: Sequence[str] = (),
    seed: int = 0,
) -> Correction:
    """Return a correction of the form ``projection`` with random numbers.

    Args:
        dim: width of the features.
        fingerprint, encoder: whose it is; no fingerprint: of anybody.
        identity: whether it changes nothing.
        taught: digests of the images that are said to have taught it.
        seed: of the numbers.
    """
    rng, r = np.random.default_rng(seed), 4
    up = np.zeros((dim, r)) if identity else rng.normal(0, 0.7, (dim, r))
    arrays = {
        "down.weight": rng.normal(size=(r, dim)),
        "down.bias": np.zeros(r),
        "up.weight": up,
        "up.bias": np.zeros(dim),
    }
    digests = np.array([list(bytes.fromhex(one)) for one in taught], np.uint8)
    return Correction(
        form="projection",
        objective="supervised",
        settings={"width": r, "scale": 1.0, "dropout": 0.0, "seed": seed},
        arrays={name: np.asarray(array, np.float32) for name, array in arrays.items()},
        encoder=encoder,
        encoder_fingerprint=fingerprint,
        dim=dim,
        class_names=("cup", "spoon"),
        digests=digests.reshape(-1, 32),
        record={"images": len(taught), "steps": 1, "seconds": 0.0, "losses": [1.0]},
    )


def of_encoder(encoder: Encoder, **more: object) -> Correction:
    """Return a small correction of an encoder."""
    return small_correction(
        encoder.dim, fingerprint=encoder.fingerprint, encoder=encoder.spec, **more
    )  # type: ignore[arg-type]


def correction_for(method: str, encoder: Encoder) -> Correction | None:
    """Return a small correction of an encoder for a method that needs one."""
    return of_encoder(encoder) if methods.get(method).needs_correction else None
