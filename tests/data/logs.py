"""What the tests of import share: mappings, and the import of files by them."""

from pathlib import Path

import numpy as np

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

ARRAYS = """
observations = ["observations"]
actions = ["actions"]
rewards = "rewards"
terminations = "terminations"
"""
D4RL = ARRAYS.replace('terminations"', 'terminals"') + 'truncations = "timeouts"\n'


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


def flat(episodes, length, seed=0):
    """Observations [E, T + 1, 2], actions [E, T, 1], rewards, terminations, all float32 and full of noise."""
    rng = np.random.default_rng(seed)
    return {
        "observations": rng.normal(size=(episodes, length + 1, 2)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (episodes, length, 1)).astype(np.float32),
        "rewards": rng.normal(size=(episodes, length)).astype(np.float32),
        "terminations": np.arange(episodes * length).reshape(episodes, length) % (2 * length) == length - 1,
    }


def assert_holds(batch, data):
    """The batch has all episodes [E, T + 1, ...], bit for bit."""
    episodes, length = data["rewards"].shape
    assert (batch.episodes, batch.size) == (episodes, episodes * length)
    np.testing.assert_array_equal(batch.observations, data["observations"].reshape(-1, 2))
    np.testing.assert_array_equal(batch.actions, data["actions"].reshape(-1, 1))
    np.testing.assert_array_equal(batch.rewards, data["rewards"].reshape(-1))
    np.testing.assert_array_equal(batch.terminations, data["terminations"].reshape(-1))


def d4rl(data, following=False):
    """Rows one after the other; without next observations, the last one of each episode is lost."""
    found = {name: values.reshape(-1, *values.shape[2:]) for name, values in data.items() if name != "observations"}
    found["observations"] = data["observations"][:, :-1].reshape(-1, 2)
    if following:
        found["next_observations"] = data["observations"][:, 1:].reshape(-1, 2)
    ends = np.arange(data["rewards"].size) % data["rewards"].shape[1] == data["rewards"].shape[1] - 1
    found["terminals"] = found.pop("terminations")
    return found | {"timeouts": ends & ~found["terminals"]}
