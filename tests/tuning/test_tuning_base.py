"""What every tuning method inherits: settings, prompts, class embeddings, the list."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from toy_tuning import PROMPTS, Toy, ToyTuned

from handful import load_encoder
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.features.texts import class_embeddings
from handful.functional.pooling import pool_templates
from handful.methods.settings import Settings
from handful.tuning import registry
from handful.tuning import tuning as module
from handful.tuning.prompts import Prompts
from handful.tuning.recipe import TuningRecipe
from handful.tuning.towers import open_towers
from handful.tuning.tuning import PIXELS, Tuned


def layers(text: str) -> tuple[int, ...]:
    if text == "all":
        return (0, 1)
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise ValueError("all, or numbers such as 0,2") from None


class Free(Settings):
    name = "free"
    parsers = {"layers": layers}

    def __init__(self, layers: Any = "all") -> None:
        self.layers = layers


@pytest.mark.parametrize(("given", "meant"), [("all", (0, 1)), ("0,2", (0, 2)), (3, (3,))])
def test_free_text_is_parsed(given: Any, meant: tuple[int, ...]) -> None:
    free = Free(given)
    free.check_settings()
    assert free.parsed("layers") == meant


@pytest.mark.parametrize("given", ["last", "0;2", "", True, 1.5, None, [0]])
def test_free_text_that_means_nothing_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match=r"^setting 'layers' of method 'free' is .*: expected a"):
        Free(given).check_settings()


def test_what_the_parser_says_is_what_was_expected() -> None:
    with pytest.raises(InputError, match=r"is 'last': expected all, or numbers such as 0,2\.$"):
        Free("last").check_settings()


SENTENCES = (("Red is warm.", "Like blood."), (), ("Blue is cold.",))


def test_prompts_of_a_class() -> None:
    prompts = Prompts(("a_b", "c", "d"), ("{}", "the {}."), SENTENCES)
    assert prompts.of_class() == [
        ("a b", "the a b.", "Red is warm.", "Like blood."),
        ("c", "the c."),
        ("d", "the d.", "Blue is cold."),
    ]
    assert Prompts.from_json(json.loads(json.dumps(prompts.to_json()))) == prompts


@pytest.mark.parametrize(
    "change", [{"names": "abc"}, {"templates": [1]}, {"sentences": ["a"]}, {"sentences": [[1]]}]
)
def test_other_json_is_no_prompts(change: dict[str, Any]) -> None:
    told = Prompts(("a", "b"), ("{}",), (("x",), ())).to_json()
    with pytest.raises(ValueError, match="prompts"):
        Prompts.from_json(json.loads(json.dumps(told | change)))


@pytest.mark.parametrize("at_once", [2, 128])
@pytest.mark.parametrize("name", ["clip", "siglip", "lite"])
def test_class_embeddings_are_those_of_the_encoder(
    tiny: Any, name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Different numbers of prompts per class, a few at once or all."""
    monkeypatch.setattr(module, "_TEXTS_AT_ONCE", at_once)
    encoder = load_encoder("lite" if name == "lite" else f"dir:{tiny(name)}")
    sentences = (("cat", "a dog in the evening"), (), ("solar panel",))
    prompts = Prompts(PROMPTS.names, PROMPTS.templates, sentences)
    tuned = Tuned(open_towers(encoder), prompts, image_from=None, trains_text=False)
    texts: Any = type("Texts", (), {"of_class": sentences})
    raw = class_embeddings(encoder, prompts.names, prompts.templates, sentences=texts)
    expected = pool_templates(torch.from_numpy(raw)).numpy()
    np.testing.assert_allclose(tuned.class_embeddings().numpy(), expected, rtol=0, atol=1e-5)


