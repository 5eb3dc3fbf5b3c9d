"""The binary version of CIFAR: files of records, each of labels and 32 × 32 pixels.

https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version". The other versions are pickles.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from handful.datasets.missing import file_size
from handful.errors import InputError

__all__ = ["CifarRows"]

SHAPE = (3, 32, 32)  # colour planes
MAX_BYTES = 2**30  # the largest there is has 154 MB


class CifarRows:
    """Pictures of such files, as rows of the package ``datasets`` look; read when asked for.

    Args:
        paths: the files, in order.
        label_bytes: of each record, before the pixels; the last of them is the label that counts.
        classes: how many labels there are.

    Raises:
        InputError: a file is missing, has no whole number of records, or a label outside.

    Attributes:
        labels: uint8 ``(N,)``.
    """

    def __init__(self, paths: Sequence[Path], label_bytes: int, classes: int) -> None:
        self._label_bytes = label_bytes
        self._files = [_records(path, label_bytes + int(np.prod(SHAPE))) for path in paths]
        self._ends = np.cumsum([len(records) for records in self._files])
        for path, records in zip(paths, self._files, strict=True):
            if (highest := int(records[:, label_bytes - 1].max())) >= classes:
                raise InputError(
                    f"{path} has label {highest}: expected 0 to {classes - 1}; get it again."
                )
        self.labels = np.concatenate([records[:, label_bytes - 1] for records in self._files])

    def select_columns(self, _: Sequence[str]) -> CifarRows:
        """Return the rows: images are all they have."""
        return self

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, dict[str, Any]]:
        file = int(np.searchsorted(self._ends, row, side="right"))
        record = self._files[file][row - self._ends[file]]  # counted from the end of the file
        planes = np.asarray(record[self._label_bytes :]).reshape(SHAPE)
        picture = io.BytesIO()
        # Not packed, so that equal pixels are equal files, whichever program writes them.
        Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0))).save(picture, "BMP")
        return {"image": {"bytes": picture.getvalue(), "path": "picture.bmp"}}


def _records(path: Path, width: int) -> npt.NDArray[np.uint8]:
    size = file_size(path, "a file of the binary version of CIFAR", MAX_BYTES)
    if not size or size % width:
        raise InputError(
            f"{path} has {size:,} bytes: expected a multiple of {width:,}, the bytes of a picture"
            " with its labels; get the binary version again."
        )
    try:
        return np.memmap(path, np.uint8, "r").reshape(-1, width)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
