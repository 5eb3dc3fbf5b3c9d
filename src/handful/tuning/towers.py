"""The towers of an encoder opened up: what goes in, the blocks one by one, what comes out.

Methods that train inside an encoder work on a copy of it, so that the encoder itself stays as it
is. ``blocks`` are the modules that compute: a method injects by replacing sub-modules of a block,
or by hooks on it, and every path through the tower then takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from handful.encoders.lite import LiteEncoder
from handful.encoders.preprocess import Preprocess
from handful.encoders.protocol import Encoder
from handful.encoders.two_tower import TwoTowerEncoder
from handful.errors import InputError

__all__ = ["ImageTower", "TextTower", "Tokens", "Towers", "has_image_blocks", "open_towers"]

FAMILIES = ("clip", "siglip")


@dataclass(eq=False)
class Tokens:
    """Texts as a tower reads them.

    Attributes:
        ids: int64 ``(M, L)``, on the tower's device. L is no longer than the longest text needs,
            but for towers that were trained on padded texts, which always read all places.
        ends: int64 ``(M,)``: the place whose state stands for the text, or, in towers that take
            the mean over the text, its last place.
    """

    ids: Tensor
    ends: Tensor


class ImageTower(nn.Module):
    """A vision transformer, or a network without blocks.

    ``tower.leave(tower.through(tower.enter(pixels)))`` is what the encoder's ``encode_images``
    gives. States are ``(N, P, width)``: P places, one for each patch and, in CLIP, a first one for
    the picture. What they are in a network without blocks, it says itself.

    Attributes:
        width: of the states.
        patch: side of a patch in pixels, where pictures of any multiple of it can enter; None
            where only pictures of the usual size can.
    """

    width: int
    patch: int | None = None

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, first to last; none in a ResNet."""
        raise NotImplementedError

    def enter(self, pixels: Tensor) -> Tensor:
        """Return the states before block 0 of normalised pixels ``(N, 3, S, S)``."""
        raise NotImplementedError

    def through(self, states: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Return the states behind ``blocks[start:stop]``."""
        raise NotImplementedError

    def leave(self, states: Tensor) -> Tensor:
        """Return the features ``(N, D)``, not normalised, of the states behind the last block."""
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features ``(N, D)``, not normalised, of normalised pixels."""
        return self.leave(self.through(self.enter(pixels)))


class TextTower(nn.Module):
    """A text transformer.

    ``tower(tower.tokenize(texts))`` is what the encoder's ``encode_texts`` gives. States are
    ``(M, L, width)``.

    Attributes:
        width: of the states.
        context: places that a text may take.
        causal: whether a place sees only those before it.
        padding: the token that fills up texts, for towers that must be given all ``context``
            places; None where a text is as long as it is.
        frame: what a class name stands in where nothing else is said: ``{}.`` in towers that
            learnt from sentences.
    """

    width: int
    context: int
    causal: bool
    padding: int | None = None
    frame = "{}."

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks, first to last."""
        raise NotImplementedError

    def token_ids(self, text: str) -> list[int]:
        """Return the ids of one text, start and end tokens included, padding left out.

        A text that is too long is cut to ``context`` tokens.
        """
        raise NotImplementedError

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Return texts as the tower reads them."""
        raise NotImplementedError

    def embed(self, ids: Tensor) -> Tensor:
        """Return the embeddings ``(M, L, width)`` of tokens ``(M, L)``, without positions."""
        raise NotImplementedError

    def enter(self, embeddings: Tensor, start: int = 0) -> Tensor:
        """Return the states before block 0 of embeddings whose first place is ``start``."""
        raise NotImplementedError

    def through(
        self, states: Tensor, start: int = 0, stop: int | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return the states behind ``blocks[start:stop]``.

        Args:
            states: those before block ``start``, from the first place of the texts on.
            start: number of the first block.
            stop: number of the block after the last; None: all.
            mask: bool ``(M, L)``, places that may be seen; None: all. In a causal tower, places
                before.
        """
        raise NotImplementedError

    def leave(self, states: Tensor, ends: Tensor) -> Tensor:
        """Return the features ``(M, D)``, not normalised, of the states behind the last block."""
        raise NotImplementedError

    def mask(self, tokens: Tokens) -> Tensor | None:
        """Return which places the tower is told to read, bool ``(M, L)``; None: all of them."""
        return None

    def forward(self, tokens: Tokens) -> Tensor:
        """Return the features ``(M, D)``, not normalised."""
        states = self.enter(self.embed(tokens.ids))
        return self.leave(self.through(states, mask=self.mask(tokens)), tokens.ends)


class Towers(nn.Module):
    """The opened towers of one encoder.

    Attributes:
        image: None where the image tower cannot be trained, as that of ``lite``.
        text: the text tower.
        logit_scale: s, a constant.
        dim: width D of the features.
        preprocess: how a picture becomes pixels.
        spec: of the encoder.
        fingerprint: of the encoder.
        device: where the towers are.
    """

    image: ImageTower | None
    text: TextTower | None

    def __init__(
        self,
        image: ImageTower | None,
        text: TextTower | None,
        *,
        logit_scale: float,
        dim: int,
        preprocess: Preprocess,
        spec: str,
        fingerprint: str,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.logit_scale = logit_scale
        self.dim = dim
        self.preprocess = preprocess
        self.spec = spec
        self.fingerprint = fingerprint
        self.device = device


def open_towers(encoder: Encoder) -> Towers:
    """Return a copy of an encoder's towers, opened up.

    Args:
        encoder: CLIP or SigLIP of ``transformers`` (``hf:``, ``dir:``), CLIP of ``open_clip``, or
            ``lite``.

    Returns:
        in float32 and evaluation mode, on the encoder's device; nothing asks for a gradient, and
        nothing is shared with the encoder but its tokenizer.

    Raises:
        InputError: another encoder.
    """
    image: ImageTower | None
    text: TextTower
    given: Any = encoder
    if isinstance(given, LiteEncoder):
        from handful.tuning.towers_lite import LiteText

        image, text, device = None, LiteText(given), torch.device("cpu")
    elif isinstance(given, TwoTowerEncoder) and _family(given) in FAMILIES:
        from handful.tuning.towers_checkpoint import open_checkpoint

        image, text = open_checkpoint(given)
        device = given.device
    elif isinstance(given, TwoTowerEncoder) and _package_kind(given):
        from handful.tuning.towers_open_clip import open_package

        image, text = open_package(given)
        device = given.device
    else:
        raise InputError(
            f"the encoder {encoder.spec} cannot be opened up, so that nothing inside it can be"
            " trained: use a CLIP or SigLIP model of transformers (hf:NAME or dir:FOLDER), a CLIP"
            " of OpenAI's kind (open_clip:RN50/openai, open_clip:ViT-B-16/openai, …), or a"
            " method that works on its features."
        )
    towers = Towers(
        image,
        text,
        logit_scale=encoder.logit_scale,
        dim=encoder.dim,
        preprocess=encoder.preprocess,
        spec=encoder.spec,
        fingerprint=encoder.fingerprint,
        device=device,
    )
    return towers.requires_grad_(False).eval()


def has_image_blocks(encoder: Encoder) -> bool:
    """Whether :func:`open_towers` finds blocks in the image tower."""
    given: Any = encoder
    return isinstance(given, TwoTowerEncoder) and (
        _family(given) in FAMILIES or _package_kind(given) == "transformer"
    )


def _family(encoder: TwoTowerEncoder) -> str:
    model = getattr(encoder.text_tower, "model", None)
    return str(getattr(getattr(model, "config", None), "model_type", ""))


def _package_kind(encoder: TwoTowerEncoder) -> str | None:
    from handful.tuning.towers_open_clip import image_kind

    return image_kind(encoder)
