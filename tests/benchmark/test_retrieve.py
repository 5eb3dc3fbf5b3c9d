"""Retrieval of images and captions: counted by hand, and adapted on either side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_corrections import of_encoder
from toy_tuning import coloured

from handful import FewShotClassifier, load_encoder
from handful.benchmark import retrieve
from handful.benchmark.retrieve import retrieval_table, run_retrieval
from handful.datasets.captions import CaptionedImages
from handful.encoders.joint import encoder_from
from handful.encoders.preprocess import Preprocess
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.features.extract import encode_images
from handful.features.store import FeatureStore
from handful.tuning.tuned_encoder import TunedEncoder

RED, GREEN, BLUE = "9 1 0", "1 9 0", "0 1 9"  # names of classes, which are what they look like


class Colours:
    """Sees the mean colour, and reads three numbers; counts what it is given."""

    spec, dim, logit_scale, fingerprint = "colours", 3, 100.0, "c0" * 32
    preprocess = Preprocess()
    default_templates = ("{}",)

    def __init__(self, *, has_text: bool = True) -> None:
        self.has_text = has_text
        self.images = 0
        self.texts: list[str] = []

    def encode_images(self, images: Any) -> Any:
        self.images += len(images)
        return np.asarray(images).mean(axis=(1, 2)).astype(np.float32)

    def encode_texts(self, texts: Sequence[str]) -> Any:
        self.texts += texts
        return np.array([[float(part) for part in text.split()] for text in texts], np.float32)


def painted(folder: Path, colours: Sequence[Any]) -> list[Path]:
    paths = [folder / f"{at}.png" for at in range(len(colours))]
    for path, colour in zip(paths, colours, strict=True):
        Image.new("RGB", (20, 20), tuple(int(part) for part in colour)).save(path)
    return paths


def captioned(
    paths: Sequence[Path], texts: Sequence[str], owners: Sequence[int], **more: Any
) -> CaptionedImages:
    return CaptionedImages(tuple(paths), tuple(texts), np.array(owners), "mine", **more)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


@pytest.fixture
def primary(tmp_path: Path) -> CaptionedImages:
    """Red, green and blue; the cosines with a caption are its numbers over its length."""
    paths = painted(tmp_path, [(255, 0, 0), (0, 255, 0), (0, 0, 255)])
    texts = ["5 1 0", "1 4 0", "0 3 1", "3 2 1"]
    return captioned(paths, texts, [0, 0, 1, 2])


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> CaptionedImages:
    """Forty colours and two captions of each, near it."""
    rng = np.random.default_rng(0)
    colours = rng.integers(1, 255, (40, 3))
    owners = np.repeat(np.arange(40), 2)
    near = np.maximum(colours[owners] + rng.normal(0, 60, (80, 3)), 1)
    texts = [" ".join(f"{part:.1f}" for part in row) for row in near]
    return captioned(painted(tmp_path_factory.mktemp("many"), colours), texts, owners)


def test_counted_by_hand(primary: CaptionedImages, store: FeatureStore) -> None:
    """Red: .98 .24 0 .80, its own first. Green: .20 .97 .95 .53, another's first. Blue: 0 0 .32
    .27, another's first. The captions find red, green, green and red: the first and third are
    right, of the second the image is the second, of the fourth the third.
    """
    found = run_retrieval(primary, Colours(), at=(1, 2, 3), store=store)
    assert found.plain.image_to_text == {1: 1 / 3, 2: 1.0, 3: 1.0}
    assert found.plain.text_to_image == {1: 0.5, 2: 0.75, 3: 1.0}
    assert (found.adapted, found.sides, found.method) == (None, (), None)
    assert (found.encoder, found.seen_in_training) == ("colours", 0)
    table = retrieval_table(found)
    assert table.title == "Retrieval on mine with colours"
    assert table.header == ("search", "features", "R@1", "R@2", "R@3")
    assert table.rows == (
        ("image→text", "plain", "33.3", "100.0", "100.0"),
        ("text→image", "plain", "50.0", "75.0", "100.0"),
    )
    assert "3 images and 4 captions" in table.note
    assert "left out" not in table.note
    assert "learnt from" not in table.note


def test_nothing_is_encoded_twice(tmp_path: Path, store: FeatureStore) -> None:
    """Equal images and equal captions are one; of a second run all are known."""
    paths = painted(tmp_path, [(255, 0, 0), (0, 255, 0), (255, 0, 0)])
    captions = captioned(paths, ["5 1 0", "1 4 0", "5 1 0"], [0, 1, 2])
    encoder = Colours()
    first = run_retrieval(captions, encoder, store=store)
    assert encoder.images == 2
    assert sorted(encoder.texts) == ["1 4 0", "5 1 0"]
    assert run_retrieval(captions, encoder, store=store) == first
    assert (encoder.images, len(encoder.texts)) == (2, 2)


# -- heads -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learn(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., FewShotClassifier]:
    """Fit a method on reddish, greenish and blueish images."""
    folder = tmp_path_factory.mktemp("learnt")
    rng = np.random.default_rng(1)
    for name, hue in ((RED, 0), (GREEN, 1), (BLUE, 2)):
        (folder / name).mkdir()
        painted(folder / name, rng.integers(0, 120, (4, 3)) + 130 * np.eye(3, dtype=int)[hue])

    def fitted(method: str = "clip-adapter", **settings: Any) -> FewShotClassifier:
        encoder = Colours()
        classifier = FewShotClassifier(encoder, method, settings=settings, select="fixed")
        classifier.fit(folder)
        encoder.images, encoder.texts = 0, []
        return classifier

    return fitted


def adapter(rows: Any, down: Any, up: Any, blend: float) -> Any:
    """CLIP-Adapter in NumPy: unit(α·ReLU(ReLU(v·U₁)·U₂) + (1 − α)·v) of unit v."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    mixed = blend * np.maximum(np.maximum(unit @ down, 0) @ up, 0) + (1 - blend) * unit
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def recalls(images: Any, texts: Any, owners: Any, at: Sequence[int]) -> tuple[Any, Any]:
    """Recall by sorting, of features that no two cosines of are equal."""
    cosines = images @ texts.T / np.linalg.norm(texts, axis=1)
    cosines /= np.linalg.norm(images, axis=1)[:, None]
    by_image = owners[np.argsort(-cosines, axis=1)] == np.arange(len(images))[:, None]
    by_text = np.argsort(-cosines.T, axis=1) == owners[:, None]
    return tuple(
        {k: pytest.approx(float(found[:, :k].any(axis=1).mean())) for k in at}
        for found in (by_image, by_text)
    )


