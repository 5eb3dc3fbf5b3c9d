"""all-MiniLM-L6-v2: sentences to 384 numbers.

Wang et al., "MiniLM", 2020, tuned by the sentence-transformers project. Importing this module
imports ``transformers``, which takes seconds: do it when there is a text to encode.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

__all__ = ["TextTower"]

MAX_TOKENS = 128
BATCH = 64


class TextTower:
    """A frozen sentence encoder.

    Args:
        weights: the safetensors file.
        tokenizer: the ``tokenizer.json`` file.
    """

    def __init__(self, weights: Path, tokenizer: Path) -> None:
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(tokenizer), pad_token="[PAD]", model_max_length=MAX_TOKENS
        )
        config = BertConfig(
            vocab_size=30522,
            hidden_size=384,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
        )
        # Not from_pretrained: it draws a progress bar. The fork keeps the random start of the
        # layers, which the weights then replace, out of the caller's generator.
        with torch.random.fork_rng(devices=[]):
            self.model = BertModel(config, add_pooling_layer=False).eval()
        tensors = load_file(weights)
        self.model.load_state_dict({name: tensors[name] for name in self.model.state_dict()})

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Return unit embeddings, float32 ``(M, 384)``: the mean over a text's tokens."""
        parts = [self._batch(list(texts[i : i + BATCH])) for i in range(0, len(texts), BATCH)]
        return torch.cat(parts) if parts else torch.empty(0, 384)

    def _batch(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        states = self.model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        return F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
