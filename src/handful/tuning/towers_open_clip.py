"""The towers of CLIP, as ``open_clip`` builds them, opened up.

A transformer becomes the one that ``transformers`` builds for CLIP, with the same weights: methods
then find the blocks and the names that they know. A ResNet stays what it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from handful.encoders.open_clip.package import import_open_clip
from handful.encoders.open_clip.towers import TextTower as Texts
from handful.encoders.open_clip.towers import Tokenizer
from handful.encoders.two_tower import TwoTowerEncoder
from handful.tuning.towers import ImageTower, TextTower
from handful.tuning.towers_checkpoint import ClipImages, ClipText

__all__ = ["OpenClipText", "ResNetImages", "image_kind", "open_package"]

# open_clip's names of parts to those of transformers.
IMAGE_PARTS = {
    "conv1": "embeddings.patch_embedding",
    "ln_pre": "pre_layrnorm",  # the misspelling is theirs
    "ln_post": "post_layernorm",
}
TEXT_PARTS = {"token_embedding": "embeddings.token_embedding", "ln_final": "final_layer_norm"}
BLOCK_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
ACTIVATIONS = {"GELU()": "gelu", "GELU(approximate='none')": "gelu", "QuickGELU()": "quick_gelu"}


def image_kind(encoder: TwoTowerEncoder) -> str | None:
    """Return ``transformer`` or ``resnet`` where both towers can be opened, else None.

    CLIP's own can: a causal text transformer that is read at the end of the text, and a vision
    transformer that is read at its first place, or a ResNet.
    """
    if not isinstance(encoder.text_tower, Texts):
        return None
    package, model = import_open_clip(), encoder.text_tower.model
    if not _is_clip_text(package, model):
        return None
    visual = model.visual
    if isinstance(visual, package.modified_resnet.ModifiedResNet):
        return "resnet"
    known = (
        isinstance(visual, package.transformer.VisionTransformer)
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and not visual.output_tokens
        and isinstance(visual.ln_pre, nn.LayerNorm)
        and len(set(visual.patch_size)) == 1
        and _is_plain(package, visual.transformer)
    )
    return "transformer" if known else None


def open_package(encoder: TwoTowerEncoder) -> tuple[ImageTower, TextTower]:
    """Return opened copies of the two towers of a model that has an :func:`image_kind`."""
    texts: Any = encoder.text_tower
    visual = texts.model.visual
    if image_kind(encoder) == "resnet":
        return ResNetImages(copy.deepcopy(visual).float()), OpenClipText(texts)
    return ClipImages(_vision_model(visual)), OpenClipText(texts)


class ResNetImages(ImageTower):
    """CLIP's ResNet: it has no blocks, and is trained whole or not at all.

    States are ``(N, width, S/32, S/32)``, which attention pools. Batch norms keep the statistics of
    the checkpoint, in training, too.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.width = model.attnpool.c_proj.in_features

    @property
    def blocks(self) -> nn.ModuleList:
        return nn.ModuleList()

    def enter(self, pixels: Tensor) -> Tensor:
        parts = (f"layer{number}" for number in range(1, 5))
        # As the encoder does: TensorFloat-32 of recent GPUs would show in the features.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            states: Tensor = self.model.stem(pixels)
            for part in parts:
                states = getattr(self.model, part)(states)
        return states

    def through(self, states: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        return states

    def leave(self, states: Tensor) -> Tensor:
        features: Tensor = self.model.attnpool(states)
        return features


class OpenClipText(ClipText):
    """CLIP's text transformer, with open_clip's tokenizer and rule for where a text ends."""

    def __init__(self, texts: Texts) -> None:
        text, pool, end = _text(texts.model)
        read: Any = _Tokens(_text_model(text), texts.tokenizer, text.context_length)
        super().__init__(read)
        self._token: int | None = end if pool == "eos" else None  # None: the highest of its ids

    def _ends(self, ids: Tensor) -> Tensor:
        return ids.argmax(1) if self._token is None else (ids == self._token).int().argmax(1)


@dataclass(eq=False)
class _Tokens:
    """What a text tower asks of its checkpoint."""

    model: Any
    tokenizer: Tokenizer
    context: int

    def token_ids(self, text: str) -> list[int]:
        return self.tokenizer.ids(text)

    def inputs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        return {"input_ids": self.tokenizer(texts).to(self.model.device)}


def _text(model: Any) -> tuple[Any, str, int]:
    """Return the text tower, where it is read, and the token that ends a text."""
    if hasattr(model, "text"):
        return model.text, model.text.pool_type, model.text.eos_id
    return model, model.text_pool_type, model.text_eos_id


def _is_clip_text(package: Any, model: Any) -> bool:
    if hasattr(model, "text") and not isinstance(model.text, package.transformer.TextTransformer):
        return False
    text, pool, _ = _text(model)
    return (
        text.attn_mask is not None
        and getattr(text, "cls_emb", None) is None
        and pool in ("argmax", "eos")
        and isinstance(text.text_projection, nn.Parameter)
        and _is_plain(package, text.transformer)
    )


def _is_plain(package: Any, transformer: Any) -> bool:
    """Whether blocks are those of CLIP, without scales, norms or activations of their own."""
    return all(
        type(block) is package.transformer.ResidualAttentionBlock
        and isinstance(block.ls_1, nn.Identity)
        and str(block.mlp.gelu) in ACTIVATIONS
        for block in transformer.resblocks
    )


def _vision_model(visual: Any) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        **_sizes(visual.transformer, visual.proj),
        image_size=visual.image_size[0],
        patch_size=visual.patch_size[0],
    )
    state = {
        "embeddings.class_embedding": visual.class_embedding,
        "embeddings.position_embedding.weight": visual.positional_embedding,
        **_parts(visual, IMAGE_PARTS),
        **_blocks(visual.transformer),
    }
    state = {f"vision_model.{name}": tensor for name, tensor in state.items()}
    state["visual_projection.weight"] = visual.proj.T
    return _filled(CLIPVisionModelWithProjection, config, state)


