"""What a spec may ask of an encoder after a question mark: ``hf:NAME?crop=floor&dtype=float16``."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from handful.encoders.preprocess import CROPS, STYLES, Preprocess
from handful.errors import InputError, did_you_mean

__all__ = ["DTYPES", "Options", "split_options"]

DTYPES = ("float32", "float16", "bfloat16")

CHOICES = {"style": STYLES, "crop": CROPS, "dtype": DTYPES}


@dataclass(frozen=True)
class Options:
    """Departures from what the checkpoint says of itself.

    Attributes:
        style: of the preprocessing, see :class:`~handful.encoders.preprocess.Preprocess`; None is
            the checkpoint's own.
        crop: rounding of the centre crop, ``round`` or ``floor``; None is ``round``.
        dtype: number format of the weights and of the computation. A checkpoint that was saved in
            half precision is computed in float32 all the same, unless this says otherwise.
    """

    style: str | None = None
    crop: str | None = None
    dtype: str = "float32"

    def applied(self, preprocess: Preprocess) -> Preprocess:
        """Return the preprocessing with these departures."""
        return replace(
            preprocess,
            style=self.style or preprocess.style,
            crop=self.crop or preprocess.crop,
        )

    def __str__(self) -> str:
        given = [
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)
            if getattr(self, f.name) != f.default
        ]
        return f"?{'&'.join(given)}" if given else ""


def split_options(text: str) -> tuple[str, Options]:
    """Split a spec into what names the encoder and the options.

    Raises:
        InputError: an unknown option or value.
    """
    name, mark, rest = text.partition("?")
    if not mark:
        return name, Options()
    given: dict[str, str] = {}
    for part in rest.split("&"):
        option, _, value = part.partition("=")
        if option not in CHOICES:
            raise InputError(
                f"the option {part!r} of the encoder {text!r} is unknown: after the question mark"
                f" come {', '.join(f'{k}=…' for k in CHOICES)}.{did_you_mean(option, CHOICES)}"
            )
        if value not in CHOICES[option]:
            raise InputError(
                f"the option {option} of the encoder {text!r} is {value!r}: choose one of"
                f" {', '.join(CHOICES[option])}.{did_you_mean(value, CHOICES[option])}"
            )
        given[option] = value
    return name, Options(**given)
