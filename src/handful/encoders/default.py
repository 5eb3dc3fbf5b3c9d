"""Which encoder is used where nobody names one, and why."""

from __future__ import annotations

import os
import tomllib
from typing import NamedTuple

from handful.errors import InputError, did_you_mean
from handful.paths import configuration_file

__all__ = ["DEFAULT_ENCODER", "Default", "default_encoder"]

DEFAULT_ENCODER = "lite"

KEYS = ("encoder",)


class Default(NamedTuple):
    """An encoder and the reason for it.

    Attributes:
        spec: names the encoder.
        why: the reason in a few words, for people.
    """

    spec: str
    why: str


def default_encoder() -> Default:
    """Return the encoder that the user's configuration names, else ``lite``.

    The environment variable ``HANDFUL_ENCODER`` comes first, then ``encoder`` in the
    configuration file. A model of the hub that is neither in the cache nor can be reached gives way
    to ``lite``, and the reason says so.

    Raises:
        InputError: the configuration file is damaged.
    """
    spec, place = os.environ.get("HANDFUL_ENCODER"), "HANDFUL_ENCODER"
    if not spec:
        spec, place = _configured(), str(configuration_file())
    if not spec:
        return Default(DEFAULT_ENCODER, "the default")
    kind, _, rest = spec.partition("?")[0].partition(":")
    if kind == "hf":
        from handful.encoders.checkpoint.hub import is_reachable

        name, _, revision = rest.partition("@")
        if not is_reachable(name, revision or None):
            return Default(
                DEFAULT_ENCODER,
                f"because {spec}, named in {place}, is neither in the cache nor to be reached",
            )
    return Default(spec, f"named in {place}")


def _configured() -> str | None:
    path = configuration_file()
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): mend it or remove it.") from error
    for key in table:
        if key not in KEYS:
            raise InputError(
                f"{path} has the key '{key}': expected {', '.join(KEYS)}.{did_you_mean(key, KEYS)}"
            )
    spec = table.get("encoder")
    if spec is not None and not isinstance(spec, str):
        raise InputError(f"{path} says encoder = {spec!r}: expected a text such as 'lite'.")
    return spec
