"""Low-rank updates of attention, by the package ``peft`` and in its file format.

A matrix M becomes M + κ·B·A with A ``(r, d)`` and B ``(d, r)`` trained, κ = α/√r
("rank-stabilised", as in CLIP-LoRA's code), B zero at the start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from handful.errors import InputError
from handful.functional.bottleneck import layer_start
from handful.paths import new_folder

__all__ = ["add_lora", "save_peft"]

# Of q, k, v and o in a block, by what the block has; the folder of blocks in transformers' model.
KINDS = {
    "self_attn": ("{}.encoder.layers", "self_attn.{}_proj", ("q", "k", "v", "out")),
    "attention": (
        "encoder.layer",
        "attention.{}",
        ("self.query", "self.key", "self.value", "output.dense"),
    ),
}


def add_lora(
    towers: Mapping[str, Any],
    *,
    rank: int,
    alpha: Any = 1.0,
    dropout: float = 0.0,
    output: bool = False,
    seed: int = 0,
) -> Any:
    """Put low-rank updates into the attention of all blocks, in place.

    Args:
        towers: opened, by name: ``image``, ``text`` or both. Their own parameters are left as
            they are, without gradient.
        rank: r, at least 1.
        alpha: α.
        dropout: share of the numbers that A reads which is dropped in training mode.
        output: the output projection too, not q, k and v alone.
        seed: of A.

    Returns:
        the ``PeftModel`` of what was changed, in evaluation mode. Its module names are those of the
        whole model of ``transformers``, and so are the names in its files. ``merge_adapter()``,
        ``unmerge_adapter()``, ``disable_adapter()`` and ``unload()`` do what they say.

    Raises:
        InputError: the package is not installed, the rank is 0, or blocks of an unknown kind.
    """
    if rank < 1:
        raise InputError(f"the rank of a low-rank update is {rank}: it must be 1 or more.")
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError(
            f"low-rank updates need the package peft, which cannot be imported ({error}): install"
            " it with pip install 'handful[lora]'."
        ) from error
    model, targets = _as_in_transformers(towers, output)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        use_rslora=True,
        lora_dropout=dropout,
        target_modules="|".join(targets),
    )
    with torch.random.fork_rng(devices=[]):  # peft's own start, which is not kept
        wrapped = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if ".lora_A." in name:
                parameter.copy_(layer_start(parameter.shape[1], rank, generator).T)
    return wrapped.eval()


def _as_in_transformers(towers: Mapping[str, Any], output: bool) -> tuple[nn.Module, list[str]]:
    """The blocks at the places where the model of ``transformers`` has them, and what to change."""
    root, targets = nn.Module(), []
    for side, tower in towers.items():
        kind = next((kind for kind in KINDS if hasattr(tower.blocks[0], kind)), None)
        if kind is None:
            raise InputError(
                "low-rank updates cannot be put into blocks of the kind"
                f" {type(tower.blocks[0]).__name__}: use a CLIP or SigLIP model, or the text tower"
                " of lite."
            )
        folder, matrix, names = KINDS[kind]
        folder = folder.format({"image": "vision_model", "text": "text_model"}[side])
        *above, last = folder.split(".")
        node = root
        for name in above:
            if not hasattr(node, name):
                node.add_module(name, nn.Module())
            node = getattr(node, name)
        node.add_module(last, tower.blocks)
        for name in names if output else names[:3]:
            targets.append(re.escape(folder) + r"\.\d+\." + re.escape(matrix.format(name)))
    return root, targets


def save_peft(model: Any, folder: Path) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` into a new folder.

    ``PeftModel.from_pretrained(model, folder)`` reads them into the model of ``transformers`` that
    the towers came from.

    Raises:
        InputError: the folder exists.
    """
    from peft import get_peft_model_state_dict

    with new_folder(folder, overwrite=False) as made:
        model.peft_config["default"].save_pretrained(made)
        # Not asked for embeddings, peft does not ask the hub whether they were changed.
        found = get_peft_model_state_dict(model, save_embedding_layers=False)
        tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in found.items()}
        save_file(tensors, made / "adapter_model.safetensors", {"format": "pt"})
