"""Training of a correction on labelled images: what it minimises, and that it can be stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_tuning import CLASSES

from handful.datasets.images import LabelledImages
from handful.encoders.decode import open_image
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.features.contents import Features
from handful.features.digests import row_digests
from handful.features.extract import encode_images
from handful.features.store import FeatureStore
from handful.functional.overlap import pair_cosines
from handful.tuning import correct_supervised as module
from handful.tuning import resume as resume_module
from handful.tuning.chance import mixed
from handful.tuning.correct_supervised import DEFAULTS, train_supervised
from handful.tuning.corrected_encoder import correct_features, corrected
from handful.tuning.correction import FORMS, Correction
from handful.tuning.corrector import open_corrector
from handful.tuning.images import TrainingImages
from handful.tuning.towers import open_towers

SMALL = {"width": 4, "batch": 4, "epochs": 2, "lr": 1e-2, "dropout": 0.3}
forms = pytest.mark.parametrize("form", FORMS)


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def labelled(pictures: TrainingImages) -> LabelledImages:
    """Nine pictures of three classes."""
    return LabelledImages(pictures.paths, pictures.labels, CLASSES)


@pytest.fixture(scope="module")
def rows() -> Features:
    """Sixty rows of six classes; rows of two splits are not for training."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(6, 16))
    labels = np.repeat(np.arange(6), 10)
    return Features(
        image_features=centres[labels] + 1.5 * random.normal(size=(60, 16)),
        labels=labels,
        split=np.tile([0, 0, 0, 0, 0, 0, 0, 0, 1, 2], 6),
        encoder="somebody's",
    )


def equal(one: Correction, other: Correction) -> bool:
    return one.fingerprint == other.fingerprint and one.record["losses"] == other.record["losses"]


def by_hand(
    encoder: Encoder, images: LabelledImages, form: str, settings: dict[str, Any], seed: int
) -> tuple[dict[str, Any], list[float]]:
    """The same training, whole towers in every step, the optimiser torch's own."""
    towers = open_towers(encoder)
    start = mixed(seed, 0)
    torch.manual_seed(0)
    own = {**settings, "layers": settings.get("layers", "all")}
    corrector = open_corrector(towers, form, own, dim=encoder.dim, seed=start)
    generator = torch.Generator().manual_seed(start + 1)
    bound = encoder.dim**-0.5
    g = (torch.rand(encoder.dim + 1, 3, generator=generator) * 2 - 1) * bound
    weight, bias = g[:-1].clone().requires_grad_(), g[-1].clone().requires_grad_()
    parameters = [*corrector.adapter.parameters(), weight]
    parameters += [bias] * (settings["head_input"] != "cosine")
    optimiser = torch.optim.AdamW(parameters, settings["lr"], weight_decay=0.01)
    pixels = np.stack([encoder.preprocess(open_image(path)) for path in images.paths])
    if settings.get("normalize", True):
        x = encoder.preprocess.normalise(pixels)
    else:
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    tower: Any = towers.image
    losses = []
    corrector.train()
    for epoch in range(settings["epochs"]):
        order = torch.randperm(9, generator=torch.Generator().manual_seed(mixed(seed, 1, epoch)))
        for step, some in enumerate((order[:4], order[4:8])):
            torch.manual_seed(mixed(seed, 2, 2 * epoch + step))
            if form == "blocks":
                with corrector._injected.switched(True):  # type: ignore[union-attr]
                    z = tower(x[some])
            else:
                base = torch.from_numpy(encoder.encode_images(pixels))[some]
                length = base.norm(dim=1, keepdim=True)
                z = base + length * corrector.adapter(base / length)
            if settings["head_input"] == "unit":
                z = encoder.logit_scale * z / z.norm(dim=1, keepdim=True)
            logits = z @ weight + bias
            if settings["head_input"] == "cosine":
                logits = 10 * torch.cosine_similarity(z[:, None], weight.T[None], dim=-1)
            surprise = -torch.log_softmax(logits, 1)
            loss = surprise[range(4), images.labels[some.numpy()]].mean()
            losses.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return corrector.arrays(), losses


