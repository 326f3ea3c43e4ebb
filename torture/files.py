"""Damaged and hostile files of every kind that the package reads.

Each trial damages one file of a sound example and has the package's own reader read it, in a
process of its own, so that a crash or a hang is seen. What counts as a failure:

- a sealed file (one that a manifest's hash covers) is taken with other values than the original's;
- a file without a hash, or one whose manifest was forged to match, is taken though it is no valid example of its kind;
- any exception but BmrlError;
- the end of the process, or more than 2 s (of waiting, or of its own: a busy machine may make it take longer);
- more than 256 MiB of data above what the process held before (the kernel's limit RLIMIT_DATA);
- while the package reads: anything executed, or anything opened, listed or changed outside the example's directory, as
  Python's audit events tell. What safetensors opens in Rust they do not see; it is a file verified just before.
"""

import itertools
import logging
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from bmrl.errors import BmrlError
from torture import Section, mutations
from torture.hostile import FILES, Hostile
from torture.kinds import KINDS, Kind, fingerprint
from torture.trials import Outcome, carry_out

SECONDS_PER_KIND = 300.0
WORKERS = 1  # kinds side by side
SECONDS = 2.0  # a reader may take
DATA_BYTES = 256 << 20  # that a reader may hold at once
SEED = 0

EQUAL, REFUSED, ACCEPTED, FAILED = "equal values", "refused", "accepted, valid", "failed"


# ---------------------------------------------------------------------- the process that reads


class Watch:
    """Notes, while it is on, what is executed and what is touched outside a directory."""

    EXECUTIONS: tuple[str, ...] = (
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "subprocess.Popen",
        "socket.connect",
    )
    EXECUTIONS += ("pickle.find_class", "marshal.loads", "ctypes.dlopen", "code.__new__", "exec", "import")
    CODE = tuple({os.path.realpath(path) + os.sep for path in (sys.prefix, sys.base_prefix, Path(__file__).parents[1])})

    def __init__(self) -> None:
        self.root: str | None = None
        self.executed: list[str] = []
        self.outside: list[str] = []
        sys.addaudithook(self._hook)

    @contextmanager
    def over(self, root: Path) -> Iterator[None]:
        """Watch what happens in the ``with`` block."""
        self.root, self.executed, self.outside = os.path.realpath(root) + os.sep, [], []
        try:
            yield
        finally:
            self.root = None

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.root is None:
            return
        if event in self.EXECUTIONS:
            if not self._is_code(event, arguments):
                self.executed.append(f"{event} {arguments[:2]}")
        elif event == "open" or event.startswith(("os.", "shutil.")):
            for path in arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
                if isinstance(path, str | bytes | os.PathLike) and not self._is_inside(os.fsdecode(path)):
                    self.outside.append(f"{event} {os.fsdecode(path)}")

    def _is_code(self, event: str, arguments: tuple[Any, ...]) -> bool:
        """Whether it is a module of Python or of a package that is only now imported."""
        if event == "import":
            return arguments[1] is None or arguments[1].startswith(self.CODE)
        # cattrs makes functions of our own dataclasses when it first needs them.
        return event == "exec" and arguments[0].co_filename.startswith((*self.CODE, "<frozen ", "<cattrs generated "))

    def _is_inside(self, path: str) -> bool:
        # The last name is not followed: the readers open with O_NOFOLLOW.
        assert self.root is not None
        folder, name = os.path.split(os.path.abspath(path))
        real = os.path.join(os.path.realpath(folder), name)
        return (real + os.sep).startswith(self.root) or real.startswith(self.CODE)


