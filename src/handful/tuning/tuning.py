"""The contract of every tuning method: what it opens, what it trains, what is saved.

A method is a subclass of :class:`Tuning`, with settings as heads have them, ``recipe`` (how it is
trained) and ``open``, which puts what is trained into the towers and returns a :class:`Tuned`.
Everything else is the same for all: activations before the first trained block are kept, the loss
is the cross-entropy of the scaled cosines between images and class embeddings, what is saved is
what was trained, and the result is an encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from handful.errors import InputError
from handful.functional.normalise import unit
from handful.methods.search import Search
from handful.methods.settings import Settings
from handful.tuning.prompts import Prompts
from handful.tuning.recipe import TuningRecipe
from handful.tuning.towers import Tokens, Towers

__all__ = ["PIXELS", "Prompts", "Tuned", "Tuning", "TuningRecipe"]

PIXELS = -1
"""``image_from`` of a method that trains what comes before block 0."""

_TEXTS_AT_ONCE = 128  # activations of so many texts are held at once, whatever the classes


class Tuned(nn.Module):
    """Opened towers with what is trained in them, for the classes of some prompts.

    Args:
        towers: what is trained lies in them, or in this module; nothing else asks for a gradient.
        prompts: of the C classes.
        image_from: the image block whose input states :meth:`image_features` takes: 0 to the
            number of blocks, which stands for the states behind the last one; ``PIXELS`` for
            normalised pixels; None for the base encoder's features ``(N, D)``, where no image
            block is trained. All before it is computed once.
        trains_text: whether :meth:`class_embeddings` changes in training; else they are computed
            once.
    """

    def __init__(
        self, towers: Towers, prompts: Prompts, *, image_from: int | None, trains_text: bool
    ) -> None:
        super().__init__()
        if towers.image is None and image_from is not None:
            raise InputError(
                f"the image tower of the encoder {towers.spec} is no transformer, so that nothing "
                "inside it can be trained: train the text tower, or use a CLIP or SigLIP model."
            )
        if towers.text is None:
            raise InputError(
                f"the encoder {towers.spec} has no text tower to read the class names with: use a "
                "CLIP or SigLIP model."
            )
        self.towers = towers
        self.prompts = prompts
        self.image_from = image_from
        self.trains_text = trains_text
        self._tokens: Tokens | None = None

    # -- what a subclass may give ------------------------------------------------------------

    def image_features(self, states: Tensor) -> Tensor:
        """Return features ``(N, D)``, not normalised, of what enters at ``image_from``."""
        if self.image_from is None:
            return states
        tower = self.towers.image
        assert tower is not None
        if self.image_from == PIXELS:
            return tower.leave(tower.through(tower.enter(states)))
        return tower.leave(tower.through(states, self.image_from))

    def class_embeddings(self) -> Tensor:
        """Return unit class embeddings W ``(C, D)``: those of every prompt, mean, unit again."""
        tower = self.towers.text
        assert tower is not None
        of_class = self.prompts.of_class()
        if self._tokens is None:
            self._tokens = tower.tokenize([text for texts in of_class for text in texts])
        ids, ends = self._tokens.ids, self._tokens.ends
        parts = [slice(i, i + _TEXTS_AT_ONCE) for i in range(0, len(ids), _TEXTS_AT_ONCE)]
        features = torch.cat([self._read(Tokens(ids[p], ends[p]), len(parts) > 1) for p in parts])
        counts = torch.tensor([len(texts) for texts in of_class], device=features.device)
        rows = torch.repeat_interleave(torch.arange(len(of_class), device=features.device), counts)
        sums = features.new_zeros(len(of_class), features.shape[1])
        return unit(sums.index_add(0, rows, unit(features)))

    def injected(self) -> Iterable[nn.Module]:
        """Yield the modules that behave differently in training, such as dropout.

        Everything else stays in evaluation mode always.
        """
        return ()

    def settle(self) -> None:
        """Make predicting as cheap as it can be: nothing is trained any more.

        What :meth:`arrays` gives stays the same.
        """

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return what is saved, by name: what was trained, and nothing of the base."""
        return {name: p.detach().float().cpu().numpy() for name, p in self.trained().items()}

    def load(self, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take what :meth:`arrays` gave.

        Raises:
            ValueError: names or shapes are others.
        """
        trained = self.trained()
        if set(arrays) != set(trained):
            odd = sorted(set(arrays) ^ set(trained))
            raise ValueError(f"the names of what was trained are others: {odd[0]}")
        with torch.no_grad():
            for name, parameter in trained.items():
                array = arrays[name]
                if array.shape != tuple(parameter.shape):
                    raise ValueError(
                        f"{name} has shape {array.shape}: expected {tuple(parameter.shape)}"
                    )
                parameter.copy_(torch.from_numpy(np.array(array, np.float32)))

    # -- the same for all ---------------------------------------------------------------------

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that are trained, by names that stay the same."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def logits(self, states: Tensor, text: Tensor) -> Tensor:
        """Return s·unit(image)ᵀw ``(N, C)`` with unit class embeddings ``(C, D)``."""
        return self.towers.logit_scale * unit(self.image_features(states)) @ text.mT

    def train(self, mode: bool = True) -> Tuned:
        """Set training mode where it means something; see :meth:`injected`."""
        super().train(False)
        for module in self.injected():
            module.train(mode)
        return self

    def _read(self, tokens: Tokens, one_of_many: bool) -> Tensor:
        """Return features of texts; of many parts, activations are computed again when needed."""
        tower = self.towers.text
        if one_of_many and self.trains_text and torch.is_grad_enabled():
            read: Tensor = checkpoint(tower, tokens, use_reentrant=False)
            return read
        found: Tensor = tower(tokens)  # type: ignore[misc]
        return found


class Tuning(Settings):
    """Base of all tuning methods. See the module for how to write one.

    Attributes:
        name, summary, paper: as heads have them.
        search: what selection searches: ``train``, a new training for each value, and ``sweep``,
            settings that :meth:`kept` alone reads.
    """

    summary: ClassVar[str]
    paper: ClassVar[str]
    search: ClassVar[Search] = Search()

    @classmethod
    def searched(cls, given: Mapping[str, Any]) -> Search:
        """Return what selection searches where the settings ``given`` are fixed."""
        return cls.search.without(given)

    def recipe(self, shots: float, classes: int) -> TuningRecipe:
        """Return how to train with so many images per class, on average, and so many classes."""
        raise NotImplementedError

    def open(self, towers: Towers, prompts: Prompts, seed: int) -> Tuned:
        """Put what is trained into towers, which are this method's own, and return both.

        Random starts may use torch's global generator, which is seeded with ``seed`` here.
        """
        raise NotImplementedError

    def kept(self, start: Mapping[str, Tensor], end: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what is kept of the trained numbers, those before and those after training given.

        After training; the end, unless a method interpolates.
        """
        return dict(end)