def test_each_side_is_adapted_where_it_is_asked_for(
    learn: Callable[..., FewShotClassifier], many: CaptionedImages, store: FeatureStore
) -> None:
    classifier = learn(branch="both", blend=0.7, text_blend=0.4, reduction=1)
    head: Any = classifier.head_
    at, owners, rng = (1, 5, 10), many.image_of_text, np.random.default_rng(2)
    for name in ("down_", "up_", "text_down_", "text_up_"):  # of a strength that shows
        setattr(head, name, rng.uniform(-0.5, 1, (3, 3)).astype(np.float32))
    encoder: Any = classifier.encoder
    X = encode_images(encoder, many.paths, store=store).features[:, 0].astype(float)
    T = encoder.encode_texts(many.texts).astype(float)
    A = adapter(X, head.down_, head.up_, 0.7)
    B = adapter(T, head.text_down_, head.text_up_, 0.4)
    expected = {
        "none": (X, T), "images": (A, T), "texts": (X, B), "both": (A, B)
    }  # fmt: skip
    wanted = {name: recalls(*sides, owners, at) for name, sides in expected.items()}
    # They differ, so that no side can stand for another.
    numbers = {
        tuple(recall.expected for way in both for recall in way.values())
        for both in wanted.values()
    }
    assert len(numbers) == 4
    encoder.images, encoder.texts = 0, []
    for name in ("images", "texts", "both", "none"):
        found = run_retrieval(many, classifier, adapt=name, at=at, store=store)
        assert (found.plain.image_to_text, found.plain.text_to_image) == wanted["none"]
        if name == "none":
            assert (found.adapted, found.method) == (None, None)
            continue
        assert found.adapted is not None
        assert (found.adapted.image_to_text, found.adapted.text_to_image) == wanted[name], name
        assert (found.method, found.seen_in_training) == ("clip-adapter", 0)
    # The images were in the store; the captions were read once in four runs.
    assert (encoder.images, len(encoder.texts)) == (0, len(set(many.texts)))


