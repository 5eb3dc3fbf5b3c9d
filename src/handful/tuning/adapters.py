"""Adapters inside a tower as methods: ``houlsby``, ``parallel`` and ``clip-adapter-inner``.

What they compute is in :mod:`handful.tuning.injected`. No recipe for CLIP was published: they are
trained with AdamW, weight decay 0.01, batches of 32, a cosine to 0 over 500 steps per shot, random
crops of 8 to 100 % and flips, class embeddings being those of the prompts.

Where we differ from the papers, and why:

- The 2019 paper starts Up with small random numbers; here it is zero, so that the start is
  zero-shot. Its layer norms are trained too (``norms``), which is off here.
- CLIP-Adapter's Table 2 gives positions, and numbers of parameters that fit bottlenecks of 512; it
  has neither equation nor code. ``form=blend`` is the paper's blend of features carried over to
  states; ``residual`` is ours, starts at zero-shot and is the default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from handful.tuning.bottlenecks import FORMS
from handful.tuning.injected import Injected
from handful.tuning.sides import TOWERS, sides
from handful.tuning.towers import Towers
from handful.tuning.tuning import Prompts, Tuned, Tuning, TuningRecipe

__all__ = ["ClipAdapterInner", "Houlsby", "Parallel", "chosen_layers"]


def chosen_layers(text: str) -> Callable[[int], tuple[int, ...]]:
    """Read a choice of layers.

    Args:
        text: ``all``, ``last-4`` (the last four) or numbers such as ``0,2,4``.

    Returns:
        From the number of layers to those that are meant, ascending.

    Raises:
        ValueError: something else; it says what was expected.
    """
    count = text.removeprefix("last-")
    if text == "all":
        return lambda n: tuple(range(n))
    if count != text and count.isdecimal() and int(count) > 0:
        # Too many are an error where the tower is known: the first is no layer then.
        return lambda n: tuple(range(n - int(count), n))
    numbers = text.split(",")
    if all(number.strip().isdecimal() for number in numbers):
        return lambda n: tuple(sorted({int(number) for number in numbers}))
    raise ValueError("all, last-4 (for any number) or numbers such as 0,2,4, counted from 0")


class _Adapted(Tuned):
    """Towers with adapters in them."""

    def __init__(self, towers: Towers, prompts: Prompts, adapters: dict[str, Injected]) -> None:
        first = adapters["image"].first if "image" in adapters else None
        super().__init__(towers, prompts, image_from=first, trains_text="text" in adapters)
        self.adapters = nn.ModuleDict(adapters)


class _Adapters(Tuning):
    """What the three share."""

    choices = {"tower": TOWERS, "form": FORMS}
    least = {"width": 1, "views": 1}
    parsers = {"layers": chosen_layers}

    tower: str
    layers: str
    width: int
    steps: int
    lr: float
    views: int

    def recipe(self, shots: float, classes: int) -> TuningRecipe:
        """Return the recipe for so many images per class."""
        steps = round(self.steps * shots)
        return TuningRecipe(epochs=1, steps=steps, lr=self.lr, views=self.views)

    def open(self, towers: Towers, prompts: Prompts, seed: int) -> Tuned:
        """Put adapters into the towers.

        Raises:
            InputError: a tower is missing, or it has no such layer.
        """
        adapters = {
            # The two towers of one run start apart.
            side: self._inject(tower, towers.dim, 2 * seed + (side == "text"))
            for side, tower in sides(towers, self.tower).items()
        }
        return _Adapted(towers, prompts, adapters)

    def _inject(self, tower: Any, features: int, seed: int) -> Injected:
        end = getattr(tower, "projection", None) or getattr(tower.model, "head", None)
        inner = self.name == "clip-adapter-inner"
        return Injected(
            tower.blocks,
            self.name,
            self.parsed("layers")(len(tower.blocks) + (inner and end is not None)),
            width=self.width,
            seed=seed,
            end=end,
            features=features,
            **self._more(),
        )

    def _more(self) -> dict[str, Any]:
        """Return the arguments of :class:`Injected` that only this method sets."""
        return {}


class Houlsby(_Adapters):
    """y ← y + Up(ReLU(Down y)) on what attention and MLP give, before they are added.

    Args:
        tower: that gets adapters: ``image``, ``text`` or ``both``.
        layers: blocks, counted from 0: ``all``, ``last-4`` or ``0,2,4``.
        width: r, of the bottlenecks.
        norms: the layer norms of these blocks are trained too.
        steps: for each image per class.
        lr: highest learning rate.
        views: random crops of each image that are shown in turn.
    """

    name = "houlsby"
    summary = "small layers after attention and MLP, inside the towers"
    paper = "Houlsby et al. 2019, arXiv 1902.00751"

    def __init__(
        self,
        *,
        tower: str = "image",
        layers: str = "all",
        width: int = 64,
        norms: bool = False,
        steps: int = 500,
        lr: float = 1e-3,
        views: int = 10,
    ) -> None:
        self.tower = tower
        self.layers = layers
        self.width = width
        self.norms = norms
        self.steps = steps
        self.lr = lr
        self.views = views

    def _more(self) -> dict[str, Any]:
        return {"norms": self.norms}


class Parallel(_Adapters):
    """out = h + MLP(LN h) + κ·Up(ReLU(Down h)).

    Args:
        scale: κ.

    Others: see :class:`Houlsby`.
    """

    name = "parallel"
    summary = "small layers beside the MLP, inside the towers"
    paper = "He et al. 2021, arXiv 2110.04366"

    def __init__(
        self,
        *,
        tower: str = "image",
        layers: str = "all",
        width: int = 64,
        scale: float = 0.1,
        steps: int = 500,
        lr: float = 1e-3,
        views: int = 10,
    ) -> None:
        self.tower = tower
        self.layers = layers
        self.width = width
        self.scale = scale
        self.steps = steps
        self.lr = lr
        self.views = views

    def _more(self) -> dict[str, Any]:
        return {"scale": self.scale}


class ClipAdapterInner(_Adapters):
    """h ← h + α·Up(ReLU(Down LN(h))) between blocks; or the paper's blend, see the module.

    Args:
        layers: places between blocks: 0 is before the first block, n behind the last of n, which
            is on the features. Written as for :class:`Houlsby`.
        blend: α: 0 is zero-shot.
        form: ``residual`` or ``blend``.

    Others: see :class:`Houlsby`.
    """

    name = "clip-adapter-inner"
    summary = "the bottleneck of clip-adapter between blocks of the towers"
    paper = "Gao et al. 2021, arXiv 2110.04544"
    most = {"blend": 1}

    def __init__(
        self,
        *,
        tower: str = "image",
        layers: str = "last-2",
        width: int = 512,
        blend: float = 0.2,
        form: str = "residual",
        steps: int = 500,
        lr: float = 1e-3,
        views: int = 10,
    ) -> None:
        self.tower = tower
        self.layers = layers
        self.width = width
        self.blend = blend
        self.form = form
        self.steps = steps
        self.lr = lr
        self.views = views

    def _more(self) -> dict[str, Any]:
        return {"scale": self.blend, "form": self.form}
