"""Logs in: from a person's files, by a mapping, to the batches of MDPs; or to the list of what has to be said first.

Files are read some rows at a time (`intake.py`). The rows of each MDP wait on the disk, so that MDPs may take turns in
a file; then they are taken apart into episodes (`episodes.py`), and only if nothing is wrong in any MDP, batches are
written.
"""

import contextlib
import logging
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bmrl.data.batch import write_batch
from bmrl.data.episodes import FLAGS, Assembler, Episodes, scaling
from bmrl.data.import_report import Imported, Problem
from bmrl.data.intake import Intake
from bmrl.data.mapping import read_mapping
from bmrl.data.readers import natural
from bmrl.data.reward import load_reward
from bmrl.data.sources import find_sources, open_reader
from bmrl.errors import BmrlError
from bmrl.runs.lock import lock_directory
from bmrl.runs.progress import Progress
from bmrl.runs.storage import ScratchArray, committed_names, remove_directory

_log = logging.getLogger(__name__)


def import_logs(sources: Sequence[str | Path], mapping_path: Path, out: Path, reward: str | None = None) -> Imported:
    """Writes the batches mdp-000, mdp-001, ... to ``out``, one for each MDP, in the order of the MDPs' names.

    Args:
        sources: files, patterns, directories, Minari datasets.
        mapping_path: what is what in them.
        out: a directory that is not there, or empty; held for this process meanwhile.
        reward: "module:function" or "path.py:function" for logs without rewards; its code is run.

    What can only be judged with all rows seen is in the result; for anything else ``BmrlError`` is raised, naming the
    file, row and column, or the mapping's line.

    Memory: some rows; with ``unordered`` or ``duplicates`` in the mapping also 32 bytes for each row of one MDP.
    """
    mapping = read_mapping(mapping_path)
    if (mapping.rewards is None) == (reward is None):
        raise mapping.error(
            "rewards",
            "rewards come from a column, or from a function by --reward path.py:function; "
            + ("say one of them" if reward is None else "not from both"),
        )
    function = None if reward is None else load_reward(reward)
    files = find_sources(sources)
    if mapping.mdp is None and mapping.files is None and (twice := _repeated([file.name for file in files])):
        raise mapping.error(
            "mdp",
            f"two files are both of an MDP named {twice!r}: name MDPs by a column (mdp) or by their files' names "
            "(files), or import them apart",
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock_directory(out))
        stack.callback(_tidy, out)
        if held := committed_names(out):
            raise BmrlError(f"{out} already holds {held[0]}: choose another --out, a directory that is not there")
        intake = Intake(mapping, lambda shape, dtype: stack.enter_context(ScratchArray(out, shape, dtype)))
        sizes = [source.path.stat().st_size / 1e6 for source in files]
        with Progress("read MB", math.ceil(sum(sizes))) as progress:
            done = 0.0
            for source, size in zip(files, sizes, strict=True):
                with contextlib.closing(open_reader(source, mapping)) as reader:
                    rows = 0
                    for read in intake.read(reader):
                        rows += read
                        progress.update(int(done + reader.share * size))
                if not rows:
                    _log.warning("%s has no rows", source.path)
                done += size
            progress.update(math.ceil(sum(sizes)))
        names = sorted(intake.logs, key=natural)
        if not names:
            raise BmrlError(f"{files[0].path} has no rows")
        if one := _alike(names):
            raise mapping.error(
                "mdp", f"MDPs are named {one[0]!r} and {one[1]!r}: name one alike in all rows, two by other texts"
            )
        intake.check_precision()
        found: dict[str, Episodes] = {}
        with Progress("check", len(names)) as progress:
            for name in names:
                assembler = Assembler(name, mapping, intake.labels, function, intake.scratch)
                found[name] = assembler.assemble(intake.logs[name].rows.read())
                found[name].counts.update(rows=intake.logs[name].padding, unused=intake.logs[name].padding)
                progress.update(len(found))
        problems = [(name, problem) for name in names for problem in found[name].problems.values()]
        problems += [(name, Problem("alone", "all rows", n)) for name in names if (n := _lonely(found[name]))]
        if not problems:
            _write(intake, names, found, out, reward)
        return Imported({name: found[name].counts for name in names}, problems, mapping)


def _tidy(directory: Path) -> None:
    """Takes the lock's file away, and the directory where nothing was written."""
    with contextlib.suppress(OSError):
        (directory / ".lock").unlink()
        directory.rmdir()


def _alike(names: Sequence[str]) -> tuple[str, str] | None:
    """Two names that are one number, as 1 and 1.0: a column of numbers that lacks some is often written so."""
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(re.sub(r"^(\d+)\.0+$", r"\1", name), name)
        if other != name:
            return other, name
    return None


def _repeated(names: list[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _lonely(found: Episodes) -> int:
    """How many rows an MDP has of which none is a transition, for no other reason."""
    return 0 if found.counts["transitions"] or found.problems else found.counts["rows"]


def _write(intake: Intake, names: list[str], found: dict[str, Episodes], out: Path, reward: str | None) -> None:
    """Writes all batches or none; the first one last: without it what a kill left is not taken for whole."""
    with Progress("write", len(names)) as progress, contextlib.ExitStack() as written:
        for number in reversed(range(len(names))):
            path = out / f"mdp-{number:03d}"
            _write_one(intake, names[number], found[names[number]], path, reward)
            written.callback(remove_directory, path)
            progress.update(len(names) - number)
        written.pop_all()


def _write_one(intake: Intake, name: str, found: Episodes, path: Path, reward: str | None) -> None:
    mapping, labels = intake.mapping, intake.labels
    low, high = scaling(mapping, len(labels.actions))
    transitions = found.transitions.read()
    infos = [key for key in transitions.dtype.names or () if key.startswith("infos.")]
    sources = [intake.readers[file].source for file in sorted(intake.logs[name].files)]
    provenance = {
        "imported": name,
        "sources": [str(source.path) for source in sources],
        "exported": all(source.exported for source in sources),
        "mapping": mapping.said,
        "reward": reward,
        "observations": labels.observations,
        # An action a of the batch is low + (a + 1) (high - low) / 2 in its own unit.
        "actions": {"names": labels.actions, "low": low.tolist(), "high": high.tolist()},
        "counts": dict(found.counts),
    }
    write_batch(
        path,
        observations=found.observations.read(),
        **{key: transitions[key] for key in ("actions", "rewards", *FLAGS)},
        infos={key.removeprefix("infos."): transitions[key] for key in infos},
        mdp=intake.parameters.get(name, sources[0].parameters),
        family=mapping.family or sources[0].family,
        provenance=provenance,
    )