def _text_model(text: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        **_sizes(text.transformer, text.text_projection),
        vocab_size=text.token_embedding.num_embeddings,
        max_position_embeddings=len(text.positional_embedding),
    )
    state = {
        "embeddings.position_embedding.weight": text.positional_embedding,
        **_parts(text, TEXT_PARTS),
        **_blocks(text.transformer),
    }
    state = {f"text_model.{name}": tensor for name, tensor in state.items()}
    state["text_projection.weight"] = text.text_projection.T
    return _filled(CLIPTextModelWithProjection, config, state)


def _sizes(transformer: Any, projection: Tensor) -> dict[str, Any]:
    block = transformer.resblocks[0]
    return {
        "hidden_size": transformer.width,
        "intermediate_size": block.mlp.c_fc.out_features,
        "num_hidden_layers": len(transformer.resblocks),
        "num_attention_heads": block.attn.num_heads,
        "hidden_act": ACTIVATIONS[str(block.mlp.gelu)],
        "layer_norm_eps": block.ln_1.eps,
        "projection_dim": projection.shape[1],
    }


def _parts(module: Any, names: Mapping[str, str], into: str = "") -> dict[str, Tensor]:
    return {
        f"{into}{there}.{kind}": tensor
        for here, there in names.items()
        for kind, tensor in module.get_submodule(here).named_parameters()
    }


def _blocks(transformer: Any) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for number, block in enumerate(transformer.resblocks):
        into = f"encoder.layers.{number}."
        state |= _parts(block, BLOCK_PARTS, into)
        for kind in ("weight", "bias"):  # queries, keys and values, one below the other
            rows = getattr(block.attn, f"in_proj_{kind}").chunk(3)
            for part, own in zip("qkv", rows, strict=True):
                state[f"{into}self_attn.{part}_proj.{kind}"] = own
    return state


def _filled(kind: Any, config: Any, state: Mapping[str, Tensor]) -> Any:
    """Return a model of ``transformers`` with copies of these weights, float32."""
    with torch.device("meta"):  # no random start, which the weights would take the place of
        model = kind(config)
    own = {
        name: tensor.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    model.load_state_dict(own, assign=True)
    for module in model.modules():
        if hasattr(module, "position_ids"):  # no weight: a table of 0, 1, 2, …
            places = torch.arange(module.position_ids.shape[1], device=model.device)
            module.position_ids = places[None]
    return model
