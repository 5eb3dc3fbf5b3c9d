"""Small trained layers inside a frozen transformer: added by hooks, switched, removed.

One module for three published forms, in any subset of the blocks of either tower:

- ``houlsby`` (Houlsby et al., ICML 2019, arXiv 1902.00751): a bottleneck on what attention and the
  MLP give, before each is added to the stream: h ← h + (y + Up(ReLU(Down y))).
- ``parallel`` (He et al., ICLR 2022, arXiv 2110.04366): a bottleneck beside the MLP, on the stream
  without a norm: out = h + MLP(LN h) + κ·Up(ReLU(Down h)).
- ``clip-adapter-inner`` (CLIP-Adapter, arXiv 2110.04544, Table 2): the stream itself, between two
  blocks. As the paper blends features, h ← α·A(h) + (1 − α)·h (form ``blend``), or
  h ← h + α·Up(ReLU(Down LN(h))) with a norm that learns nothing (form ``residual``).

Up starts at zero, so that a tower with adapters starts as the tower without. The one exception is
``blend``, whose outer ReLU would then never learn: it starts as CLIP-Adapter does, off the base.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from handful.errors import InputError
from handful.tuning.bottlenecks import Between, Bottleneck

__all__ = ["MODES", "Injected"]

MODES = ("houlsby", "parallel", "clip-adapter-inner")


@dataclass(frozen=True, eq=False)
class _Places:
    """Where the sub-layers of a block are."""

    attention: nn.Module  # its output is added to the stream
    mlp: nn.Module  # the same
    reads: nn.Module  # its input is the stream between the two
    norms: tuple[nn.LayerNorm, nn.LayerNorm]


def _places(block: Any) -> _Places:
    if hasattr(block, "layer_norm2"):  # CLIP, SigLIP: norms before the sub-layers
        norms = (block.layer_norm1, block.layer_norm2)
        return _Places(block.self_attn, block.mlp, block.layer_norm2, norms)
    if hasattr(block, "intermediate"):  # BERT: norms after the sums
        norms = (block.attention.output.LayerNorm, block.output.LayerNorm)
        return _Places(block.attention.output.dense, block.output.dense, block.intermediate, norms)
    raise InputError(
        f"adapters cannot be put into blocks of the kind {type(block).__name__}: use a CLIP or"
        " SigLIP model, or the text tower of lite."
    )


class Injected(nn.Module):
    """Adapters in the blocks of one tower.

    The blocks' own parameters are neither changed nor trained; the adapters' are those of this
    module. Not to be called: the hooks do the work whenever a block runs. One forward at a time:
    threads must not share a tower.

    Args:
        blocks: the live blocks of a tower, n of them.
        mode: ``houlsby``, ``parallel`` or ``clip-adapter-inner``.
        layers: of ``houlsby`` and ``parallel``: indices of blocks, 0 to n − 1. Of
            ``clip-adapter-inner``: places between blocks, 0 (before the first block) to n, which
            is on the features that leave the tower.
        width: r of the bottlenecks.
        scale: κ, or the blend α.
        seed: of the random start.
        dropout: in the middle of the bottlenecks, where :meth:`train` switched it on.
        norms: layer norms of the same blocks are trained too (as copies: the tower keeps its own).
        form: of ``clip-adapter-inner``: ``residual`` or ``blend``.
        end: the module that gives the features of the tower, where place n may be asked for.
        features: D, their width.

    Attributes:
        on: false lets the tower compute as if there were no adapters, bit for bit.
        first: the first block whose result may differ from the tower's own; n where none does.

    Raises:
        InputError: blocks of an unknown kind, or a layer that does not exist.
    """

    def __init__(
        self,
        blocks: nn.ModuleList,
        mode: str,
        layers: Sequence[int],
        *,
        width: int,
        scale: float = 1.0,
        seed: int = 0,
        dropout: float = 0.0,
        norms: bool = False,
        form: str = "residual",
        end: nn.Module | None = None,
        features: int = 0,
    ) -> None:
        super().__init__()
        inner = mode == "clip-adapter-inner"
        last = len(blocks) - (0 if inner and end is not None else 1)
        wrong = [layer for layer in layers if not 0 <= layer <= last]
        if wrong or not layers:
            raise InputError(
                f"layer {wrong[0] if wrong else None} of method '{mode}' does not exist: give"
                f" numbers from 0 to {last}."
            )
        places = [_places(block) for block in blocks]
        self.on = True
        self.first = min(layers)
        self.adapters = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        self._handles: list[Any] = []
        generator = torch.Generator().manual_seed(seed)
        wide = places[0].norms[0].weight.shape[0]

        def new(name: str, d: int = wide) -> Bottleneck:
            made = Bottleneck(
                d,
                width,
                scale=scale,
                generator=generator,
                dropout=dropout,
                bias=not inner,
            )
            self.adapters[name] = Between(made, form, generator) if inner else made
            return made

        for layer in sorted(set(layers)):
            if inner and layer == len(blocks):
                new(str(layer), features)
                self._behind(end, self.adapters[str(layer)])
            elif inner:
                new(str(layer))
                self._before(blocks[layer], self.adapters[str(layer)])
            elif mode == "parallel":
                self._beside(places[layer], new(f"{layer}-mlp"))
            else:
                self._after(places[layer].attention, new(f"{layer}-attention"))
                self._after(places[layer].mlp, new(f"{layer}-mlp"))
            if norms and layer < len(blocks):
                for i, norm in enumerate(places[layer].norms, 1):
                    self._instead(norm, f"{layer}-{i}")
        self.to(places[0].norms[0].weight.device)

    # -- what the hooks do ---------------------------------------------------------------------

    def _after(self, module: nn.Module, adapter: nn.Module) -> None:
        """y ← y + adapter(y) of what ``module`` gives."""

        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            if not self.on:
                return None
            if isinstance(output, tuple):  # attention gives its weights too
                return (output[0] + adapter(output[0]), *output[1:])
            return output + adapter(output)

        self._handles.append(module.register_forward_hook(hook))

    def _beside(self, place: _Places, adapter: nn.Module) -> None:
        """MLP ← MLP + adapter(h), h what enters the norm of the MLP."""
        kept: list[Tensor] = []

        def read(_: nn.Module, inputs: Any) -> None:
            kept.clear()  # a forward that failed half-way left its own
            if self.on:
                kept.append(adapter(inputs[0]))

        def add(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
            return output + kept.pop() if kept else None

        self._handles.append(place.reads.register_forward_pre_hook(read))
        self._handles.append(place.mlp.register_forward_hook(add))

    def _before(self, block: nn.Module, adapter: nn.Module) -> None:
        """h ← adapter(h) of the states that enter ``block``."""

        def hook(_: nn.Module, inputs: Any, named: dict[str, Any]) -> Any:
            if not self.on:
                return None
            if inputs:
                return (adapter(inputs[0]), *inputs[1:]), named
            return inputs, named | {"hidden_states": adapter(named["hidden_states"])}

        self._handles.append(block.register_forward_pre_hook(hook, with_kwargs=True))

    def _behind(self, module: nn.Module | None, adapter: nn.Module) -> None:
        """z ← adapter(z) of what ``module`` gives."""
        assert module is not None

        def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor | None:
            changed: Tensor | None = adapter(output) if self.on else None
            return changed

        self._handles.append(module.register_forward_hook(hook))

    def _instead(self, norm: nn.LayerNorm, name: str) -> None:
        """The trained copy of a layer norm in its place."""
        copy = nn.LayerNorm(norm.normalized_shape, norm.eps)
        copy.load_state_dict(norm.state_dict())
        self.norms[name] = copy

        def hook(_: nn.Module, inputs: Any, __: Any) -> Tensor | None:
            changed: Tensor | None = copy(inputs[0]) if self.on else None
            return changed

        self._handles.append(norm.register_forward_hook(hook))

    # -- what users do -------------------------------------------------------------------------

    @contextmanager
    def switched(self, on: bool) -> Iterator[None]:
        """Run what is inside with the adapters on or off; afterwards it is as it was before."""
        before, self.on = self.on, on
        try:
            yield
        finally:
            self.on = before

    def remove(self) -> None:
        """Take the hooks out: the tower is again what it was, bit for bit."""
        while self._handles:
            self._handles.pop().remove()
