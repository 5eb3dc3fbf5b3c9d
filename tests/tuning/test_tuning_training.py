"""The loop: what it minimises, that it can be stopped, and that it says what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from toy_tuning import PROMPTS, Toy, ToyTuned

from handful.encoders.preprocess import Preprocess
from handful.encoders.protocol import Encoder
from handful.errors import InputError
from handful.tuning import resume as resume_module
from handful.tuning import training as module
from handful.tuning.chance import mixed
from handful.tuning.images import TrainingImages
from handful.tuning.trained import Trained
from handful.tuning.training import train, tune
from handful.tuning.tuned_encoder import open_tuned
from handful.tuning.watch import Watch

KINDS: list[dict[str, Any]] = [
    {"side": "text"},
    {"side": "features", "optimiser": "sgd"},
    {"side": "image", "block": -1},
    {"side": "image", "block": 0, "patience": 20},
    {"side": "image", "block": 2, "optimiser": "sgd"},
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(map(str, k.values())))


class StoppedError(Exception):
    pass


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def by_hand(
    toy: Toy, encoder: Encoder, images: TrainingImages, seed: int
) -> tuple[torch.Tensor, list[float]]:
    """The same training, whole towers in every step, the optimiser and schedule torch's own."""
    from handful.encoders.decode import open_image
    from handful.encoders.views import random_views

    tuned = open_tuned(toy, encoder, PROMPTS, seed)
    assert isinstance(tuned, ToyTuned)
    if toy.optimiser == "sgd":
        optimiser: Any = torch.optim.SGD([tuned.added], toy.lr, momentum=0.9, weight_decay=0.01)
    else:
        optimiser = torch.optim.AdamW([tuned.added], toy.lr, weight_decay=0.01)
    steps = toy.epochs * 3
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    views = random_views(toy.views, seed, (0.08, 1.0))
    digests = images.states(encoder, tuned.towers, None).digests
    losses = []
    for epoch in range(toy.epochs):
        generator = torch.Generator().manual_seed(mixed(seed, module._ORDER, epoch))
        order = torch.randperm(9, generator=generator).tolist()
        for rows in (order[:4], order[4:8], order[8:]):
            view = views[epoch % toy.views]
            pixels = np.stack(
                [encoder.preprocess(open_image(images.paths[i]), view, digests[i]) for i in rows]
            )
            if tuned.image_from is None:
                states = torch.from_numpy(encoder.encode_images(pixels))
            else:
                states = encoder.preprocess.normalise(pixels)
                if tuned.image_from >= 0:
                    tower: Any = tuned.towers.image
                    states = tower.through(tower.enter(states), 0, tuned.image_from)
            image = tuned.image_features(states)
            cosines = torch.nn.functional.cosine_similarity(
                image[:, None], tuned.class_embeddings()[None], dim=-1
            )
            surprise = -torch.log_softmax(encoder.logit_scale * cosines, 1)
            loss = surprise[range(len(rows)), images.labels[rows]].mean()
            losses.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return tuned.added.detach(), losses


@kinds
def test_the_loop_is_what_it_says(
    clip: Encoder, pictures: TrainingImages, kind: dict[str, Any]
) -> None:
    toy = Toy(**kind | {"patience": -1}, lr=1e-2)
    expected, losses = by_hand(toy, clip, pictures, seed=3)
    found = train(toy, clip, pictures, PROMPTS, seed=3)
    torch.testing.assert_close(found.end["added"], expected, rtol=1e-3, atol=1e-5)
    assert expected.abs().max() > 1e-3
    assert len(losses) == found.steps == 9
    assert found.best == 3


@kinds
def test_the_base_is_untouched_and_so_is_chance(
    clip: Encoder, pictures: TrainingImages, kind: dict[str, Any]
) -> None:
    before = clip.encode_texts(["a photo of a cat"])
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    tune(Toy(**kind, dropout=0.5), clip, pictures, PROMPTS)
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(clip.encode_texts(["a photo of a cat"]), before)


@kinds
def test_equal_seeds_give_equal_numbers(
    clip: Encoder, pictures: TrainingImages, others: TrainingImages, kind: dict[str, Any]
) -> None:
    toy = Toy(**kind, dropout=0.5)
    runs = [train(toy, clip, pictures, PROMPTS, validation=others, seed=seed) for seed in (1, 1, 2)]
    assert equal(runs[0].end, runs[1].end)
    assert not equal(runs[0].end, runs[2].end)