def serve(connection: Connection, kinds: Sequence[Kind]) -> None:
    """Reads one example after the other: takes a kind's name and a directory; answers (outcome, detail, seconds)."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    logging.getLogger("bmrl").setLevel(logging.CRITICAL)
    watch, read = Watch(), {kind.name: kind.read for kind in kinds}
    originals = {}
    with tempfile.TemporaryDirectory() as directory:
        for kind in kinds:
            root = Path(directory) / kind.name
            root.mkdir()
            kind.make(root)
            originals[kind.name] = fingerprint(kind.read(root))
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    limit = (int(held.split()[1]) << 10) + DATA_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    connection.send("ready")
    while True:
        name, root = connection.recv()
        began = time.process_time()
        try:
            with watch.over(root):
                value = read[name](root)
            found = fingerprint(value)
            outcome = (EQUAL if found == originals[name] else ACCEPTED), ""
        except BmrlError as error:
            outcome = REFUSED, str(error)
        except AssertionError as error:
            outcome = FAILED, f"invalid, and accepted: {error}"
        except BaseException as error:  # a panic of Rust is no Exception
            outcome = FAILED, f"{type(error).__name__}: {error} at {_place(error)}"
        seconds = time.process_time() - began
        if watch.executed:
            outcome = FAILED, f"executed {watch.executed[0]}"
        elif watch.outside:
            outcome = FAILED, f"outside the root: {watch.outside[0]}"
        connection.send((*outcome, seconds))


def _place(error: BaseException) -> str:
    """The last line of the package in a traceback."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "bmrl" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


class Reader:
    """The process that reads, started anew when it ended or hung."""

    def __init__(self, kinds: Sequence[Kind]):
        self._kinds = kinds
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._kinds), daemon=True)
        self._process.start()
        theirs.close()
        self._connection.recv()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def read(self, kind: Kind, root: Path) -> tuple[str, str, float]:
        """(outcome, detail, seconds) of one trial."""
        self._connection.send((kind.name, root))
        _, before = last = self._state()
        while not self._connection.poll(SECONDS):
            _, seconds = now = self._state()
            if seconds - before > SECONDS or (now == last and now[0] not in "RD"):
                self._restart()
                return FAILED, f"took more than {SECONDS:g} s", SECONDS
            last = now
        try:
            outcome, detail, seconds = self._connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self._restart()
            return FAILED, f"the process ended (exit code {code})", 0.0
        return (FAILED, f"took {seconds:.1f} s", seconds) if seconds > SECONDS else (outcome, detail, seconds)

    def _restart(self) -> None:
        self.close()
        self._start()

    def _state(self) -> tuple[str, float]:
        """Of the process: R where it runs or waits for a processor, D for the disk; and the seconds that it has run."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---------------------------------------------------------------------- trials


@dataclass
class Tally:
    """What became of the trials of one kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    forged: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)  # detail -> the first trial with it
    slowest: float = 0.0

    @classmethod
    def of(cls, outcome: Outcome) -> "Tally":
        """What `damage_kind` counted."""
        return cls(Counter(outcome["outcomes"]), Counter(outcome["forged"]), outcome["failures"], outcome["slowest"])

    def add(self, trial: "Trial", outcome: str, detail: str, seconds: float) -> None:
        """Count one trial."""
        (self.forged if trial.forged else self.outcomes)[outcome] += 1
        if outcome == FAILED:
            self.failures.setdefault(detail, trial.what)
        self.slowest = max(self.slowest, seconds)


class Trial(NamedTuple):
    """What was done to an example."""

    what: str
    forged: bool


def damage(rng: random.Random, kind: Kind, root: Path) -> Trial:
    """Damages one file of an example; makes its manifest match in half of the cases."""
    file = rng.choice(sorted(root.glob(kind.files)))
    chance = rng.random()
    if chance < 0.05:
        return Trial(f"{file.name}: {mutations.replace_node(rng, file)}", forged=False)
    if chance < 0.1:
        what = mutations.swap(rng, file)
    else:
        mutate = rng.choice((*mutations.BYTES, *kind.mutate, *kind.mutate))
        what = mutate.__name__
        file.write_bytes(mutate(rng, file.read_bytes()))
    forged = kind.sealed and rng.random() < 0.5
    if forged:
        mutations.reseal(file.parent)
    return Trial(f"{file.name}: {what}{', manifest forged' if forged else ''}", forged)


