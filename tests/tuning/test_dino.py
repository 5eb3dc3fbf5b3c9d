"""Training without labels: what is minimised, what is kept, and what follows from what."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from dino_worker import SMALL, views

from handful.datasets.images import LabelledImages
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.features.contents import Features
from handful.features.extract import encode_images
from handful.features.store import FeatureStore
from handful.tuning import dino_run
from handful.tuning.bottlenecks import Bottleneck
from handful.tuning.chance import mixed
from handful.tuning.corrected_encoder import correct_features, corrected
from handful.tuning.correction import Correction
from handful.tuning.dino import DEFAULTS, train_dino
from handful.tuning.dino_head import RandomHead
from handful.tuning.dino_inputs import CropFeatures
from handful.tuning.images import TrainingImages
from handful.tuning.keyed_dropout import KeyedDropout, drop_by_keys

BLOCKS = SMALL | {"epochs": 2, "batch": 4}
Arrays = dict[str, npt.NDArray[Any]]


def rows(given: Features | None = None, **settings: Any) -> Correction:
    return train_dino(None, given or views(), form="projection", settings=SMALL | settings)


def equal(one: Correction, other: Correction) -> bool:
    return all(np.array_equal(a, other.arrays[name]) for name, a in one.arrays.items())


def by_hand(given: Features, of: dict[str, Any], seed: int) -> tuple[Arrays, list[float]]:
    """DINO as its paper says it, pair by pair, on rows of features; two epochs, two steps each."""
    start = mixed(seed, 0)
    n, width = len(given.image_features), given.image_features.shape[1]
    nets = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(start)
        nets.append(Bottleneck(width, of["width"], scale=1.0, generator=generator))
    student, teacher = nets
    sizes = {name: of[f"head_{name}"] for name in ("hidden", "narrow", "outputs")}
    head = RandomHead(width, **sizes, seed=start)
    crops = CropFeatures(given.view_features, None, _digests(given), seed)

    def scores(net: Bottleneck, z: torch.Tensor) -> torch.Tensor:
        length = z.norm(dim=-1, keepdim=True)
        return head(z + of["scale"] * length * net(z / length))

    groups = [
        {"params": [net_part.weight for net_part in (student.down, student.up)]},
        {"params": [net_part.bias for net_part in (student.down, student.up)], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups)
    centre, losses, step, steps = torch.zeros(of["head_outputs"]), [], 0, 4
    for epoch in range(2):
        generator = torch.Generator().manual_seed(mixed(seed, 1, epoch))
        order = torch.randperm(n, generator=generator).tolist()
        for batch in (order[: n // 2], order[n // 2 :]):
            ((two, others),) = crops.batches([(epoch, batch)])
            shown = torch.from_numpy(np.concatenate([two, others], 1))
            hot = of["teacher_temperature"] if epoch == 0 else of["last_teacher_temperature"]
            with torch.no_grad():
                told = [scores(teacher, shown[:, view]) for view in range(2)]
            said = [scores(student, shown[:, view]) for view in range(shown.shape[1])]
            pairs = [(i, j) for i in range(2) for j in range(len(said)) if i != j]
            loss = torch.zeros(())
            for i, j in pairs:
                target = torch.softmax((told[i] - centre) / hot, 1)
                surprise = -torch.log_softmax(said[j] / of["student_temperature"], 1)
                loss = loss + (target * surprise).sum(1).mean() / len(pairs)
            losses.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            for part in student.parameters():
                torch.nn.utils.clip_grad_norm_([part], of["clip"])
            # One epoch of two climbs: 0 and the full rate, then half a cosine from there.
            full = of["lr"] * (n // 2) / 256
            low = of["lowest_lr"]
            fell = low + (full - low) * (1 + math.cos(math.pi / 2)) / 2
            optimiser.param_groups[0]["lr"] = (0.0, full, full, fell)[step]
            optimiser.param_groups[1]["lr"] = (0.0, full, full, fell)[step]
            down = (1 - math.cos(math.pi * step / steps)) / 2
            optimiser.param_groups[0]["weight_decay"] = 0.04 + (0.4 - 0.04) * down
            optimiser.step()
            share = (1 - of["momentum"]) * (1 - down)
            with torch.no_grad():
                for kept, new in zip(teacher.parameters(), student.parameters(), strict=True):
                    kept.copy_((1 - share) * kept + share * new)
                centre = 0.9 * centre + 0.1 * torch.cat(told).mean(0)
            step += 1
    return {name: p.detach().numpy() for name, p in teacher.named_parameters()}, losses


def _digests(given: Features) -> tuple[str, ...]:
    from handful.features.digests import row_digests

    return row_digests(given.image_features)


def test_the_loop_is_what_it_says() -> None:
    settings = SMALL | {
        "epochs": 2,
        "dropout": 0.0,
        "scale": 0.5,
        "lr": 1.0,
        "momentum": 0.5,
        "teacher_warm_up": 2,
        "clip": 0.01,
        "head_input": "raw",
    }
    expected, losses = by_hand(views(), DEFAULTS["projection"] | settings, seed=3)
    found = train_dino(None, views(), form="projection", settings=settings, seed=3)
    for name, array in found.arrays.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-3, atol=1e-6)
    assert np.abs(expected["up.weight"]).max() > 1e-3
    halves = [sum(losses[:2]) / 2, sum(losses[2:]) / 2]
    np.testing.assert_allclose(found.record["losses"], halves, atol=1e-4)


def test_it_learns_what_crops_of_one_image_have_in_common() -> None:
    """Views that differ by much noise in half of the directions: those count less afterwards."""
    rng = np.random.default_rng(0)
    noise = np.where(np.arange(16) < 8, 0.1, 1.0)
    centres = rng.normal(size=(60, 1, 16)) * np.where(np.arange(16) < 8, 1.0, 0.1)
    seen = (centres + noise * rng.normal(size=(60, 6, 16))).astype(np.float32)
    given = Features(image_features=seen[:, 0], view_features=seen)
    head = {"head_input": "raw", "head_hidden": 64, "head_narrow": 32, "head_outputs": 512}
    found = rows(given, width=32, epochs=20, batch=30, lr=0.1, dropout=0.0, **head)
    both = correct_features(seen, found)

    def alike(x: npt.NDArray[np.float32]) -> float:
        unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
        same = (unit[:, 0] * unit[:, 1]).sum(-1).mean()
        others = (unit[:-1, 0] * unit[1:, 1]).sum(-1).mean()
        return float(same - others)

    # Four seeds of data and training gave 0.14 to 0.19.
    assert alike(both[..., 16:]) > alike(both[..., :16]) + 0.1


@pytest.mark.parametrize(("asked", "found"), [(0.9998, 0.9), (0.95, 0.9), (0.6, 0.6)])
def test_the_teacher_remembers_half_of_a_short_run(asked: float, found: float) -> None:
    """Twenty steps: 1 − 2/20."""
    known = rows(momentum=asked, lr=0.0)
    assert known.record["steps"] == 20
    assert known.record["momentum"] == pytest.approx(found)


def test_at_a_rate_of_zero_nothing_changes() -> None:
    found = rows(lr=0.0, weight_decay=0.0, last_weight_decay=0.0)
    z = np.random.default_rng(1).normal(size=(5, 16)).astype(np.float32)
    assert np.array_equal(correct_features(z, found), np.concatenate([z, z], 1))


def test_what_is_known_of_the_run(clip: Encoder, pictures: TrainingImages) -> None:
    found = train_dino(clip, pictures.paths, form="blocks", settings=BLOCKS, seed=5)
    assert (found.form, found.objective, found.class_names) == ("blocks", "dino", ())
    assert (found.encoder_fingerprint, found.dim) == (clip.fingerprint, clip.dim)
    assert found.layers == (0, 1) and found.width == 8
    assert found.settings == DEFAULTS["blocks"] | BLOCKS | {"seed": 5}
    # Nine images in batches of four: the ninth is left out in every epoch.
    assert {k: found.record[k] for k in ("images", "steps", "processes")} == {
        "images": 9,
        "steps": 4,
        "processes": 1,
    }
    assert found.record["sides"] == {"large": 32, "small": 16}
    assert len(found.record["losses"]) == 2 and found.record["seconds"] >= 0
    digests = encode_images(clip, pictures.paths).digests
    assert found.taught(digests) == 9


def test_an_encoder_is_corrected_and_itself_untouched(
    clip: Encoder, pictures: TrainingImages
) -> None:
    before = encode_images(clip, pictures.paths).features
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    found = train_dino(clip, pictures.paths, form="blocks", settings=BLOCKS)
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(encode_images(clip, pictures.paths).features, before)
    both = encode_images(corrected(clip, found), pictures.paths).features[:, 0]
    np.testing.assert_allclose(both[:, : clip.dim], before[:, 0], atol=1e-5)
    assert np.abs(both[:, clip.dim :] - before[:, 0]).max() > 1e-4


@pytest.mark.parametrize("form", ["blocks", "projection"])
def test_labels_are_not_read(clip: Encoder, pictures: TrainingImages, form: str) -> None:
    labelled = LabelledImages(pictures.paths, pictures.labels, ("red", "green", "blue"))
    settings = BLOCKS | {"epochs": 1}
    one = train_dino(clip, labelled, form=form, settings=settings)
    assert equal(one, train_dino(clip, pictures.paths, form=form, settings=settings))
    assert one.class_names == ()


def test_parts_of_a_batch_change_nothing(
    clip: Encoder, pictures: TrainingImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = BLOCKS | {"dropout": 0.5}
    whole = train_dino(clip, pictures.paths, form="blocks", settings=settings)
    monkeypatch.setattr(dino_run, "_PART", 3)
    parts = train_dino(clip, pictures.paths, form="blocks", settings=settings)
    for name, array in whole.arrays.items():
        assert np.abs(parts.arrays[name] - array).max() <= 1e-4 * np.abs(array).max()
    other = train_dino(clip, pictures.paths, form="blocks", settings=settings | {"dropout": 0.0})
    assert not equal(whole, other)


def test_only_chosen_blocks(clip: Encoder, pictures: TrainingImages) -> None:
    found = train_dino(clip, pictures.paths, form="blocks", settings=BLOCKS | {"layers": "last-1"})
    assert found.layers == (1,) and found.arrays["1-mlp.up.weight"].any()


def test_crops_are_encoded_once(
    clip: Encoder, pictures: TrainingImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / "features.sqlite")
    settings = SMALL | {"large_crops": 3, "epochs": 4, "warm_up": 0}
    given: dict[str, Any] = {"form": "projection", "store": store}
    one = train_dino(clip, pictures.paths, settings=settings, **given)
    monkeypatch.setattr(type(clip), "encode_images", lambda *_: pytest.fail("encoded again"))
    again = train_dino(clip, pictures.paths, settings=settings | {"width": 4}, **given)
    assert (one.width, again.width) == (8, 4)
    assert one.arrays["up.weight"].any() and one.dim == clip.dim


@pytest.mark.parametrize("form", ["blocks", "projection"])
def test_a_run_that_was_stopped_goes_on(
    clip: Encoder,
    pictures: TrainingImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    monkeypatch.setattr("handful.tuning.resume._COST", math.inf)  # written after every step
    given: dict[str, Any] = {"form": form, "settings": BLOCKS | {"epochs": 3}, "seed": 4}
    whole = train_dino(clip, pictures.paths, **given)
    real, taken = dino_run.DinoRun._step, []

    def step(self: Any, number: int, *rest: Any) -> None:
        if number == 3 and 3 not in taken:
            taken.append(3)
            raise KeyboardInterrupt
        taken.append(number)
        real(self, number, *rest)

    monkeypatch.setattr(dino_run.DinoRun, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        train_dino(clip, pictures.paths, **given, checkpoint=tmp_path)
    found = train_dino(clip, pictures.paths, **given, checkpoint=tmp_path)
    assert taken == [0, 1, 2, 3, 3, 4, 5]
    assert equal(found, whole) and found.record["losses"] == whole.record["losses"]
    # Over: what is kept of it is the whole run.
    assert equal(train_dino(clip, pictures.paths, **given, checkpoint=tmp_path), whole)
    assert len(taken) == 7
    train_dino(clip, pictures.paths, **given | {"seed": 5}, checkpoint=tmp_path)
    assert len(taken) == 13 and len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_trained(clip: Encoder, lite: Encoder, pictures: TrainingImages) -> None:
    with pytest.raises(InputError, match=r"'local_crop'.*Did you mean 'local_crops'\?"):
        rows(local_crop=3)
    with pytest.raises(InputError, match=r"'momentum' of a correction is 1\.5: expected"):
        rows(momentum=1.5)
    with pytest.raises(InputError, match=r"'teacher_temperature' of a correction is 0\.0"):
        rows(teacher_temperature=0.0)
    with pytest.raises(InputError, match="'large_crops' of a correction is 1: expected"):
        rows(large_crops=1)
    with pytest.raises(InputError, match="no view_features with two views or more"):
        rows(Features(image_features=np.eye(4, dtype=np.float32)))
    with pytest.raises(InputError, match="needs images"):
        train_dino(None, views(), form="blocks")
    with pytest.raises(InputError, match="lies inside a vision transformer, and the encoder lite"):
        train_dino(lite, pictures.paths, form="blocks", settings=BLOCKS)
    for form in ("blocks", "projection"):
        with pytest.raises(InputError, match="there are no images to train a correction on"):
            train_dino(clip, (), form=form)
        with pytest.raises(InputError, match="name one"):
            train_dino(None, pictures.paths, form=form)


def test_a_loss_that_is_no_number_is_told() -> None:
    with pytest.raises(InputError, match=r"at step \d+ of 20 .*set a lower lr"):
        rows(lr=1e38, clip=1e30)


# -- dropout -------------------------------------------------------------------------------------


def dropout(share: float, number: int = 0) -> KeyedDropout:
    bottleneck = torch.nn.ModuleList(
        Bottleneck(4, 3, scale=1.0, generator=torch.Generator()) for _ in range(number + 1)
    )
    drop_by_keys(bottleneck, share)
    found = bottleneck[number].drop
    assert isinstance(found, KeyedDropout)
    return found


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    layer = dropout(0.3)
    layer.keys.rows = torch.arange(50) * 7919 % 2**32
    found = layer(torch.ones(50, 40, 25))
    assert found.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    # 50,000 draws: the share is known to four standard deviations of 0.002.
    assert abs((found == 0).float().mean() - 0.3) < 0.009
    # Rows and places are alike: 1,000 and 2,000 draws each.
    assert ((found == 0).float().mean((1, 2)) - 0.3).abs().max() < 0.07
    assert abs(float(torch.corrcoef(found.flatten(1)).fill_diagonal_(0).abs().max())) < 0.15


def test_a_row_loses_the_same_wherever_it_stands() -> None:
    layer = dropout(0.5)
    states = torch.randn(6, 3, 8, generator=torch.Generator().manual_seed(0))
    keys = torch.tensor([3, 2**32 - 1, 17, 0, 1, 5])
    layer.keys.rows = keys
    whole = layer(states)
    order = torch.tensor([4, 1, 3])
    layer.keys.rows = keys[order]
    assert torch.equal(layer(states[order]), whole[order])
    assert len({tuple((row == 0).flatten().tolist()) for row in whole}) == 6
    other = dropout(0.5, number=1)
    other.keys.rows = keys
    assert not torch.equal(other(states), whole)


def test_no_dropout_in_evaluation_or_at_zero() -> None:
    states = torch.randn(4, 5)
    assert torch.equal(dropout(0.5).eval()(states), states)
    assert torch.equal(dropout(0.0)(states), states)


# -- head ----------------------------------------------------------------------------------------


def test_the_head_is_cosines_with_random_directions() -> None:
    head = RandomHead(20, hidden=64, narrow=16, outputs=4000, seed=0)
    z = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    found = head(z)
    assert found.shape == (3, 4000) and not list(head.parameters())
    # Σₖ⟨h, wₖ⟩² of K unit vectors in every direction is K/narrow for a unit h.
    torch.testing.assert_close(found.square().sum(1), torch.full((3,), 250.0), rtol=0.1, atol=0)
    assert torch.equal(found, RandomHead(20, hidden=64, narrow=16, outputs=4000, seed=0)(z))
    assert not torch.equal(found, RandomHead(20, hidden=64, narrow=16, outputs=4000, seed=1)(z))
