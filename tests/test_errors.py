"""The errors that users see."""

from __future__ import annotations

import doctest

import pytest

from handful import errors
from handful.errors import HandfulError, InputError, did_you_mean


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("tip-adaptor", " Did you mean 'tip-adapter'?"),
        ("zero-sho", " Did you mean 'zero-shot'?"),
        ("tip-adapter", " Did you mean 'tip-adapter'?"),
        ("qqqq", ""),
        ("", ""),
    ],
)
def test_the_nearest_is_suggested_and_nothing_far(word: str, expected: str) -> None:
    assert did_you_mean(word, ["tip-adapter", "tip-adapter-f", "zero-shot"]) == expected
    assert did_you_mean(word, []) == ""


def test_choices_may_be_any_iterable() -> None:
    assert did_you_mean("val", {"val": 1, "cv": 2}) == " Did you mean 'val'?"
    assert did_you_mean("vall", (name for name in ("val", "cv"))) == " Did you mean 'val'?"


def test_input_errors_are_value_errors() -> None:
    """For callers who know nothing of handful, and for scikit-learn's checks."""
    assert issubclass(InputError, HandfulError)
    assert issubclass(InputError, ValueError)
    assert not issubclass(HandfulError, ValueError)


def test_the_example_in_the_page() -> None:
    assert doctest.testmod(errors).failed == 0
