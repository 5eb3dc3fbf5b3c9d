"""Calls whose words are wrong, not their images."""

from __future__ import annotations

from bad_inputs.place import Place, bad


@bad("more shots than images")
@bad("an unknown method")
@bad("an unknown policy")
@bad("a policy that needs validation images")
@bad("a policy that needs two images of a class")
@bad("an unknown setting")
@bad("a setting out of its range")
@bad("a template without `{}`")
@bad("an unknown option of a verb")
@bad("an option that is left out")
@bad("an unknown verb")
@bad("a features file with another ending")
def nothing(place: Place) -> None:
    """Nothing is wrong with what lies there."""
