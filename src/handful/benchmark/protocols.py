"""Which images are learnt from, which ones settings are chosen on, and which ones are the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from handful.benchmark.listing import Listing, among
from handful.benchmark.source import Source
from handful.datasets.sampling import few_shot
from handful.errors import InputError, did_you_mean

__all__ = ["PROTOCOLS", "Draw", "draw"]

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Draw:
    """Positions in a source, int64.

    Attributes:
        support: K images per class, class by class.
        validation: images to choose settings on, or None where the protocol has none, or they are
            not encoded, because the plan does not look at them.
        test: images that are predicted when everything is settled.
    """

    support: Rows
    validation: Rows | None
    test: Rows


def draw(protocol: str, source: Source | Listing, shots: int, seed: int) -> Draw:
    """Draw K shots of a source as a protocol says.

    Args:
        protocol: a name in ``PROTOCOLS``.
        source: features with labels, or what is known of them before they are encoded. What is
            drawn from a thinned one is drawn from all its images.
        shots: K.
        seed: 1, 2 and 3 in published tables.

    Raises:
        InputError: no such protocol, too few images for it, or images of a thinned source that
            were not encoded.
    """
    if protocol not in PROTOCOLS:
        raise InputError(
            f"there is no protocol '{protocol}'.{did_you_mean(protocol, PROTOCOLS)} The protocols"
            f" are {', '.join(PROTOCOLS)}."
        )
    listing = source if isinstance(source, Listing) else source.listing
    found = PROTOCOLS[protocol](listing, shots, seed)
    if not len(found.test):
        raise InputError(f"{source.name} has no image left for the test at {shots} shots.")
    if isinstance(source, Listing) or source.whole is None or source.rows is None:
        return found
    there = [
        None if part is None or not np.isin(part, source.rows).all() else among(source.rows, part)
        for part in (found.support, found.validation, found.test)
    ]
    if there[0] is None or there[2] is None:
        raise InputError(
            f"{source.name} was opened for other draws than {shots} shots with seed {seed}, and"
            " what these need is not encoded: open it for a plan that has them."
        )
    return Draw(there[0], there[1], there[2])


def coop(source: Listing, shots: int, seed: int) -> Draw:
    """CoOp's sampler, which gives its official few-shot lists from its official splits.

    Support from the rows of split 0, min(K, 4) validation images per class from split 1, and all of
    split 2 as the test. Where no row is of split 1, but some of split 2 (ImageNet), the validation
    images are as many of split 0, drawn after the support among what it left: of a class of which
    less is left, that. Where no row is of split 2, the test is every row of split 0 that was not
    drawn; a source without splits is all split 0.
    """
    pool, judged, test = (np.flatnonzero(source.split == part) for part in range(3))
    counts = np.bincount(source.labels[pool], minlength=len(source.class_names))
    smallest = int(np.where(counts, counts, len(pool)).argmin())
    if counts[smallest] < shots:
        images = f"{counts[smallest]} image{'' if counts[smallest] == 1 else 's'}"
        raise InputError(
            f"{source.name} has {images} of '{source.class_names[smallest]}' to learn from: the"
            f" protocol coop cannot draw {shots} shots."
        )
    drawn = few_shot(
        source.labels[pool],
        shots,
        seed,
        source.labels[judged] if len(judged) else None,
        # Without test images everything that is not drawn is the test.
        validation_from_rest=len(test) > 0,
    )
    support, validation = pool[drawn.support], drawn.validation
    if validation is not None:
        validation = (judged if len(judged) else pool)[validation]
    return Draw(support, validation, test if len(test) else np.setdiff1d(pool, support))


WHU_POOL, WHU_VALIDATION, WHU_LARGEST = 16, 20, 16


def whu(source: Listing, shots: int, seed: int) -> Draw:
    """The protocol of the anchors on WHU-RS19: nested draws with numpy's old generator.

    For each class in order, ``p = RandomState(seed).permutation(rows of the class)``, one generator
    for all classes: support ``p[:K]``, validation ``p[16 : 16 + min(K, 4)]``. The test is every row
    in no class's ``p[:20]``, the same for every K.
    """
    if shots > WHU_LARGEST:
        raise InputError(f"the protocol whu has {WHU_LARGEST} shots at most, not {shots}.")
    generator = np.random.RandomState(seed)
    orders = [
        generator.permutation(np.flatnonzero(source.labels == c))
        for c in range(len(source.class_names))
    ]
    for name, order in zip(source.class_names, orders, strict=True):
        if len(order) <= WHU_VALIDATION:
            raise InputError(
                f"the protocol whu needs more than {WHU_VALIDATION} images per class, but '{name}'"
                f" of {source.name} has {len(order)}: use the protocol coop."
            )
    aside = np.concatenate([p[:WHU_VALIDATION] for p in orders])
    return Draw(
        np.concatenate([p[:shots] for p in orders]),
        np.concatenate([p[WHU_POOL : WHU_POOL + min(shots, 4)] for p in orders]),
        np.setdiff1d(np.arange(len(source.labels)), aside),
    )


# What the last three test beside what they draw: see handful.benchmark.exam.
PROTOCOLS: dict[str, Callable[[Listing, int, int], Draw]] = {
    "coop": coop,
    "whu": whu,
    "base-to-new": coop,
    "shift": coop,
    "transfer": coop,
}
