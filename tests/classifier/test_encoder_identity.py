"""Features of another encoder are refused, never answered silently wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from handful import Features, InputError
from handful.classifier.identity import EncoderIdentity

KNOWN = EncoderIdentity("lite", "a" * 64, 4)
TOLD = EncoderIdentity("RN50 of OpenAI", None, 4)
UNTOLD = EncoderIdentity("", None, 4)


def features(spec: str | None = None, fingerprint: str | None = None, dim: int = 4) -> Features:
    return Features(np.ones((2, dim), np.float32), encoder=spec, fingerprint=fingerprint)


def test_identities_are_read_off(encoder) -> None:
    assert EncoderIdentity.of_encoder(encoder) == EncoderIdentity("colours", "c" * 64, 6)
    assert EncoderIdentity.of_features(features("lite", "a" * 64)) == KNOWN
    assert EncoderIdentity.of_features(features()) == UNTOLD


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (KNOWN, features("lite", "a" * 64)),
        (KNOWN, features("another spec of the same", "a" * 64)),
        (KNOWN, features("lite")),
        (KNOWN, features()),
        (TOLD, features("RN50 of OpenAI")),
        (TOLD, features("RN50 of OpenAI", "a" * 64)),
        (TOLD, features()),
        (UNTOLD, features("anything", "b" * 64)),
    ],
)
def test_features_that_may_be_of_the_same_encoder(own: EncoderIdentity, other: Features) -> None:
    own.check_features(other, "f")


@pytest.mark.parametrize(
    ("own", "other", "says"),
    [
        (KNOWN, features("lite", "b" * 64), r"f was encoded by 'lite' \(bbbbbbbb\).*\(aaaaaaaa\)"),
        (KNOWN, features("RN50"), r"'RN50', but .*'lite' \(aaaaaaaa\)"),
        (TOLD, features("ViT-B/32"), "'ViT-B/32', but .*'RN50 of OpenAI'"),
        (UNTOLD, features(dim=5), "width 5, but the classifier was fitted on width 4"),
        (KNOWN, features("lite", "a" * 64, dim=5), "width 5"),
    ],
)
def test_features_of_another_encoder(own: EncoderIdentity, other: Features, says: str) -> None:
    with pytest.raises(InputError, match=says):
        own.check_features(other, "f")


def test_encoders(encoder) -> None:
    own = EncoderIdentity.of_encoder(encoder)
    assert own.check_encoder(encoder) is True
    assert replace(own, fingerprint=None).check_encoder(encoder) is False  # cannot be verified
    for other, says in (
        (replace(own, dim=7), "'colours' gives features of width 6.*width 7"),
        (replace(own, dim=7, fingerprint=None), "width 7"),
        (replace(own, fingerprint="e" * 64), r"\(eeeeeeee\).*another \(cccccccc\)"),
    ):
        with pytest.raises(InputError, match=says):
            other.check_encoder(encoder)
