"""CoOp (Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, arXiv 2109.01134).

Instead of a hand-written prompt, a few vectors in front of the class name are learnt, through the
frozen text tower. The recipe is the published one: SGD 0.002, momentum 0.9, weight decay 5e-4,
batch 32, cosine after one epoch at 1e-5, random crops of 8 to 100 % and flips, 50, 100 or 200
epochs by the number of shots.

Where we differ from the published code, and why:

- A step computes what it must: texts end at their end token, what all prompts share is computed
  once, and memory is limited (:mod:`handful.tuning.shared_prefix`). The gradient is the same.
- float32 everywhere. The published code trains in half precision unless told otherwise.
- ``views`` different random crops of each image are shown in turn; the published code draws a new
  one in every epoch. The image tower does not change, so that each crop is encoded once.
- Learned vectors can be put in front of hand-written prompts (``hard_prompt``). That is "hard and
  soft prompt" of the CLIP-Adapter paper, Table 7, which says no more of it. Here every prompt of
  the class keeps its words, the vectors stand between the start token and them, all prompts share
  the vectors, and class embeddings are pooled over the prompts as without them.
- ``lite`` was fitted on bare class names, so that there no full stop follows the name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from handful.encoders.templates import prompts as fill_templates
from handful.errors import InputError
from handful.functional.normalise import unit
from handful.tuning.shared_prefix import encode_rests
from handful.tuning.towers import TextTower, Towers
from handful.tuning.tuning import Prompts, Tuned, Tuning, TuningRecipe

__all__ = ["CoOp"]

NO_WORDS = "none"
SPREAD = 0.02  # standard deviation of the random start
MANY_CLASSES = 1000  # of ImageNet, for which the paper has fewer epochs


class CoOp(Tuning):
    """w_c = unit(text tower([start][v₁]…[v_m][name of c][.][end])), v learnt.

    Args:
        context_tokens: m, the number of learned vectors; not read where ``words`` are given.
        class_specific: vectors of its own for every class.
        class_position: of the class name: behind the vectors (``end``), behind half of them
            (``middle``), or before them (``front``).
        words: start from the embeddings of these words, such as ``a photo of a``, one vector for
            each of their tokens; ``none``: start from random numbers, N(0, 0.02²).
        hard_prompt: put the vectors in front of every prompt of the class, templates and sentences,
            instead of in front of its name.
        epochs: passes over the images; 0: as in the paper, 50 with one image of each class, 100
            with fewer than 8, else 200; with 1,000 classes or more, such as ImageNet's, always 50.
        lr: learning rate.
        views: random crops of each image that are shown in turn.
    """

    name = "coop"
    summary = "learned vectors in front of the class name, through the frozen text tower"
    paper = "Zhou et al. 2021, arXiv 2109.01134"
    least = {"context_tokens": 1, "views": 1}
    choices = {"class_position": ("end", "middle", "front")}
    parsers = {"words": str}

    def __init__(
        self,
        *,
        context_tokens: int = 16,
        class_specific: bool = False,
        class_position: str = "end",
        words: str = NO_WORDS,
        hard_prompt: bool = False,
        epochs: int = 0,
        lr: float = 2e-3,
        views: int = 10,
    ) -> None:
        self.context_tokens = context_tokens
        self.class_specific = class_specific
        self.class_position = class_position
        self.words = words
        self.hard_prompt = hard_prompt
        self.epochs = epochs
        self.lr = lr
        self.views = views

    def check_settings(self) -> None:
        """Refuse settings of the wrong type or range, and a place that hard prompts do not have.

        Raises:
            InputError: naming the setting.
        """
        super().check_settings()
        if self.hard_prompt and self.class_position != "end":
            raise InputError(
                f"setting 'class_position' of method 'coop' is {self.class_position!r}: hard"
                " prompts have the class name where their templates have it, so leave it out."
            )

    def recipe(self, shots: float, classes: int) -> TuningRecipe:
        """Return the published recipe for so many images per class."""
        few = shots < 2 or classes >= MANY_CLASSES
        return TuningRecipe(
            epochs=self.epochs or (50 if few else 100 if shots < 8 else 200),
            lr=self.lr,
            weight_decay=5e-4,
            momentum=0.9,
            batch=32,
            schedule="epoch",
            optimiser="sgd",
            views=self.views,
            scale=(0.08, 1.0),
        )

    def open(self, towers: Towers, prompts: Prompts, seed: int) -> Tuned:
        """Return the towers, which stay as they are, with vectors to be learnt.

        Raises:
            InputError: no text tower, or a prompt that is too long for it with the vectors.
        """
        return LearnedContext(towers, prompts, self)


class LearnedContext(Tuned):
    """Prompts with learned vectors in them.

    Attributes:
        context: the vectors, ``(m, width)``, or ``(C, m, width)`` where classes have their own.
    """

    def __init__(self, towers: Towers, prompts: Prompts, method: CoOp) -> None:
        super().__init__(towers, prompts, image_from=None, trains_text=True)
        self._start, self._end = _around(self._tower)
        vectors = self._first_vectors(method, len(prompts.names))
        self.context = nn.Parameter(vectors.to(towers.device, copy=True))
        count = vectors.shape[-2]
        self._before = {"end": count, "middle": count // 2, "front": 0}[method.class_position]
        self._groups = self._by_length(method.hard_prompt, method.class_position)

    @property
    def _tower(self) -> TextTower:
        tower = self.towers.text
        assert tower is not None
        return tower

    def class_embeddings(self) -> Tensor:
        """Return unit class embeddings W ``(C, D)`` with the vectors as they are now."""
        own, first = self.context.ndim == 3, self._embedded([self._start])[0]
        before = self.context[..., : self._before, :]
        after = self.context[..., self._before :, :]
        prefix = first if own else torch.cat([first, before])
        rests = []
        for group in self._groups:
            count = len(group.classes)
            parts = [group.names, after[group.classes] if own else after.expand(count, -1, -1)]
            if own:
                parts.insert(0, before[group.classes])
            rests.append(torch.cat([*parts, group.rests], 1))
        features = unit(encode_rests(self._tower, prefix, rests))
        sums = features.new_zeros(len(self.prompts.names), features.shape[1])
        return unit(sums.index_add(0, torch.cat([g.classes for g in self._groups]), features))

    def _first_vectors(self, method: CoOp, classes: int) -> Tensor:
        shape = (classes,) if method.class_specific else ()
        words: str = method.parsed("words")
        if words == NO_WORDS:
            return SPREAD * torch.randn(*shape, method.context_tokens, self._tower.width)
        ids = self._inside(words)
        if not ids:
            raise InputError(
                f"setting 'words' of method 'coop' is {words!r}, of which the text tower of"
                f" {self.towers.spec} reads nothing: give words, such as 'a photo of a'."
            )
        vectors = self._embedded([ids])[0]
        return vectors.expand(*shape, *vectors.shape)

    def _by_length(self, hard: bool, position: str) -> list[_Group]:
        """Return the fixed embeddings of all prompts, those of one shape together."""
        tower, names = self._tower, self.prompts.names
        found: dict[tuple[int, int], list[tuple[int, list[int], list[int]]]] = {}
        for row, of_class in enumerate(self.prompts.of_class()):
            bare, sentence = fill_templates([names[row]], ["{}", tower.frame])
            name = 0 if position == "end" else len(self._inside(bare))
            for text in of_class if hard else (sentence,):
                ids = self._inside(text)
                rest = ids[name:] + self._end
                free = tower.context - len(self._start) - self.context.shape[-2] - name - len(rest)
                if free < 0:
                    raise InputError(
                        f"the prompt {text!r} of the class {names[row]!r} and"
                        f" {self.context.shape[-2]} learned vectors do not fit into the text tower"
                        f" of {self.towers.spec}, which reads {tower.context} tokens: use fewer"
                        " vectors (setting 'context_tokens', or 'words') or shorter texts."
                    )
                if tower.padding is not None:
                    rest += [tower.padding] * free
                found.setdefault((name, len(rest)), []).append((row, ids[:name], rest))
        groups = []
        for _, prompts in sorted(found.items(), key=lambda item: sum(item[0])):
            rows, heads, rests = zip(*prompts, strict=True)
            classes = torch.tensor(rows, device=self.towers.device)
            groups.append(_Group(classes, self._embedded(heads), self._embedded(rests)))
        return groups

    def _inside(self, text: str) -> list[int]:
        """Return the tokens of a text without those that begin and end every text."""
        ids = self._tower.token_ids(text)
        return ids[len(self._start) : len(ids) - len(self._end)]

    def _embedded(self, ids: Sequence[Sequence[int]]) -> Tensor:
        table = torch.tensor(ids, dtype=torch.int64, device=self.towers.device)
        return self._tower.embed(table)


@dataclass(eq=False)
class _Group:
    """Prompts of equal length.

    Attributes:
        classes: the class of each, int64 ``(M,)``.
        names: embeddings of what comes before the later vectors, ``(M, n, width)``.
        rests: embeddings of what comes behind them, end token included.
    """

    classes: Tensor
    names: Tensor
    rests: Tensor


def _around(tower: TextTower) -> tuple[list[int], list[int]]:
    """Return the tokens that begin and that end every text."""
    nothing, something = tower.token_ids(""), tower.token_ids("a")
    start = 0
    while start < len(nothing) and nothing[start] == something[start]:
        start += 1
    return nothing[:start], nothing[start:]
