"""``handful demo``: the quick start, on photographs that come with the package."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from handful.cli.options import ForceOption, JsonOption
from handful.cli.output import print_json, print_table, say

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the classifier.")] = Path(
        "handful-demo"
    ),
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare methods on real photographs, save a classifier, use it."""
    from handful.examples.demo import run_demo

    if not as_json:
        say("104 photographs of 9 things and the embedded encoder 'lite'; no network is used.")
        say()
    found = run_demo(out, overwrite=force)
    if as_json:
        print_json(found)
    else:
        _tell(found, out)


def _tell(found: dict[str, Any], out: Path) -> None:
    say(f"Held-out accuracy, mean ± standard deviation over {found['seeds']} draws of the shots:")
    shots = sorted({row["shots"] for row in found["table"]})
    methods = list(dict.fromkeys(row["method"] for row in found["table"]))
    cells = {
        (row["method"], row["shots"]): f"{row['mean']:.1%} ± {row['deviation']:.1%}"
        for row in found["table"]
    }
    say()
    print_table(
        ["method", *(f"{k} shot{'s' if k > 1 else ''}" for k in shots)],
        [[m, *(cells[m, k] for k in shots)] for m in methods],
    )
    say()
    say(f"A '{found['method']}' classifier, fitted on {found['shots']} photographs of each, says")
    for answer in found["predictions"]:
        right = "right" if answer["label"] == answer["truth"] else f"it is a {answer['truth']}"
        say(f"  {answer['image']}: {answer['label']} {answer['probability']:.1%} ({right})")
    say()
    say(f"It is saved in {out}. Try")
    say(f"  handful predict {shlex.quote(str(out))} YOUR_IMAGE.jpg --top 3")
    say("and then your own: a folder with one sub-folder of images per class,")
    say("  handful fit YOUR_FOLDER --out my-classifier")