def test_dropout_is_on_in_training_alone(
    clip: Encoder, pictures: TrainingImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All dropped: nothing reaches the vector, which weight decay leaves at zero."""
    dropped = train(Toy(dropout=1.0), clip, pictures, PROMPTS)
    assert not dropped.end["added"].any()
    judged = Watch.judged
    modes: list[bool] = []

    def asked(self: Any, reached: Any, tuned: Any, text: Any) -> Any:
        modes.append(tuned.dropout.training)
        return judged(self, reached, tuned, text)

    monkeypatch.setattr(Watch, "judged", asked)
    toy = Toy(side="features", dropout=0.5, patience=9)
    kept = train(toy, clip, pictures, PROMPTS, validation=pictures)
    assert modes == [False] * 4  # before, and after each pass
    encoder = kept.finished(clip)
    np.testing.assert_array_equal(encoder.logits(pictures), encoder.logits(pictures))


def stop_after(passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the next run by an exception after so many passes are written."""
    write = resume_module.Checkpoint.write

    def writing(self: Any, reached: Any, *rest: Any, **named: Any) -> None:
        write(self, reached, *rest, **named)
        if reached.epoch == passes:
            raise StoppedError

    monkeypatch.setattr(resume_module, "_COST", float("inf"))  # write each time
    monkeypatch.setattr(resume_module.Checkpoint, "write", writing)


@kinds
@pytest.mark.parametrize("passes", [1, 3, 4])
def test_a_stopped_run_ends_as_the_undisturbed_one(
    clip: Encoder,
    pictures: TrainingImages,
    others: TrainingImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: dict[str, Any],
    passes: int,
) -> None:
    """Bit for bit, dropout and the best pass included, in new objects all through."""
    toy = Toy(**kind, epochs=5, dropout=0.3)
    expected = train(toy, clip, pictures, PROMPTS, validation=others, seed=4)
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_after(passes, patch)
        train(toy, clip, pictures, PROMPTS, validation=others, seed=4, checkpoint=tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("toy-")
    ran: list[int] = []
    run_pass = module._Loop._pass

    def counted(self: Any, epoch: int, *rest: Any) -> None:
        ran.append(epoch)
        run_pass(self, epoch, *rest)

    monkeypatch.setattr(module._Loop, "_pass", counted)
    found = train(toy, clip, pictures, PROMPTS, validation=others, seed=4, checkpoint=tmp_path)
    assert ran == list(range(passes, 5))
    assert equal(found.end, expected.end)
    assert equal(found.start, expected.start)
    assert found.best == expected.best
    for one, other in zip(found.judged, expected.judged, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.file == file
    again = train(toy, clip, pictures, PROMPTS, validation=others, seed=4, checkpoint=tmp_path)
    assert ran == list(range(passes, 5))  # it is over, and stays so
    assert equal(again.end, expected.end)
    again.forget()
    assert not list(tmp_path.iterdir())


def test_another_run_does_not_go_on_with_it(
    clip: Encoder,
    pictures: TrainingImages,
    others: TrainingImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_after(1, patch)
        train(Toy(), clip, pictures, PROMPTS, checkpoint=tmp_path)
    (file,) = tmp_path.iterdir()
    relabelled = TrainingImages(pictures.paths, pictures.labels[::-1])
    runs: list[Trained] = []
    for toy, images, seed in (
        (Toy(lr=0.05), pictures, 0),
        (Toy(dropout=0.5), pictures, 0),
        (Toy(), pictures, 1),
        (Toy(), relabelled, 0),
        (Toy(), others, 0),
    ):
        runs.append(train(toy, clip, images, PROMPTS, seed=seed, checkpoint=tmp_path))
        alone = train(toy, clip, images, PROMPTS, seed=seed)
        assert equal(runs[-1].end, alone.end)
    prompts = replace(PROMPTS, templates=("the {}",))
    runs.append(train(Toy(), clip, pictures, prompts, checkpoint=tmp_path))
    assert len({file, *(run.file for run in runs)}) == 7
    tune(Toy(lr=0.02), clip, pictures, PROMPTS, checkpoint=tmp_path)
    assert set(tmp_path.iterdir()) == {file, *(run.file for run in runs)}


def file_of(content: bytes, folder: Path) -> Path:
    (folder / "copy").write_bytes(content)
    return folder / "copy"


def test_a_damaged_file_is_named(
    clip: Encoder, pictures: TrainingImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        stop_after(1, patch)
        train(Toy(), clip, pictures, PROMPTS, checkpoint=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for content in (b"", whole[:-5], whole.replace(b"epoch", b"xpoch"), b"[" * 100):
        file.write_bytes(content)
        with pytest.raises(InputError, match=rf"^{file} is no run .* remove it to begin anew\.$"):
            train(Toy(), clip, pictures, PROMPTS, checkpoint=tmp_path)
    with safe_open(file_of(whole, tmp_path), "pt") as opened:
        run = json.loads(opened.metadata()["handful"])["run"]
    file.write_bytes(whole.replace(run.encode(), run[::-1].encode()))
    with pytest.raises(InputError, match=r"belongs to another run"):
        train(Toy(), clip, pictures, PROMPTS, checkpoint=tmp_path)


def test_writing_costs_a_twentieth_of_the_time_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    now = [100.0]
    written: list[float] = []

    def save_file(*args: Any) -> None:
        written.append(now[0])
        now[0] += 2.0  # seconds that it takes
        args[1].write_bytes(b"")

    monkeypatch.setattr(resume_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(safetensors.torch, "save_file", save_file)
    checkpoint = resume_module.Checkpoint(tmp_path / "run", "digest")
    optimiser = torch.optim.SGD([torch.zeros(1)], 0.1)
    for _ in range(100):
        now[0] += 1.0  # a pass
        checkpoint.write(resume_module.Reached(), {}, {}, optimiser)
    assert written[0] == 101.0  # the first pass is worth it always
    assert 2.0 * len(written) <= 0.06 * (now[0] - 100) + 2
    assert len(written) > 1


KILLED = """
import sys, time
sys.path.insert(0, {support!r})
from pathlib import Path
import numpy as np
from toy_tuning import PROMPTS, Toy
from handful import load_encoder
from handful.tuning import resume, training
from handful.tuning.images import TrainingImages
resume._COST = float("inf")
folder = Path({folder!r})
paths = {paths!r}
run_pass = training._Loop._pass
def slow(self, epoch, *rest):
    run_pass(self, epoch, *rest)
    if epoch == 2 and {stop!r}:
        (folder / "ready").touch()
        time.sleep(100)
training._Loop._pass = slow
images = TrainingImages(paths, {labels!r})
toy = Toy(epochs=5, dropout=0.3)
trained = training.train(toy, load_encoder({spec!r}), images, PROMPTS, checkpoint=folder / "runs")
np.save(folder / "end.npy", trained.end["added"].numpy())
"""


@pytest.mark.skipif(os.name != "posix", reason="kills a process as POSIX does")
def test_a_killed_process_is_gone_on_with_by_another(
    clip: Encoder, pictures: TrainingImages, tmp_path: Path
) -> None:
    def program(stop: bool) -> list[str]:
        code = KILLED.format(
            support=str(Path(__file__).resolve().parent.parent / "support"),
            folder=str(tmp_path),
            paths=[str(path) for path in pictures.paths],
            labels=pictures.labels.tolist(),
            spec=clip.spec,
            stop=stop,
        )
        return [sys.executable, "-c", code]

    with subprocess.Popen(program(True)) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "ready").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    (file,) = (tmp_path / "runs").iterdir()
    assert set(load_file(file)) >= {"trained.added", "optimiser.0.exp_avg", "optimiser.0.step"}
    subprocess.run(program(False), check=True, timeout=120)
    expected = train(Toy(epochs=5, dropout=0.3), clip, pictures, PROMPTS)
    np.testing.assert_array_equal(np.load(tmp_path / "end.npy"), expected.end["added"].numpy())
    assert list((tmp_path / "runs").iterdir()) == [file]


def test_the_best_pass_is_kept(
    clip: Encoder, pictures: TrainingImages, others: TrainingImages
) -> None:
    """As if training had ended there: with a constant rate, a shorter run gives it."""

    class Constant(Toy):
        def recipe(self, shots: float, classes: int) -> Any:
            return replace(super().recipe(shots, classes), schedule="constant")

    run = train(
        Constant(epochs=12, patience=12, lr=0.3, dropout=0.3),
        clip,
        pictures,
        PROMPTS,
        validation=others,
    )
    right = [int(r.sum()) for r in run.judged]
    assert len(right) == 7  # before, and after 2, 4, … of 12: 15 images are judged, 9 trained on
    assert run.best % 2 == 0
    assert right[run.best // 2] == max(right) > right[0]
    short = train(Constant(epochs=run.best, lr=0.3, dropout=0.3), clip, pictures, PROMPTS)
    assert equal(run.end, short.end)
    encoder = run.finished(clip)
    np.testing.assert_array_equal(
        encoder.logits(others).argmax(1) == others.labels, run.judged[run.best // 2]
    )


def test_what_only_gets_worse_is_given_up(
    clip: Encoder, pictures: TrainingImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are judged by other labels, so that every pass is worse than none."""
    toy = Toy(epochs=30, patience=4, lr=0.3)
    fitted = train(toy, clip, pictures, PROMPTS).finished(clip)
    wrong = TrainingImages(pictures.paths, fitted.logits(pictures).argmin(1))
    start = train(Toy(epochs=0), clip, pictures, PROMPTS).finished(clip)
    run = train(toy, clip, pictures, PROMPTS, validation=wrong)
    right = [int(r.sum()) for r in run.judged]
    best = run.best
    assert len(right) == best + 4 + 1 < 31
    assert right[best] == max(right)
    if best == 0:
        assert equal(run.end, run.start)
        np.testing.assert_array_equal(run.finished(clip).logits(wrong), start.logits(wrong))


def test_without_validation_images_the_last_pass_is_kept(
    clip: Encoder, pictures: TrainingImages
) -> None:
    patient = train(Toy(patience=1), clip, pictures, PROMPTS)
    assert patient.judged == ()
    assert patient.best == 3
    assert equal(patient.end, train(Toy(), clip, pictures, PROMPTS).end)


def test_a_loss_that_is_no_number_is_named_with_its_step(
    clip: Encoder, pictures: TrainingImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [0]
    logits = ToyTuned.logits

    def breaking(self: Any, states: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        steps[0] += 1
        found = logits(self, states, text)
        return found * float("nan") if steps[0] == 5 else found

    monkeypatch.setattr(ToyTuned, "logits", breaking)
    with pytest.raises(InputError, match=r"^training of toy gave nan at step 5 of 9 .*lower"):
        train(Toy(), clip, pictures, PROMPTS)


def test_a_gradient_that_is_infinite_is_named_with_its_step(
    clip: Encoder, pictures: TrainingImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [0]
    class_embeddings = ToyTuned.class_embeddings

    def breaking(self: Any) -> torch.Tensor:
        rows = class_embeddings(self)
        steps[0] += 1
        if steps[0] == 2:
            rows.register_hook(lambda gradient: gradient * float("inf"))
        return rows

    monkeypatch.setattr(ToyTuned, "class_embeddings", breaking)
    with pytest.raises(InputError, match=r"^training of toy gave (inf|nan) at step 2 of 9 "):
        train(Toy(), clip, pictures, PROMPTS)


def test_a_last_step_that_breaks_the_weights_is_named(
    clip: Encoder, pictures: TrainingImages
) -> None:
    with pytest.raises(InputError, match=r"^training of toy gave (-?inf|nan) at step 1 of 1 "):
        train(Last(lr=1e38), clip, pictures, PROMPTS)


class Last(Toy):
    def recipe(self, shots: float, classes: int) -> Any:
        found = super().recipe(shots, classes)
        return replace(found, steps=1, weight_decay=1e38, schedule="constant")

    def open(self, towers: Any, prompts: Any, seed: int) -> Any:
        tuned = super().open(towers, prompts, seed)
        torch.nn.init.constant_(tuned.added, 1e-3)
        return tuned


def test_gradients_are_cut(clip: Encoder, pictures: TrainingImages) -> None:
    """One step of plain SGD is lr · gradient: no longer than lr · the limit, and as long."""

    class Cut(Toy):
        def recipe(self, shots: float, classes: int) -> Any:
            return replace(
                super().recipe(shots, classes),
                steps=1,
                gradient_norm=1e-3,
                weight_decay=0.0,
                schedule="constant",
            )

    run = train(Cut(optimiser="sgd", lr=0.5), clip, pictures, PROMPTS)
    assert run.end["added"].norm().item() == pytest.approx(0.5e-3, rel=1e-3)


def test_no_steps_change_nothing(clip: Encoder, pictures: TrainingImages) -> None:
    run = train(Toy(epochs=0), clip, pictures, PROMPTS)
    assert (run.steps, run.best) == (0, 0)
    assert equal(run.start, run.end)


def test_settings_are_checked_first(
    clip: Encoder, pictures: TrainingImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Preprocess, "__call__", None)
    with pytest.raises(InputError, match=r"^setting 'epochs' of method 'toy' is -1"):
        train(Toy(epochs=-1), clip, pictures, PROMPTS)
