"""How every figure looks, and how it becomes a file: PNG or SVG, equal bytes for equal numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handful.errors import InputError, did_you_mean
from handful.paths import new_file, refuse_existing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "STYLE", "check_file", "ready", "write"]

FORMATS = ("png", "svg")

# Of matplotlib: text of 8 points and more, and nothing that is not needed.
STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "figure.titlesize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "savefig.dpi": 200,
    "svg.hashsalt": "handful",
    "svg.fonttype": "path",  # the same everywhere, whatever fonts there are
}


@contextmanager
def ready() -> Iterator[None]:
    """Make matplotlib ready, whatever the user's own settings of it are.

    Raises:
        InputError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise InputError(
            f'figures need the package matplotlib ({error}): run pip install "handful[plot]".'
        ) from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def check_file(path: Path, *, overwrite: bool) -> None:
    """Refuse what cannot be drawn, before any work is done.

    Raises:
        InputError: another ending, a file that exists, or matplotlib is not installed.
    """
    form = path.suffix[1:]
    if form not in FORMATS:
        raise InputError(
            f"a figure cannot be written as {path.name}:{did_you_mean(form, FORMATS)} expected a"
            f" name that ends in {' or '.join('.' + one for one in FORMATS)}."
        )
    refuse_existing(path, overwrite=overwrite, folder=False)
    with ready():
        pass


def write(figure: Figure, path: Path, *, overwrite: bool) -> None:
    """Write a figure as the ending of ``path`` says, whole or not at all; inside :func:`ready`.

    Raises:
        InputError: the file exists and ``overwrite`` is false, or it cannot be written.
    """
    form = path.suffix[1:]
    # Neither a date nor a version: equal results give equal files.
    unsaid = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[form]
    with new_file(path, overwrite=overwrite) as temporary:
        figure.savefig(temporary, format=form, metadata=unsaid)
