"""Opened towers are the encoder's own, and a copy of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from handful import load_encoder
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.tuning.towers import TextTower, Towers, open_towers

TEXTS = ["a photo of a cat", "dog", "the solar panel in the evening, longer text", ""]
KINDS = ["clip", "clip-legacy", "siglip", "lite"]


@pytest.fixture(params=KINDS)
def encoder(request: pytest.FixtureRequest, tiny) -> Encoder:
    if request.param == "lite":
        return request.getfixturevalue("lite")
    return load_encoder(f"dir:{tiny(request.param)}")


def pixels(encoder: Encoder, count: int = 3) -> np.ndarray:
    side = encoder.preprocess.size
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def text_of(towers: Towers) -> TextTower:
    assert towers.text is not None
    return towers.text


def same(found: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


def test_texts_are_the_encoders(encoder: Encoder) -> None:
    tower = text_of(open_towers(encoder))
    expected = encoder.encode_texts(TEXTS)
    assert np.ptp(expected, 0).max() > 1e-3
    with torch.no_grad():
        same(tower(tower.tokenize(TEXTS)), expected)
        for text, row in zip(TEXTS, expected, strict=True):
            same(tower(tower.tokenize([text])), row[None])


def test_images_are_the_encoders(encoder: Encoder) -> None:
    towers = open_towers(encoder)
    if encoder.spec == "lite":
        assert towers.image is None  # a convolutional network
        return
    images = pixels(encoder)
    assert towers.image is not None
    with torch.no_grad():
        x = encoder.preprocess.normalise(images)
        states = towers.image.enter(x)
        assert states.shape[2] == towers.image.width
        half = len(towers.image.blocks) // 2
        parted = towers.image.through(towers.image.through(states, stop=half), half)
        same(towers.image.leave(parted), encoder.encode_images(images))
        same(towers.image(x), encoder.encode_images(images))


def test_a_text_can_be_read_in_parts(encoder: Encoder) -> None:
    """Embeddings instead of tokens, places counted from anywhere, blocks one by one."""
    tower = text_of(open_towers(encoder))
    tokens = tower.tokenize(TEXTS)
    embeddings = tower.embed(tokens.ids)
    assert embeddings.shape == (*tokens.ids.shape, tower.width)
    states = torch.cat([tower.enter(embeddings[:, :3]), tower.enter(embeddings[:, 3:], 3)], 1)
    with torch.no_grad():
        for block in range(len(tower.blocks)):
            states = tower.through(states, block, block + 1, tower.mask(tokens))
        same(tower.leave(states, tokens.ends), encoder.encode_texts(TEXTS))


def test_tokens_are_cut_at_the_last_end(tiny, lite: Encoder) -> None:
    for kind in ("clip", "clip-legacy"):
        tower = text_of(open_towers(load_encoder(f"dir:{tiny(kind)}")))
        tokens = tower.tokenize(["a cat", "dog"])
        assert tower.causal
        assert tower.context == 77
        assert tower.padding is None
        assert tokens.ids.shape == (2, 6)  # a letter is a token: start, a, c, a, t, end
        assert tokens.ends.tolist() == [5, 4]
        assert tower.token_ids("dog") == tokens.ids[1, :5].tolist()
    tower = text_of(open_towers(load_encoder(f"dir:{tiny('siglip')}")))
    tokens = tower.tokenize(["a cat", "dog"])
    assert not tower.causal
    assert tokens.ids.shape == (2, tower.context)
    assert tokens.ends.tolist() == [tower.context - 1] * 2
    read = tower.token_ids("dog")
    assert tokens.ids[1].tolist() == read + [tower.padding] * (tower.context - len(read))
    tower = text_of(open_towers(lite))
    tokens = tower.tokenize(["a cat", "dog"])
    assert tokens.ids.shape == (2, 4)
    assert tokens.ends.tolist() == [3, 2]
    assert (tower.causal, tower.padding, tower.frame) == (False, None, "{}")


def test_where_a_text_ends_is_the_models_rule(tiny, tmp_path: Path) -> None:
    """With ``eos_token_id: 2`` at the highest id, else at the first end token."""
    folder = shutil.copytree(tiny("clip"), tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    vocabulary = json.loads((folder / "vocab.json").read_text())
    # A letter, so that the rule shows: texts end inside, or, where it is not in them, at 0.
    letter = config["text_config"]["eos_token_id"] = vocabulary["t</w>"]
    (folder / "config.json").write_text(json.dumps(config))
    encoder = load_encoder(f"dir:{folder}")
    tower = text_of(open_towers(encoder))
    texts = ["!", "a cat and a rat"]
    found = tower.tokenize(texts)
    assert found.ends.tolist() == [0, tower.token_ids(texts[1]).index(letter)]
    assert found.ids.shape == (2, 5)
    with torch.no_grad():
        same(tower(found), encoder.encode_texts(texts))


def test_the_encoder_is_never_changed(encoder: Encoder) -> None:
    images = pixels(encoder)
    before = encoder.encode_texts(TEXTS), encoder.encode_images(images)
    towers = open_towers(encoder)
    assert not any(p.requires_grad for p in towers.parameters())
    assert not any(module.training for module in towers.modules())
    for parameter in towers.parameters():
        parameter.data.normal_()
    tower = text_of(towers)
    with torch.no_grad():
        assert not np.allclose(tower(tower.tokenize(TEXTS)).numpy(), before[0], atol=1e-2)
    np.testing.assert_array_equal(encoder.encode_texts(TEXTS), before[0])
    np.testing.assert_array_equal(encoder.encode_images(images), before[1])


def test_blocks_are_live(encoder: Encoder) -> None:
    """A hook on a block, and another module in its place, both change what comes out."""
    towers = open_towers(encoder)
    tower = text_of(towers)
    tokens = tower.tokenize(TEXTS)
    with torch.no_grad():
        before = tower(tokens)
        handle = tower.blocks[1].register_forward_hook(
            lambda *given: given[2] + given[2].roll(1, -1)
        )
        hooked = tower(tokens)
        handle.remove()
        torch.testing.assert_close(tower(tokens), before, rtol=0, atol=0)
        tower.blocks[0] = Doubled(tower.blocks[0])
        replaced = tower(tokens)
    for other in (hooked, replaced):
        assert not torch.allclose(other, before, atol=1e-3)
    names = [name for name, _ in towers.named_parameters()]
    assert len(names) == len(towers.state_dict().keys() & set(names))
    assert len({p.data_ptr() for p in towers.state_dict().values()}) == len(towers.state_dict())


class Doubled(torch.nn.Module):
    def __init__(self, block: torch.nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *given: torch.Tensor | None) -> torch.Tensor:
        return 2 * self.block(*given)


def test_a_gradient_comes_through_to_what_goes_in(encoder: Encoder) -> None:
    towers = open_towers(encoder)
    tower = text_of(towers)
    tokens = tower.tokenize(TEXTS)
    embeddings = tower.embed(tokens.ids).requires_grad_()
    states = tower.through(tower.enter(embeddings), mask=tower.mask(tokens))
    tower.leave(states, tokens.ends).square().sum().backward()
    assert embeddings.grad is not None
    moved = embeddings.grad.abs().sum(2) > 0
    if tower.padding is not None:
        assert moved.all()  # such a tower reads its padding
    else:
        places = torch.arange(tokens.ids.shape[1])
        assert torch.equal(moved, places <= tokens.ends[:, None])
    assert all(p.grad is None for p in towers.parameters())


def test_half_precision_is_opened_in_full(tiny) -> None:
    towers = open_towers(load_encoder(f"dir:{tiny('clip')}?dtype=float16"))
    assert {p.dtype for p in towers.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["dinov2", "siglip2", "altclip"])
def test_other_encoders_are_refused(tiny, name: str) -> None:
    encoder = load_encoder(f"dir:{tiny(name)}")
    with pytest.raises(InputError, match=r"cannot be opened up.*CLIP or SigLIP"):
        open_towers(encoder)
