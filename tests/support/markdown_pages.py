"""The pages of the documentation, as far as tests read them."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["DOCS", "method_page", "names_in", "section", "table"]

DOCS = Path(__file__).resolve().parents[2] / "docs"


def section(page: str, heading: str) -> str:
    """Return what stands under a heading of the second level."""
    text = (DOCS / page).read_text(encoding="utf-8")
    match = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert match, f"docs/{page} has no section '## {heading}'"
    return match[1]


def method_page(name: str) -> str:
    """Return the page of a method."""
    page = DOCS / "methods" / f"{name}.md"
    assert page.exists(), f"method '{name}' has no page docs/methods/{name}.md"
    return page.read_text(encoding="utf-8")


def table(text: str, first: str) -> list[list[str]]:
    """Return the cells of the tables whose first column is ``first``, without their headers."""
    rows: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not inside:
            inside, wanted = True, cells[0] == first
        elif wanted and (set(cells[0]) - set("-: ") or not cells[0]):
            rows.append(cells)
    return rows


def names_in(cell: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)
