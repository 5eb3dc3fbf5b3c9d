"""Several encoders as one: their order, their name, and what they make of pictures and texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handful.encoders.check import check
from handful.encoders.joint import (
    JointEncoder,
    encoder_from,
    join_specs,
    refuse_several,
    specs_of,
    split_specs,
    widths_of,
)
from handful.encoders.protocol import Encoder
from handful.encoders.spec import load_encoder
from handful.errors import InputError


@pytest.fixture(scope="module")
def clip(tiny) -> Encoder:
    return load_encoder(f"dir:{tiny('clip')}")


@pytest.fixture(scope="module")
def blind(tiny) -> Encoder:
    return load_encoder(f"dir:{tiny('dinov2')}")


@pytest.fixture(scope="module")
def siglip(tiny) -> Encoder:
    return load_encoder(f"dir:{tiny('siglip')}")


def test_it_is_an_encoder_with_the_features_of_all(clip, siglip, pictures) -> None:
    joint = JointEncoder([clip, siglip])
    assert isinstance(joint, Encoder)
    assert joint.widths == (24, 32) and joint.dim == 56
    found = joint.encode_images(pictures)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, :24], clip.encode_images(pictures))
    np.testing.assert_array_equal(found[:, 24:], siglip.encode_images(pictures))


def test_texts_are_read_by_the_first(clip, siglip) -> None:
    joint = JointEncoder([siglip, clip])
    texts = ["a cat", "a dog"]
    np.testing.assert_array_equal(joint.encode_texts(texts), siglip.encode_texts(texts))
    assert joint.logit_scale == siglip.logit_scale != clip.logit_scale
    assert joint.default_templates == siglip.default_templates
    assert joint.has_text


def test_who_can_read_comes_to_the_front(clip, siglip, blind) -> None:
    assert JointEncoder([blind, siglip, clip]).parts == (siglip, blind, clip)
    assert JointEncoder([clip, blind, siglip]).parts == (clip, blind, siglip)


def test_where_none_can_read_the_order_stays(blind, tiny) -> None:
    other = load_encoder(f"dir:{tiny('vit')}")
    joint = JointEncoder([blind, other])
    assert joint.parts == (blind, other) and not joint.has_text
    with pytest.raises(InputError, match="has no text tower"):
        joint.encode_texts(["a cat"])


def test_pixels_are_of_one_encoder_only(clip, siglip) -> None:
    pixels = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match="takes pictures, not pixels"):
        JointEncoder([clip, siglip]).encode_images(pixels)


def test_the_fingerprint_tells_the_parts_and_their_order(clip, siglip, blind) -> None:
    prints = [
        JointEncoder(parts).fingerprint
        for parts in ([clip, siglip], [siglip, clip], [clip, blind], [clip, siglip, blind])
    ]
    assert len({*prints, clip.fingerprint}) == 5
    assert all(len(one) == 64 for one in prints)
    assert JointEncoder([blind, clip]).fingerprint == prints[2], "who can read is first anyway"


def test_one_encoder_twice_is_refused(clip, siglip, tiny) -> None:
    again = load_encoder(f"dir:{tiny('clip')}")
    with pytest.raises(InputError, match=r"the encoders dir:.* and dir:.* are the same: leave one"):
        JointEncoder([clip, siglip, again])


# -- names -----------------------------------------------------------------------------------------


@given(st.lists(st.text(min_size=1), min_size=2))
@example(["dir:a+b", "dir:a%2Bb", "dir:50%", "dir:%25+"])
def test_joined_specs_are_taken_apart_as_they_were(specs: list[str]) -> None:
    assert list(split_specs(join_specs(specs))) == specs


def test_a_joined_spec_can_be_read_by_people() -> None:
    spec = join_specs(["lite", "hf:openai/clip-vit-base-patch32@main?crop=floor&dtype=float16"])
    assert spec == "joint:lite+hf:openai/clip-vit-base-patch32@main?crop=floor&dtype=float16"
    assert split_specs("dir:a+b") == ("dir:a+b",), "a folder, not two encoders"


def test_a_joined_spec_is_loaded_with_options_of_each(clip, blind, tiny) -> None:
    one, other = f"dir:{tiny('clip')}?style=coop", f"dir:{tiny('dinov2')}?crop=floor"
    joint = load_encoder(join_specs([one, other]))
    assert isinstance(joint, JointEncoder)
    assert [part.spec for part in joint.parts] == [one, other]
    assert split_specs(joint.spec) == (one, other)
    assert load_encoder(joint.spec).fingerprint == joint.fingerprint
    assert joint.fingerprint != JointEncoder([clip, blind]).fingerprint


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("joint:", "the encoder '' is unknown"),
        ("joint:lit+lite", "'lit' is unknown.*Did you mean 'lite'"),
        ("joint:dir:nowhere+lite", "names no folder"),
    ],
)
def test_a_joined_spec_that_names_nothing(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_encoder(spec)


def test_how_encoders_may_be_given(clip, blind) -> None:
    joint = JointEncoder([clip, blind])
    assert encoder_from(clip) is clip
    assert encoder_from(clip.spec).fingerprint == clip.fingerprint
    assert encoder_from([clip]) is clip
    given: tuple[Any, ...] = ([clip, blind.spec], [joint.spec], joint, joint.spec)
    for one in given:
        assert encoder_from(one).fingerprint == joint.fingerprint
        assert specs_of(one) == (clip.spec, blind.spec)
    assert specs_of(None) == () and specs_of("lite") == ("lite",)
    with pytest.raises(InputError, match="no encoder in the list"):
        encoder_from([])


def test_several_inside_of_several_are_all_alike(clip, blind, siglip) -> None:
    nested = encoder_from([JointEncoder([clip, blind]), siglip])
    assert isinstance(nested, JointEncoder)
    assert nested.parts == (clip, blind, siglip)


def test_widths_are_those_of_several_only(clip, blind) -> None:
    assert widths_of(clip) is None
    assert widths_of(JointEncoder([clip, blind])) == (24, 32)


def test_what_takes_one_encoder_says_so(clip, blind) -> None:
    refuse_several(clip, "the check")
    with pytest.raises(InputError, match=r"the check takes one encoder, and there are 2: dir:"):
        check(JointEncoder([clip, blind]))
