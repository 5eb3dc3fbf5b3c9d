"""Features in two spaces side by side."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from handful.functional.two_spaces import compared, original, unit_in_each

BOTH = torch.arange(1.0, 25).reshape(2, 2, 6)


def test_each_half() -> None:
    torch.testing.assert_close(original(BOTH, 3), BOTH[..., [0, 1, 2]])
    torch.testing.assert_close(compared(BOTH, 3), BOTH[..., [3, 4, 5]])


def test_one_space_is_both() -> None:
    assert torch.equal(original(BOTH, 6), BOTH) and torch.equal(compared(BOTH, 6), BOTH)


def test_each_half_has_length_one() -> None:
    found = unit_in_each(BOTH, 3)
    for half in (found[..., :3], found[..., 3:]):
        torch.testing.assert_close(half.norm(dim=-1), torch.ones(2, 2))
    torch.testing.assert_close(unit_in_each(BOTH, 6).norm(dim=-1), torch.ones(2, 2))


@pytest.mark.parametrize("part", [original, compared, unit_in_each])
@pytest.mark.parametrize("width", [1, 2, 4, 5, 7, 12])
def test_another_width_is_refused(part: Callable[[Tensor, int], Tensor], width: int) -> None:
    with pytest.raises(ValueError, match=f"width 6: expected {width}, or {2 * width} in two"):
        part(BOTH, width)
