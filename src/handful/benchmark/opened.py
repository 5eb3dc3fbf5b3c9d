"""The sources of a plan: features files are read, images are encoded as far as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from handful.benchmark.exam import Exam, of_one_encoder
from handful.benchmark.listing import Listing, Needed
from handful.benchmark.protocols import PROTOCOLS, Rows, coop, draw
from handful.benchmark.source import Source
from handful.benchmark.sources import features_source, images_source, with_correction
from handful.classifier.tuned import head_kind
from handful.errors import InputError

if TYPE_CHECKING:
    from handful.benchmark.plan import Plan

__all__ = ["needed_by", "open_exams", "open_sources"]


def open_sources(plan: Plan) -> list[Source]:
    """Read the features files of a plan, and encode its images.

    Raises:
        InputError: one cannot be read, or two have one name.
    """
    found = _learnt_from(plan, _encode(plan))
    _refuse_twice(found)
    return found


def open_exams(plan: Plan) -> list[Exam]:
    """Open the sources of a plan, and of those that are tested on the test images.

    Raises:
        InputError: one cannot be read, two have one name, or one fits no other.
    """
    encode = _encode(plan)
    features = [one for one in plan.test_on if one.endswith(".safetensors")]
    images = [one for one in plan.test_on if one not in features]
    sources = _learnt_from(plan, encode)
    others = _opened(plan, features, images, partial(encode, only_test=True))
    _refuse_twice([*sources, *others])
    found = [Exam(plan.protocol, s, of_one_encoder(s, others)) for s in sources]
    lonely = [e.source for e in found if others and not e.others]
    lonely += [o for o in others if not any(o in e.others for e in found)]
    if lonely:
        raise InputError(
            f"{lonely[0].name} has features of another encoder than"
            f" {(others if lonely[0] in sources else sources)[0].name}: learn and test with one"
            " encoder."
        )
    return found


def needed_by(
    protocol: str, shots: Sequence[int], seeds: Sequence[int], select: str
) -> Needed | None:
    """Return what says which images a protocol draws and tests on; None where it is all of them.

    Args:
        protocol: its name.
        shots, seeds: of the draws, every combination.
        select: the policy; validation images are needed by ``val`` alone.
    """
    if PROTOCOLS[protocol] is not coop:
        return None

    def needed(listing: Listing) -> Rows:
        parts: list[Rows] = []
        for k in shots:
            for seed in seeds:
                drawn = draw(protocol, listing, k, seed)
                parts += [drawn.support, drawn.test]
                if select == "val" and drawn.validation is not None:
                    parts.append(drawn.validation)
        return np.unique(np.concatenate(parts))

    return needed


def _encode(plan: Plan) -> Callable[..., Source]:
    """Return what encodes images of a plan; the encoder is loaded once."""
    if not plan.images:
        return images_source  # never called
    from handful.encoders.default import default_encoder
    from handful.encoders.spec import load_encoder
    from handful.encoders.unprojected import UnprojectedEncoder, has_projection

    encoder = load_encoder(plan.encoder or default_encoder().spec)
    earlier = any(head_kind(method).before_projection for method in plan.methods)
    # Of all methods those that the encoder cannot serve are left out.
    earlier = earlier and (has_projection(encoder) or not plan.all_methods)
    if earlier:
        UnprojectedEncoder(encoder)  # refused before the work
    return partial(
        images_source,
        encoder=encoder,
        templates=plan.templates,
        prompts=plan.prompts,
        before_projection=earlier,
    )


def _learnt_from(plan: Plan, encode: Callable[..., Source]) -> list[Source]:
    needed = needed_by(plan.protocol, plan.shots, plan.seeds, plan.select)
    return _opened(plan, plan.features, plan.images, partial(encode, needed=needed))


def _opened(
    plan: Plan, features: Sequence[str], images: Sequence[str], encode: Callable[[str], Source]
) -> list[Source]:
    found = [*map(features_source, features), *map(encode, images)]
    if plan.correction is None:
        return found
    return [with_correction(source, plan.correction) for source in found]


def _refuse_twice(sources: Sequence[Source]) -> None:
    by_name: dict[str, Source] = {}
    by_digest: dict[str, Source] = {}
    for source in sources:
        if by_name.setdefault(source.name, source) is not source:
            raise InputError(f"two sources are called '{source.name}': rename one of the files.")
        if (same := by_digest.setdefault(source.digest, source)) is not source:
            raise InputError(f"{source.name} is the same as {same.name}: leave one of them out.")
