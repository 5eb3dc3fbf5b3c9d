"""Files of captions."""

from __future__ import annotations

import json
from typing import Any

from bad_inputs.place import Place, bad


def _write(place: Place, **changes: Any) -> None:
    """Write two captions of two photographs as COCO has them, but for these changes."""
    names = [f"{path.parent.name}/{path.name}" for path in place.photographs("dam")[:2]]
    content = {
        "images": [{"id": at, "file_name": name} for at, name in enumerate(names)],
        "annotations": [{"image_id": at, "caption": f"dam {at}"} for at in range(2)],
    }
    place.write("captions.json", json.dumps(content | changes))


@bad("captions without a folder of images")
@bad("captions of a split that is not there")
@bad("captions for a classifier that adapts no features")
def sound(place: Place) -> None:
    _write(place)


@bad("a file of captions that is not JSON")
def not_json(place: Place) -> None:
    place.write("captions.json", "a dam")


@bad("a file of something else than captions")
def something_else(place: Place) -> None:
    place.write("captions.json", '{"dam": ["a photo of a dam."]}')


@bad("captions with images that do not exist")
def missing(place: Place) -> None:
    _write(place, images=[{"id": at, "file_name": f"dam/lost{at}.webp"} for at in range(2)])


@bad("captions with an image elsewhere")
def elsewhere(place: Place) -> None:
    _write(place, images=[{"id": at, "file_name": f"../secret{at}.jpg"} for at in range(2)])


@bad("a caption of an image that is not listed")
def not_listed(place: Place) -> None:
    _write(place, annotations=[{"image_id": 7, "caption": "a dam"}])


@bad("an empty caption")
def empty(place: Place) -> None:
    _write(place, annotations=[{"image_id": 0, "caption": ""}])


@bad("an image without a caption")
def without(place: Place) -> None:
    _write(place, annotations=[{"image_id": 0, "caption": "a dam"}])


@bad("a table of captions without a column `caption`")
def no_column(place: Place) -> None:
    place.table("photos/dam/dam1.webp,a dam", header="image,text")
