"""The page of a script that publishes records: its table stands between two marks."""

from __future__ import annotations

import re


def between_marks(page: str, name: str, table: str) -> str:
    """The page with another table between `<!-- NAME -->` and `<!-- /NAME -->`."""
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return marks.sub(lambda found: f"{found[1]}\n{table}\n{found[2]}", page)
