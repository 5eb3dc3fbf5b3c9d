"""What enters the first trained block: computed once, wherever it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_tuning import coloured

from handful.encoders.decode import open_image
from handful.encoders.protocol import Encoder
from handful.encoders.views import CENTRE, random_views
from handful.errors import InputError
from handful.features.store import FeatureStore
from handful.tuning import images as module
from handful.tuning.images import TrainingImages
from handful.tuning.towers import open_towers
from handful.tuning.tuning import PIXELS

VIEWS = random_views(3, seed=5, scale=(0.1, 1))
PLACES = [PIXELS, 0, 1, 2]


def finish(towers: Any, at: int, states: torch.Tensor) -> torch.Tensor:
    """From what enters at a place to the features."""
    tower = towers.image
    with torch.no_grad():
        return tower(states) if at == PIXELS else tower.leave(tower.through(states, at))


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize("memory", [module.MEMORY, 0], ids=["memory", "file"])
def test_states_lead_to_the_features_of_each_view(
    clip: Encoder, pictures: TrainingImages, at: int, memory: int
) -> None:
    """View by view and image by image what the encoder makes of that crop, whatever is kept."""
    towers = open_towers(clip)
    images = TrainingImages(pictures.paths, pictures.labels, memory=memory)
    states = images.states(clip, towers, at, views=VIEWS)
    assert isinstance(states.kept, np.memmap) == (memory == 0)
    rows = np.array([7, 0, 3])
    for number, view in enumerate(VIEWS):
        pixels = [
            clip.preprocess(open_image(images.paths[row]), view, states.digests[row])
            for row in rows
        ]
        expected = clip.encode_images(np.stack(pixels))
        for turn in (number, number + len(VIEWS)):  # views begin again
            found = finish(towers, at, states.batch(turn, rows)).numpy()
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_features_come_from_the_store(
    clip: Encoder, pictures: TrainingImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / "store.sqlite")
    towers = open_towers(clip)
    first = TrainingImages(pictures.paths, pictures.labels)
    expected = first.states(clip, towers, None, views=VIEWS, store=store)
    assert expected.kept.shape == (3, 9, clip.dim)
    monkeypatch.setattr(type(clip), "encode_images", None)
    again = TrainingImages(pictures.paths, pictures.labels)
    found = again.states(clip, towers, None, views=VIEWS, store=store)
    np.testing.assert_array_equal(found.kept, expected.kept)
    assert found.digests == expected.digests


def test_asked_again_nothing_is_computed(
    clip: Encoder, pictures: TrainingImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    towers = open_towers(clip)
    images = TrainingImages(pictures.paths, pictures.labels)
    runs: list[int] = []
    entering = module.entering

    def counting(towers: Any, at: int, pixels: Any) -> torch.Tensor:
        runs.append(len(pixels))
        return entering(towers, at, pixels)

    monkeypatch.setattr(module, "entering", counting)
    first = images.states(clip, towers, 1, views=VIEWS)
    assert sum(runs) == 3 * 9  # each image and view once
    assert max(runs) <= module.BATCH
    assert images.states(clip, towers, 1, views=VIEWS) is first
    assert sum(runs) == 27
    images.states(clip, towers, 0, views=VIEWS)
    images.states(clip, towers, 0, views=(CENTRE,))
    assert sum(runs) == 27 + 27 + 9


def test_only_blocks_before_the_first_trained_one_run(
    clip: Encoder, pictures: TrainingImages
) -> None:
    towers = open_towers(clip)
    assert towers.image is not None
    ran: list[int] = []
    for number, block in enumerate(towers.image.blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    TrainingImages(pictures.paths, pictures.labels).states(clip, towers, 1)
    assert set(ran) == {0}


def test_files_go_with_what_they_held(
    clip: Encoder, pictures: TrainingImages, isolated_cache: Path
) -> None:
    before = set(isolated_cache.iterdir())
    images = TrainingImages(pictures.paths, pictures.labels, memory=0)
    states = images.states(clip, open_towers(clip), 0, views=VIEWS)
    assert np.isfinite(states.kept).all()
    assert set(isolated_cache.iterdir()) == before  # it has no name, so nothing can be left


def test_a_full_disk_is_said_before(
    clip: Encoder, pictures: TrainingImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = module.shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    images = TrainingImages(pictures.paths, pictures.labels, memory=0)
    with pytest.raises(InputError, match=r"0\.0 GB left.*train fewer views.*HANDFUL_CACHE"):
        images.states(clip, open_towers(clip), 0)


@pytest.mark.parametrize("at", [None, 0])
def test_an_unreadable_image_is_named(clip: Encoder, tmp_path: Path, at: int | None) -> None:
    paths, labels = coloured(tmp_path, 1)
    paths[1].write_bytes(b"no picture")
    with pytest.raises(InputError, match=paths[1].name):
        TrainingImages(paths, labels).states(clip, open_towers(clip), at)


def test_every_image_has_one_label(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2 images have labels of shape \(3,\)"):
        TrainingImages([tmp_path / "a", tmp_path / "b"], [0, 1, 2])
    with pytest.raises(ValueError, match=r"0 images"):
        TrainingImages([], [])
