"""The towers of open_clip's CLIP, opened up: they are the encoder's own, and a copy of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_open_clip import ARCHITECTURES, TEXT, VIT, word_tokenizer

from handful.encoders.spec import load_encoder
from handful.errors import InputError
from handful.tuning.correction import default_form
from handful.tuning.corrector import open_corrector
from handful.tuning.towers import has_image_blocks, open_towers

TEXTS = ["a photo of a cat", "A Diagram, 3.14 × 2!", "dog", "dog " * 100, ""]
RESNET = ARCHITECTURES["tiny-resnet"]
# The kinds of CLIP that open_clip builds besides the small ones that it has by name.
KNOWN: dict[str, dict[str, Any]] = {
    "tiny-resnet": RESNET,
    "text-apart": {**ARCHITECTURES["tiny-vit-quickgelu"], "custom_text": True},
    "resnet-text-apart": {**RESNET, "custom_text": True, "quick_gelu": True},
    "norm-after-pooling": {
        "embed_dim": 24,
        "vision_cfg": {**VIT, "final_ln_after_pool": True, "norm_kwargs": {"eps": 1e-2}},
        "text_cfg": {**TEXT, "norm_kwargs": {"eps": 1e-3}, "mlp_ratio": 2.0},
    },
}
BY_NAME = ("tiny-vit", "tiny-vit-quickgelu")

Build = Callable[..., str]
Weights = Callable[[str], Path]


@pytest.fixture(scope="module")
def encoder_of(build: Build, weights: Weights) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def encoder(kind: str) -> Any:
        if kind not in made:
            by_name = kind in BY_NAME
            made[kind] = load_encoder(
                f"open_clip:{kind}/{weights(kind)}" if by_name else build(KNOWN[kind])
            )
        return made[kind]

    return encoder


@pytest.fixture(params=[*BY_NAME, *KNOWN])
def encoder(request: pytest.FixtureRequest, encoder_of: Callable[[str], Any]) -> Any:
    return encoder_of(request.param)


def same(found: torch.Tensor, expected: np.ndarray) -> None:
    largest = np.abs(expected).max()
    assert np.ptp(expected, 0).max() > 1e-2 * largest, "inputs are all the same to this model"
    torch.testing.assert_close(
        found, torch.from_numpy(expected), rtol=0, atol=1e-5 * float(largest)
    )


def pixels(encoder: Any, pictures: list[Any]) -> torch.Tensor:
    found: torch.Tensor = encoder.preprocess.normalise(
        np.stack([encoder.preprocess(picture) for picture in pictures])
    )
    return found


# -- the same as the encoder -----------------------------------------------------------------------


def test_images_are_the_encoders(encoder: Any, pictures: list[Any]) -> None:
    tower: Any = open_towers(encoder).image
    expected = encoder.encode_images(pictures)
    with torch.no_grad():
        states = tower.enter(pixels(encoder, pictures))
        half = len(tower.blocks) // 2
        parted = tower.through(tower.through(states, stop=half), half)
        same(tower.leave(parted), expected)
        same(tower(pixels(encoder, pictures)), expected)


def test_texts_are_the_encoders(encoder: Any) -> None:
    tower: Any = open_towers(encoder).text
    expected = encoder.encode_texts(TEXTS)
    with torch.no_grad():
        same(tower(tower.tokenize(TEXTS)), expected)
        alone = torch.cat([tower(tower.tokenize([text])) for text in TEXTS])
        same(alone, expected)


def test_a_text_can_be_read_in_parts(encoder: Any) -> None:
    """Embeddings instead of tokens, places counted from anywhere, blocks one by one."""
    tower: Any = open_towers(encoder).text
    tokens = tower.tokenize(TEXTS)
    embeddings = tower.embed(tokens.ids)
    assert embeddings.shape == (*tokens.ids.shape, tower.width)
    assert tower.causal and tower.mask(tokens) is None
    with torch.no_grad():
        states = torch.cat([tower.enter(embeddings[:, :3]), tower.enter(embeddings[:, 3:], 3)], 1)
        for block in range(len(tower.blocks)):
            states = tower.through(states, block, block + 1)
        same(tower.leave(states, tokens.ends), encoder.encode_texts(TEXTS))


def test_tokens_are_cut_at_the_last_end(encoder_of: Callable[[str], Any]) -> None:
    tower: Any = open_towers(encoder_of("tiny-vit")).text
    tokens = tower.tokenize(["a cat", "dog"])
    assert tokens.ids.shape == (2, 4) and tokens.ends.tolist() == [3, 2]
    assert tower.token_ids("dog") == tokens.ids[1, :3].tolist()
    assert (tower.context, tower.padding, tower.frame) == (77, None, "{}.")
    assert len(tower.token_ids("dog " * 100)) == 77
    assert tower.tokenize([]).ids.shape[0] == 0


def test_a_text_may_end_at_a_token_that_is_not_the_highest(build: Build) -> None:
    """As in MetaCLIP's models of many languages, whose tokenizer is one of transformers."""
    text = {"context_length": 16, "vocab_size": 40, "hf_tokenizer_name": "in/folder"}
    text |= {"pool_type": "eos", "eos_id": 1}
    spec = build({"embed_dim": 24, "vision_cfg": VIT, "text_cfg": {**TEXT, **text}})
    word_tokenizer(Path(spec.removeprefix("open_clip:local-dir:")))
    encoder = load_encoder(spec)
    tower: Any = open_towers(encoder).text
    texts = ["a photo of the cat", "dog", "the fish"]
    tokens = tower.tokenize(texts)
    # The tokenizer pads with the token that ends a text.
    assert tokens.ends.tolist() == [5, 1, 2] and tokens.ids.shape == (3, 6)
    assert [tower.token_ids(text)[-1] for text in texts] == [1, 1, 1]
    assert [len(tower.token_ids(text)) for text in texts] == [6, 2, 3]
    with torch.no_grad():
        same(tower(tokens), encoder.encode_texts(texts))


