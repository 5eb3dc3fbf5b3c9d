"""Class names that are refused, or that somebody should look at."""

from __future__ import annotations

from bad_inputs.place import Place, bad


@bad("class names that differ only in case")
def case(place: Place) -> None:
    place.table(*place.whole_table(dam="fish", fish="Fish"))


@bad("class names that become equal words")
def equal_words(place: Place) -> None:
    place.table(*place.whole_table(dam="wind_mill", fish="wind mill"))