@pytest.mark.parametrize("branch", ["visual", "text", "both"])
def test_blend_0_is_plain(
    learn: Callable[..., FewShotClassifier],
    many: CaptionedImages,
    store: FeatureStore,
    branch: str,
) -> None:
    classifier = learn(branch=branch, blend=0.0, text_blend=0.0)
    found = run_retrieval(many, classifier, store=store)
    assert found.adapted == found.plain
    assert found.sides == {
        "visual": ("images",), "text": ("texts",), "both": ("images", "texts")
    }[branch]  # fmt: skip


def test_images_that_were_learnt_from_are_told(
    learn: Callable[..., FewShotClassifier], store: FeatureStore, tmp_path: Path
) -> None:
    classifier = learn()
    assert classifier.gathered_ is not None
    paths = [Path(name) for name in classifier.gathered_.names[:2]]
    paths += painted(tmp_path, [(9, 9, 9)])
    captions = captioned(paths, [RED, GREEN, BLUE], [0, 1, 2], split="test", left_out=4)
    table = retrieval_table(run_retrieval(captions, classifier, store=store))
    assert table.title == "Retrieval on mine, test with colours"
    assert "4 captions are left out, being more than five of an image" in table.note
    assert "2 of the images were learnt from" in table.note
    assert [row[:2] for row in table.rows] == [
        ("image→text", "plain"),
        ("image→text", "images by clip-adapter"),
        ("text→image", "plain"),
        ("text→image", "images by clip-adapter"),
    ]
    plain = retrieval_table(run_retrieval(captions, classifier, adapt="none", store=store))
    assert "learnt from" not in plain.note


@pytest.mark.parametrize(
    ("method", "settings", "adapt", "lacks", "instead"),
    [
        ("tip-adapter", {}, None, "images or texts", "none"),
        ("task-res", {"epochs": 1}, "texts", "texts", "none"),
        ("zero-shot", {}, "images", "images", "none"),
        ("clip-adapter", {"branch": "visual"}, "texts", "texts", "images"),
        ("clip-adapter", {"branch": "visual"}, "both", "texts", "images"),
        ("clip-adapter", {"branch": "text"}, "images", "images", "texts"),
    ],
)
def test_sides_that_are_not_adapted(
    learn: Callable[..., FewShotClassifier],
    primary: CaptionedImages,
    method: str,
    settings: dict[str, Any],
    adapt: str | None,
    lacks: str,
    instead: str,
) -> None:
    says = (
        f"method '{method}', as it was fitted, adapts no features of {lacks}: expected"
        rf" clip-adapter .*, or use --adapt {instead}\.$"
    )
    classifier = learn(method, **settings)
    with pytest.raises(InputError, match=says):
        run_retrieval(primary, classifier, adapt=adapt)
    assert classifier.encoder.images == 0  # type: ignore[union-attr]


def test_what_cannot_be_asked(
    learn: Callable[..., FewShotClassifier], primary: CaptionedImages, tiny: Any
) -> None:
    with pytest.raises(InputError, match=r"adapt is 'text'\. Did you mean 'texts'\?"):
        run_retrieval(primary, learn(), adapt="text")
    with pytest.raises(InputError, match="there is no classifier that would"):
        run_retrieval(primary, Colours(), adapt="images")
    with pytest.raises(InputError, match=r"colours has no text tower.* use a CLIP or SigLIP"):
        run_retrieval(primary, Colours(has_text=False))
    joint = encoder_from([Colours(), f"dir:{tiny('clip')}"])
    with pytest.raises(InputError, match="retrieval takes one encoder, and there are 2"):
        run_retrieval(primary, joint)


# -- encoders --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tiny: Callable[[str], Path]) -> Encoder:
    return load_encoder(f"dir:{tiny('clip')}")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> CaptionedImages:
    """Twelve pictures of three colours, with two captions each."""
    paths, labels = coloured(tmp_path_factory.mktemp("noisy"), 4, seed=5)
    words = ("red", "green", "blue")
    texts = [f"{word}, picture {n}" for n, label in enumerate(labels) for word in (words[label], n)]
    return captioned(paths, texts, np.repeat(np.arange(12), 2))


@pytest.fixture(scope="module")
def trained(
    clip: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., FewShotClassifier]:
    """Train inside the tiny CLIP, save and load."""
    paths, labels = coloured(tmp_path_factory.mktemp("taught"), 2, seed=9)
    names = [("red", "green", "blue")[label] for label in labels]

    def fitted(method: str, **settings: Any) -> FewShotClassifier:
        classifier = FewShotClassifier(clip, method, settings=settings, select="fixed")
        classifier.fit(paths, names)
        folder = tmp_path_factory.mktemp("model") / "model"
        return FewShotClassifier.load(classifier.save(folder), encoder=clip)

    return fitted


