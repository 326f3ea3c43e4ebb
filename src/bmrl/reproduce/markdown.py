"""Tables of the pages."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], lines: Iterable[Sequence[str]], *, right: bool = False) -> str:
    """A table in Markdown; with ``right`` all columns but the first are aligned to the right."""
    rules = ["---", *["---:" if right else "---"] * (len(head) - 1)]
    rows = [f"| {' | '.join(cells)} |" for cells in (head, *lines)]
    return "\n".join([rows[0], f"|{'|'.join(rules)}|", *rows[1:]])
