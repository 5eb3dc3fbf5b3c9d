"""Figures that verbs draw, as files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from handful.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["checked", "forms_of", "write_figures"]


def forms_of(form: str) -> tuple[str, ...]:
    """Return the endings that ``--format`` asks for.

    Raises:
        InputError: it is none of png, svg and both.
    """
    from handful.report.figures import FORMATS

    forms = FORMATS if form == "both" else (form,)
    if forms[0] not in FORMATS:
        known = (*FORMATS, "both")
        raise InputError(
            f"there is no format '{form}'.{did_you_mean(form, known)} Use one of"
            f" {', '.join(known)}."
        )
    return forms


def checked(folder: Path, name: str, forms: tuple[str, ...], force: bool) -> list[Path]:
    """Return the files of a figure, before any work is done for it.

    Args:
        folder: where they will lie.
        name: of the files without their endings.
        forms: endings.
        force: whether to overwrite.

    Raises:
        InputError: a file is there already, cannot be written, or matplotlib is not installed.
    """
    from handful.report.figures import check_file

    paths = [folder / f"{name}.{form}" for form in forms]
    for path in paths:
        check_file(path, overwrite=force)
    return paths


def write_figures(
    figures: Mapping[str, Callable[[], Figure]], folder: Path, forms: tuple[str, ...], force: bool
) -> dict[str, list[Path]]:
    """Draw figures and write each in every form; return the files by the figure's name.

    Args:
        figures: by file name without its ending; called when matplotlib is ready.
        folder: made if there is none.
        forms: endings.
        force: whether to overwrite.

    Raises:
        InputError: a file is there already, or cannot be written; before anything is drawn.
    """
    from handful.progress import progress
    from handful.report.figures import ready, write

    wanted = {name: checked(folder, name, forms, force) for name in figures}
    with ready(), progress("drawing", len(wanted), "figures") as advance:
        for name, draw in figures.items():
            figure = draw()
            for path in wanted[name]:
                write(figure, path, overwrite=force)
            advance(1)
    return wanted
