"""Published numbers as data, and what ``verify`` finds out about a set-up that is off."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import coloured_squares as squares
import numpy as np
import pytest

from handful import Features, load_features, save_features
from handful.benchmark.verify.judge import Verified, judge
from handful.benchmark.verify.published import (
    checkpoint_named,
    checkpoint_of,
    numbers_for,
    published,
)
from handful.benchmark.verify.reasons import reaches
from handful.benchmark.verify.setup import open_setup
from handful.datasets.catalogue import catalogue
from handful.encoders.templates import template_sets
from handful.errors import InputError

SETS = {
    "ImageNet": "imagenet",
    "Caltech101": "caltech101",
    "Caltech": "caltech101",
    "Pets": "oxford_pets",
    "Cars": "stanford_cars",
    "Flowers": "oxford_flowers",
    "Food101": "food101",
    "Food": "food101",
    "Aircraft": "fgvc_aircraft",
    "SUN397": "sun397",
    "SUN": "sun397",
    "DTD": "dtd",
    "EuroSAT": "eurosat",
    "UCF101": "ucf101",
    "UCF": "ucf101",
}


# -- the table -------------------------------------------------------------------------------------


def rows_of(text: str, heading: str) -> dict[str, list[str]]:
    """The table under a heading of the third level, by data set."""
    lines = text.partition(heading)[2].partition("\n### ")[0].splitlines()
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    return {SETS[row[0]]: row[1:] for row in cells if row[0] in SETS}


def test_the_numbers_are_those_of_the_reference(shared: Path) -> None:
    text = (shared / "reference" / "protocol.md").read_text("utf-8")
    zero_shot = {n: float(row[0]) for n, row in rows_of(text, "### 8.2").items()}
    gda = {n: float(row[4]) for n, row in rows_of(text, "### 8.3").items()}
    told = re.search(r"ViT-B/16 (ImageNet 72.*?), average", " ".join(text.split()))
    pairs = [one.rsplit(" ", 1) for one in told[1].split(", ")]
    b16 = {SETS[name]: float(value) for name, value in pairs}
    expected = {
        ("zero-shot", "RN50"): zero_shot,
        ("gda", "RN50"): gda,
        ("gda", "ViT-B/16"): b16,
    }
    assert all(len(row) == 11 for row in expected.values())
    found = {
        (one.method, one.checkpoint): {n: round(100 * v, 6) for n, v in one.by.items()}
        for one in published().numbers
    }
    assert found == expected


def test_the_table_is_whole() -> None:
    for one in published().numbers:
        assert set(one.by) <= set(catalogue())
        assert set(one.doubts) <= set(one.by)
        assert one.checkpoint in published().checkpoints
        assert one.source
        assert one.trust
    # Its ImageNet blend was chosen on the test images, and who reads the number is told so.
    assert "test" in numbers_for("imagenet", "ViT-B/16")[0].doubts["imagenet"]
    assert [n.method for n in numbers_for("dtd", "RN50")] == ["zero-shot", "gda"]


def test_imagenet_is_read_in_seven_templates_and_the_others_in_their_own() -> None:
    sets = {name: published().templates_of(name) for name in dict.fromkeys(SETS.values())}
    assert {n: s for n, s in sets.items() if s != n} == {"imagenet": "imagenet-7"}
    assert len(template_sets()[sets["imagenet"]]) == 7


@pytest.mark.parametrize(
    ("spec", "checkpoint"),
    [
        ("open_clip:RN50/openai", "RN50"),
        ("open_clip:RN50-quickgelu/openai?style=coop", "RN50"),
        ("hf:openai/clip-vit-base-patch16@0a0a0a", "ViT-B/16"),
        ("open_clip:ViT-B-16/openai?dtype=float16", "ViT-B/16"),
        ("open_clip:ViT-B-16/laion2b_s34b_b88k", None),
        ("hf:openai/clip-vit-base-patch32", None),
        ("dir:RN50", None),
        ("lite", None),
    ],
)
def test_what_a_spec_tells(spec: str, checkpoint: str | None) -> None:
    assert checkpoint_of(spec) == checkpoint


def test_names_of_checkpoints() -> None:
    assert [checkpoint_named(n) for n in ("rn50", "ViT-B/16", "vit-b-16")] == [
        *("RN50", "ViT-B/16", "ViT-B/16")
    ]
    with pytest.raises(InputError, match=r"'RN5' are published: .* Did you mean 'RN50'\?"):
        checkpoint_named("RN5")


def test_a_data_set_without_numbers_names_those_with() -> None:
    with pytest.raises(InputError, match=r"of RN50 on cifar10 .* on imagenet, .*, ucf101"):
        numbers_for("cifar10", "RN50")


@pytest.mark.parametrize(
    ("ours", "theirs", "met"),
    [(0.60, 0.61, True), (0.62, 0.61, True), (0.5999, 0.61, False), (0.6201, 0.61, False)],
)
def test_a_point_to_either_side(ours: float, theirs: float, met: bool) -> None:
    assert reaches(ours, theirs) is met


# -- set-ups ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set. Tests do not change it."""
    return squares.write(tmp_path_factory.mktemp("squares"))


