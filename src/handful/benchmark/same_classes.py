"""Which of the learnt classes a shifted test set has: the columns that its images may answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from handful.datasets.imagenet import imagenet_classes
from handful.errors import InputError

__all__ = ["columns_of"]


def columns_of(
    classes: Sequence[str], learnt: Sequence[str], name: str, learnt_name: str
) -> npt.NDArray[np.int64]:
    """Return the column of each class among those that were learnt, ``(C,)``.

    Classes are matched by name. Failing that, all names may be WordNet ids of ImageNet, where its
    names were learnt, or all numbers: 10 is the eleventh class that was learnt, in whatever order
    the folders 0, 1, 10, 100, … were read.

    Args:
        classes: of the test set, in the order of its labels.
        learnt: names of all columns.
        name, learnt_name: of both sources, for the message.

    Raises:
        InputError: a class was not learnt, or a name stands for two.
    """
    for names, where in ((classes, name), (learnt, learnt_name)):
        if twice := [one for one, count in Counter(names).items() if count > 1]:
            raise InputError(
                f"{where} has two classes called '{twice[0]}', so that they cannot be matched by"
                " name: give them different names, as data:imagenet does."
            )
    column = {one: number for number, one in enumerate(learnt)}
    ids = imagenet_classes()
    if not column.keys() >= set(classes):
        if all(one in ids for one in classes):
            classes = [ids[one] for one in classes]
        elif all(one.isdecimal() and int(one) < len(learnt) for one in classes):
            return np.array([int(one) for one in classes], dtype=np.int64)
    if strangers := [one for one in classes if one not in column]:
        raise InputError(
            f"{name} has the class '{strangers[0]}', which {learnt_name} has not"
            f" ({len(strangers)} of {len(classes)}): a shifted test set has classes that were"
            " learnt, by the same names; for other classes use --protocol transfer."
        )
    return np.array([column[one] for one in classes], dtype=np.int64)
