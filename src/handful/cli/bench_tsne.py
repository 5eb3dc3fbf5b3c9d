"""``handful bench tsne``: the same test images as several methods see them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from handful.cli.figure_files import checked, forms_of, write_figures
from handful.cli.options import (
    EncoderOption,
    ForceOption,
    JsonOption,
    SetOption,
    TemplateOption,
    parse_setting,
)
from handful.cli.output import print_json, print_table, say
from handful.errors import InputError

__all__ = ["tsne"]


def tsne(
    methods: Annotated[
        list[str],
        typer.Option(
            metavar="A,B:NAME=VALUE,…",
            help="Methods, each with settings of its own behind colons; repeatable.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="For the figure.")],
    features: Annotated[
        str | None, typer.Option(metavar="FILE", help="A features file.", show_default=False)
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(metavar="IMAGES", help="Images, as 'fit' takes them.", show_default=False),
    ] = None,
    encoder: EncoderOption = None,
    templates: TemplateOption = None,
    shots: Annotated[int, typer.Option(metavar="K", help="Images per class to learn from.")] = 16,
    seed: Annotated[int, typer.Option(metavar="S", help="Of everything random.")] = 1,
    protocol: Annotated[
        str, typer.Option(metavar="NAME", help="coop, whu or base-to-new.")
    ] = "coop",
    select: Annotated[
        str, typer.Option(metavar="val|cv|fixed", help="How settings are chosen.")
    ] = "val",
    settings: SetOption = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,…",
            help="Show these alone; left out: all, or the first 10 of more than 20.",
            show_default=False,
        ),
    ] = None,
    images_shown: Annotated[int, typer.Option(metavar="N", help="At most.")] = 1000,
    form: Annotated[
        str, typer.Option("--format", metavar="png|svg|both", help="Of the figure.")
    ] = "both",
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw test images as methods see them, by t-SNE, and count their neighbours."""
    from handful.benchmark.figures.neighbours import draw_neighbours, unshown
    from handful.benchmark.neighbours import file_name, neighbours, refuse_others
    from handful.benchmark.plan import Plan
    from handful.benchmark.plan_flags import words

    if features is not None and images is not None:
        raise InputError("--features and --images are both given: one figure has one source.")
    forms = forms_of(form)
    refuse_others(protocol)
    asked = [_method(word) for word in words(methods)]
    plan = Plan(
        features=() if features is None else (features,),
        images=() if images is None else (images,),
        encoder=encoder,
        templates=tuple(templates) if templates else None,
        methods=tuple(dict.fromkeys(name for name, _ in asked)),
        shots=(shots,),
        seeds=(seed,),
        protocol=protocol,
        select=select,
        settings={"all": dict(parse_setting(text) for text in settings or ())},
    )
    (source,) = plan.sources()
    plan.check([source])
    for_all = {run.method: dict(run.settings) for run in plan.runs(source)[shots, seed]}
    name = file_name(source.name, protocol, select, shots, seed)
    paths = checked(out, name, forms, force)
    found = neighbours(
        source,
        [(method, {**for_all.get(method, {}), **own}) for method, own in asked],
        shots=shots,
        seed=seed,
        protocol=protocol,
        select=select,
        classes=words(classes) if classes else None,
        most=images_shown,
    )
    write_figures({name: lambda: draw_neighbours(found)}, out, forms, force)
    # Nobody needs to be told what he has asked for.
    left_out = [] if classes else list(unshown(found))
    seen = [(panel.adapted, panel.nearest) for panel in found.panels]
    if as_json:
        print_json(
            {
                "files": [str(path) for path in paths],
                "source": found.source.name,
                "test_images": found.test_images,
                "shown": len(found.rows),
                "classes": list(found.classes.values()),
                "panels": [
                    {
                        "method": one.label,
                        "space": one.space,
                        "accuracy": one.accuracy,
                        "nearest": nearest,
                    }
                    for one, nearest in seen
                ],
                "left_out": left_out,
            }
        )
        return
    rows = [[one.label, f"{one.accuracy:.1%}", f"{share:.1%}", one.space] for one, share in seen]
    print_table(["method", "accuracy", "nearest of own class", "in"], rows)
    for sentence in left_out:
        say(sentence)
    say(", ".join(str(path) for path in paths))


def _method(text: str) -> tuple[str, dict[str, Any]]:
    """Return name and settings of ``METHOD:NAME=VALUE:NAME=VALUE``."""
    name, *given = text.split(":")
    for one in given:
        if not all(one.partition("=")):
            raise InputError(
                f"--methods has '{text}': expected METHOD:NAME=VALUE, such as"
                " clip-adapter:residual=false."
            )
    return name, dict(parse_setting(one) for one in given)
