"""The few-shot sampler of CoOp: K images per class, the same for everybody who uses the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from handful.errors import InputError

__all__ = ["FewShot", "few_shot"]

VALIDATION_SHOTS = 4
Labels = Sequence[int] | npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class FewShot:
    """What was drawn, as positions in the lists that were given.

    Attributes:
        support: int64, K per class, class by class.
        validation: int64, min(K, 4) per class, class by class, in the list that they were drawn
            from; None where there is none.
    """

    support: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64] | None


def few_shot(
    labels: Labels,
    shots: int,
    seed: int,
    validation_labels: Labels | None = None,
    on_few: Literal["refuse", "keep"] = "refuse",
    *,
    class_names: Sequence[str] | None = None,
    validation_from_rest: bool = False,
) -> FewShot:
    """Draw K training and min(K, 4) validation images per class.

    Python's generator is seeded once (a private one: the global state is neither read nor changed);
    classes follow in the order in which they first appear in the list; each draws with
    ``random.sample``; the validation list continues the same stream. Draws for different K are not
    nested. A class with fewer images than asked for is kept whole, in its order, and draws nothing
    from the generator; for the support set only if ``on_few`` allows it.

    Args:
        labels: label of each training image, ``(N,)``.
        shots: K, images per class.
        seed: non-negative; published subsets use 1, 2 and 3.
        validation_labels: label of each validation image, ``(M,)``.
        on_few: what to do about classes with fewer than K training images.
        class_names: names in label order, for the error.
        validation_from_rest: without a validation list, take the training images that were not
            drawn for one: positions are then in ``labels``. Of a class with fewer than min(K, 4)
            left these are taken; where nothing at all is left, there is no validation.

    Raises:
        InputError: ``shots`` below 1, a negative seed, or too few images where ``on_few`` refuses.

    Source: CoOp, https://github.com/KaiyangZhou/CoOp (``generate_fewshot_dataset`` of its base
    framework Dassl, without repetition).
    """
    if shots < 1:
        raise InputError(f"shots is {shots}: expected at least 1 image per class.")
    if seed < 0:
        raise InputError(f"seed is {seed}: expected 0 or more.")
    members = _by_class(labels)
    if on_few == "refuse":
        _refuse_few(members, shots, class_names)
    generator = random.Random(int(seed))
    support = _draw(members, shots, generator)
    if validation_labels is not None:
        members = _by_class(validation_labels)
    else:
        members = _without(members, support) if validation_from_rest else {}
        if not members:
            return FewShot(support, None)
    return FewShot(support, _draw(members, min(shots, VALIDATION_SHOTS), generator))


def _by_class(labels: Labels) -> dict[int, list[int]]:
    members: dict[int, list[int]] = {}
    for index, label in enumerate(np.asarray(labels).tolist()):
        members.setdefault(int(label), []).append(index)
    return members


def _without(members: dict[int, list[int]], drawn: npt.NDArray[np.int64]) -> dict[int, list[int]]:
    gone = set(drawn.tolist())
    left = {label: [i for i in indices if i not in gone] for label, indices in members.items()}
    return {label: indices for label, indices in left.items() if indices}


def _draw(
    members: dict[int, list[int]], shots: int, generator: random.Random
) -> npt.NDArray[np.int64]:
    drawn: list[int] = []
    for indices in members.values():
        drawn += generator.sample(indices, shots) if len(indices) >= shots else indices
    return np.array(drawn, dtype=np.int64)


def _refuse_few(
    members: dict[int, list[int]], shots: int, class_names: Sequence[str] | None
) -> None:
    few = {label: len(indices) for label, indices in members.items() if len(indices) < shots}
    if few:
        named = ", ".join(
            f"'{class_names[label] if class_names else label}' has {count}"
            for label, count in sorted(few.items())
        )
        raise InputError(
            f"{shots} shots were asked for, but {named}: ask for at most {min(few.values())},"
            " or --shots all to use every image."
        )
