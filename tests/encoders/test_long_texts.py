"""A text that is longer than its tower reads is cut off there: no error, no other effect."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_models import TWO_TOWER

from handful.encoders.spec import load_encoder

START = "a photo of a cat in the evening. "


def check(encode, tokens: int) -> None:
    """What stands behind more words than there are tokens changes nothing; before, it does."""
    long = START * tokens
    first, second, third = encode([long + "dog", long + "dam and fish", "dog. " + long])
    assert np.isfinite(first).all()
    np.testing.assert_allclose(second, first, rtol=1e-5, atol=1e-6)
    assert not np.allclose(third, first, rtol=1e-3)


@pytest.mark.parametrize("name", TWO_TOWER)
def test_checkpoints(tiny, name: str) -> None:
    check(load_encoder(f"dir:{tiny(name)}").encode_texts, 100)


def test_lite(lite) -> None:
    check(lite.encode_texts, 130)
    # 128 tokens with the one before and the one behind, of which every word here is one.
    words = ["dam"] * 126
    cut, whole, longer, other = lite.encode_texts(
        [
            " ".join(words),
            " ".join([*words, "fish"]),
            " ".join([*words, "fish"] * 3),
            " ".join([*words[:-1], "fish"]),
        ]
    )
    np.testing.assert_allclose(whole, cut, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(longer, cut, rtol=1e-5, atol=1e-6)
    assert not np.allclose(other, cut, rtol=1e-3)