@pytest.fixture(autouse=True)
def _stand_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "root" in request.fixturenames or "kept" in request.fixturenames:
        squares.stand_in(monkeypatch)


def verify(name: str, **given: object) -> Verified:
    return judge(open_setup(name, **given))


def look(root: Path, **more: object) -> Verified:
    return verify("eurosat", root=root, **{"encoder": squares.SPEC, "checkpoint": "RN50"} | more)


def embedded(root: Path, file: Path, by: str = squares.SPEC, **changes: object) -> Path:
    """A features file of the data set, spoilt by ``changes``."""
    from handful.datasets.source import open_images
    from handful.encoders.spec import load_encoder
    from handful.features.embed import embed_images

    made = embed_images(open_images(f"data:eurosat@{root}"), load_encoder(by), templates="eurosat")
    save_features(file, replace(made.features, **changes))
    return file


def part_of(whole: Features, rows: np.ndarray, file: Path) -> Path:
    """A features file of some rows of another."""
    kept = replace(
        whole,
        image_features=whole.image_features[rows],
        labels=whole.labels[rows],
        split=whole.split[rows],
        paths=tuple(whole.paths[row] for row in rows),
    )
    save_features(file, kept)
    return file


def zero_shot(found: Verified) -> float:
    return next(one.ours for one in found.judged if one.number.method == "zero-shot")


def reason(found: Verified) -> str:
    assert not found.ok
    return found.findings.reasons[0].kind


def test_the_right_set_up(kept: Path) -> None:
    found = look(kept)
    assert found.ok
    assert found.findings is None
    assert [one.ours for one in found.judged] == pytest.approx([squares.RIGHT] * 2)
    assert found.setup.templates == (squares.TEMPLATE,)