# -- a copy ----------------------------------------------------------------------------------------


def test_the_encoder_is_never_changed(encoder: Any, pictures: list[Any]) -> None:
    before = encoder.encode_texts(TEXTS), encoder.encode_images(pictures)
    random = torch.get_rng_state()
    towers: Any = open_towers(encoder)
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(p.requires_grad for p in towers.parameters())
    assert not any(module.training for module in towers.modules())
    assert {t.device for t in [*towers.parameters(), *towers.buffers()]} == {encoder.device}
    places = [t.data_ptr() for t in towers.state_dict().values()]
    assert len(set(places)) == len(places)
    for tensor in towers.state_dict().values():
        if tensor.is_floating_point():
            tensor.normal_()
    np.testing.assert_array_equal(encoder.encode_texts(TEXTS), before[0])
    np.testing.assert_array_equal(encoder.encode_images(pictures), before[1])
    with torch.no_grad():
        found = towers.text(towers.text.tokenize(TEXTS)).numpy()
    assert not np.allclose(found, before[0], atol=1e-2)


@pytest.mark.parametrize("kind", ["tiny-vit", "resnet"])
def test_half_precision_is_opened_in_full(build: Build, weights: Weights, kind: str) -> None:
    spec = f"open_clip:tiny-vit/{weights('tiny-vit')}" if kind == "tiny-vit" else build(RESNET)
    towers = open_towers(load_encoder(f"{spec}?dtype=float16"))
    tensors = [t for t in towers.state_dict().values() if t.is_floating_point()]
    assert {t.dtype for t in tensors} == {torch.float32}


# -- blocks, or none -------------------------------------------------------------------------------


def test_a_vision_transformer_has_blocks(encoder_of: Callable[[str], Any]) -> None:
    encoder = encoder_of("tiny-vit")
    towers: Any = open_towers(encoder)
    assert has_image_blocks(encoder) and default_form(encoder) == "blocks"
    assert len(towers.image.blocks) == VIT["layers"]
    assert (towers.image.width, towers.image.patch) == (VIT["width"], VIT["patch_size"])
    # Small crops of the objective dino: the positions are stretched over fewer patches.
    small = towers.image.enter(torch.zeros(2, 3, 16, 16))
    assert small.shape == (2, 1 + 4, VIT["width"])


def test_a_resnet_has_none(encoder_of: Callable[[str], Any], pictures: list[Any]) -> None:
    encoder = encoder_of("tiny-resnet")
    towers: Any = open_towers(encoder)
    assert not has_image_blocks(encoder) and default_form(encoder) == "projection"
    assert len(towers.image.blocks) == 0 and towers.image.patch is None
    states = towers.image.enter(pixels(encoder, pictures[:2]))
    assert states.shape == (2, towers.image.width, 2, 2)  # 64 pixels, 32 to a place
    settings = {"width": 4, "scale": 1.0, "dropout": 0.0, "layers": "all"}
    with pytest.raises(InputError, match=r"inside a vision transformer.*local-dir.* has none"):
        open_corrector(towers, "blocks", settings, dim=encoder.dim, seed=0)


# -- other kinds -----------------------------------------------------------------------------------

OTHERS: dict[str, dict[str, Any]] = {
    "mean-of-patches": {"vision_cfg": {**VIT, "pool_type": "avg"}},
    "no-first-norm": {"vision_cfg": {**VIT, "no_ln_pre": True}},
    "scales-in-image-blocks": {"vision_cfg": {**VIT, "ls_init_value": 0.1}},
    "scales-in-text-blocks": {"text_cfg": {**TEXT, "ls_init_value": 0.1}},
    "blocks-of-another-kind": {"vision_cfg": {**VIT, "block_type": "custom"}},
    "rough-gelu": {"text_cfg": {**TEXT, "act_kwargs": {"approximate": "tanh"}}},
    "sees-what-follows": {"text_cfg": {**TEXT, "no_causal_mask": True}},
    "read-at-the-last-place": {"text_cfg": {**TEXT, "pool_type": "last"}},
    "projection-with-bias": {"text_cfg": {**TEXT, "proj_bias": True}},
    "token-for-the-text": {"custom_text": True, "text_cfg": {**TEXT, "embed_cls": True}},
}


@pytest.mark.parametrize("change", OTHERS)
def test_what_is_not_clips_is_refused(build: Build, change: str) -> None:
    config = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT, **OTHERS[change]}
    refused(load_encoder(build(config)))


@pytest.mark.parametrize("arch", ["tiny-siglip", "tiny-timm", "tiny-coca"])
def test_other_architectures_are_refused(open_clip: Any, weights: Weights, arch: str) -> None:
    refused(load_encoder(f"open_clip:{arch}/{weights(arch)}"))


def refused(encoder: Any) -> None:
    with pytest.raises(InputError, match=r"cannot be opened up.*CLIP or SigLIP.*open_clip:RN50"):
        open_towers(encoder)
    assert not has_image_blocks(encoder) and default_form(encoder) == "projection"
