"""Whether a set-up gives the published numbers, before it is used for new ones.

Zero-shot and one head that fits in closed form are measured on the test split and compared with
what is printed for the checkpoint; where one is off by more than a point, the reason is looked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from handful.benchmark.verify.measure import measure
from handful.benchmark.verify.published import Number
from handful.benchmark.verify.reasons import Findings, find_reasons, reaches
from handful.benchmark.verify.setup import Setup
from handful.errors import InputError
from handful.methods.zero_shot import ZeroShot

__all__ = ["Judged", "Verified", "judge"]


@dataclass(frozen=True)
class Judged:
    """A published number beside ours.

    Attributes:
        number: the method, its source and how far it is to be trusted.
        published: accuracy, 0 to 1.
        doubt: what holds of this data set, mostly empty.
        ours: accuracy, over the seeds the mean; None where it could not be measured.
        lacking: then why, in a sentence.
    """

    number: Number
    published: float
    doubt: str
    ours: float | None
    lacking: str = ""

    @property
    def difference(self) -> float | None:
        """Ours minus the published one."""
        return None if self.ours is None else self.ours - self.published

    @property
    def ok(self) -> bool:
        """Whether they are within a point of each other, as far as it was measured."""
        return self.ours is None or reaches(self.ours, self.published)


@dataclass(frozen=True, eq=False)
class Verified:
    """What was found.

    Attributes:
        setup: what was verified.
        judged: one or two numbers, zero-shot first.
        findings: why one is off; None where none is.
    """

    setup: Setup
    judged: tuple[Judged, ...]
    findings: Findings | None

    @property
    def ok(self) -> bool:
        """Whether all numbers are within a point."""
        return all(one.ok for one in self.judged)


def judge(setup: Setup) -> Verified:
    """Measure zero-shot and one head, and compare with the published numbers.

    Raises:
        InputError: nothing can be measured.
    """
    judged = tuple(_judge(setup, number) for number in setup.numbers)
    off = next((one for one in judged if not one.ok), None)
    if off is None or off.ours is None:
        return Verified(setup, judged, None)
    text_right = any(one.ok for one in judged if one.number.method == ZeroShot.name)
    findings = find_reasons(setup, off.number, off.ours, text_right=text_right)
    return Verified(setup, judged, findings)


def _judge(setup: Setup, number: Number) -> Judged:
    name = setup.entry.name
    ours, lacking = None, ""
    try:
        ours = measure(number, setup.source, setup.test)
    except InputError as error:  # too few images to learn from: zero-shot needs none
        if len(setup.numbers) == 1:
            raise
        lacking = str(error)
    return Judged(number, number.by[name], number.doubts.get(name, ""), ours, lacking)
