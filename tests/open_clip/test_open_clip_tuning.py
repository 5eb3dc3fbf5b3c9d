"""Methods that train inside the encoder, on models of open_clip."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_twin import write_twin
from tiny_open_clip import ARCHITECTURES
from toy_tuning import CLASSES, PROMPTS, coloured
from watched_training import far, pixels, watched

from handful import FewShotClassifier
from handful.encoders.spec import load_encoder
from handful.errors import InputError
from handful.functional.normalise import unit
from handful.tuning.clip_lora import ClipLora
from handful.tuning.coop import CoOp, LearnedContext
from handful.tuning.correct import train_correction
from handful.tuning.corrected_encoder import corrected
from handful.tuning.fine_tune import FineTune
from handful.tuning.images import TrainingImages
from handful.tuning.towers import open_towers
from handful.tuning.training import tune
from handful.tuning.tuned_encoder import open_tuned
from handful.tuning.tuning import Prompts

NAMES = ("cat", "solar panel", "dam", "this", "dog")
# Few steps, at rates that leave a trace.
SETTINGS: dict[str, dict[str, Any]] = {
    "coop": {"epochs": 2, "context_tokens": 2, "views": 1, "lr": 0.5},
    "fine-tune": {"steps": 2, "tower": "both", "views": 1, "lr": 1e-3},
    "wise-ft-tower": {"steps": 2, "tower": "image", "views": 1, "lr": 1e-3},
    "clip-lora": {"steps": 2, "tower": "both", "views": 1, "lr": 0.1},
    "houlsby": {"steps": 2, "tower": "both", "width": 4, "views": 1, "lr": 0.1},
    "parallel": {"steps": 2, "tower": "both", "width": 4, "views": 1, "lr": 0.1},
    "clip-adapter-inner": {"steps": 2, "tower": "both", "width": 4, "views": 1, "lr": 0.1},
}
# What of them a ResNet and its text tower can have.
IN_BLOCKS = ("clip-lora", "houlsby", "parallel", "clip-adapter-inner")
ON_RESNET = SETTINGS | {name: SETTINGS[name] | {"tower": "text"} for name in IN_BLOCKS}

Build = Callable[..., str]
Weights = Callable[[str], Path]


@pytest.fixture(scope="module")
def vit(open_clip: Any, weights: Weights) -> str:
    return f"open_clip:tiny-vit/{weights('tiny-vit')}"


@pytest.fixture(scope="module")
def resnet(build: Build) -> str:
    return build(ARCHITECTURES["tiny-resnet"])


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of three classes with three pictures each."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in CLASSES:
        (folder / name).mkdir()
    for path in coloured(folder, 3)[0]:
        path.rename(folder / path.name.partition("-")[0] / path.name)
    return folder


@pytest.fixture(scope="module")
def images(photographs: Path) -> TrainingImages:
    paths = sorted(photographs.glob("*/*.png"))
    return TrainingImages(paths, [CLASSES.index(path.parent.name) for path in paths])


# -- CoOp is exact ---------------------------------------------------------------------------------


def plainly(model: Any, ids: torch.Tensor, held: int, context: torch.Tensor) -> torch.Tensor:
    """Return unit text features from the modules of open_clip.

    All 77 places are read, with the vectors of ``context`` in those of the token ``held``.
    """
    text = getattr(model, "text", model)
    places = ids == held
    assert (places.sum(1) == len(context)).all()
    vectors = context.expand(len(ids), -1, -1).flatten(0, 1)
    x = text.token_embedding(ids).masked_scatter(places[..., None], vectors)
    x = text.transformer(x + text.positional_embedding, attn_mask=text.attn_mask)
    x = text.ln_final(x)[torch.arange(len(ids)), ids.argmax(1)]
    return unit(x @ text.text_projection)


@pytest.mark.parametrize("kind", ["tiny-vit", "tiny-resnet", "text-apart"])
def test_coop_equals_a_plain_computation_with_open_clips_modules(build: Build, kind: str) -> None:
    config = {"custom_text": kind == "text-apart"}
    arch = "tiny-vit-quickgelu" if kind == "text-apart" else kind
    encoder: Any = load_encoder(build({**ARCHITECTURES[arch], **config}))
    tuned = open_tuned(CoOp(context_tokens=5), encoder, Prompts(NAMES, ("{}",)), 0)
    assert isinstance(tuned, LearnedContext)
    # Further from zero than the start, so that the vectors matter as words do.
    tuned.context.data.normal_(generator=torch.Generator().manual_seed(2))
    tower = encoder.text_tower
    ids = tower.tokenizer([f"x x x x x {name}." for name in NAMES])
    held = tower.token_ids("x")[1]

    found = tuned.class_embeddings()
    context = tuned.context.detach().clone().requires_grad_()
    expected = plainly(tower.model, ids, held, context)
    assert (expected - expected[0]).norm(dim=1)[1:].min() > 1e-2
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((found * weights).sum(), [tuned.context])
    (wanted,) = torch.autograd.grad((expected * weights).sum(), [context])
    assert wanted.norm() > 1e-3
    assert (gradient - wanted).norm() < 1e-4 * wanted.norm()


# -- every method, from fit to the saved folder and back -------------------------------------------


@pytest.mark.parametrize(
    ("kind", "method"),
    [*(("vit", name) for name in SETTINGS), *(("resnet", name) for name in ON_RESNET)],
)
def test_a_loaded_classifier_answers_to_the_bit(
    request: pytest.FixtureRequest, photographs: Path, tmp_path: Path, kind: str, method: str
) -> None:
    settings = (SETTINGS if kind == "vit" else ON_RESNET)[method]
    spec: str = request.getfixturevalue(kind)
    one = FewShotClassifier(spec, method, settings=settings, select="fixed").fit(photographs)
    new = sorted(photographs.glob("*/*-1.png"))
    found = one.predict_proba(new)
    assert np.isfinite(found).all()
    other = FewShotClassifier.load(one.save(tmp_path / "model"))
    np.testing.assert_array_equal(other.predict_proba(new), found)
    tuned: Any = one.tuned_
    before = open_tuned(tuned.tuning, load_encoder(spec), tuned.prompts, tuned.seed).arrays()
    after = tuned.tuned.arrays()
    assert max(np.abs(after[name] - before[name]).max() for name in after) > 1e-4


@pytest.mark.parametrize("method", IN_BLOCKS)
@pytest.mark.parametrize("tower", ["image", "both"])
def test_a_resnet_has_no_blocks_to_change(
    resnet: str, photographs: Path, method: str, tower: str
) -> None:
    classifier = FewShotClassifier(resnet, method, settings={"tower": tower})
    with pytest.raises(InputError, match=r"setting 'tower'.*is a ResNet.*tower=text.*fine-tune"):
        classifier.fit(photographs)


def test_other_kinds_say_what_can_be_trained(
    open_clip: Any, weights: Weights, photographs: Path
) -> None:
    classifier = FewShotClassifier(f"open_clip:tiny-siglip/{weights('tiny-siglip')}", "coop")
    with pytest.raises(InputError, match=r"tiny-siglip.*cannot be opened up"):
        classifier.fit(photographs)


# -- the ResNet is trained whole -------------------------------------------------------------------


def test_statistics_of_batch_norm_do_not_move(resnet: str, images: TrainingImages) -> None:
    base = load_encoder(resnet)
    before: Any = open_towers(base).image
    _, opened = watched(FineTune(steps=3, lr=1e-3, views=1), base, images)
    after: Any = opened.towers.image
    buffers = dict(after.named_buffers())
    assert any("running_var" in name for name in buffers)
    for name, buffer in before.named_buffers():
        assert torch.equal(buffers[name], buffer), name
    # Everything else is trained, from the first convolution to the attention at the end.
    trained = dict(after.named_parameters())
    for name, parameter in before.named_parameters():
        # No key's bias moves attention: it adds the same to all that a query is compared with.
        if name != "model.attnpool.k_proj.bias":
            assert not torch.equal(trained[name], parameter), name
    assert set(opened.trained()) == {f"towers.image.{name}" for name in trained}


# -- corrections -----------------------------------------------------------------------------------

# Of each objective, small and fast enough to go somewhere.
CORRECTIONS: dict[str, dict[str, Any]] = {
    "supervised": {"epochs": 1},
    "dino": {
        "head_outputs": 8,
        "head_hidden": 8,
        "local_crops": 2,
        "epochs": 2,
        "warm_up": 0,
        "momentum": 0.0,  # the teacher, which is kept, follows at once
        "lr": 0.1,
    },
}


@pytest.mark.parametrize("objective", CORRECTIONS)
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_correction_takes_the_form_that_the_tower_has(
    request: pytest.FixtureRequest, photographs: Path, kind: str, objective: str
) -> None:
    encoder: Any = load_encoder(request.getfixturevalue(kind))
    settings = {"width": 4, "batch": 9, **CORRECTIONS[objective]}
    made = train_correction(str(photographs), encoder, objective=objective, settings=settings)
    assert made.form == ("blocks" if kind == "vit" else "projection")
    assert max(np.abs(a).max() for n, a in made.arrays.items() if "up" in n) > 0
    both = corrected(encoder, made).encode_images(pixels(encoder))
    original = encoder.encode_images(pixels(encoder))
    largest = np.abs(original).max()
    np.testing.assert_allclose(both[:, : encoder.dim], original, rtol=0, atol=1e-5 * largest)
    assert np.abs(both[:, encoder.dim :] - original).max() > 1e-5 * largest


# -- the same weights as a model of transformers ---------------------------------------------------


@pytest.fixture(scope="module")
def twins(
    open_clip: Any,
    weights: Weights,
    clip_tokenizer_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Any, Any]:
    """One model through open_clip and through transformers."""
    file, config = weights("tiny-vit"), ARCHITECTURES["tiny-vit"]
    folder = tmp_path_factory.mktemp("twin")
    write_twin(folder, config, file, clip_tokenizer_folder, activation="gelu", end=49407)
    return load_encoder(f"open_clip:tiny-vit/{file}"), load_encoder(f"dir:{folder}")


@pytest.mark.parametrize(
    "method",
    [
        CoOp(epochs=3, context_tokens=4, views=1, lr=0.02),
        FineTune(steps=1, tower="both", views=1),
        ClipLora(steps=1, dropout=0.0, views=1),
    ],
    ids=["coop", "fine-tune", "clip-lora"],
)
def test_trainings_agree(twins: tuple[Any, Any], images: TrainingImages, method: Any) -> None:
    """In three steps: nine pictures are one batch, and there are three of each class."""
    done = [tune(method, encoder, images, PROMPTS) for encoder in twins]
    ours, theirs = (encoder.tuned.arrays() for encoder in done)
    start = open_tuned(method, twins[0], PROMPTS, 0).arrays()
    assert set(ours) == set(theirs) == set(start)
    moved = 0.0
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], rtol=0, atol=1e-4)
        moved = max(moved, float(np.abs(array - start[name]).max()))
    assert moved > 1e-5
    for side in ("image", "text"):
        largest = np.abs(done[0].encode_images(pixels(done[0]))).max()
        assert far(*done, side) < 1e-4 * largest


def test_peft_reads_what_was_saved_into_the_twin(
    twins: tuple[Any, Any], images: TrainingImages, tmp_path: Path
) -> None:
    import transformers as t
    from peft import PeftModel

    base, twin = twins
    encoder = tune(ClipLora(steps=2, lr=0.1, views=1), base, images, PROMPTS)
    tuned: Any = encoder.tuned
    tuned.save_peft(tmp_path / "lora")
    told = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == base.spec
    whole = t.CLIPModel.from_pretrained(twin.spec.removeprefix("dir:")).eval()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing adapter keys.*")
        theirs: Any = PeftModel.from_pretrained(whole, tmp_path / "lora").eval().base_model.model
    x = base.preprocess.normalise(pixels(base))
    with torch.no_grad():
        found = theirs.get_image_features(pixel_values=x).pooler_output.numpy()
    largest = np.abs(found).max()
    np.testing.assert_allclose(encoder.encode_images(pixels(base)), found, atol=1e-5 * largest)
    assert far(encoder, base, "image") > 1e-2 * largest