def test_many_texts_have_the_gradient_of_few(
    clip: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = []
    for at_once in (128, 2):
        monkeypatch.setattr(module, "_TEXTS_AT_ONCE", at_once)
        towers = open_towers(clip)
        weight = towers.text.blocks[0].mlp.fc1.weight.requires_grad_(True)  # type: ignore[union-attr]
        tuned = Tuned(towers, PROMPTS, image_from=None, trains_text=True)
        tuned.class_embeddings()[:, 0].sum().backward()
        gradients.append(weight.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("at", [None, PIXELS, 0, 1, 2])
def test_image_features_are_those_of_the_encoder(clip: Encoder, at: int | None) -> None:
    towers = open_towers(clip)
    tuned = Tuned(towers, PROMPTS, image_from=at, trains_text=False)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    expected = torch.from_numpy(clip.encode_images(pixels))
    x = clip.preprocess.normalise(pixels)
    with torch.no_grad():
        states = expected if at is None else x
        if at is not None and at >= 0:
            states = towers.image.through(towers.image.enter(x), 0, at)  # type: ignore[union-attr]
        found = tuned.image_features(states)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def toy_of(encoder: Encoder, **settings: Any) -> ToyTuned:
    tuned = Toy(**settings).open(open_towers(encoder), PROMPTS, 0)
    assert isinstance(tuned, ToyTuned)
    return tuned


def test_only_what_was_injected_knows_training(clip: Encoder) -> None:
    tuned = toy_of(clip)
    tuned.train()
    assert [m for m in tuned.modules() if m.training] == [tuned.dropout]
    tuned.eval()
    assert not any(m.training for m in tuned.modules())


def test_what_is_trained_is_what_is_saved(clip: Encoder) -> None:
    tuned = toy_of(clip)
    assert list(tuned.trained()) == list(tuned.arrays()) == ["added"]
    nn.init.ones_(tuned.added)
    other = toy_of(clip)
    other.load(tuned.arrays())
    assert torch.equal(other.added, tuned.added)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"more": np.zeros(1, np.float32)}, "names .* others: more"),
        ({"added": np.zeros((3, 1), np.float32)}, r"added has shape \(3, 1\): expected \(3, 24\)"),
    ],
)
def test_other_arrays_are_refused(clip: Encoder, change: dict[str, Any], said: str) -> None:
    tuned = toy_of(clip)
    before = copy.deepcopy(tuned.arrays())
    with pytest.raises(ValueError, match=said):
        tuned.load({**before, **change})
    with pytest.raises(ValueError, match=r"names .* others: added"):
        tuned.load({})


def test_an_image_tower_that_is_no_transformer_is_named() -> None:
    towers = open_towers(load_encoder("lite"))
    with pytest.raises(InputError, match=r"^the image tower of the encoder lite .*text tower"):
        Tuned(towers, PROMPTS, image_from=0, trains_text=True)
    towers.text = None
    with pytest.raises(InputError, match=r"no text tower to read the class names"):
        Tuned(towers, PROMPTS, image_from=None, trains_text=False)


def test_the_nearest_name_is_suggested() -> None:
    assert registry.names()
    for name in registry.names():
        assert registry.get(name).name == name
    with pytest.raises(InputError, match=r"^there is no tuning method 'cooop'\. Did you mean"):
        registry.get("cooop")


def test_steps_in_all() -> None:
    assert TuningRecipe(7, batch=4).steps_in_all(9) == 7 * 3
    assert TuningRecipe(7, batch=4, steps=10).steps_in_all(9) == 10


def test_rates_climb_and_fall() -> None:
    """Against torch's own schedules, one after the other."""
    recipe = TuningRecipe(1, lr=0.5, steps=40, warm_up=0.25, lowest=0.1)
    ours = [recipe.rate(0, step, 40) for step in range(40)]
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    climb = torch.optim.lr_scheduler.LinearLR(optimiser, 0.1, total_iters=9)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 30, eta_min=0.1)
    theirs = []
    for step in range(40):
        theirs.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if step < 9:
            climb.step()
        elif step == 9:
            optimiser.param_groups[0]["lr"] = 0.5
        else:
            fall.step()
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert TuningRecipe(4, lr=2e-3, schedule="epoch").rate(0, 0, 8) == pytest.approx(1e-5)
    assert TuningRecipe(4, lr=0.0).rate(1, 2, 8) == 0
