"""What holds for every method on the list."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_tuning import CLASSES

from handful import load_encoder
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.functional.pooling import pool_templates
from handful.tuning import registry, resume, training
from handful.tuning.images import TrainingImages
from handful.tuning.saved import load_tuned, save_tuned
from handful.tuning.training import train
from handful.tuning.tuning import Prompts, Tuned, Tuning

SCENES = Path(__file__).resolve().parents[2] / "benchmarks" / "scenes" / "model"
PROMPTS = Prompts(CLASSES, ("a {}.",))
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)

# Settings that the tiny encoders ask for: one reads 16 tokens.
TINY: dict[str, dict[str, Any]] = {"coop": {"context_tokens": 4}}
# Settings with which a method starts as zero-shot, where its defaults do not.
STARTS: dict[str, dict[str, Any]] = {"coop": {"words": "a"}}

methods = pytest.mark.parametrize("name", registry.names())


@pytest.fixture(scope="module", params=["clip", "siglip", "scenes"])
def encoder(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Encoder:
    """Random weights of two kinds, and a small CLIP that has learned, where it is there."""
    if request.param != "scenes":
        return load_encoder(f"dir:{tiny(request.param)}")
    if not SCENES.is_dir():
        pytest.skip("the small trained CLIP is not there: benchmarks/scenes/model")
    return load_encoder(f"dir:{SCENES}")


def quick(name: str, steps: int = 8, **settings: Any) -> Tuning:
    """The method, trained in few steps on small batches."""
    kind = registry.get(name)

    class Quick(kind):  # type: ignore[misc, valid-type]
        def recipe(self, shots: float, classes: int) -> Any:
            found = super().recipe(shots, classes)
            return replace(found, steps=steps, batch=4, views=2, warm_up=0.0, schedule="step")

    Quick.__init__ = kind.__init__  # type: ignore[method-assign]  # whose signature tells settings
    made: Tuning = Quick(**TINY.get(name, {}) | settings)
    return made


def features(encoder: Encoder) -> np.ndarray:
    size = encoder.preprocess.size
    return encoder.encode_images(np.ascontiguousarray(np.resize(PIXELS, (5, size, size, 3))))


def zero_shot(encoder: Encoder) -> np.ndarray:
    texts = encoder.encode_texts([f"a {name}." for name in CLASSES])
    return pool_templates(torch.from_numpy(texts)[:, None]).numpy()


@methods
def test_what_is_said_of_it(name: str) -> None:
    kind = registry.get(name)
    method = kind()
    method.check_settings()
    assert kind.name == name
    assert kind.summary
    assert kind.paper
    assert not kind.summary.endswith(".")
    settings = method.settings()
    for setting in kind.search.settings():
        assert setting in settings
    for setting in {*kind.least, *kind.most, *kind.choices, *kind.parsers} & set(settings):
        assert f"{setting}:" in f"{kind.__doc__}" or "see :class:" in f"{kind.__doc__}"
    for shots in (1, 16, 2.5):
        recipe = method.recipe(shots, 10)
        assert recipe.steps_in_all(48) > 0
        assert recipe.rate(0, 0, 100) >= 0


@methods
def test_no_step_leaves_zero_shot(encoder: Encoder, pictures: TrainingImages, name: str) -> None:
    trained = train(quick(name, 0, **STARTS.get(name, {})), encoder, pictures, PROMPTS)
    start = trained.finished(encoder)
    expected = features(encoder)
    np.testing.assert_allclose(
        features(start), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max()
    )
    np.testing.assert_allclose(start.class_embeddings, zero_shot(encoder), rtol=0, atol=1e-5)


@methods
def test_only_what_is_trained_changes(
    encoder: Encoder, pictures: TrainingImages, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    opened: list[Tuned] = []
    open_tuned = training.open_tuned

    def keeping(*args: Any) -> Tuned:
        opened.append(open_tuned(*args))
        return opened[-1]

    monkeypatch.setattr(training, "open_tuned", keeping)
    texts = encoder.encode_texts(["a photo"])
    images = features(encoder)
    method = quick(name)
    run = train(method, encoder, pictures, PROMPTS)
    after, before = opened[0], open_tuned(method, encoder, PROMPTS, 0)
    trained = {id(p) for p in after.trained().values()}
    assert trained
    untrained = dict(before.named_parameters()) | dict(before.named_buffers())
    for key, value in [*after.named_parameters(), *after.named_buffers()]:
        if id(value) not in trained:
            assert torch.equal(value, untrained[key]), key
            assert value.grad is None, key
    assert set(run.end) == set(run.start) == set(after.trained())
    assert all(value.dtype == torch.float32 for value in run.end.values())
    assert any(not torch.equal(run.end[key], run.start[key]) for key in run.end)
    np.testing.assert_array_equal(encoder.encode_texts(["a photo"]), texts)
    np.testing.assert_array_equal(features(encoder), images)


@methods
def test_the_loss_falls(encoder: Encoder, pictures: TrainingImages, name: str) -> None:
    """On the pictures that it is trained on; rates of a pretrained model are raised for this."""
    method = quick(name, 30)
    if "lr" in method.settings() and not encoder.spec.endswith("model"):
        method.set_params(lr=max(method.lr, 1e-3))
    run = train(method, encoder, pictures, PROMPTS)
    labels = torch.from_numpy(pictures.labels)
    losses = []
    for numbers in (run.start, run.end):
        encoder_then = replace(run, start=numbers, end=numbers).finished(encoder)
        logits = torch.from_numpy(encoder_then.logits(pictures)).double()
        losses.append(float(torch.nn.functional.cross_entropy(logits, labels)))
    assert losses[1] < losses[0]


@methods
def test_saved_and_loaded_it_answers_the_same(
    encoder: Encoder, pictures: TrainingImages, tmp_path: Path, name: str
) -> None:
    settings = STARTS.get(name, {})
    tuned = train(quick(name, **settings), encoder, pictures, PROMPTS).finished(encoder)
    assert isinstance(tuned, Encoder)
    told = json.loads(json.dumps(save_tuned(tuned, tmp_path)))
    again = load_tuned(tmp_path, told, load_encoder(encoder.spec))
    assert type(again.tuning) is registry.get(name)
    assert again.fingerprint == tuned.fingerprint
    np.testing.assert_array_equal(features(again), features(tuned))
    np.testing.assert_array_equal(again.class_embeddings, tuned.class_embeddings)
    np.testing.assert_array_equal(again.encode_texts(["dog"]), tuned.encode_texts(["dog"]))
    assert again.trained_parameters() == tuned.trained_parameters()


def test_what_is_saved_is_small(clip: Encoder, pictures: TrainingImages, tmp_path: Path) -> None:
    """Nothing of the base is in it, but for methods that train the base itself."""
    whole = {"fine-tune", "wise-ft-tower"}
    sizes = {}
    for name in registry.names():
        tuned = train(quick(name, 1), clip, pictures, PROMPTS).finished(clip)
        save_tuned(tuned, tmp_path)
        sizes[name] = (tmp_path / "tuning.safetensors").stat().st_size
        expected = 4 * (tuned.trained_parameters() + tuned.class_embeddings.size)
        assert expected < sizes[name] < expected + 20_000
    assert max(size for name, size in sizes.items() if name not in whole) < 10 * min(
        sizes[name] for name in whole
    )


@methods
def test_stopped_and_resumed_it_ends_the_same(
    encoder: Encoder,
    pictures: TrainingImages,
    others: TrainingImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    expected = train(quick(name), encoder, pictures, PROMPTS, validation=others, seed=5)
    monkeypatch.setattr(resume, "_COST", float("inf"))
    run_pass = training._Loop._pass
    ran: list[int] = []

    def stopping(self: Any, epoch: int, *rest: Any) -> None:
        if ran == [0, 1]:
            ran.append(-1)
            raise KeyboardInterrupt
        ran.append(epoch)
        run_pass(self, epoch, *rest)

    monkeypatch.setattr(training._Loop, "_pass", stopping)
    arguments: dict[str, Any] = {"validation": others, "seed": 5, "checkpoint": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        train(quick(name), encoder, pictures, PROMPTS, **arguments)
    found = train(quick(name), encoder, pictures, PROMPTS, **arguments)
    assert ran == [0, 1, -1, 2]
    assert found.best == expected.best
    for key, value in expected.end.items():
        assert torch.equal(found.end[key], value), key


@methods
def test_equal_seeds_give_equal_numbers(
    encoder: Encoder, pictures: TrainingImages, name: str
) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    runs = [train(quick(name), encoder, pictures, PROMPTS, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(runs[0].end[key], runs[1].end[key]) for key in runs[0].end)
    assert any(not torch.equal(runs[0].end[key], runs[2].end[key]) for key in runs[0].end)


@methods
def test_a_loss_that_is_no_number_is_named(
    clip: Encoder, pictures: TrainingImages, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    logits = Tuned.logits
    steps = [0]

    def breaking(self: Any, states: Any, text: Any) -> torch.Tensor:
        steps[0] += 1
        return logits(self, states, text) * (float("inf") if steps[0] == 3 else 1)

    monkeypatch.setattr(Tuned, "logits", breaking)
    said = rf"^training of {name} gave (nan|inf) at step 3 of 8 .*lower learning rate"
    with pytest.raises(InputError, match=said):
        train(quick(name), clip, pictures, PROMPTS)


@methods
def test_on_lite_it_trains_or_says_why_not(pictures: TrainingImages, name: str) -> None:
    lite = load_encoder("lite")
    settings: dict[str, Any] = {}
    if "tower" in registry.get(name)().settings():
        with pytest.raises(InputError, match=r"lite.*text"):
            train(quick(name, tower="image"), lite, pictures, PROMPTS)
        settings = {"tower": "text"}
    tuned = train(quick(name, 2, **settings), lite, pictures, PROMPTS).finished(lite)
    assert tuned.sees_as is lite
    assert np.isfinite(tuned.class_embeddings).all()


@methods
def test_settings_are_keywords_with_defaults(name: str) -> None:
    for parameter in inspect.signature(registry.get(name)).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty


def test_another_encoder_says_what_can_be_tuned(
    tiny: Callable[[str], Path], pictures: TrainingImages
) -> None:
    blind = load_encoder(f"dir:{tiny('dinov2')}")
    for name in registry.names():
        with pytest.raises(InputError, match=r"cannot be opened up.*CLIP or SigLIP"):
            train(quick(name), blind, pictures, PROMPTS)