STEPS = {"steps": 2, "views": 1}


@pytest.mark.parametrize(
    ("method", "settings", "sides"),
    [
        ("fine-tune", {**STEPS, "tower": "image", "lr": 1e-2}, ("images",)),
        ("fine-tune", {**STEPS, "tower": "text", "lr": 1e-2}, ("texts",)),
        ("fine-tune", {**STEPS, "tower": "both", "lr": 1e-2}, ("images", "texts")),
        ("parallel", {**STEPS, "width": 4, "lr": 0.5}, ("images",)),
        ("coop", {"epochs": 1, "views": 1, "context_tokens": 2, "lr": 0.5}, ()),
    ],
    ids=["image", "text", "both", "parallel", "coop"],
)
def test_trained_encoders(
    trained: Callable[..., FewShotClassifier],
    clip: Encoder,
    noisy: CaptionedImages,
    store: FeatureStore,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    settings: dict[str, Any],
    sides: tuple[str, ...],
) -> None:
    """What is compared are features of the trained encoder on the sides that were trained."""
    classifier = trained(method, **settings)
    if not sides:
        with pytest.raises(InputError, match=f"'{method}', as it was fitted, adapts no features"):
            run_retrieval(noisy, classifier, store=store)
        assert run_retrieval(noisy, classifier, adapt="none", store=store).adapted is None
        return
    compared, real = [], retrieve.retrieval

    def watched(images: Any, texts: Any, *others: Any) -> Any:
        compared.append((images, texts))
        return real(images, texts, *others)

    monkeypatch.setattr(retrieve, "retrieval", watched)
    found = run_retrieval(noisy, classifier, store=store)
    assert found.sides == sides
    tuned = classifier.tuned_
    assert isinstance(tuned, TunedEncoder)
    pictures = [Image.open(path) for path in noisy.paths]
    X, T = clip.encode_images(pictures), clip.encode_texts(noisy.texts)
    A, B = tuned.encode_images(pictures), tuned.encode_texts(noisy.texts)
    assert not np.allclose(A, X, atol=1e-2) or "images" not in sides
    assert not np.allclose(B, T, atol=1e-2) or "texts" not in sides
    (plain, adapted) = compared
    for got, expected in (
        (plain[0], X),
        (plain[1], T),
        (adapted[0], A if "images" in sides else X),
        (adapted[1], B if "texts" in sides else T),
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    other = {"images": "texts", "texts": "images"}.get(sides[0])
    if len(sides) == 1:
        with pytest.raises(InputError, match=rf"no features of {other}.*use --adapt {sides[0]}\."):
            run_retrieval(noisy, classifier, adapt="both", store=store)


def test_other_spaces_play_no_part(
    clip: Encoder, noisy: CaptionedImages, tmp_path: Path, store: FeatureStore
) -> None:
    """A classifier that sees images corrected, or before their projection, has a plain encoder."""
    expected = run_retrieval(noisy, clip, store=store).plain
    paths, labels = coloured(tmp_path, 2, seed=9)
    names = [("red", "green", "blue")[label] for label in labels]
    corrected = FewShotClassifier(clip, "tip-adapter", correction=of_encoder(clip), select="fixed")
    earlier = FewShotClassifier(clip, "elevater-l1p", select="fixed")
    for classifier in (corrected, earlier):
        found = run_retrieval(noisy, classifier.fit(paths, names), adapt="none", store=store)
        assert (found.plain, found.adapted) == (expected, None)


def test_captions_are_read_in_a_template(primary: CaptionedImages) -> None:
    encoder = Colours()
    ran = run_retrieval(primary, encoder, template=" {}e0")
    assert encoder.texts == [f" {text}e0" for text in primary.texts]
    assert 'Captions are read as " {}e0".' in retrieval_table(ran).note
    assert "read as" not in retrieval_table(run_retrieval(primary, Colours())).note


def test_a_template_keeps_underscores_and_has_one_place(primary: CaptionedImages) -> None:
    encoder = Colours()
    run_retrieval(replace(primary, texts=("1_0 0 0", *primary.texts[1:])), encoder)
    assert encoder.texts[0] == "1_0 0 0"
    for template, word in (("a photo", "exactly one"), ("imagenet-7", "7 templates")):
        with pytest.raises(InputError, match=word):
            run_retrieval(primary, encoder, template=template)
