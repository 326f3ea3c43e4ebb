"""What the tests of import share: mappings, and the import of files by them."""

from pathlib import Path

from bmrl.data import Batch, read_batches
from bmrl.data.import_report import Imported
from bmrl.data.importing import import_logs

PLAIN = """
observations = ["s"]
actions = ["a"]
rewards = "r"
outcome_of = "this action"
terminations = "none"
"""


def run(place: Path, mapping: str, *files: str | Path, reward: str | None = None) -> tuple[Imported, list[Batch]]:
    """Imports files of `place` (all of its own if none are named) into its batches/."""
    lines = [line for line in mapping.splitlines() if line.strip()]
    assert len(lines) <= 15
    (place / "mapping.toml").write_text(mapping, encoding="utf-8")
    sources = [place / file for file in files] or [
        path for path in sorted(place.iterdir()) if path.suffix not in (".toml", ".py") and path.name != "batches"
    ]
    imported = import_logs(sources, place / "mapping.toml", place / "batches", reward)
    return imported, read_batches(place / "batches") if not imported.problems else []


def problems(place: Path, mapping: str, *files: str | Path) -> dict[str, tuple[str, int]]:
    """{kind: (where, how many)} of what is wrong with the only MDP of the files."""
    imported, batches = run(place, mapping, *files)
    assert not batches and not (place / "batches").exists()
    return {problem.kind: (problem.where, problem.count) for _, problem in imported.problems}


def csv(place: Path, text: str, name: str = "log.csv", encoding: str = "utf-8") -> None:
    """Writes a CSV file, as it stands."""
    (place / name).write_bytes(text.strip("\n").encode(encoding) + b"\n")
