"""The tokenizer of the tiny model: byte pairs learnt on its captions, so that words are one token.

Like CLIP's it splits at punctuation and marks the end of words; start and end tokens have the
highest ids, and texts are padded with the end token. Other words are spelt.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
from captions import caption
from vocabulary import TRAINED, random_scene

CONTEXT = 32
START, END, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<|unknown|>"
LAST = "</w>"  # marks the last sign of a word


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Merge the most frequent pair, the first in the alphabet among equals, until words are whole.

    The trainer of ``tokenizers`` would break ties differently in every process.
    """
    parts = [[*word[:-1], word[-1] + LAST] for word in words]
    merges = []
    while pairs := Counter(pair for word in parts for pair in pairwise(word)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word in parts:
            for i in range(len(word) - 2, -1, -1):
                if tuple(word[i : i + 2]) == best:
                    word[i : i + 2] = ["".join(best)]
    return merges


def make_tokenizer() -> Any:
    """Return the tokenizer, the same on every call."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    rng = np.random.default_rng(0)
    texts = [caption(random_scene(kind, rng), rng)[0] for kind in TRAINED for _ in range(20)]
    merges = learn_merges(sorted(set(re.findall(r"\w+", " ".join(texts)))))
    signs = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    pieces = [*signs, *(sign + LAST for sign in signs), *("".join(pair) for pair in merges)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([UNKNOWN, *pieces, START, END]))}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=UNKNOWN, end_of_word_suffix=LAST)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True
    )
    tokenizer.add_special_tokens([UNKNOWN, START, END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(name, vocabulary[name]) for name in (START, END)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        model_max_length=CONTEXT,
    )
