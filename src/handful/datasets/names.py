"""Labels as words that can stand in a prompt."""

from __future__ import annotations

import re

__all__ = ["readable"]

# A hyphen after a single letter belongs to the word: T-shirt, X-ray, e-bike; one beside a digit
# too: 737-200, DC-10.
JOINING_HYPHEN = re.compile(r"(?<!(?<![^\W\d_])[^\W\d_])(?<!\d)-(?!\d)")
# Names of one word that papers write with a hyphen: of ImageNet, Flowers102 and DTD.
OF_PAPERS = frozenset(
    ("Band-Aid", "go-kart", "half-track", "desert-rose", "globe-flower", "polka-dotted")
)
# AnnualCrop, LCDScreen; but not iPhone (one small letter first), McDonald, DVDs.
NEW_WORD = re.compile(r"(?<=[A-Za-z][a-z])(?<!\bMc)(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")


def readable(label: str) -> str:
    """Return the label as separate words, for prompts only; labels themselves stay as they are.

    Underscores become blanks. A label that has blanks then, or that papers write with a hyphen
    (``go-kart``), is taken to be words already; otherwise hyphens and changes from small to capital
    letters separate words.

    >>> [readable(s) for s in ("solar_panel", "AnnualCrop", "measuring-tape", "T-shirt", "DC-10")]
    ['solar panel', 'Annual Crop', 'measuring tape', 'T-shirt', 'DC-10']
    """
    words = " ".join(label.replace("_", " ").split())
    if " " not in words and words not in OF_PAPERS:
        words = NEW_WORD.sub(" ", JOINING_HYPHEN.sub(" ", words))
        words = " ".join(words.split())
    return words or label
