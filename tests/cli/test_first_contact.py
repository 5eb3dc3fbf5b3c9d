"""The first use of a model of the hub, rehearsed: full size, a hub that misbehaves, then offline.

The stand-in speaks the hub's protocol; the commands are those of ``docs/encoders.md``. Each run is
a process of its own with an empty Hugging Face cache.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from full_size import make_clip
from hub_stand_in import HubStandIn

PAGE = Path(__file__).resolve().parents[2] / "docs" / "encoders.md"
B32 = "openai/clip-vit-base-patch32"

pytestmark = pytest.mark.slow


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    with HubStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def at(tmp_path: Path, photos: Path) -> Path:
    """A folder with the photographs, where the commands run."""
    shutil.copytree(photos, tmp_path / "work" / "photos")
    return tmp_path / "work"


@pytest.fixture
def run(at: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "handful.cli.main", *arguments],
            cwd=at,
            env={**os.environ, "HANDFUL_CACHE": str(tmp_path / "cache"), **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def documented_commands() -> list[list[str]]:
    """The commands that README and the page on encoders show; both show the same."""
    [first], [block] = (
        re.findall(r"^```console\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
        for page in (PAGE.parents[1] / "README.md", PAGE)
    )
    assert first == block
    return [shlex.split(line)[2:] for line in block.splitlines()]


def test_the_documented_commands_on_and_off_line(
    hub: HubStandIn, run, at: Path, tmp_path: Path, clip_tokenizer_folder: Path
) -> None:
    """ViT-B/32 as published: a ``.bin`` alone, and a preprocessor file of 2021."""
    model = make_clip(tmp_path / "b32", clip_tokenizer_folder, 32, "bin")
    commit = hub.add(B32, model)
    online = hub.environment(tmp_path / "home")
    fit, predict = documented_commands()
    assert fit[0] == "fit"
    assert f"hf:{B32}" in fit

    first = run(fit, **online)
    assert first.returncode == 0, first.stderr
    assert f"Encoder       hf:{B32}@{commit[:10]}" in first.stdout
    lines = first.stderr.splitlines()
    assert re.fullmatch(
        rf"handful: downloading {B32} from 127.0.0.1:\d+: 60\d MB, once, to .*", lines[0]
    )
    assert "pytorch_model.bin was converted to safetensors once" in lines[1]
    # The weights are random, and the name is one whose answers are known.
    assert re.fullmatch(rf"handful: {B32}: off: text: .*", lines[2]), lines[2]
    assert len(lines) == 3
    whole = hub.asked("cdn", "GET")
    assert [path.partition("?")[0].rpartition("/")[2] for path in whole] == ["pytorch_model.bin"]
    assert not any(re.search("tf_model|flax|README|safetensors|refs%2Fpr", p) for p in hub.asked())
    config = json.loads((at / "things" / "config.json").read_text())
    assert config["encoder"]["spec"] == f"hf:{B32}@{commit}"

    # From here on nobody answers, and nobody is asked.
    before = len(hub.requests)
    answers = run([*predict, "--json"], **online)
    assert answers.returncode == 0, answers.stderr
    assert answers.stderr == ""
    assert len(json.loads(answers.stdout)) == 5
    offline = {**online, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    again = run([*fit[:-1], "others"], **offline)
    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    assert run([*predict, "--json"], **offline).stdout == answers.stdout
    assert len(hub.requests) == before
    first_config = config["encoder"]
    assert json.loads((at / "others" / "config.json").read_text())["encoder"] == first_config

    # Whoever asks again is told the same; and the same weights in a folder are the same encoder.
    checked = run(["encoders", "check", f"hf:{B32}"], **offline)
    assert checked.returncode == 1
    assert "off: text" in checked.stdout
    moved = run([*predict, "--encoder", f"dir:{model}", "--json"], **offline)
    assert moved.stdout == answers.stdout, moved.stderr


def test_a_cut_download_is_resumed(
    hub: HubStandIn, run, at: Path, tmp_path: Path, clip_tokenizer_folder: Path
) -> None:
    """ViT-B/16 as safetensors in half precision, over a line that breaks every 100 MB."""
    name = "someone/clip-vit-base-patch16"
    model = make_clip(tmp_path / "b16", clip_tokenizer_folder, 16, "safetensors")
    commit = hub.add(name, model, cut_after=100_000_000, reset=True)
    online = hub.environment(tmp_path / "home")
    fit = ["fit", "photos", "--encoder", f"hf:{name}", "--shots", "1", "--out", "things"]

    first = run(fit, **online)
    assert first.returncode == 0, first.stderr
    lines = first.stderr.splitlines()
    assert re.match(rf"handful: downloading {name} from .*: 30\d MB, once, to ", lines[0])
    assert lines[1].startswith(f"handful: {name}: no known answer for this model")
    assert len(lines) == 2
    # Each part was asked for where the one before had stopped.
    ranges = [r.range for r in hub.requests if r.host == "cdn" and r.method == "GET"]
    assert ranges[0] is None
    starts = [int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) for asked in ranges[1:]]
    assert len(starts) >= 2
    assert starts == sorted(set(starts))
    config = json.loads((at / "things" / "config.json").read_text())
    assert config["encoder"]["spec"] == f"hf:{name}@{commit}"

    sharded_model = make_clip(tmp_path / "b16-shards", clip_tokenizer_folder, 16, "sharded")
    hub.add("someone/sharded", sharded_model)
    sharded = run([*fit[:3], "hf:someone/sharded", *fit[4:-1], "from-shards"], **online)
    assert sharded.returncode == 0, sharded.stderr
    shards = [p for p in hub.asked("cdn", "GET") if "someone/sharded" in p]
    assert len(shards) == len(set(shards)) >= 2


REFUSALS = {
    "no network": ({}, "could not be reached", {"HF_ENDPOINT": "http://127.0.0.1:9"}),
    "no such repository": ({"missing": 401}, "no model", {}),
    "gated": ({"gated": 403}, "gated", {}),
    "too many requests": (
        {"status": 429, "status_headers": {"Retry-After": "7"}},
        "too many requests",
        {},
    ),
    "a damaged file": ({"corrupt": True}, "damaged", {}),
    "offline": ({}, "HF_HUB_OFFLINE", {"HF_HUB_OFFLINE": "1"}),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_every_failure_is_one_sentence(
    hub: HubStandIn, run, at: Path, tmp_path: Path, tiny, case: str
) -> None:
    faults, words, environment = REFUSALS[case]
    hub.add("someone/tiny", tiny("clip"), **faults)
    online = hub.environment(tmp_path / "home") | environment
    done = run(["fit", "photos", "--encoder", "hf:someone/tiny", "--out", "things"], **online)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not (at / "things").exists()
    last = done.stderr.splitlines()[-1]
    assert words.lower() in last.lower()
    assert "someone/tiny" in last
    # What the page promises about this failure is what is said.
    promised = dict(re.findall(r"^\| ([^|`]+) \| (.*) \|$", PAGE.read_text("utf-8"), re.M))
    if case in promised:
        assert any(w in last for w in re.findall(r"`([^`]+)`", promised[case])), last


def test_a_text_model_is_no_encoder(hub: HubStandIn, run, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).save_pretrained(tmp_path / "bert")
    hub.add("someone/bert", tmp_path / "bert")
    done = run(
        ["fit", "photos", "--encoder", "hf:someone/bert", "--out", "things"],
        **hub.environment(tmp_path / "home"),
    )
    assert done.returncode == 2
    assert "does not encode images" in done.stderr.splitlines()[-1]
