"""Training whole towers, and the mean of their weights before and after.

Full fine-tuning as in Table 10 of CLIP-Adapter (Gao et al., arXiv 2110.04544), and WiSE-FT
(Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, arXiv 2109.01903) in weight
space. AdamW 1e-5, weight decay 0.1, batches of 32, a cosine to 0 over 500 steps per shot but no
more than 20,000, after a climb in the first 5 % of them; gradients no longer than 1.

Where we differ from the papers, and why:

- CLIP-Adapter's Table 10 stops early "for the highest accuracy", on data that it does not name.
  Here the pass that was best on validation images is kept; without them, the last step.
- In that table an adapter is trained along with the towers; here it is not.
- Batch norms, which only a ResNet has, keep the means and variances of the pre-trained model, as in
  evaluation; their weights and biases are trained.
- WiSE-FT was made for full data sets; the recipe above is for few images. Its head is the class
  embeddings, which are those of the text tower here.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from handful.methods.search import Search
from handful.tuning.sides import TOWERS, sides
from handful.tuning.towers import Towers
from handful.tuning.tuning import PIXELS, Prompts, Tuned, Tuning, TuningRecipe

__all__ = ["FineTune", "WiseFTTower"]

MOST_STEPS = 20_000
RATES = (1e-6, 1e-5)
BLENDS = tuple(i / 10 for i in range(11))


class FineTune(Tuning):
    """All weights of one tower or both.

    Args:
        tower: that is trained: ``image``, ``text`` or ``both``.
        steps: for each image per class, 20,000 at most in all.
        lr: highest learning rate.
        patience: stop after so many passes without a better one on validation images; 0: train to
            the end, and keep the best all the same.
        views: random crops of each image that are shown in turn.
    """

    name = "fine-tune"
    summary = "all weights of the image tower, the text tower, or both"
    paper = "Gao et al. 2021, arXiv 2110.04544 (Table 10)"
    search = Search(train={"lr": RATES})
    choices = {"tower": TOWERS}
    least = {"views": 1}

    def __init__(
        self,
        *,
        tower: str = "image",
        steps: int = 500,
        lr: float = 1e-5,
        patience: int = 0,
        views: int = 10,
    ) -> None:
        self.tower = tower
        self.steps = steps
        self.lr = lr
        self.patience = patience
        self.views = views

    def recipe(self, shots: float, classes: int) -> TuningRecipe:
        """Return the recipe for so many images per class."""
        steps = min(round(self.steps * shots), MOST_STEPS)
        # A pass is a step at least: it never comes to so many passes.
        patience = self.patience or steps + 1
        return _recipe(self.lr, steps, self.views, patience)

    def open(self, towers: Towers, prompts: Prompts, seed: int) -> Tuned:
        """Let the towers be trained.

        Raises:
            InputError: a tower is missing.
        """
        return _whole(towers, prompts, self.tower)


class WiseFTTower(Tuning):
    """θ = (1 − α)·θ₀ + α·θ₁ of all weights of the towers, θ₁ fine-tuned from θ₀.

    Args:
        blend: α: 0 is zero-shot, 1 the fine-tuned towers.

    Others: see :class:`FineTune`.
    """

    name = "wise-ft-tower"
    summary = "the mean of the weights of towers before and after fine-tuning"
    paper = "Wortsman et al. 2022, arXiv 2109.01903"
    search = Search(sweep={"blend": BLENDS})
    choices = {"tower": TOWERS}
    least = {"views": 1}
    most = {"blend": 1}

    def __init__(
        self,
        *,
        tower: str = "image",
        blend: float = 0.5,
        steps: int = 500,
        lr: float = 1e-5,
        views: int = 10,
    ) -> None:
        self.tower = tower
        self.blend = blend
        self.steps = steps
        self.lr = lr
        self.views = views

    def recipe(self, shots: float, classes: int) -> TuningRecipe:
        """Return the recipe for so many images per class: θ₁ is the last step."""
        return _recipe(self.lr, min(round(self.steps * shots), MOST_STEPS), self.views, None)

    def open(self, towers: Towers, prompts: Prompts, seed: int) -> Tuned:
        """Let the towers be trained.

        Raises:
            InputError: a tower is missing.
        """
        return _whole(towers, prompts, self.tower)

    def kept(self, start: Mapping[str, Tensor], end: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return θ: exactly θ₀ at α = 0 and θ₁ at α = 1."""
        a = self.blend
        return {name: (1 - a) * start[name] + a * end[name] for name in end}


def _recipe(lr: float, steps: int, views: int, patience: int | None) -> TuningRecipe:
    return TuningRecipe(
        epochs=1,
        steps=steps,
        lr=lr,
        weight_decay=0.1,
        warm_up=0.05,
        gradient_norm=1.0,
        views=views,
        patience=patience,
    )


def _whole(towers: Towers, prompts: Prompts, tower: str) -> Tuned:
    trained = sides(towers, tower, blocks=False)
    for part in trained.values():
        part.requires_grad_(True)
    image_from = PIXELS if "image" in trained else None
    return Tuned(towers, prompts, image_from=image_from, trains_text="text" in trained)
