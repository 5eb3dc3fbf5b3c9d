"""CoOp computes fast what the published method computes, in value and in gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from handful import load_encoder
from handful.encoders.protocol import Encoder
from handful.encoders.templates import prompts as fill_templates
from handful.encoders.views import random_views
from handful.errors import InputError
from handful.functional.normalise import unit
from handful.functional.pooling import pool_templates
from handful.tuning import shared_prefix
from handful.tuning.coop import CoOp, LearnedContext
from handful.tuning.images import TrainingImages
from handful.tuning.towers import open_towers
from handful.tuning.training import tune
from handful.tuning.tuning import Prompts

NAMES = ("cat", "solar panel", "dam", "this", "dog", "fish")
KINDS = ["clip", "clip-legacy", "siglip", "lite"]
TRAINED = Path(__file__).resolve().parents[2] / "benchmarks" / "scenes" / "model"
POSITIONS = ["end", "middle", "front"]
# A word that is one token of each tokenizer: it holds the places of the vectors in naive prompts.
HOLDER = {"clip": "x", "siglip": "evening", "lite": "zebra"}


@pytest.fixture
def encoder_of(request: pytest.FixtureRequest, tiny) -> Callable[[str], Encoder]:
    def load(kind: str) -> Encoder:
        if kind == "lite":
            return request.getfixturevalue("lite")
        return load_encoder(f"dir:{tiny(kind)}")

    return load


def opened(encoder: Encoder, names: tuple[str, ...] = NAMES, **settings: Any) -> LearnedContext:
    torch.manual_seed(0)
    method = CoOp(**settings)
    method.check_settings()
    templates = settings.pop("templates", encoder.default_templates)
    tuned = method.open(open_towers(encoder), Prompts(names, templates), 0)
    assert isinstance(tuned, LearnedContext)
    return tuned


def naive(encoder: Encoder, kind: str, texts: list[str], context: Tensor) -> Tensor:
    """Unit text features at full length, straight from transformers.

    The model reads ``texts``, with the vectors of ``context`` in the place of every holder's
    embedding.
    """
    tower: Any = encoder.text_tower  # type: ignore[attr-defined]
    model = tower.model
    holder = HOLDER[kind.partition("-")[0]]
    if kind == "lite":
        tokens = tower.tokenizer(texts, padding="max_length", max_length=60, return_tensors="pt")
        table = model.embeddings.word_embeddings
        held = tower.tokenizer(holder)["input_ids"][1]
    else:
        padded = tower._tokenizer(texts, padding="max_length", max_length=tower.context)
        tokens = {"input_ids": torch.tensor(padded["input_ids"])}
        table = model.text_model.embeddings.token_embedding
        held = tower.token_ids(holder)[0 if kind == "siglip" else 1]
    places = tokens["input_ids"] == held
    assert (places.sum(1) == context.shape[-2]).all()

    def put_in(module: object, given: object, found: Tensor) -> Tensor:
        vectors = context.expand(len(texts), -1, -1).flatten(0, 1)
        return found.masked_scatter(places[..., None], vectors)

    hook = table.register_forward_hook(put_in)
    if kind == "lite":
        states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        mean = unit((states * mask).sum(1) / mask.sum(1)).double()
        join = encoder.join  # type: ignore[attr-defined]
        features = ((mean - join["mean"]) @ join["matrix"]).float()
    else:
        features = model.get_text_features(**tokens).pooler_output
    hook.remove()
    return unit(features)


def written(kind: str, count: int, position: str) -> list[str]:
    """Prompts with holders in the places of the vectors."""
    holder = HOLDER[kind.partition("-")[0]]
    stop = "" if kind == "lite" else "."
    before = {"end": count, "middle": count // 2, "front": 0}[position]
    first, second = [holder] * before, [holder] * (count - before)
    return [" ".join([*first, name, *second]) + stop for name in NAMES]


def step(text: Tensor) -> Tensor:
    """The loss of some images, as in training."""
    random = torch.Generator().manual_seed(1)
    x = unit(torch.randn(32, text.shape[1], generator=random))
    labels = torch.randint(len(text), (32,), generator=random)
    return torch.nn.functional.cross_entropy(30 * x @ text.mT, labels)


def same_gradient(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).norm() <= 1e-4 * expected.norm()


def compare(tuned: LearnedContext, expected: Callable[[Tensor], Tensor]) -> None:
    found = tuned.class_embeddings()
    other = tuned.context.detach().clone().requires_grad_()
    plain = expected(other)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(step(found), [tuned.context])
    (wanted,) = torch.autograd.grad(step(plain), [other])
    assert wanted.norm() > 1e-3
    same_gradient(gradient, wanted)


@pytest.mark.parametrize("specific", [False, True], ids=["shared", "class-specific"])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_naive_computation(encoder_of, kind: str, position: str, specific: bool) -> None:
    encoder = encoder_of(kind)
    count = 5 if kind != "siglip" else 3
    tuned = opened(encoder, context_tokens=count, class_specific=specific, class_position=position)
    # Further from zero than the start, so that the vectors matter as words do.
    tuned.context.data.normal_(generator=torch.Generator().manual_seed(2))
    texts = written(kind, count, position)
    compare(tuned, lambda context: naive(encoder, kind, texts, context))


def test_hard_prompts_keep_their_words(encoder_of) -> None:
    """The vectors stand before every prompt; prompts are pooled as without them."""
    encoder = encoder_of("clip")
    torch.manual_seed(0)
    templates = ("a photo of a {}.", "{} in the evening")
    prompts = Prompts(NAMES, templates, ((),) * 5 + (("the text of a fish",),))
    tuned = CoOp(context_tokens=2, hard_prompt=True).open(open_towers(encoder), prompts, 0)
    tuned.context.data.normal_()

    def expected(context: Tensor) -> Tensor:
        rows = []
        for texts in prompts.of_class():
            rows.append(naive(encoder, "clip", [f"x x {text}" for text in texts], context))
        return torch.stack([pool_templates(row) for row in rows])

    compare(tuned, expected)


@pytest.mark.parametrize("specific", [False, True], ids=["shared", "class-specific"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_words_of_a_template_are_zero_shot(encoder_of, kind: str, specific: bool) -> None:
    encoder = encoder_of(kind)
    words = "is" if kind == "siglip" else "a photo of a"
    tuned = opened(encoder, words=words, class_specific=specific)
    # The tiny tokenizers know letters, and those of siglip the space before them too.
    assert tuned.context.shape[-2] == {"lite": 4, "siglip": 2}.get(kind, len("aphotoofa"))
    assert tuned.context.ndim == 2 + specific
    stop = "" if kind == "lite" else "."
    texts = fill_templates(NAMES, [f"{words} {{}}{stop}"])
    expected = unit(torch.from_numpy(encoder.encode_texts(texts)))
    torch.testing.assert_close(tuned.class_embeddings(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", ["clip", "lite"])
def test_own_vectors_of_equal_values_are_shared_ones(encoder_of, kind: str, position: str) -> None:
    encoder = encoder_of(kind)
    shared = opened(encoder, context_tokens=4, class_position=position)
    own = opened(encoder, context_tokens=4, class_position=position, class_specific=True)
    assert own.context.shape == (len(NAMES), *shared.context.shape)
    own.context.data.copy_(shared.context.data)
    found, other = own.class_embeddings(), shared.class_embeddings()
    torch.testing.assert_close(found, other, rtol=1e-5, atol=1e-6)
    (gradients,) = torch.autograd.grad(step(found), [own.context])
    (gradient,) = torch.autograd.grad(step(other), [shared.context])
    same_gradient(gradients.sum(0), gradient)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_vectors_are_trained(encoder_of, kind: str) -> None:
    tuned = opened(encoder_of(kind), context_tokens=3)
    assert list(tuned.trained()) == ["context"]
    assert tuned.arrays()["context"].shape == (3, tuned.towers.text.width)
    assert tuned.trains_text
    assert tuned.image_from is None
    step(tuned.class_embeddings()).backward()
    moved = {name for name, p in tuned.named_parameters() if p.grad is not None}
    assert moved == {"context"}


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", ["clip", "siglip", "lite"])
def test_parts_under_a_memory_limit_change_nothing(
    encoder_of, kind: str, position: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = opened(encoder_of(kind), context_tokens=3, class_position=position)
    whole = tuned.class_embeddings()
    (expected,) = torch.autograd.grad(step(whole), [tuned.context])
    towers = []
    forward = shared_prefix._causal if kind == "clip" else shared_prefix._whole

    def counted(*given: Any) -> Tensor:
        towers.append(sum(len(rest) for rest in given[-1]) if kind == "clip" else len(given[-1]))
        return forward(*given)

    monkeypatch.setattr(shared_prefix, forward.__name__, counted)
    for limit, most in ((1, 1), (60_000 if kind != "lite" else 5_000_000, 5)):
        encode = shared_prefix.encode_rests
        monkeypatch.setattr(
            "handful.tuning.coop.encode_rests",
            lambda *given, limit=limit, encode=encode: encode(*given, limit=limit),
        )
        towers.clear()
        found = tuned.class_embeddings()
        computed = len(towers)
        assert computed > 1
        assert max(towers) <= most
        torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-6)
        (gradient,) = torch.autograd.grad(step(found), [tuned.context])
        assert len(towers) == 2 * computed  # every part once more
        same_gradient(gradient, expected)
        towers.clear()
        with torch.no_grad():
            tuned.class_embeddings()
        assert len(towers) == computed


def test_vectors_start_as_the_paper_says(encoder_of) -> None:
    encoder = encoder_of("clip")
    context = opened(encoder, context_tokens=400 // 8).context.detach()
    assert 0.019 < float(context.std()) < 0.021  # 1600 numbers: two standard errors are 0.0007
    assert abs(float(context.mean())) < 0.0015
    again = opened(encoder, context_tokens=400 // 8).context
    assert torch.equal(context, again)


def test_epochs_go_by_the_shots() -> None:
    """50/100/100/200/200 for 1/2/4/8/16."""
    method = CoOp()
    found = [method.recipe(shots, 10).epochs for shots in (1, 2, 4, 8, 16)]
    assert found == [50, 100, 100, 200, 200]
    assert [method.recipe(shots, 1000).epochs for shots in (1, 4, 16)] == [50, 50, 50]  # ImageNet
    assert CoOp(epochs=3).recipe(16, 10).epochs == 3
    recipe = method.recipe(16, 10)
    assert (recipe.optimiser, recipe.lr, recipe.momentum) == ("sgd", 0.002, 0.9)
    assert (recipe.weight_decay, recipe.batch, recipe.scale) == (5e-4, 32, (0.08, 1.0))
    assert recipe.rate(0, 0, 2000) == 1e-5
    assert recipe.rate(100, 1000, 2000) == pytest.approx(0.001)


def test_what_is_saved_comes_back(encoder_of) -> None:
    encoder = encoder_of("clip")
    tuned = opened(encoder, context_tokens=3)
    other = opened(encoder, context_tokens=3)
    tuned.context.data.normal_()
    other.load(tuned.arrays())
    assert torch.equal(other.class_embeddings(), tuned.class_embeddings())


def test_prompts_that_do_not_fit_are_refused(encoder_of) -> None:
    with pytest.raises(InputError, match=r"'cat\.' of the class 'cat' and 72 learned vectors do"):
        opened(encoder_of("clip"), context_tokens=72)
    # c, a, t, ., start and end are 6 of 77.
    opened(encoder_of("clip"), ("cat", "dam"), context_tokens=71)
    with pytest.raises(InputError, match="which reads 16 tokens"):
        opened(encoder_of("siglip"), context_tokens=15)


def test_settings_are_checked(encoder_of) -> None:
    for settings in (
        {"context_tokens": 0},
        {"context_tokens": 2.5},
        {"class_position": "left"},
        {"hard_prompt": True, "class_position": "front"},
        {"class_specific": 1},
    ):
        with pytest.raises(InputError, match=r"setting '\w+' of method 'coop'"):
            CoOp(**settings).check_settings()
    with pytest.raises(InputError, match="reads nothing"):
        opened(encoder_of("clip"), words="  ")


def test_lite_reads_bare_names(lite: Encoder) -> None:
    tuned = opened(lite, words="photo")
    expected = unit(torch.from_numpy(lite.encode_texts([f"photo {name}" for name in NAMES])))
    torch.testing.assert_close(tuned.class_embeddings(), expected, rtol=1e-5, atol=1e-5)
    assert np.isfinite(tuned.arrays()["context"]).all()


def test_training_on_photographs_learns_them(lite: Encoder, photos: Path) -> None:
    names = ("dam", "hammer", "scissors")
    files = [(row, path) for row, name in enumerate(names) for path in some(photos / name)]
    images = TrainingImages(
        tuple(path for _, path in files), np.array([row for row, _ in files], np.int64)
    )
    prompts = Prompts(names, lite.default_templates)
    losses = []
    for epochs in (1, 12):  # the first is the warm-up, at a rate of 1e-5
        tuned = tune(CoOp(epochs=epochs, lr=0.02, views=1), lite, images, prompts)
        states = images.states(
            lite, tuned.tuned.towers, None, views=random_views(1, 0, (0.08, 1.0))
        )
        logits = states.logits(tuned.tuned, torch.from_numpy(tuned.class_embeddings))
        labels = torch.from_numpy(images.labels)
        losses.append(float(torch.nn.functional.cross_entropy(logits, labels)))
    assert losses[1] < 0.8 * losses[0]


def some(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())[:4]


@pytest.mark.skipif(not TRAINED.is_dir(), reason="needs the small trained CLIP")
@pytest.mark.parametrize("position", POSITIONS)
def test_equals_the_naive_computation_in_a_trained_model(position: str) -> None:
    encoder = load_encoder(f"dir:{TRAINED}")
    tuned = opened(encoder, context_tokens=4, class_position=position)
    texts = written("clip", 4, position)
    compare(tuned, lambda context: naive(encoder, "clip", texts, context))
    words = opened(encoder, words="a photo of a").class_embeddings()
    texts = fill_templates(NAMES, ["a photo of a {}."])
    expected = unit(torch.from_numpy(encoder.encode_texts(texts)))
    torch.testing.assert_close(words, expected, rtol=1e-5, atol=1e-5)
