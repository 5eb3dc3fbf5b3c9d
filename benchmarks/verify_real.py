"""Check real checkpoints, on a machine with internet: ``make verify-real``.

    python benchmarks/verify_real.py [--whu FOLDER]

Downloads four public checkpoints (about 4.5 GB in all, kept in the cache of huggingface_hub) and
two images, and compares with what others publish: the known answers of ``handful encoders check``;
for ViT-B/32 the probabilities of two known images and, given the WHU-RS19 images in a folder of
class folders, their zero-shot accuracy. For all four it measures the zero-shot accuracy on the
photographs that come with handful, for which nothing is published. Where weights are reachable
this is the first thing to run; where handful is developed they are not, so it never ran there.
"""

from __future__ import annotations

import argparse
import io
import platform
import sys
import traceback
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from handful.cli.output import print_table
from handful.datasets.names import readable
from handful.datasets.source import open_images
from handful.encoders.check import check, one_line
from handful.encoders.checkpoint.hub import is_reachable
from handful.encoders.protocol import Encoder
from handful.encoders.spec import load_encoder
from handful.errors import HandfulError
from handful.examples.demo import PHOTOS
from handful.features.extract import encode_images
from handful.features.texts import class_embeddings
from handful.functional.normalise import unit
from handful.functional.pooling import pool_templates

BASE_32 = "openai/clip-vit-base-patch32"
CHECKPOINTS = (
    BASE_32,
    "openai/clip-vit-base-patch16",
    "openai/clip-vit-large-patch14",
    "google/siglip2-base-patch16-224",
)
PHOTO_TEMPLATES = ("a photo of a {}.",)
TIMEOUT = 15  # seconds

Row = tuple[str, str, str, str]  # what, result, measured, expected


@dataclass(frozen=True)
class KnownImage:
    """An image of the web with published answers of ViT-B/32.

    Attributes:
        url: where it is.
        texts: the labels.
        answers: one per text: probabilities, or scaled cosines.
        tolerance: beyond it the answer is wrong.
        probabilities: whether ``answers`` are.
        source: who publishes them.
    """

    url: str
    texts: tuple[str, ...]
    answers: tuple[float, ...]
    tolerance: float
    probabilities: bool
    source: str


