"""A tuned encoder is an encoder, and its saved form is the trained part alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from toy_tuning import PROMPTS, Toy

from handful import load_encoder
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.features.extract import encode_images
from handful.functional.cosine import cosine_logits
from handful.tuning.images import TrainingImages
from handful.tuning.saved import WEIGHTS, load_tuned, save_tuned
from handful.tuning.towers import open_towers
from handful.tuning.training import tune
from handful.tuning.tuned_encoder import TunedEncoder
from handful.tuning.tuning import PIXELS as FROM_PIXELS
from handful.tuning.tuning import Tuned

SIDES: list[dict[str, Any]] = [
    {"side": "text"},
    {"side": "features"},
    {"side": "image", "block": -1},
    {"side": "image", "block": 1},
]
sides = pytest.mark.parametrize("side", SIDES, ids=lambda s: "-".join(map(str, s.values())))
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def tuned(clip: Encoder, pictures: TrainingImages) -> Any:
    made: dict[str, TunedEncoder] = {}

    def make(side: dict[str, Any]) -> TunedEncoder:
        key = str(side)
        if key not in made:
            made[key] = tune(Toy(**side), clip, pictures, PROMPTS)
        return made[key]

    return make


@sides
def test_it_is_an_encoder(tuned: Any, clip: Encoder, side: dict[str, Any]) -> None:
    encoder = tuned(side)
    assert isinstance(encoder, Encoder)
    features = encoder.encode_images(PIXELS)
    assert features.dtype == np.float32
    assert features.shape == (20, encoder.dim)
    pictures = [Image.fromarray(p) for p in PIXELS]
    np.testing.assert_allclose(encoder.encode_images(pictures), features, rtol=0, atol=1e-6)
    assert encoder.encode_images([]).shape == encoder.encode_texts([]).shape == (0, encoder.dim)
    base = clip.encode_images(PIXELS)
    moved = np.abs(features - base).max()
    assert moved < 1e-5 if side["side"] == "text" else moved > 1e-3
    np.testing.assert_allclose(
        encoder.encode_texts(["a cat", "dog"]), clip.encode_texts(["a cat", "dog"]), atol=1e-5
    )
    with pytest.raises(InputError, match=r"expects uint8 \(N, 32, 32, 3\)"):
        encoder.encode_images(PIXELS[:, :8])


@sides
def test_logits_are_zero_shot_on_its_features(
    tuned: Any, others: TrainingImages, side: dict[str, Any]
) -> None:
    """By the ordinary way through files, and by what is kept."""
    encoder = tuned(side)
    features = encode_images(encoder.sees_as, others.paths).features[:, 0]
    assert encoder.class_embeddings.shape == (3, encoder.dim)
    assert encoder.class_embeddings.dtype == np.float32
    expected = cosine_logits(
        torch.from_numpy(features),
        torch.from_numpy(encoder.class_embeddings),
        encoder.logit_scale,
    )
    np.testing.assert_allclose(encoder.logits(others), expected.numpy(), rtol=0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(encoder.class_embeddings, axis=1), 1, atol=1e-6)


@sides
def test_what_changes_images_sees_them(tuned: Any, side: dict[str, Any]) -> None:
    encoder = tuned(side)  # with an ``image_features`` of its own, which may do anything
    assert encoder.sees_as is encoder


@pytest.mark.parametrize(("at", "by_base"), [(None, True), (FROM_PIXELS, False), (0, False)])
def test_images_are_seen_by_the_base_where_nothing_of_them_was_trained(
    clip: Encoder, at: int | None, by_base: bool
) -> None:
    plain = Tuned(open_towers(clip), PROMPTS, image_from=at, trains_text=True)
    encoder = TunedEncoder(clip, Toy(), plain, 0)
    assert (encoder.sees_as is clip) == by_base
    assert (encoder.sees_as is encoder) != by_base


@sides
def test_saved_and_loaded_it_answers_the_same(
    tuned: Any, clip: Encoder, tmp_path: Path, toy: None, side: dict[str, Any]
) -> None:
    encoder = tuned(side)
    told = json.loads(json.dumps(save_tuned(encoder, tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]
    assert set(load_file(tmp_path / WEIGHTS)) == {"trained.added", "class_embeddings"}
    random = torch.get_rng_state()
    again = load_tuned(tmp_path, told, load_encoder(clip.spec))
    assert torch.equal(torch.get_rng_state(), random)
    assert again.fingerprint == encoder.fingerprint
    assert again.prompts == encoder.prompts
    assert again.tuning.settings() == encoder.tuning.settings()
    np.testing.assert_array_equal(again.encode_images(PIXELS), encoder.encode_images(PIXELS))
    np.testing.assert_array_equal(again.encode_texts(["dog"]), encoder.encode_texts(["dog"]))
    np.testing.assert_array_equal(again.class_embeddings, encoder.class_embeddings)
    assert again.trained_parameters() == encoder.trained_parameters() > 0


def test_the_fingerprint_tells_everything_apart(
    tuned: Any, clip: Encoder, pictures: TrainingImages
) -> None:
    one = tuned({"side": "text"})
    same = tune(Toy(side="text"), clip, pictures, PROMPTS)
    assert one.fingerprint == same.fingerprint != clip.fingerprint
    longer = tune(Toy(side="text", epochs=1), clip, pictures, PROMPTS)
    assert longer.fingerprint != one.fingerprint
    # The same numbers with other settings, and in another encoder.
    other = TunedEncoder(clip, Toy(side="text", views=5), one.tuned, 0)
    elsewhere = load_encoder(f"{clip.spec}?crop=floor")
    assert elsewhere.fingerprint != clip.fingerprint
    moved = TunedEncoder(elsewhere, one.tuning, one.tuned, 0)
    assert len({one.fingerprint, longer.fingerprint, other.fingerprint, moved.fingerprint}) == 4


def test_another_base_is_refused(tuned: Any, clip: Encoder, tmp_path: Path, toy: None) -> None:
    told = save_tuned(tuned({"side": "text"}), tmp_path)
    other = load_encoder(f"{clip.spec}?crop=floor")
    said = (
        rf"trained in the encoder {clip.fingerprint[:12]}, and dir:.* is {other.fingerprint[:12]}"
    )
    with pytest.raises(InputError, match=said):
        load_tuned(tmp_path, told, other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": "0" * 64}, "content is not what was written"),
        ({"fingerprint": "0" * 64}, "not what its fingerprint says"),
        ({"seed": "0"}, "incomplete"),
        ({"method": "tooy"}, "no tuning method 'tooy'"),
        ({"settings": {"side": "up"}}, "setting 'side'"),
        ({"settings": {"sides": "text"}}, "unexpected keyword"),
        ({"settings": {"side": "features"}}, "shape"),
        ({"prompts": {}}, "prompts"),
        (None, "incomplete"),
    ],
)
def test_a_damaged_record_is_named(
    tuned: Any, clip: Encoder, tmp_path: Path, toy: None, change: Any, said: str
) -> None:
    told = save_tuned(tuned({"side": "text"}), tmp_path)
    changed = None if change is None else told | change
    with pytest.raises(InputError, match=rf"^{tmp_path / WEIGHTS} cannot be used \(.*{said}"):
        load_tuned(tmp_path, changed, clip)


def test_a_damaged_file_is_named(tuned: Any, clip: Encoder, tmp_path: Path, toy: None) -> None:
    told = save_tuned(tuned({"side": "text"}), tmp_path)
    path = tmp_path / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"content is not what was written.*fit and save again"):
        load_tuned(tmp_path, told, clip)
    path.unlink()
    with pytest.raises(InputError, match=r"tuning\.safetensors cannot be read: No such file"):
        load_tuned(tmp_path, told, clip)


def test_only_the_text_side_of_lite_is_tuned(photos: Path) -> None:
    """Its features are those of ``lite``; its classes have moved."""
    lite = load_encoder("lite")
    folders = sorted(path for path in photos.iterdir() if path.is_dir())[:3]
    paths = [sorted(folder.iterdir())[0] for folder in folders]
    images = TrainingImages(paths, [0, 1, 2])
    prompts = replace(PROMPTS, names=tuple(folder.name for folder in folders))
    start = tune(Toy(side="text", epochs=0), lite, images, prompts)
    encoder = tune(Toy(side="text", lr=1e-3), lite, images, prompts)
    picture = [Image.open(paths[0])]
    np.testing.assert_allclose(
        encoder.encode_images(picture), lite.encode_images(picture), rtol=1e-5, atol=1e-6
    )
    assert np.abs(encoder.class_embeddings - start.class_embeddings).max() > 1e-4