def test_the_head_is_a_mean_over_its_seeds(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squares.stand_in(monkeypatch, "gda", seeds=(1, 2, 3))
    runs = []

    def run_once(run, source, drawn, task) -> dict[str, float]:
        runs.append(run)
        counts = np.bincount(source.labels[drawn.support])
        assert counts.tolist() == [16] * len(squares.FOLDERS)
        assert (source.features.split[drawn.test] == 2).all()
        return {"accuracy": {1: 0.9, 2: 0.5, 3: 0.7}[run.seed]}

    monkeypatch.setattr("handful.benchmark.verify.measure.run_once", run_once)
    (one,) = look(kept, encoder=squares.SPEC).judged
    assert [(r.method, r.protocol, r.select, r.shots, r.seed) for r in runs[:3]] == [
        ("gda", "coop", "val", 16, seed) for seed in (1, 2, 3)
    ]
    assert one.ours == pytest.approx(0.7)


def test_many_images_go_in_parts(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handful.benchmark.verify.measure._AT_ONCE", 7)
    assert zero_shot(look(kept, head=False)) == pytest.approx(squares.RIGHT)


def test_a_wrong_template(kept: Path) -> None:
    found = look(kept, templates=["photo"])
    assert zero_shot(found) == pytest.approx(squares.SWAPPED)
    assert reason(found) == "template"
    (tried,) = found.findings.tried
    assert tried.accuracy == pytest.approx(squares.RIGHT)
    assert tried.as_published
    assert squares.TEMPLATE in found.findings.reasons[0].sentence
    assert len(found.findings.reasons) == 1  # it is explained


def test_squeezed_images(kept: Path) -> None:
    found = look(kept, encoder=f"{squares.SPEC}?style=coop")
    assert zero_shot(found) == pytest.approx(squares.SQUEEZED)
    assert reason(found) == "crop"
    (tried,) = found.findings.tried
    assert (tried.what, tried.images) == ("style=clip", squares.COUNTS["test"])
    assert tried.accuracy == pytest.approx(squares.RIGHT)


def test_two_things_at_once(kept: Path) -> None:
    found = look(kept, encoder=f"{squares.SPEC}?style=coop", templates=["photo"])
    assert reason(found) == "crop"
    *alone, both = found.findings.tried
    assert [one.kind for one in alone] == ["template", "crop"]
    assert not any(reaches(one.accuracy, squares.RIGHT) for one in alone)
    assert both.what == "style=clip, and the papers' names and template"
    assert both.accuracy == pytest.approx(squares.RIGHT)


def test_zero_shot_alone(kept: Path) -> None:
    found = look(kept, head=False)
    (one,) = found.judged
    assert (one.number.method, one.ours) == ("zero-shot", pytest.approx(squares.RIGHT))
    assert len(found.setup.source.labels) == squares.COUNTS["test"]
    squeezed = look(kept, head=False, encoder=f"{squares.SPEC}?style=coop")
    assert reason(squeezed) == "crop"


def test_a_large_data_set_is_not_encoded_whole(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handful.benchmark.listing.LARGE", 10)
    found = look(kept)
    assert [one.ours for one in found.judged] == pytest.approx([squares.RIGHT] * 2)
    # Ten classes: 16 shots, 4 validation images and all for the test.
    assert len(found.setup.source.labels) == 10 * (16 + 4) + squares.COUNTS["test"]
    assert reason(look(kept, templates=["photo"])) == "template"


def test_zero_shot_stands_where_a_large_data_set_has_too_few_to_learn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squares.stand_in(monkeypatch)
    monkeypatch.setattr("handful.benchmark.listing.LARGE", 10)
    root = squares.write(tmp_path)
    file = root / "eurosat" / "split_zhou_EuroSAT.json"
    lists = json.loads(file.read_text())
    file.write_text(json.dumps(lists | {"train": lists["train"][2:]}))
    without, head = look(root).judged
    assert (without.ours, without.lacking) == (pytest.approx(squares.RIGHT), "")
    assert head.ours is None
    assert "has 15 images of 'Annual Crop Land'" in head.lacking


def test_only_a_head_is_published(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of ViT-B/16: what is tried is measured with the head."""
    squares.stand_in(monkeypatch, "gda")
    assert look(kept).ok
    with pytest.raises(InputError, match="only that of a head: leave --no-head out"):
        look(kept, head=False)
    found = look(kept, encoder=f"{squares.SPEC}?style=coop")
    assert [one.number.method for one in found.judged] == ["gda"]
    assert reason(found) == "crop"


def test_an_estimate_from_some_images(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handful.benchmark.verify.trials.MOST_IMAGES", 20)
    found = look(kept, encoder=f"{squares.SPEC}?style=coop")
    (crop,) = found.findings.tried
    assert crop.images == 20
    # The pictures are called by number: of each ten the first is wrong however it is seen, three
    # others where both sides are squeezed. Of so few images neither share is that of all.
    paths = found.setup.source.features.paths
    rows = [found.setup.test[at] for at in np.linspace(0, 199, 20).astype(int)]
    numbers = [int(paths[row][-5]) for row in rows]
    cropped, squeezed = (np.mean([n not in wrong for n in numbers]) for wrong in ((0,), range(4)))
    assert cropped != pytest.approx(squares.RIGHT)
    assert crop.accuracy == pytest.approx(min(1, squares.SQUEEZED + cropped - squeezed))


def test_folder_names(kept: Path, tmp_path: Path) -> None:
    """As somebody embeds the folders of the pictures: the text is of their names."""
    from handful.benchmark.sources import features_source
    from handful.benchmark.verify.setup import read_by
    from handful.datasets.names import readable
    from handful.encoders.spec import load_encoder

    file = embedded(kept, tmp_path / "a.safetensors", class_names=squares.FOLDERS)
    words = [readable(name) for name in squares.FOLDERS]
    read = read_by(load_encoder(squares.SPEC), features_source(file), words, [squares.TEMPLATE])
    save_features(file, read.features, overwrite=True)
    found = verify("eurosat", features=file, encoder=squares.SPEC, checkpoint="RN50")
    # Forest and River stay as they are: 18 images each. Of six other classes two images show the
    # class that the name is taken for.
    assert zero_shot(found) == pytest.approx((2 * 18 + 6 * 2) / 200)
    assert reason(found) == "class names"
    assert "'Annual Crop Land' for 'Annual Crop'" in found.findings.tried[0].what
    assert found.findings.tried[0].accuracy == pytest.approx(squares.RIGHT)

    alone = verify("eurosat", features=file, checkpoint="RN50")
    assert reason(alone) == "class names"
    assert "'Annual Crop Land' is 'Annual Crop' here" in alone.findings.reasons[0].sentence
    assert alone.findings.tried == ()
    assert [one.kind for one in alone.findings.not_tried] == ["class names", "template", "crop"]
    assert all("--encoder" in one.sentence for one in alone.findings.not_tried)


def test_another_split(kept: Path, tmp_path: Path) -> None:
    """Training images of others' splits as test images: none of them is spoilt."""
    root = squares.write(tmp_path)
    path = root / "eurosat" / "split_zhou_EuroSAT.json"
    lists = json.loads(path.read_text())
    lists["test"] = [row for row in lists["test"] if not row[0].endswith("0.png")]
    path.write_text(json.dumps(lists))
    found = look(root)
    assert zero_shot(found) == 1
    assert reason(found) == "split"
    assert "there are 180 test images: expected 200" in found.findings.reasons[0].sentence
    # What was tried does not come near, whatever it is.
    assert {one.kind for one in found.findings.tried} == {"class names", "template", "crop"}
    assert not any(one.as_published for one in found.findings.tried)


def test_training_images_do_not_explain_zero_shot(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = squares.write(tmp_path)
    path = root / "eurosat" / "split_zhou_EuroSAT.json"
    lists = json.loads(path.read_text())
    lists["train"] = lists["train"][:-1]
    path.write_text(json.dumps(lists))
    other = [replace(one, by={"eurosat": 0.5}) for one in squares.numbers("zero-shot")]
    monkeypatch.setattr("handful.benchmark.verify.setup.numbers_for", lambda *_: other)
    told = look(root).findings.reasons
    assert [one.kind for one in told] == ["checkpoint", "split"]
    assert "there are 169 train images: expected 170" in told[-1].sentence
    other[:] = [replace(one, by={"eurosat": 0.5}) for one in squares.numbers("gda")]
    assert [one.kind for one in look(root).findings.reasons] == ["split", "checkpoint"]


def test_of_many_problems_some_are_told(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(catalogue()["eurosat"], per_class={"test": 21})
    squares.stand_in(monkeypatch, entry=entry)
    told = look(kept, templates=["photo"]).findings.reasons
    assert [one.kind for one in told] == ["template", *["split"] * 4]
    assert told[-1].sentence.startswith("there are 7 more such problems")


def test_a_features_file_of_a_part(kept: Path, tmp_path: Path) -> None:
    whole = load_features(embedded(kept, tmp_path / "whole.safetensors"))
    spoilt = np.array([path.endswith("0.png") for path in whole.paths])
    rows = np.flatnonzero(~spoilt | (whole.split != 2))
    file = part_of(whole, rows, tmp_path / "part.safetensors")
    found = verify("eurosat", features=file, checkpoint="RN50")
    assert reason(found) == "split"
    assert "part has 180 test images: expected 200" in found.findings.reasons[0].sentence


def test_a_head_that_learnt_other_images(kept: Path, tmp_path: Path) -> None:
    """Zero-shot needs no training images: where it is right, they are what is wrong."""
    whole = load_features(embedded(kept, tmp_path / "whole.safetensors"))
    learnt = whole.split != 2
    # Two classes for each other, in training and validation.
    labels = np.where(learnt & (whole.labels < 2), 1 - whole.labels, whole.labels)
    save_features(tmp_path / "swapped.safetensors", replace(whole, labels=labels))
    found = verify(
        "eurosat",
        features=tmp_path / "swapped.safetensors",
        encoder=squares.SPEC,
        checkpoint="RN50",
    )
    assert [one.ok for one in found.judged] == [True, False]
    assert found.findings.tried == ()  # names, template and crop are right
    assert reason(found) == "head"


def test_weights_that_are_others(kept: Path, tmp_path: Path) -> None:
    whole = load_features(embedded(kept, tmp_path / "whole.safetensors"))
    noise = np.random.default_rng(0).normal(size=whole.image_features.shape)
    file = tmp_path / "noise.safetensors"
    save_features(file, replace(whole, image_features=noise))
    found = verify("eurosat", features=file, checkpoint="RN50")
    assert reason(found) == "checkpoint"
    assert "handful encoders check SPEC --as open_clip:RN50/openai" in (
        found.findings.reasons[0].sentence
    )


def test_only_test_images_are_enough_for_zero_shot(kept: Path, tmp_path: Path) -> None:
    whole = load_features(embedded(kept, tmp_path / "whole.safetensors"))
    rows = np.flatnonzero(whole.split == 2)
    file = part_of(whole, rows, tmp_path / "test.safetensors")
    found = verify("eurosat", features=file, checkpoint="RN50")
    assert found.ok
    zero, head = found.judged
    assert (zero.ours, head.ours) == (pytest.approx(squares.RIGHT), None)
    assert "cannot draw 16 shots" in head.lacking


# -- refusals --------------------------------------------------------------------------------------


def test_both_or_neither(kept: Path, tmp_path: Path) -> None:
    for given in ({}, {"root": kept, "features": tmp_path / "a.safetensors"}):
        with pytest.raises(InputError, match=r"give either --root DIR.* or --features"):
            verify("eurosat", **given)


def test_an_encoder_that_is_another_checkpoint(kept: Path) -> None:
    with pytest.raises(InputError, match=r"'open_clip:RN50/openai' is RN50, not ViT-B/16"):
        look(kept, encoder="open_clip:RN50/openai", checkpoint="vit-b/16")
    with pytest.raises(InputError, match="say which with --checkpoint"):
        look(kept, checkpoint=None)


def test_features_of_another_encoder(kept: Path, tmp_path: Path) -> None:
    file = embedded(kept, tmp_path / "a.safetensors", f"{squares.SPEC}?style=coop")
    with pytest.raises(InputError, match=r"a was made by .*style=coop, not by squares:of-colour:"):
        verify("eurosat", features=file, encoder=squares.SPEC, checkpoint="RN50")


def test_features_made_with_another_crop_than_is_said(kept: Path, tmp_path: Path) -> None:
    """A file that tells no fingerprint: both styles are tried, and one gives the number."""
    coop = f"{squares.SPEC}?style=coop"
    file = embedded(kept, tmp_path / "a.safetensors", coop, encoder=None, fingerprint=None)
    found = verify("eurosat", features=file, encoder=squares.SPEC, checkpoint="RN50")
    assert zero_shot(found) == pytest.approx(squares.SQUEEZED)
    assert reason(found) == "crop"


def test_features_without_what_is_needed(kept: Path, tmp_path: Path) -> None:
    X, labels = np.eye(10, squares.WIDTH), np.arange(10)
    file = tmp_path / "bare.safetensors"
    save_features(file, Features(X, labels=labels))
    with pytest.raises(InputError, match="bare has no test split"):
        verify("eurosat", features=file, checkpoint="RN50")
    save_features(file, Features(X, labels=labels, split=np.full(10, 2)), overwrite=True)
    with pytest.raises(InputError, match=r"bare has no class embeddings: give --encoder"):
        verify("eurosat", features=file, checkpoint="RN50")
    save_features(
        file, Features(X, labels=labels, split=np.full(10, 2), class_embeddings=X), overwrite=True
    )
    with pytest.raises(InputError, match=r"texts already.* give --encoder, too"):
        verify("eurosat", features=file, checkpoint="RN50", templates=["photo"])


def test_features_that_no_encoder_can_read_names_for(kept: Path, tmp_path: Path) -> None:
    nameless = embedded(kept, tmp_path / "nameless.safetensors", class_names=None)
    with pytest.raises(InputError) as error:
        verify("eurosat", features=nameless, encoder=squares.SPEC, checkpoint="RN50")
    assert str(error.value) == (
        "nameless has no class names, so that squares:of-colour has nothing to read: embed"
        " data:eurosat@ROOT, which keeps them, or leave --encoder out."
    )
    assert verify("eurosat", features=nameless, checkpoint="RN50", head=False).judged


def test_features_of_another_width_than_the_encoder(kept: Path, tmp_path: Path) -> None:
    whole = load_features(embedded(kept, tmp_path / "whole.safetensors"))
    file = tmp_path / "narrow.safetensors"
    narrow = {name: getattr(whole, name)[..., :4] for name in ("image_features", "text_features")}
    W = whole.class_embeddings
    assert W is not None
    save_features(file, replace(whole, **narrow, class_embeddings=W[:, :4], fingerprint=None))
    with pytest.raises(InputError) as error:
        verify("eurosat", features=file, encoder=squares.SPEC, checkpoint="RN50")
    assert str(error.value) == (
        f"narrow has features of 4 numbers, and squares:of-colour gives {squares.WIDTH}: give the"
        " encoder of the features."
    )
