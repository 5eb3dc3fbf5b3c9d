"""A minute of training on drawn scenes: the loss falls, ``dir:`` reads the result."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from draw import SIDE
from tiny_clip import make_model, save
from tokens import CONTEXT, make_tokenizer
from train import Pool, Recipe, contrastive_loss, draw_pool, schedule, train

from handful.encoders.spec import load_encoder

SHORT = Recipe(steps=250, batch=32, pictures=1500, warm_up=20)


def test_without_accidental_truths_the_loss_is_clip_s() -> None:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer).eval()
    captions = ["a red circle", "two blue rings", "a large star on a black background"]
    tokens = tokenizer(captions, padding=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        theirs = model(tokens, torch.randn(3, 3, SIDE, SIDE), return_loss=True)
        scale = model.logit_scale.exp()
        ours = contrastive_loss(theirs.logits_per_text / scale, scale, torch.eye(3) > 0)
    torch.testing.assert_close(ours, theirs.loss)


def test_an_accidental_truth_is_no_negative() -> None:
    cosines = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)).double()
    true = torch.eye(4, dtype=torch.bool)
    true[0, 2] = True  # caption 0 is also true of picture 2
    wanted = []
    for i in range(4):
        pictures = [j for j in range(4) if j == i or not true[i, j]]
        captions = [j for j in range(4) if j == i or not true[j, i]]
        row, column = cosines[i, pictures], cosines[captions, i]
        wanted.append((3 * row).logsumexp(0) - 3 * cosines[i, i])
        wanted.append((3 * column).logsumexp(0) - 3 * cosines[i, i])
    found = contrastive_loss(cosines, torch.tensor(3.0), true)
    torch.testing.assert_close(found, torch.stack(wanted).mean())


def test_the_rate_warms_up_and_ends_at_zero() -> None:
    factors = [schedule(step, SHORT) for step in range(SHORT.steps)]
    assert factors[0] == pytest.approx(1 / SHORT.warm_up)
    assert max(factors) == factors[SHORT.warm_up] == 1
    assert np.all(np.diff(factors[SHORT.warm_up :]) < 0)
    assert factors[-1] < 0.01


def test_the_tokenizer_is_the_same_on_every_call_and_spells_what_it_does_not_know() -> None:
    first, second = make_tokenizer(), make_tokenizer()
    assert first.get_vocab() == second.get_vocab()
    assert first.eos_token_id == len(first) - 1 != 2
    known = first("a photo of two small red striped hexagons.")["input_ids"]
    assert len(known) == 9 + 2  # one token for each word and the full stop
    unknown = first("a quixotic zebra")["input_ids"]
    assert first.unk_token_id not in unknown
    assert unknown.count(first.eos_token_id) == 1
    cut = first("red " * 100, truncation=True)["input_ids"]
    assert len(cut) == CONTEXT
    assert cut[-1] == first.eos_token_id


def test_time_ends_a_run() -> None:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    assert train(model, tokenizer, Recipe(pictures=40, batch=4, minutes=0)) == []


def test_every_other_batch_has_one_colour() -> None:
    """Two where one colour runs out; and either half shows each picture at most once."""
    scenes, pictures = draw_pool(Recipe(pictures=400))
    pool = Pool(scenes, pictures, np.random.default_rng(0))
    batches = [pool.chosen(16) for _ in range(2 * (400 // 16))]
    colours = [len({scenes[i].colour for i in batch}) for batch in batches]
    assert max(colours[1::2]) <= 3 and np.mean(colours[1::2]) < 1.5
    assert min(colours[::2]) > 3
    for half in (batches[::2], batches[1::2]):
        assert np.bincount(np.concatenate(half)).max() == 1


@pytest.mark.slow
def test_the_loss_falls_and_the_result_is_an_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    losses = train(model, tokenizer, SHORT)
    # A model that knows nothing gives every caption the same chance: ln(32), less for the pairs
    # that are left out, and one that learns nothing stays there, ± 0.05 for a mean of 20 batches.
    # Every other one, of all colours: shapes, which the others ask for, take longer to learn.
    start, end = np.mean(losses[:40:2]), np.mean(losses[-40::2])
    assert start == pytest.approx(math.log(32), abs=0.3)
    assert end < start - 0.15
    save(model, tokenizer, tmp_path)
    encoder = load_encoder(f"dir:{tmp_path}")
    assert encoder.encode_texts(["a red circle"]).shape == (1, 128)
