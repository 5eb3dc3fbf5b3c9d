"""Whole towers trained, and the mean of their weights before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_tuning import PROMPTS
from watched_training import TOWERS, far, loss, states_of_base, watched

from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.tuning.fine_tune import FineTune, WiseFTTower
from handful.tuning.images import TrainingImages
from handful.tuning.saved import load_tuned, save_tuned
from handful.tuning.towers import open_towers
from handful.tuning.training import train, tune
from handful.tuning.tuning import PIXELS, Prompts, Tuning

METHODS = (FineTune, WiseFTTower)

every_method = pytest.mark.parametrize("method", METHODS)
every_tower = pytest.mark.parametrize("tower", TOWERS)


def quick(method: type[Tuning], **settings: Any) -> Tuning:
    """A method with five steps for an image of each class, fast enough to go somewhere."""
    return method(**{"steps": 5, "lr": 1e-3, **settings})


@every_method
@every_tower
def test_what_is_trained(clip: Encoder, method: type[Tuning], tower: str) -> None:
    towers = open_towers(clip)
    tuned = method(tower=tower).open(towers, PROMPTS, 0)  # type: ignore[call-arg]
    names = set(tuned.trained())
    for side in ("image", "text"):
        part: Any = getattr(towers, side)
        inside = {f"towers.{side}.{name}" for name, _ in part.named_parameters()}
        assert (inside <= names) if tower in (side, "both") else not (inside & names)
    assert tuned.trains_text == (tower != "image")
    assert tuned.image_from == (None if tower == "text" else PIXELS)


@every_method
@every_tower
def test_no_step_is_zero_shot(
    clip: Encoder, pictures: TrainingImages, method: type[Tuning], tower: str
) -> None:
    encoder = tune(quick(method, tower=tower, steps=0), clip, pictures, PROMPTS)
    assert far(encoder, clip, "image") < 1e-5
    assert far(encoder, clip, "text") < 1e-5


@every_tower
def test_training_changes_the_tower_and_nothing_else(
    clip: Encoder, pictures: TrainingImages, tower: str
) -> None:
    base = states_of_base(clip)
    done, tuned = watched(quick(FineTune, tower=tower), clip, pictures)
    changed = {
        name.partition(".")[0]
        for name, value in tuned.towers.state_dict().items()
        if not torch.equal(value, base[name])
    }
    assert changed == ({"image", "text"} if tower == "both" else {tower})
    after = done.finished(clip)
    assert (far(after, clip, "image") < 1e-5) == (tower == "text")
    assert (far(after, clip, "text") < 1e-5) == (tower == "image")
    zero = tune(quick(FineTune, tower=tower, steps=0), clip, pictures, PROMPTS)
    assert loss(after, pictures) < 0.9 * loss(zero, pictures)


def test_every_part_of_a_tower_learns(clip: Encoder, pictures: TrainingImages) -> None:
    """Patch embedding, positions and projections too: weight decay alone would scale, not turn."""
    done = train(quick(FineTune, tower="both"), clip, pictures, PROMPTS)
    still = []
    for name, before in done.start.items():
        a, b = before.flatten().double(), done.end[name].flatten().double()
        if 1 - float(a @ b / (a.norm() * b.norm())) < 1e-9:
            still.append(name)
    # What attention adds to all queries' scores alike cannot change anything: the bias of keys.
    assert all(name.endswith("k_proj.bias") for name in still)


@pytest.fixture(scope="module")
def as_before(clip: Encoder, others: TrainingImages) -> TrainingImages:
    """Nine validation images whose labels are what zero-shot says: no pass can be better."""
    from PIL import Image

    text = clip.encode_texts([f"a photo of a {name}." for name in PROMPTS.names])
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    images = [Image.open(path).convert("RGB") for path in others.paths[:9]]
    labels = (clip.encode_images(images) @ text.T).argmax(1)
    return TrainingImages(others.paths[:9], labels)


def wild(patience: int = 0) -> FineTune:
    """A rate that destroys the tower."""
    return FineTune(tower="image", steps=5, lr=1.0, patience=patience)


def test_validation_keeps_the_best_pass(
    clip: Encoder, pictures: TrainingImages, as_before: TrainingImages
) -> None:
    prompts = Prompts(PROMPTS.names)
    done = train(wild(), clip, pictures, prompts, validation=as_before)
    assert done.judged[0].all()
    assert done.best == 0
    assert len(done.judged) == done.steps + 1  # to the end; a pass is one step here
    assert all(torch.equal(done.start[name], value) for name, value in done.end.items())
    assert far(done.finished(clip), clip, "image") < 1e-5
    without = train(wild(), clip, pictures, prompts)
    assert not without.judged
    assert any(not torch.equal(without.start[name], value) for name, value in without.end.items())


def test_patience(clip: Encoder, pictures: TrainingImages, as_before: TrainingImages) -> None:
    done = train(wild(patience=2), clip, pictures, Prompts(PROMPTS.names), validation=as_before)
    assert done.best == 0
    assert len(done.judged) == 1 + 2


# -- interpolation ---------------------------------------------------------------------------------


@every_tower
def test_both_ends_are_the_two_models_exactly(
    clip: Encoder, pictures: TrainingImages, tower: str
) -> None:
    done = train(quick(WiseFTTower, tower=tower), clip, pictures, PROMPTS)
    assert any(not torch.equal(done.start[name], value) for name, value in done.end.items())
    for blend, expected in ((0.0, done.start), (1.0, done.end)):
        tuned = done.finished(clip, quick(WiseFTTower, tower=tower, blend=blend)).tuned
        found = tuned.trained()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    start = done.finished(clip, quick(WiseFTTower, tower=tower, blend=0.0))
    assert far(start, clip, "image") < 1e-5
    assert far(start, clip, "text") < 1e-5


def test_between_them_lies_the_mean(clip: Encoder, pictures: TrainingImages) -> None:
    done = train(quick(WiseFTTower), clip, pictures, PROMPTS)
    found = quick(WiseFTTower, blend=0.3).kept(done.start, done.end)
    swapped = quick(WiseFTTower, blend=0.7).kept(done.end, done.start)
    for name, before in done.start.items():
        expected = 0.7 * before.double() + 0.3 * done.end[name].double()
        torch.testing.assert_close(found[name].double(), expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(swapped[name], found[name], rtol=0, atol=1e-6)
    assert WiseFTTower().blend == 0.5  # the paper's advice


def test_the_fine_tuned_end_is_that_of_fine_tune(
    clip: Encoder, pictures: TrainingImages, others: TrainingImages
) -> None:
    """The last step of the same recipe; validation chooses the blend, not the pass."""
    wise = train(quick(WiseFTTower), clip, pictures, PROMPTS, validation=others)
    fine = train(quick(FineTune), clip, pictures, PROMPTS)
    assert not wise.judged
    assert all(torch.equal(wise.end[name], value) for name, value in fine.end.items())


# -- the rest --------------------------------------------------------------------------------------


@every_method
def test_saved_and_read_again(
    clip: Encoder, pictures: TrainingImages, method: type[Tuning], tmp_path: Path
) -> None:
    encoder = tune(quick(method), clip, pictures, PROMPTS)
    again = load_tuned(tmp_path, save_tuned(encoder, tmp_path), clip)
    assert far(again, encoder, "image") == far(again, encoder, "text") == 0
    np.testing.assert_array_equal(again.class_embeddings, encoder.class_embeddings)


@every_method
def test_the_recipe(method: type[Tuning]) -> None:
    """AdamW 1e-5, decay 0.1, 500 steps per shot up to 20,000, 5 % warm-up, gradient norm 1."""
    recipe = method().recipe(16.0, 10)
    assert (recipe.optimiser, recipe.weight_decay, recipe.batch) == ("adamw", 0.1, 32)
    assert (recipe.steps, method().recipe(41.0, 10).steps) == (8000, 20_000)
    assert recipe.gradient_norm == 1.0
    assert recipe.rate(0, 0, 8000) == pytest.approx(1e-5 / 400)
    assert recipe.rate(0, 399, 8000) == pytest.approx(1e-5)
    assert recipe.rate(0, 8000, 8000) == pytest.approx(0, abs=1e-12)


def test_what_is_searched() -> None:
    assert FineTune.search.train == {"lr": (1e-6, 1e-5)}
    assert not FineTune.search.sweep
    assert WiseFTTower.search.sweep["blend"] == tuple(round(0.1 * i, 1) for i in range(11))


def test_a_tower_that_is_none_of_the_three() -> None:
    with pytest.raises(InputError, match=r"'tower' of method 'fine-tune' is 'visual'.*image or"):
        FineTune(tower="visual").check_settings()
