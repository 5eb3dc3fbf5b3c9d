"""The tokenizer of ``transformers``, with our cleaning, against that of open_clip."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

PIECES = [
    *("a photo of a cat", "A DIAGRAM", "don't", "I'll", "WE'VE", "it's", "dogs'", "x" * 90),
    *("3.14", "½", "²", "Ⅷ", "①", "1,000", "2024", "!!?", "!", "...", "…", "—", "_", "a_b-c"),
    *("“quoted”", "‘single’", "«guillemets»", "‚low’", "´", "`code`"),
    *("&amp;", "&amp;amp;", "&lt;b&gt;", "&#39;", "&#x1F600;", "&nbsp;", "&eacute;", "&nosuch;"),
    # Lower case of another length or another at the end of a word, and letters with two cases.
    *("İstanbul", "ΟΔΥΣΣΕΥΣ", "ΑΣ", "ς", "Σ", "Straße", "ẞ", "ǅ", "K", "Å", "ŉ", "\U0001d400"),
    *("e\u0301", "a\u0308\u0323", "\u0308", "ﬁ", "ＦＵＬＬ", "naïve", "Z̷̡a̶l̵g̸o̶"),
    # What a wrong decoding leaves, and ftfy repairs.
    *("Ã©", "schÃ¶n", "â€™", "Â£", "ð\x9f\x98\x80"),
    *("👩‍👩‍👧‍👦", "🇨🇭", "👍🏽", "🙂", "☃", "❤️"),
    *("漢字かな交じり文", "한국어", "العربية", "עִבְרִית", "हिन्दी", "ไทย", "ქართული", "𠮷"),
    *("\t", "\n", "\r\n", "\x0b", "\x0c", "\x85", "\u00a0", "\u2003", "\u2028", "\u3000", "\u200b"),
    *("\x00", "\x07", "\x1c", "\x1b[31m", "\x7f", "\ufeff", "\u202e", "\ufffd", "\ue000"),
    # OpenAI's code does not see its special tokens where other punctuation touches them.
    *(" <|endoftext|>", " <|startoftext|>"),
    *("<b>", "</w>", "{}", "\\", "#", "http://x.org/?a=b&c", "<|end", "endoftext|>"),
]
# Two signs that a pattern that ignores case takes for others, in OpenAI's code and open_clip's: it
# drops the first, as neither a letter nor anything else, and reads 's in an apostrophe and the
# second. Nobody writes either in a prompt.
ODD = {"\u0345", "ſ"}
# OpenAI's names for the two special tokens, which a text may contain, and open_clip's.
RENAMED = {"<|startoftext|>": "<start_of_text>", "<|endoftext|>": "<end_of_text>"}


def some_text(chance: random.Random) -> str:
    def piece() -> str:
        kind = chance.random()
        if kind < 0.5:
            return chance.choice(PIECES)
        if kind < 0.7:
            return "".join(chr(chance.randrange(32, 0x250)) for _ in range(chance.randrange(1, 8)))
        while True:
            sign = chr(chance.randrange(0x110000 if kind < 0.85 else 0x3000))
            if unicodedata.category(sign) not in ("Cn", "Cs"):
                return sign

    text = "".join(piece() + chance.choice(["", " ", "  "]) for _ in range(chance.randrange(1, 28)))
    return "".join(sign for sign in text if sign not in ODD)


@pytest.fixture
def ours(clip_tokenizer_folder: Path) -> Any:
    """The text tower of a ``hf:`` or ``dir:`` encoder, as far as its tokens go."""
    from handful.encoders.checkpoint.families import FAMILIES
    from handful.encoders.checkpoint.text import CheckpointTexts, load_tokenizer

    model = SimpleNamespace(config=SimpleNamespace(text_config=SimpleNamespace()))
    model.config.text_config.max_position_embeddings = 77
    return CheckpointTexts(model, load_tokenizer(clip_tokenizer_folder), FAMILIES["clip"])


@pytest.fixture
def theirs(open_clip: Any) -> Any:
    from handful.encoders.open_clip.towers import TextTower

    return TextTower(open_clip.create_model("tiny-vit"), open_clip.get_tokenizer("tiny-vit"), "x")


def renamed(text: str) -> str:
    for ours, theirs in RENAMED.items():
        text = text.replace(ours, theirs)
    return text


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        # As published, for the vocabulary of OpenAI.
        ("a diagram", [49406, 320, 22697, 49407]),
        ("a photo of a cat", [49406, 320, 1125, 539, 320, 2368, 49407]),
        ("", [49406, 49407]),
    ],
)
def test_known_token_ids(ours: Any, theirs: Any, text: str, ids: list[int]) -> None:
    assert ours.token_ids(text) == ids
    assert theirs.token_ids(text) == ids


def test_a_thousand_texts(ours: Any, theirs: Any) -> None:
    chance = random.Random(20261122)
    texts = [some_text(chance) for _ in range(1000)]
    together = "".join(texts)
    assert all(piece in together for piece in PIECES)
    different = [t for t in texts if ours.token_ids(t) != theirs.token_ids(renamed(t))]
    assert different == []
    ids = [ours.token_ids(text) for text in texts]
    assert sum(len(one) == 77 for one in ids) > 50, "some are longer than the context, and cut"
    assert all(one[0] == 49406 and one[-1] == 49407 for one in ids)


def test_special_tokens_in_a_text_are_what_they_were_for_openai(ours: Any, theirs: Any) -> None:
    """open_clip renamed them, so that it reads ``<|endoftext|>`` as five words."""
    text = "a <|endoftext|> cat"
    assert ours.token_ids(text) == [49406, 320, 49407, 2368, 49407]
    assert theirs.token_ids(renamed(text)) == ours.token_ids(text)
    assert theirs.token_ids(text) != ours.token_ids(text)


def test_every_sign_between_letters(ours: Any, theirs: Any) -> None:
    """Of the first plane, as far as it is assigned: a thirteenth of it in every run."""
    signs = [
        chr(code)
        for code in range(0, 0x10000, 13)
        if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co") and chr(code) not in ODD
    ]
    assert len(signs) > 3000
    assert [s for s in signs if ours.token_ids(f"a{s}b") != theirs.token_ids(f"a{s}b")] == []
