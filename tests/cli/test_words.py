"""What verbs say to people: complete, in 80 columns where sentences wrap, nothing on stderr."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from handful import tuning
from handful.cli.output import print_json, print_table
from handful.methods import registry

COMMAND = [sys.executable, "-m", "handful.cli.main"]


def test_fit_says_what_was_learnt_and_what_to_do(handful, learnt: Path, tmp_path: Path) -> None:
    out = tmp_path / "my model"
    said = handful("fit", learnt, "--out", out, "--method", "tip-adapter", "--shots", "2").done()
    found = json.loads((out / "config.json").read_text())
    for words in (
        r"^Classes       3: dam, fish, windmill$",
        r"^Images        6 \(2 each\) from\s",
        r"^Encoder       lite \(the default\)$",
        r"^Method        tip-adapter, blend [\d.]+, sharpness [\d.]+, by cross-validation",
        r"^Accuracy      [\d.]+% on new images \(90% interval [\d.]+% to [\d.]+%",
        r"^  names only  [\d.]+% on new images",
        rf"^Saved         {re.escape(str(out))}$",
        rf"^Use it:       handful predict '{re.escape(str(out))}' new.jpg$",
        r"^Next:         learn from the other 3 images, too: handful fit ",
    ):
        assert re.search(words, said, re.MULTILINE), f"{words} is not in\n{said}"
    assert f"{found['estimate']['accuracy']:.1%} on new" in said
    assert f"{found['zero_shot']['accuracy']:.1%} on new" in said


def test_sentences_wrap_at_80_columns_and_commands_do_not(
    handful, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (images / "dam").rename(images / ("a rather long name of a class, " * 4).strip())
    said = handful("fit", "images", "--out", "model", "--method", "tip-adapter").done()
    sentences, use = said.split("\n\n")
    assert all(len(line) <= 80 for line in sentences.splitlines()), said
    assert use.splitlines()[0] == "Use it:       handful predict model new.jpg"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "zero-shot"], "learn from the images, too: handful fit IMAGES --out NEW"),
        (["--shots", "1"], "learn from the other 6 images, too: handful fit IMAGES --out NEW"),
        (["--method", "tip-adapter", "--set", "blend=2"], "blend 2 (given), sharpness "),
        (
            ["--method", "tip-adapter", "--set", "blend=2", "--set", "sharpness=3"],
            "tip-adapter, blend 2 (given), sharpness 3 (given)\n",
        ),
        (["--method", "tip-adapter", "--select", "fixed"], "documented defaults"),
        (["--shots", "1"], "Accuracy      not known: no image could be held out"),
    ],
)
def test_fit_says_what_fits_the_case(
    handful, learnt: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    said = handful("fit", learnt, "--out", tmp_path / "model", *arguments).done()
    assert words.replace("IMAGES", str(learnt)) in said


def test_one_image_per_class_asks_for_a_second(handful, images: Path, tmp_path: Path) -> None:
    for folder in images.iterdir():
        for path in sorted(folder.iterdir())[1:]:
            path.unlink()
    said = handful("fit", images, "--out", tmp_path / "model").done()
    assert "Next:         add a second image per class" in said


def test_fit_says_how_a_name_is_read(handful, images: Path, tmp_path: Path) -> None:
    (images / "dam").rename(images / "large_dam")
    said = handful("fit", images, "--out", tmp_path / "model", "--method", "zero-shot").done()
    assert "Names         'large_dam' is read as 'large dam'" in said


def test_what_to_use_a_classifier_of_unknown_encoder_on(
    handful, of_features: Path, tmp_path: Path
) -> None:
    """``new.jpg`` would be refused."""
    file = of_features.parent / "anonymous.safetensors"
    said = handful("fit", file, "--out", tmp_path / "m", "--method", "zero-shot").done()
    assert f"handful predict {tmp_path / 'm'} new.safetensors" in said
    assert "Encoder       unknown (features file)" in said


def test_predict_prints_a_line_for_each_image(handful, model: Path, others: Path) -> None:
    lines = handful("predict", model, others).done().splitlines()
    paths = sorted(others.glob("*/*.webp"))
    assert len(lines) == len(paths)
    for line, path in zip(lines, paths, strict=True):
        assert re.fullmatch(rf"{re.escape(str(path))}: (dam|fish|windmill) [\d.]+%", line)
    three = handful("predict", model, others, "--top", "3").done().splitlines()
    assert all(line.count("%") == 3 for line in three)
    assert [line.split(": ")[0] for line in three] == [str(path) for path in paths]


def test_evaluate_prints_accuracy_recall_and_mistakes(
    handful, model: Path, others: Path, tmp_path: Path
) -> None:
    # A picture with the wrong label is a mistake, however good the classifier.
    table = tmp_path / "table.csv"
    rows = [(p, "dam" if p.parent.name == "fish" else p.parent.name) for p in others.glob("*/*")]
    table.write_text("image,label\n" + "\n".join(f"{p},{label}" for p, label in rows))
    found = handful("evaluate", model, table, "--json").document()
    said = handful("evaluate", model, table).done()
    low, high = found["interval"]
    assert f"Accuracy           {found['accuracy']:.1%}" in said
    assert f"(90% interval {low:.1%} to {high:.1%}, 6 images)" in said
    assert f"Calibration error  {found['calibration_error']:.1%}" in said
    for one in found["per_class"]:
        assert re.search(rf"^{one['label']} +{one['recall']:.0%} +{one['n']}$", said, re.MULTILINE)
    assert "Most frequent mistakes" in said
    first = found["confusions"][0]
    line = rf"^{first['label']} +{first['predicted']} +{first['n']}$"
    assert re.search(line, said, re.MULTILINE)


def test_embed_counts(handful, learnt: Path, tmp_path: Path, features: Path) -> None:
    out = tmp_path / "features.safetensors"
    said = handful("embed", learnt, "--out", out).done()
    assert said == f"9 images in {out}: 0 encoded, 9 reused, 0 skipped.\n"


def test_lists_are_one_line_for_each_row_in_a_pipe(handful) -> None:
    lines = handful("methods").done().splitlines()
    assert [line.split()[0] for line in lines[2:]] == [*registry.names(), *tuning.names()]
    assert all(line == line.rstrip() for line in lines)
    assert handful("encoders").done().count("\n") == 2 + 4


@pytest.mark.parametrize("verb", ["methods", "encoders"])
def test_no_name_is_cut_on_a_narrow_terminal(handful, verb: str, monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    from handful.cli.main import main

    shown = Terminal()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([verb])
    text = re.sub(r"\x1b\[[\d;]*m", "", shown.getvalue())
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines()), text
    assert "…" not in text
    names = registry.names() if verb == "methods" else ["lite", "open_clip:MODEL/WEIGHTS"]
    assert all(re.search(rf"^{re.escape(name)} ", text, re.MULTILINE) for name in names), text


def test_table_aligns_numbers_right_and_takes_words_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(["class", "images"], [["[red]fish[/red]", "5"], ["dam", "12"]])
    head, _, first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("[red]fish[/red] ")
    assert head.index("images") + len("images") == len(first) == len(second)


def test_json_can_always_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the terminal's encoding."""
    for encoding in ("utf-8", "ascii", "latin-1"):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
        monkeypatch.setattr(sys, "stdout", stream)
        print_json({"label": "Staudämme 大坝 \udce9"})
        stream.flush()
        assert json.loads(raw.getvalue().decode(encoding)) == {"label": "Staudämme 大坝 \udce9"}


@pytest.mark.slow
def test_file_names_that_are_not_text(handful_process, model: Path, images: Path) -> None:
    """A name in Latin-1, as old disks have them."""
    (odd,) = sorted((images / "fish").iterdir())[:1]
    try:
        odd.rename(images / "fish" / "caf\udce9.webp")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    ran = handful_process("predict", model, images / "fish")
    assert (ran.status, len(ran.out.splitlines()), ran.err) == (0, 3, "")
    answers = handful_process("predict", model, images / "fish", "--json").document()
    assert str(images / "fish" / "caf\udce9.webp") in {answer["image"] for answer in answers}


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error(model: Path, others: Path) -> None:
    """``handful predict … | head``: nothing is said about it."""
    with subprocess.Popen(
        [*COMMAND, "predict", str(model), *[str(others)] * 2000],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=120) != 0