def torture(kind: Kind, reader: Reader, trials: Iterable[int]) -> Tally:
    """Trials of one kind, by their numbers: each number is always the same trial."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as directory:
        sound, root = Path(directory) / "sound", Path(directory) / "root"
        sound.mkdir()
        kind.make(sound)
        for number in trials:
            seed = f"{SEED}/{kind.name}/{number}"
            shutil.copytree(sound, root)
            trial = damage(random.Random(seed), kind, root)
            outcome, detail, seconds = reader.read(kind, root)
            if outcome == ACCEPTED and kind.sealed and not trial.forged:
                outcome, detail = FAILED, "other values, and accepted"
            tally.add(Trial(f"{trial.what}, trial {number}", trial.forged), outcome, detail, seconds)
            shutil.rmtree(root)
    return tally


def damage_files(place: Path, seconds: float) -> Section:
    """The campaign: `SECONDS_PER_KIND` of damage to each kind of file, and the hostile files."""
    trials = {kind.name: partial(damage_kind, kind) for kind in KINDS}
    outcomes = carry_out(trials, place, seconds, WORKERS)
    tallies = {name: Tally.of(outcome) for name, outcome in outcomes.items()}
    reader = Reader(KINDS)
    hostile = {each: harm(each, reader) for each in FILES}
    reader.close()
    text = section(SECONDS_PER_KIND, tallies, hostile)
    return Section(text, text.count("FAILED"))


def damage_kind(kind: Kind, place: Path) -> Outcome:
    """`SECONDS_PER_KIND` of trials of one kind, as `Tally.of` reads them."""
    reader = Reader([kind])
    tally = torture(kind, reader, _numbers_for(SECONDS_PER_KIND))
    reader.close()
    # vars, since asdict would make a Counter of its own items.
    return {"failure": next(iter(tally.failures), None), **vars(tally)}


def _numbers_for(seconds: float) -> Iterator[int]:
    """0, 1, 2, ..., for so long after the first of them."""
    end = time.monotonic() + seconds
    for number in itertools.count():
        if time.monotonic() > end:
            return
        yield number


def harm(hostile: Hostile, reader: Reader) -> tuple[str, str]:
    """(outcome, detail) of reading a hostile file."""
    kind = next(kind for kind in KINDS if kind.name == hostile.kind)
    with tempfile.TemporaryDirectory() as directory:
        root, outside, canary = (Path(directory) / name for name in ("root", "outside", "canary"))
        root.mkdir()
        outside.mkdir()
        (outside / "secret").write_text("secret")
        kind.make(root)
        hostile.make(root / hostile.file, outside, canary)
        outcome, detail, _ = reader.read(kind, root)
        if canary.exists():
            return FAILED, "executed its payload"
        return (outcome, detail) if outcome in (REFUSED, FAILED) else (FAILED, f"not refused: {outcome}")


# ---------------------------------------------------------------------- the report


INTRODUCTION = """## Damaged and hostile files

Each kind was damaged for {seconds:g} s, one file a trial, and read in a process of its own. Refused means a `BmrlError`
of one line. A trial fails if anything else is raised, the process ends, it takes over {limit:g} s or {mebibytes} MiB of
data, anything is executed, or anything outside its directory is touched. Forged: the manifest was made to match, hashes
and all; what is accepted then has to be a valid example of its kind. Files without a hash by design (config.json,
results.json, metrics.csv) are a person's to edit: what is accepted has to be valid, too.

| file | trials | refused | equal | other, valid | forged | refused | equal | other, valid | failed | slowest |
|---|---|---|---|---|---|---|---|---|---|---|"""


def section(seconds: float, tallies: Mapping[str, Tally], hostile: Mapping[Hostile, tuple[str, str]]) -> str:
    """The Markdown of a campaign's results."""
    lines = [INTRODUCTION.format(seconds=seconds, limit=SECONDS, mebibytes=DATA_BYTES >> 20)]
    for name, tally in tallies.items():
        counts = [
            cell
            for counter in (tally.outcomes, tally.forged)
            for cell in (counter.total(), counter[REFUSED], counter[EQUAL], counter[ACCEPTED])
        ]
        failed = tally.outcomes[FAILED] + tally.forged[FAILED]
        lines.append(f"| {name} | {' | '.join(f'{c:,}' for c in counts)} | {failed:,} | {tally.slowest:.2f} s |")
    bad = {each: detail for each, (outcome, detail) in hostile.items() if outcome == FAILED}
    lines += [
        "",
        f"Hostile files: {len(hostile)} (pickles, absolute and `..` paths, links, pipes, holes, huge declared sizes, "
        f"code); {len(hostile) - len(bad)} refused, with nothing executed and nothing touched outside the directory.",
        "",
    ]
    lines += [
        f"- FAILED: {name}: {detail} ({what})" for name, t in tallies.items() for detail, what in t.failures.items()
    ]
    lines += [f"- FAILED: {each.what} as {each.kind}: {detail}" for each, detail in bad.items()]
    return "\n".join(lines).rstrip() + "\n"
