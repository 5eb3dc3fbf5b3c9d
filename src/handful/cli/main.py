"""Entry point of ``handful``: the list of verbs, and what becomes of errors.

Exit status: 0 done, 2 the input or the call is wrong (one sentence on standard error), 1 anything
else. Verbs import what they need when they run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer import TyperException
from typer.main import get_command

from handful import __version__
from handful.cli import (
    bench,
    cache,
    correct,
    datasets,
    demo,
    embed,
    encoders,
    evaluate,
    fit,
    methods,
    overlap,
    predict,
)
from handful.cli.output import flush
from handful.errors import HandfulError, InputError, did_you_mean

__all__ = ["app", "main"]

app = typer.Typer(
    name="handful",
    help="Teach a vision-language model new classes from a handful of labelled images.",
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_STOPPED = 130  # what typer makes of a KeyboardInterrupt, and shells of SIGINT

_MAIN, _MORE, _LISTS = "Everyday", "More", "What there is"
app.command(rich_help_panel=_MAIN)(fit.fit)
app.command(rich_help_panel=_MAIN)(predict.predict)
app.command(rich_help_panel=_MAIN)(evaluate.evaluate)
app.command(rich_help_panel=_MORE)(demo.demo)
app.command(rich_help_panel=_MORE)(embed.embed)
app.command(rich_help_panel=_MORE)(overlap.overlap)
app.command(rich_help_panel=_LISTS)(methods.methods)
app.add_typer(bench.bench, name="bench", rich_help_panel=_MORE)
app.add_typer(correct.correct, name="correct", rich_help_panel=_MORE)
app.add_typer(encoders.encoders, name="encoders", rich_help_panel=_LISTS)
app.add_typer(datasets.datasets, name="datasets", rich_help_panel=_LISTS)
app.add_typer(cache.cache, name="cache", rich_help_panel=_LISTS)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"handful {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            callback=_print_version,
            is_eager=True,
            help="Show the version.",
        ),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    warnings.showwarning = _show_warning
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files need not be valid text: what cannot be written is escaped.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    try:
        status = get_command(app).main(
            arguments or ["--help"], prog_name="handful", standalone_mode=False
        )
        flush()
        return _stopped() if status == _STOPPED else int(status or 0)
    except TyperException as error:
        return _complain(_explain(error), 2)
    except InputError as error:
        return _complain(str(error), 2)
    except HandfulError as error:
        return _complain(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return _stopped()
    except BrokenPipeError:
        # The reader of our output has gone (handful … | head): nothing more to say.
        sys.stderr.close()
        return 1


def _stopped() -> int:
    return _complain("stopped; what was done is kept.", _STOPPED)


def _explain(error: TyperException) -> str:
    """Say what is wrong with the call: the value that was given, the nearest option."""
    words = error.format_message().rstrip(".").replace("Input should be", "expected")
    if faults := getattr(error.__cause__, "errors", None):
        words = words.replace("Invalid value", f"Invalid value '{faults()[0]['input']}'")
    if near := getattr(error, "possibilities", None):
        words = f"{error.message}.{did_you_mean(str(getattr(error, 'option_name', '')), near)}"
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "handful"
    words = words[0].lower() + words[1:]
    return f"{words}{'' if words.endswith('?') else '.'} See '{command} --help'."


def _complain(sentence: str, status: int) -> int:
    print(f"handful: {' '.join(sentence.split())}", file=sys.stderr)
    return status


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    print(f"handful: warning: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    main()
