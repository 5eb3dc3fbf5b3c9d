"""Text tower of a checkpoint: tidy, tokenize, pad as its family was trained, encode."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from handful.encoders.checkpoint.families import Family, embedding
from handful.encoders.checkpoint.model import quiet
from handful.errors import InputError

__all__ = ["CheckpointTexts", "clean", "load_tokenizer"]

VOCABULARIES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)


class CheckpointTexts:
    """Text tower of a two-tower model of ``transformers``.

    Where the pooled state is taken (at the highest token id for configurations that say
    ``eos_token_id: 2``, at the first end token for others) is the model's own affair.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        family: how it reads texts.

    Attributes:
        model: the model.
        context: tokens that a text may have.
    """

    def __init__(self, model: Any, tokenizer: Any, family: Family) -> None:
        self.model = model
        self._tokenizer = tokenizer
        self._family = family
        self.context: int = family.context or model.config.text_config.max_position_embeddings

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        return embedding(self.model.get_text_features(**self.inputs(texts)))

    def pooled(self, texts: Sequence[str]) -> torch.Tensor:
        output = self.model.text_model(**self.inputs(texts))
        if getattr(output, "pooler_output", None) is None:
            states: torch.Tensor = output.last_hidden_state[:, 0]  # a BERT without pooling layer
            return states
        return embedding(output)

    def token_ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(
            clean(text, self._family.clean), truncation=True, max_length=self.context
        )["input_ids"]
        return ids

    @property
    def padding(self) -> int:
        """The token that fills up texts."""
        token: int = self._tokenizer.pad_token_id
        return token

    def inputs(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Return texts as the model takes them."""
        tokens = self._tokenizer(
            [clean(text, self._family.clean) for text in texts],
            padding=True if self._family.cut else "max_length",
            truncation=True,
            max_length=self.context,
            return_attention_mask=True,
            return_tensors="pt",
        )
        names = ("input_ids", "attention_mask") if self._family.masked else ("input_ids",)
        return {name: tokens[name].to(self.model.device) for name in names}


def clean(text: str, how: str) -> str:
    """Tidy a text as the model's authors did before their tokenizer.

    Args:
        text: what the user wrote.
        how: ``clip``: repair broken encodings, resolve HTML entities, single spaces, lower case;
            ``lower``: lower case; anything else leaves the text alone.
    """
    if how == "lower":
        return text.lower()
    if how != "clip":
        return text
    import ftfy

    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return " ".join(text.split()).lower()


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a checkpoint.

    Raises:
        InputError: there is none, or its files are damaged.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise InputError(
            f"{folder} has no tokenizer, so its text tower cannot read: put the tokenizer files of"
            f" the model that it comes from there ({', '.join(VOCABULARIES[:2])} or others)."
        )
    # A tokenizer.json holds the whole recipe. The classes of transformers 5 rebuild it from the
    # vocabulary, and GemmaTokenizer so loses the lower-casing of the SigLIP 2 files. SigLIP's own
    # class does what its file does not tell: it drops punctuation.
    whole = (folder / "tokenizer.json").is_file() and not (folder / "spiece.model").is_file()
    reader = PreTrainedTokenizerFast if whole else AutoTokenizer
    try:
        with quiet():
            tokenizer = reader.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    # The readers of a dozen formats raise whatever they like.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:160]
        raise InputError(
            f"the tokenizer files in {folder} cannot be read ({reason}): get them anew."
        ) from error
    tokenizer.padding_side = "right"
    tokenizer.truncation_side = "right"
    return tokenizer
