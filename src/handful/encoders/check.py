"""Is an encoder what its name says? Tokens, pixels, text and image, each against known answers.

Where nothing is known of a model, each stage is asked what every encoder must do. Takes seconds:
eight images and a dozen texts at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from handful.encoders.joint import refuse_several
from handful.encoders.known_answers import KnownAnswers, demand, name_of_spec, named
from handful.encoders.original_pixels import (
    differing_pixels,
    gradient_picture,
    senseless_pixels,
)
from handful.encoders.protocol import Encoder
from handful.encoders.sane_features import half_precision, senseless_features, unit_rows
from handful.encoders.two_tower import TwoTowerEncoder

__all__ = ["CheckResult", "Stage", "check", "one_line"]

# Lowest cosine of a text feature with the published one. All-MiniLM-L6, a trained text tower, in
# half precision keeps 0.999999 of itself, and with quick GELU for GELU 0.9974 to 0.9992: below the
# first line it is another model; between the two it may be.
SAME_MODEL, BEYOND_ROUNDING = 0.999, 0.9998
CAT, DIAGRAM = "a photo of a cat", "a diagram"
LONG = "a very long sentence about a small grey cat that sleeps in the sun beside two old dogs"


@dataclass(frozen=True)
class Stage:
    """One stage of the check.

    Attributes:
        name: ``tokens``, ``pixels``, ``text`` or ``image``.
        status: ``ok``, it agrees with a known answer; ``off``, it does not, or it does what no
            encoder may do; ``unknown``, nothing certain is known to compare with.
        detail: what was measured and what was expected.
        doubt: what looks wrong and settles nothing, such as a difference from a published number
            that was never re-checked; mostly empty.
    """

    name: str
    status: Literal["ok", "off", "unknown"]
    detail: str
    doubt: str = ""


@dataclass(frozen=True)
class CheckResult:
    """What the check of an encoder found.

    Attributes:
        spec: the encoder's.
        name: public name of the checkpoint whose answers were compared; None where none is known.
        stages: in the order in which an input passes them.
    """

    spec: str
    name: str | None
    stages: tuple[Stage, ...]

    @property
    def off(self) -> Stage | None:
        """The first stage that is off: what comes after it is off because of it."""
        return next((stage for stage in self.stages if stage.status == "off"), None)

    @property
    def verdict(self) -> str:
        """``verified``, ``no known answer for this model`` or ``off: STAGE``."""
        if self.off:
            return f"off: {self.off.name}"
        if any(s.status == "ok" for s in self.stages if s.name in ("text", "image")):
            return "verified"
        return "no known answer for this model"


def check(encoder: Encoder, name: str | None = None) -> CheckResult:
    """Compare an encoder with what is known of its checkpoint.

    Args:
        encoder: the encoder; its spec tells the name, unless it is a local folder.
        name: public name of the checkpoint.

    Raises:
        InputError: nothing is known under this name, or there are several encoders.
    """
    refuse_several(encoder, "the check")
    known = demand(name) if name else named(encoder.spec)
    stages = (stage(encoder, known) for stage in (_tokens, _pixels, _text, _image))
    return CheckResult(encoder.spec, known.name if known else None, tuple(stages))


def one_line(result: CheckResult) -> str:
    """Say the result in one line, such as ``openai/…: verified (tokens, pixels, text)``."""
    line = f"{result.name or name_of_spec(result.spec)}: {result.verdict}"
    if result.off:
        return f"{line}: {result.off.detail}"
    right = ", ".join(stage.name for stage in result.stages if stage.status == "ok")
    if result.verdict == "verified":
        line += f" ({right})"
    else:
        line += f"; as expected: {right}" if right else "; it behaves as every encoder must"
    if result.spec.partition(":")[0] == "lite":
        line += "; its weight files are compared with their SHA-256 whenever they are loaded"
    doubts = ", ".join(stage.name for stage in result.stages if stage.doubt)
    return line + (f"; in doubt: {doubts} ('handful encoders check' tells why)" if doubts else "")


# -- the stages ------------------------------------------------------------------------------------


def _tokens(encoder: Encoder, known: KnownAnswers | None) -> Stage:
    tower: Any = encoder.text_tower if isinstance(encoder, TwoTowerEncoder) else None
    if tower is None:
        why = "the encoder does not show its tokens" if encoder.has_text else "no text tower"
        return Stage("tokens", "unknown", why)
    for text, expected in known.tokens.items() if known else ():
        found = list(tower.token_ids(text))
        if found != list(expected):
            told = f"{text!r} becomes {_words(found)}, expected {_words(expected)}"
            return Stage("tokens", "off", told)
    if known:
        return Stage("tokens", "ok", f"{len(known.tokens)} texts become the expected ids")
    if (found := list(tower.token_ids(CAT))) == list(tower.token_ids(DIAGRAM)):
        told = f"{CAT!r} and {DIAGRAM!r} both become {_words(found)}: this is no tokenizer for them"
        return Stage("tokens", "off", told)
    return Stage("tokens", "unknown", "no known answer; different texts have different ids")


def _pixels(encoder: Encoder, known: KnownAnswers | None) -> Stage:
    if fault := senseless_pixels(encoder.preprocess):
        return Stage("pixels", "off", fault)
    if known is None:
        told = "no known answer; upright, not mirrored, colours in order, on the scale of a model"
        return Stage("pixels", "unknown", told)
    fault, option = differing_pixels(encoder.preprocess, known)
    settings = f"{known.size} pixels, mean {_words(known.mean)}, std {_words(known.std)}"
    if not fault:
        return Stage("pixels", "ok", f"{settings}, bicubic, crop as in OpenAI's code")
    if option and option in encoder.spec.partition("?")[2].split("&"):
        return Stage("pixels", "ok", f"{settings}; {fault}; {option} asks for it")
    return Stage("pixels", "off", fault)


def _text(encoder: Encoder, known: KnownAnswers | None) -> Stage:
    if not encoder.has_text:
        return Stage("text", "unknown", "no text tower: the encoder learns from images alone")
    encode = encoder.encode_texts
    faults = senseless_features(
        encoder, encode([CAT]), encode([CAT]), encode([CAT, DIAGRAM, LONG]), "text", "longer text"
    )
    if faults:
        return Stage("text", "off", faults)
    if known is None:
        return Stage("text", "unknown", _SENSIBLE.format("text", "longer text", "texts"))
    scale = f"logit scale {encoder.logit_scale:.2f}"
    if abs(encoder.logit_scale - known.logit_scale) > 0.5:
        return Stage("text", "off", f"{scale}, expected {known.logit_scale:.2f}")
    doubt = ""
    if known.pooled_text and isinstance(encoder, TwoTowerEncoder) and encoder.text_tower:
        found = _run(encoder, encoder.text_tower.pooled, [CAT])[0, 1:4]
        doubt = _differs(encoder, f"pooled output [1:4] of {CAT!r}", found, known.pooled_text)
    if known.text_features is None:
        told = f"no features of this model are known; {scale} as expected"
        return Stage("text", "unknown", told, doubt)
    features = encode(known.prompts)
    if features.shape != known.text_features.shape:
        told = f"features have {features.shape[1]} numbers, expected {known.text_features.shape[1]}"
        return Stage("text", "off", told)
    cosine = float((unit_rows(features) * known.text_features).sum(1).min())
    told = f"lowest cosine with the known features of {len(features)} prompts {cosine:.5f}"
    if cosine < SAME_MODEL:
        told += f", expected {SAME_MODEL} or more: the weights, the {_MISTAKES} are not the model's"
        return Stage("text", "off", told, doubt)
    if cosine < BEYOND_ROUNDING and not half_precision(encoder):
        beyond = f"a cosine of {cosine:.5f} is less than rounding explains: look at the {_MISTAKES}"
        doubt = "; ".join(filter(None, (beyond, doubt)))
    return Stage("text", "ok", f"{told} ({SAME_MODEL} needed), {scale}", doubt)


def _image(encoder: Encoder, known: KnownAnswers | None) -> Stage:
    pictures = [gradient_picture(300 + 40 * i, 400 - 50 * i, seed=i) for i in range(4)]
    pixels = encoder.preprocess(pictures[0])[None]
    encode = encoder.encode_images
    faults = senseless_features(
        encoder, encode(pixels), encode(pixels), encode(pictures), "picture", "others"
    )
    if faults:
        return Stage("image", "off", faults)
    told = _SENSIBLE.format("picture", "others", "pictures")
    tower: Any = getattr(encoder, "image_tower", None)
    if known is None or tower is None or encoder.preprocess.size != known.size:
        return Stage("image", "unknown", told)
    shape = (1, 3, known.size, known.size)
    compared, doubts = [], []
    if known.pooled_image:
        what = "pooled output [1:4] where all pixels are 0.5"
        found = _run(encoder, tower.pooled, torch.full(shape, 0.5))[0, 1:4]
        compared.append(f"{what} {_words(found)}")
        doubts.append(_differs(encoder, what, found, known.pooled_image))
    if known.noise_mean is not None:
        what = "mean of the unit feature of a noise image"
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        found = unit_rows(_run(encoder, tower, noise)).mean(keepdims=True)[0]
        compared.append(f"{what} {_words(found)}")
        doubts.append(_differs(encoder, what, found, (known.noise_mean,), 1.5e-4))
    doubt = "; ".join(filter(None, doubts))
    if compared and not doubt:
        told += f"; agrees with published numbers that we have not confirmed: {', '.join(compared)}"
    return Stage("image", "unknown", told, doubt)


_MISTAKES = "activation (quick GELU is not GELU), the pooling at the end of the text or the padding"
_SENSIBLE = "no known answer; a {} gives the same twice and beside {}, different {} differ"

# -- comparing -------------------------------------------------------------------------------------


def _differs(
    encoder: Encoder,
    what: str,
    found: npt.NDArray[Any],
    published: tuple[float, ...],
    tolerance: float = 1e-3,
) -> str:
    if np.allclose(
        found, published, rtol=0, atol=tolerance * (20 if half_precision(encoder) else 1)
    ):
        return ""
    return f"{what} is {_words(found)}; others publish {_words(published)}, which is unconfirmed"


def _run(encoder: Encoder, tower: Callable[[Any], torch.Tensor], given: Any) -> npt.NDArray[Any]:
    if isinstance(given, torch.Tensor):
        hooks: Any = encoder
        given = given.to(hooks.device, hooks.dtype)
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        features: npt.NDArray[Any] = tower(given).float().cpu().numpy()
    return features


def _words(numbers: Sequence[float] | npt.NDArray[Any]) -> str:
    return " ".join(f"{n:.4f}" if isinstance(n, (float, np.floating)) else str(n) for n in numbers)
