"""What a protocol lets a method learn from, and everything it is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from handful.benchmark.elsewhere import Elsewhere
from handful.benchmark.listing import among
from handful.benchmark.part import part_of
from handful.benchmark.protocols import Draw, Rows, draw
from handful.benchmark.same_classes import columns_of
from handful.benchmark.source import Source
from handful.errors import InputError

__all__ = ["BASE_TO_NEW", "OF_OTHERS", "SHIFT", "TRANSFER", "Exam", "of_one_encoder"]

BASE_TO_NEW, SHIFT, TRANSFER = "base-to-new", "shift", "transfer"
OF_OTHERS = (SHIFT, TRANSFER)  # protocols that test on other sources


@dataclass(frozen=True, eq=False)
class Exam:
    """A protocol on a source.

    Attributes:
        protocol: its name.
        source: whose images are drawn.
        others: sources that are tested on, with the same encoder.
    """

    protocol: str
    source: Source
    others: tuple[Source, ...] = ()

    @property
    def given(self) -> tuple[Source, ...]:
        """The source, and behind it those that are tested on."""
        return (self.source, *self.others)

    @cached_property
    def learnt_from(self) -> Source:
        """All that learning can reach: of ``base-to-new`` the first half of the classes alone."""
        if self.protocol != BASE_TO_NEW:
            return self.source
        if len(self.source.class_names) < 4:
            raise InputError(
                f"{self.source.name} has {len(self.source.class_names)} classes: the protocol"
                f" {BASE_TO_NEW} needs two to learn and two new ones."
            )
        self._needs_text(self.source)
        return part_of(self.source, range(self._half))

    @property
    def _half(self) -> int:
        return (len(self.source.class_names) + 1) // 2

    def drawn(self, shots: int, seed: int) -> Draw:
        """Return a draw: positions in ``learnt_from``.

        Of ``base-to-new`` it is the draw of all classes, without the new ones: who compares with
        few-shot results of all classes has the same images.

        Raises:
            InputError: too few images for it.
        """
        found = draw(self.protocol, self.source, shots, seed)
        if self.learnt_from is self.source:
            return found
        base = Draw(
            self._in(self.learnt_from, found.support),
            None if found.validation is None else self._in(self.learnt_from, found.validation),
            self._in(self.learnt_from, found.test),
        )
        if not len(base.test):
            raise InputError(f"{self.source.name} has no image of its base classes for the test.")
        return base

    def elsewhere(self, shots: int, seed: int) -> tuple[Elsewhere, ...]:
        """Return what is tested beside the test images of ``learnt_from``.

        Raises:
            InputError: another source does not fit, or has no images for it.
        """
        return self._new(shots, seed) if self.protocol == BASE_TO_NEW else self._of_others

    def _new(self, shots: int, seed: int) -> tuple[Elsewhere, ...]:
        found = draw(self.protocol, self.source, shots, seed)
        part = self._new_part
        rows = self._in(part, found.test)
        if not len(rows):
            raise InputError(f"{self.source.name} has no image of its new classes for the test.")
        return (Elsewhere("new", part, rows, None),)

    def check_select(self, select: str, drawn: Draw) -> None:
        """Refuse a selection policy that a draw has no images for.

        Raises:
            InputError: it is ``val``, and there are no validation images.
        """
        if select == "val" and drawn.validation is None:
            raise InputError(
                f"{self.source.name} has no validation images under the protocol {self.protocol},"
                " so settings cannot be chosen on them: use --select cv or fixed."
            )

    def _in(self, part: Source, positions: Rows) -> Rows:
        """Return where images of the source are in a part of it, without those that are not."""
        assert part.rows is not None
        return among(part.rows, self.source.in_whole(positions))

    @cached_property
    def _new_part(self) -> Source:
        return part_of(self.source, range(self._half, len(self.source.class_names)))

    @cached_property
    def _of_others(self) -> tuple[Elsewhere, ...]:
        found = []
        for other in self.others:
            columns = None
            if self.protocol == SHIFT:
                names = other.class_names, self.source.class_names
                columns = columns_of(*names, other.name, self.source.name)
            else:
                if len(other.class_names) < 2:
                    raise InputError(
                        f"{other.name} has one class, '{other.class_names[0]}', among which every"
                        f" answer is right: the protocol {TRANSFER} needs two."
                    )
                self._needs_text(other)
            rows = _test_rows(other)
            _refuse_known(self.source, other, rows)
            found.append(Elsewhere(other.name, other, rows, columns))
        return tuple(found)

    def _needs_text(self, source: Source) -> None:
        if source.features.class_embeddings is None:
            raise InputError(
                f"{source.name} has no class embeddings: without names nothing can be said of"
                " classes that were not learnt."
            )


def of_one_encoder(source: Source, others: Sequence[Source]) -> tuple[Source, ...]:
    """Return those of some sources whose features are of the encoder, or encoders, of this one."""
    return tuple(other for other in others if _encoders(source, other))


def _encoders(source: Source, other: Source) -> bool:
    of_both = [(s.features, *s.further) for s in (source, other)]
    if len(of_both[0]) != len(of_both[1]):
        return False
    for a, b in zip(*of_both, strict=True):
        if a.image_features.shape[1] != b.image_features.shape[1]:
            return False
        for mine, its in ((a.fingerprint, b.fingerprint), (a.encoder, b.encoder)):
            if mine is not None and its is not None:
                if mine != its:
                    return False
                break  # a fingerprint says it all
    return True


def _test_rows(source: Source) -> Rows:
    """Return the test split, or all rows where there is none."""
    split = source.features.split
    if split is None or not (split == 2).any():
        return np.arange(len(source.labels))
    return np.flatnonzero(split == 2)


def _refuse_known(source: Source, other: Source, rows: Rows) -> None:
    """Refuse images for the test that are images of the source, where learning may have them."""
    X = other.features.image_features[rows]
    own = {row.tobytes() for row in source.features.image_features}
    if known := sum(row.tobytes() in own for row in X):
        raise InputError(
            f"{known:,} test images of {other.name} are images of {source.name}: test on images"
            " that were not learnt from."
        )