@pytest.mark.parametrize(
    ("form", "more"),
    [
        ("blocks", {"head_input": "raw"}),
        ("blocks", {"head_input": "unit", "layers": "last-1"}),
        ("blocks", {"head_input": "raw", "normalize": False, "epochs": 1}),
        ("projection", {"head_input": "raw"}),
        ("projection", {"head_input": "unit"}),
        ("projection", {"head_input": "cosine"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_the_loop_is_what_it_says(
    clip: Encoder, labelled: LabelledImages, form: str, more: dict[str, Any]
) -> None:
    settings = {**SMALL, "scale": 0.5, **more}
    arrays, losses = by_hand(clip, labelled, form, settings, seed=5)
    found = train_supervised(clip, labelled, form=form, settings=settings, seed=5)
    assert found.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(found.arrays[name], array, rtol=1e-3, atol=2e-5)
    assert np.abs(arrays[next(n for n in arrays if "up.weight" in n)]).max() > 1e-3
    np.testing.assert_allclose(found.record["losses"], losses, atol=2e-4)
    assert found.record["steps"] == len(losses) == 2 * settings["epochs"]


def test_one_pass_that_streams_is_one_that_keeps(
    clip: Encoder, labelled: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures shown once are read when they are needed; it changes nothing."""
    settings = {**SMALL, "epochs": 1, "layers": "last-1"}
    streamed = train_supervised(clip, labelled, form="blocks", settings=settings)
    known: Any = module.batches_of
    monkeypatch.setattr(
        module, "batches_of", lambda *given, passes: known(*given, passes=passes + 1)
    )
    kept = train_supervised(clip, labelled, form="blocks", settings=settings)
    for name, array in kept.arrays.items():
        np.testing.assert_allclose(streamed.arrays[name], array, rtol=1e-3, atol=1e-5)


@forms
def test_only_the_adapter_is_trained(clip: Encoder, labelled: LabelledImages, form: str) -> None:
    opened: list[Any] = []
    known: Any = module.open_towers

    def spied(encoder: Encoder) -> Any:
        opened.append(known(encoder))
        return opened[-1]

    before = clip.encode_images([open_image(path) for path in labelled.paths])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open_towers", spied)
        found = train_supervised(clip, labelled, form=form, settings=SMALL)
    fresh = open_towers(clip).state_dict()
    for towers in opened:
        state = towers.state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in fresh.items())
        assert not any(p.requires_grad for p in towers.parameters())
    assert len(opened) == (form == "blocks")
    made = corrected(clip, found)
    both = made.encode_images([open_image(path) for path in labelled.paths])
    np.testing.assert_allclose(both[:, : clip.dim], before, rtol=0, atol=1e-5)
    assert np.abs(both[:, clip.dim :] - before).max() > 1e-3


def test_what_is_told_of_the_training(clip: Encoder, labelled: LabelledImages) -> None:
    import hashlib

    found = train_supervised(clip, labelled, form="blocks", settings={**SMALL, "layers": [1]})
    assert (found.form, found.objective) == ("blocks", "supervised")
    assert (found.encoder, found.encoder_fingerprint) == (clip.spec, clip.fingerprint)
    assert found.class_names == CLASSES
    assert found.layers == (1,)
    digests = [hashlib.sha256(path.read_bytes()).digest() for path in labelled.paths]
    assert [row.tobytes() for row in found.digests] == digests
    assert found.settings == {**DEFAULTS["blocks"], **SMALL, "layers": "1", "seed": 0}
    assert found.record["images"] == 9
    assert found.record["steps"] == 4
    assert len(found.record["losses"]) == 4


@forms
def test_no_pass_gives_a_correction_that_changes_nothing(
    clip: Encoder, labelled: LabelledImages, form: str
) -> None:
    found = train_supervised(clip, labelled, form=form, settings={**SMALL, "epochs": 0})
    both = corrected(clip, found).encode_images([open_image(p) for p in labelled.paths])
    assert np.array_equal(both[:, : clip.dim], both[:, clip.dim :])
    assert found.record["losses"] == []


def test_the_seed_decides_and_chance_outside_is_left_alone(rows: Features) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, same, other = (
        train_supervised(None, rows, form="projection", settings=SMALL, seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.rand(3), expected)
    assert equal(one, same)
    assert not equal(one, other)


# -- stopped and gone on with ----------------------------------------------------------------


@forms
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resumed_it_ends_where_it_would_have_ended(
    clip: Encoder,
    labelled: LabelledImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    stop: int,
) -> None:
    """Bit for bit, wherever in a pass it was stopped."""
    monkeypatch.setattr(resume_module, "_COST", float("inf"))  # written after every step
    given: dict[str, Any] = {"form": form, "settings": SMALL, "seed": 3}
    whole = train_supervised(clip, labelled, **given)
    known: Any = module.Checkpoint.write

    def written(self: Any, reached: Any, *rest: Any, **more: Any) -> None:
        known(self, reached, *rest, **more)
        if reached.epoch == stop:
            raise StoppedError

    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Checkpoint, "write", written)
        with pytest.raises(StoppedError):
            train_supervised(clip, labelled, **given, checkpoint=folder)
    assert len(list(folder.iterdir())) == 1
    steps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            module.nn.functional,
            "cross_entropy",
            _counted(module.nn.functional.cross_entropy, steps),
        )
        resumed = train_supervised(clip, labelled, **given, checkpoint=folder)
    assert equal(resumed, whole)
    assert len(steps) == 4 - stop
    # It is over: nothing is computed again, and another run is another file.
    assert equal(train_supervised(clip, labelled, **given, checkpoint=folder), whole)
    train_supervised(clip, labelled, **{**given, "seed": 4}, checkpoint=folder)
    assert len(list(folder.iterdir())) == 2


def _counted(function: Any, calls: list[int]) -> Any:
    def counting(*given: Any) -> Any:
        calls.append(1)
        return function(*given)

    return counting


def test_a_damaged_run_is_refused(rows: Features, tmp_path: Path) -> None:
    given: dict[str, Any] = {"form": "projection", "settings": SMALL, "checkpoint": tmp_path}
    train_supervised(None, rows, **given)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match="is no run that can be resumed"):
        train_supervised(None, rows, **given)


# -- features --------------------------------------------------------------------------------


def test_only_training_rows_are_learnt_from(rows: Features) -> None:
    found = train_supervised(None, rows, form="projection", settings=SMALL)
    assert rows.split is not None
    train = rows.split == 0
    digests = row_digests(rows.image_features[train])
    assert [row.tobytes().hex() for row in found.digests] == list(digests)
    assert found.class_names == tuple("012345")
    assert (found.encoder, found.encoder_fingerprint, found.dim) == ("somebody's", None, 16)
    rest = rows.image_features.copy()
    rest[~train] += 100
    other = replace(rows, image_features=rest)
    assert equal(train_supervised(None, other, form="projection", settings=SMALL), found)


def test_images_and_their_features_teach_the_same(
    clip: Encoder, labelled: LabelledImages, tmp_path: Path
) -> None:
    store = FeatureStore(tmp_path / "store.sqlite3")
    encoded = encode_images(clip, labelled.paths, store=store)
    rows = Features(
        image_features=encoded.features[:, 0],
        labels=labelled.labels,
        class_names=CLASSES,
        logit_scale=clip.logit_scale,
        encoder=clip.spec,
        fingerprint=clip.fingerprint,
    )
    one = train_supervised(clip, labelled, form="projection", settings=SMALL, store=store)
    other = train_supervised(None, rows, form="projection", settings=SMALL)
    assert equal(one, other)
    assert store.info().images == len(labelled)


def test_classes_never_seen_come_apart() -> None:
    """Features whose classes differ in few of many directions: the correction finds those."""
    random = np.random.default_rng(0)
    told = random.normal(size=(40, 4))  # the classes, in 4 of 32 directions

    def some(classes: Sequence[int], each: int) -> tuple[Any, Any]:
        labels = np.repeat(np.arange(len(classes)), each)
        signal = told[list(classes)][labels] + 0.3 * random.normal(size=(len(labels), 4))
        return np.hstack([signal, random.normal(size=(len(labels), 28))]), labels

    X, y = some(range(30), 30)
    learnt = Features(image_features=X, labels=y)
    settings = {"epochs": 60, "lr": 3e-3}
    found = train_supervised(None, learnt, form="projection", settings=settings)
    X, y = some(range(30, 40), 20)
    both = correct_features(X, found)
    before, after = (
        pair_cosines(torch.from_numpy(half.copy()), torch.from_numpy(y))
        for half in (both[:, :32], both[:, 32:])
    )
    assert after.overlap < before.overlap - 0.1
    assert after.separation > before.separation


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "settings", "said"),
    [
        (
            "block",
            {},
            "the form of a correction is 'block': expected blocks or projection.*'blocks'",
        ),
        ("blocks", {"widht": 3}, "setting 'widht' is none .* Did you mean 'width'"),
        ("projection", {"layers": "all"}, "setting 'layers' is none of a correction of the form"),
        ("projection", {"normalize": False}, "setting 'normalize' is none"),
        ("blocks", {"width": 0}, "'width' of a correction is 0: expected a whole number from 1"),
        ("blocks", {"epochs": 1.5}, "'epochs' of a correction is 1.5: expected a whole number"),
        ("blocks", {"dropout": 1}, "'dropout' of a correction is 1: expected a number from 0 to"),
        ("blocks", {"lr": float("nan")}, "'lr' of a correction is nan: expected a number from 0"),
        ("blocks", {"scale": True}, "'scale' of a correction is True: expected a number"),
        ("blocks", {"head_input": "z"}, "'head_input' of a correction is 'z': expected raw or"),
        ("blocks", {"normalize": 1}, "'normalize' of a correction is 1: expected true or false"),
        ("blocks", {"layers": "first"}, "'layers' of a correction is 'first': expected all, last"),
        ("blocks", {"layers": (5,)}, "layer 5 of method 'parallel' does not exist"),
        ("blocks", {"layers": "last-3"}, "does not exist: give numbers from 0 to 1"),
    ],
)
def test_wrong_settings(
    clip: Encoder, labelled: LabelledImages, form: str, settings: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        train_supervised(clip, labelled, form=form, settings=settings)


def test_wrong_sources(clip: Encoder, labelled: LabelledImages, rows: Features) -> None:
    def refused(encoder: Any, source: Any, form: str, said: str) -> None:
        with pytest.raises(InputError, match=said):
            train_supervised(encoder, source, form=form, settings=SMALL)

    refused(None, rows, "blocks", "lies inside the encoder and needs images")
    refused(None, labelled, "blocks", "on images with an encoder: name one")
    refused(clip, labelled.take([]), "blocks", "there are no images to train a correction on")
    refused(clip, labelled.take([0, 1]), "blocks", "all of one class")
    unlabelled = replace(rows, labels=None)
    refused(None, unlabelled, "projection", "no labels, .* or use objective 'dino'")
    judged = replace(rows, split=np.ones(60, np.int64))
    refused(None, judged, "projection", "no training rows: expected some of split 0")
    gone = LabelledImages([*labelled.paths[:8], Path("gone.png")], labelled.labels, CLASSES)
    for form in FORMS:
        refused(clip, gone, form, "gone.png cannot be read")


def test_a_rate_that_is_too_high_is_said(rows: Features) -> None:
    huge = replace(rows, image_features=rows.image_features * np.float32(1e37))
    settings = {**SMALL, "head_input": "raw", "lr": 1e30}
    with pytest.raises(InputError, match=r"gave (nan|inf) at step \d+ of 24 .* set a lower lr"):
        train_supervised(None, huge, form="projection", settings=settings)
