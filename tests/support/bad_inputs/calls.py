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
@bad("a coverage that the images cannot support")
@bad("a coverage in percent")
@bad("fewer false alarms than the images can promise")
@bad("false alarms in percent")
@bad("a threshold in percent")
@bad("two thresholds for all labels")
@bad("a threshold of no label")
@bad("a prior and a coverage")
@bad("no such prior")
@bad("a diagram with another ending")
@bad("a diagram of a classifier that is missing")
@bad("features for a method that trains inside the encoder")
@bad("cross-validation of a method that trains inside the encoder")
@bad("several encoders for a method that trains inside one")
@bad("an image tower that cannot be trained")
def nothing(place: Place) -> None:
    """Nothing is wrong with what lies there."""


@bad("a prior that is no JSON")
def no_json(place: Place) -> None:
    place.write("prior.json", "dam: 0.5")


@bad("a prior that is a list")
def a_list(place: Place) -> None:
    place.write("prior.json", "[0.5, 0.3, 0.2]")


@bad("a prior with a number in quotes")
def quoted(place: Place) -> None:
    place.write("prior.json", '{"dam": "0.5"}')


@bad("a prior with a number of 400 digits")
def too_large(place: Place) -> None:
    place.write("prior.json", '{"dam": ' + 400 * "9" + "}")


@bad("a prior below 0")
def negative(place: Place) -> None:
    place.write("prior.json", '{"dam": 1.5, "fish": -0.5}')


@bad("a prior of no label")
def no_label(place: Place) -> None:
    place.write("prior.json", '{"dam": 0.5, "fsh": 0.5}')


@bad("a prior of nothing")
def of_nothing(place: Place) -> None:
    place.write("prior.json", "{}")


@bad("a diagram that exists")
def old_diagram(place: Place) -> None:
    place.write("old.png", "a diagram of old")