KNOWN_IMAGES = (
    KnownImage(
        "https://raw.githubusercontent.com/openai/CLIP/main/CLIP.png",
        ("a diagram", "a dog", "a cat"),
        (0.9927937, 0.00421068, 0.00299572),
        1e-2,  # 1e-3 where not a pixel differs, which another version of Pillow may change
        True,
        "openai/CLIP README",
    ),
    KnownImage(
        "http://images.cocodataset.org/val2017/000000039769.jpg",
        ("a photo of a cat", "a photo of a dog"),
        (24.5701, 19.3049),
        2e-2,  # 1e-3 where the JPEG decoder is the same too
        False,
        "tests of huggingface/transformers",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 0 where nothing is off and nothing failed, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--whu", type=Path, help="folder of the class folders of WHU-RS19")
    whu = parser.parse_args(arguments).whu
    if not is_reachable(CHECKPOINTS[0]):
        print(
            f"The hub does not answer for {CHECKPOINTS[0]} and it is not in the cache: run this"
            " on a machine with internet.",
            file=sys.stderr,
        )
        return 1
    wrong = False
    print(_versions())
    for name in CHECKPOINTS:
        rows: list[Row] = []
        print(f"\n{name}", flush=True)
        try:
            encoder = load_encoder(f"hf:{name}")
        except Exception as error:
            rows.append(_failure("load", error))
        else:
            for what, measure in _measurements(encoder, name, whu):
                rows += _tried(what, measure)
        print_table(["what", "result", "measured", "expected"], rows, wrap=(2, 3))
        wrong = wrong or any(result in ("off", "failed") for _, result, _, _ in rows)
        sys.stdout.flush()
    print("\nPlease paste this output into an issue, whatever it says: it is what we cannot run.")
    return int(wrong)


def _measurements(
    encoder: Encoder, name: str, whu: Path | None
) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    yield "check", lambda: checked(encoder)
    if name == BASE_32:
        for known in KNOWN_IMAGES:
            yield known.url.rpartition("/")[2], lambda known=known: [known_image(encoder, known)]
    yield "photographs", lambda: [photographs(encoder)]
    if name == BASE_32 and whu:
        yield "WHU-RS19", lambda: [satellite_images(encoder, whu)]


def _tried(what: str, measure: Callable[[], list[Row]]) -> list[Row]:
    try:
        return measure()
    except Exception as error:
        return [_failure(what, error)]


def _failure(what: str, error: Exception) -> Row:
    """A sentence for what handful refuses; for anything else the traceback too, on stderr."""
    if isinstance(error, HandfulError):
        return what, "failed", str(error), ""
    traceback.print_exception(error)
    return what, "failed", f"{type(error).__name__}: {error}", ""


# -- what is measured ------------------------------------------------------------------------------


def checked(encoder: Encoder) -> list[Row]:
    """The stages of ``handful encoders check``, and its verdict."""
    result = check(encoder)
    rows = [
        (stage.name, stage.status, "; ".join(filter(None, (stage.detail, stage.doubt))), "")
        for stage in result.stages
    ]
    return [
        *rows,
        ("verdict", "off" if result.off else "", f"{encoder.spec}: {one_line(result)}", ""),
    ]


def known_image(encoder: Encoder, known: KnownImage) -> Row:
    """Compare the answers for an image of the web; ``unknown`` where it cannot be had."""
    what = known.url.rpartition("/")[2]
    try:
        # As the sources open it; handful itself puts transparent pictures on white.
        image = Image.open(io.BytesIO(download(known.url)))
        mode, image = image.mode, image.convert("RGB")
    except (OSError, HTTPException) as error:
        return what, "unknown", f"{known.url} cannot be had: {error}", ""
    scores = encoder.logit_scale * cosines(encoder, [image], known.texts)[0]
    answers = torch.softmax(scores, 0) if known.probabilities else scores
    furthest = float((answers - torch.tensor(known.answers)).abs().max())
    return (
        what,
        "ok" if furthest <= known.tolerance else "off",
        f"{_words(answers.tolist())} (furthest {furthest:.1e}, {mode})",
        f"{_words(known.answers)} ± {known.tolerance:g} ({known.source})",
    )


def photographs(encoder: Encoder) -> Row:
    """Zero-shot accuracy on the photographs of the package; nothing is published to compare."""
    accuracy, count = zero_shot(encoder, PHOTOS, PHOTO_TEMPLATES)
    measured = f"{accuracy:.1%} of {count} photographs with {PHOTO_TEMPLATES[0]!r}"
    return "zero-shot", "unknown", measured, "nothing is published"


def satellite_images(encoder: Encoder, folder: Path) -> Row:
    """Zero-shot accuracy on WHU-RS19, with the prompts of the published features."""
    accuracy, count = zero_shot(encoder, folder, satellite_templates())
    expected = 0.813
    return (
        "WHU-RS19",
        "ok" if abs(accuracy - expected) <= 0.02 else "off",
        f"{accuracy:.1%} of {count} images",
        f"{expected:.1%} ± 2 points (published features, of the original images)",
    )


def zero_shot(encoder: Encoder, folder: Path, templates: Sequence[str]) -> tuple[float, int]:
    """Return the accuracy on a folder of class folders, and the number of images."""
    images = open_images(folder).train
    features = encode_images(encoder, images.paths, label=f"encoding {folder.name}").features[:, 0]
    names = [readable(name) for name in images.class_names]
    prompts = torch.from_numpy(class_embeddings(encoder, names, templates))
    guesses = (unit(torch.from_numpy(features)) @ pool_templates(prompts).T).argmax(1).numpy()
    return float(np.mean(guesses == images.labels)), len(images)


def satellite_templates() -> list[str]:
    """The 106 prompts of RS-TransCLIP, whose published features give 81.3 % with ViT-B/32."""
    looks = "bad,black and white,blurry,bright,close-up,cropped,dark,good,jpeg corrupted"
    whats = "aerial image", "remote sensing image", "satellite image"
    found = [
        f"a {look} {what} of {article} {{}}."
        for look in [*looks.split(","), "low resolution"]
        for what in whats
        for article in ("a", "the")
    ]
    kinds = ["", " cool", " hard to see", " large", " nice", " small", " weird"]
    for what in whats:
        start = f"{'an' if what.startswith('a') else 'a'} {what} of"
        found += [f"{start} {article}{kind} {{}}." for article in ("a", "the") for kind in kinds]
        found.append(f"{start} many {{}}.")
    return [*found, "a satellite photo of a {}."]


# -- the means -------------------------------------------------------------------------------------


def cosines(encoder: Encoder, images: Sequence[Image.Image], texts: Sequence[str]) -> torch.Tensor:
    """Return the cosine of every image with every text, ``(N, M)``."""
    image_features = torch.from_numpy(encoder.encode_images(images))
    return unit(image_features) @ unit(torch.from_numpy(encoder.encode_texts(texts))).T


def download(url: str) -> bytes:
    """Return what is at an address.

    Raises:
        OSError: it cannot be had.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "handful"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        content: bytes = answer.read()
    return content


def _versions() -> str:
    packages = ("handful", "torch", "transformers", "tokenizers", "pillow", "numpy")
    parts = [f"{package} {version(package)}" for package in packages]
    return ", ".join([*parts, f"Python {platform.python_version()}", platform.platform()])


def _words(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.6g}" for number in numbers)


if __name__ == "__main__":
    sys.exit(main())
