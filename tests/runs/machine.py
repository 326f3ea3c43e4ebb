"""A state machine that saves, kills, damages and resumes checkpoints, in any order, against a model of the disk.

Usage: python machine.py EXAMPLES. A process of its own, since the kills need forks.

The model is what every checkpoint's files are if all went well. A checkpoint on the disk is intact where its files are
those, byte for byte; of the manifest, value for value, since white space says nothing. Always: what is resumed from is
the newest intact one, whole; whatever damaged one was passed over is named in the log; and reading changes nothing on
the disk. At a save: nothing intact is lost but by the rule of how many are kept.
"""

import functools
import json
import logging
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

import faults
import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from bmrl.runs import checkpoint, storage
from bmrl.runs.checkpoint import latest_checkpoint, save_checkpoint

KEEP = 2
CALLS = 25  # a save has hardly more file-system calls to die at

Content = frozenset[tuple[str, bytes]]


def arrays(number: int) -> dict[str, Any]:
    return {"x": np.full(3, number), "key": np.arange(2, dtype=np.uint32)}


def content(directory: Path) -> Content | None:
    """The files of a directory; None where anything in it is no plain file, or the manifest is no JSON."""
    files = list(directory.iterdir())
    if not all(stat.S_ISREG(file.lstat().st_mode) for file in files):
        return None
    contents = {file.name: file.read_bytes() for file in files}
    try:
        contents[storage.MANIFEST] = json.dumps(json.loads(contents[storage.MANIFEST]), sort_keys=True).encode()
    except (KeyError, ValueError):
        return None
    return frozenset(contents.items())


def everything(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.lstat().st_mode, path.lstat().st_mtime_ns) for path in root.rglob("*"))


class Checkpoints(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.root = self.place / "checkpoints"
        self.root.mkdir()
        self.saves = 0
        self.known: dict[Content, tuple[int, int]] = {}  # what a save writes -> (step, number of the save)

    def teardown(self) -> None:
        shutil.rmtree(self.place)

    # ------------------------------------------------------------------ the disk

    def directories(self) -> dict[int, Path]:
        """Where each checkpoint lies, sound or not."""
        names = storage.committed_names(self.root)
        return {int(name.removeprefix("step-")): storage.locate(self.root / name) for name in names}

    def intact(self) -> dict[int, int]:
        """{step: number of the save} of what is as it was written."""
        found = {}
        for step, directory in self.directories().items():
            known = self.known.get(content(directory) or frozenset())
            if known and known[0] == step:
                found[step] = known[1]
        return found

    # ------------------------------------------------------------------ what happens

    @rule(
        ahead=st.sampled_from([0, 0, 1, 2]),
        fault=st.sampled_from([None, None, "kill", "kill", "disk full"]),
        call=st.integers(0, CALLS),
    )
    def save(self, ahead: int, fault: str | None, call: int) -> None:
        """As training does: the step is that of the checkpoint resumed from, or a later one."""
        before, there = self.intact(), set(self.directories())
        step, self.saves = max(before, default=0) + ahead, self.saves + 1

        def write(root: Path, number: float) -> None:
            save_checkpoint(root, step, arrays(self.saves), keep=KEEP)

        twin = self.place / "twin"
        write(twin, 0)
        written = content(twin / f"step-{step:09d}")
        assert written is not None
        shutil.rmtree(twin)
        self.known[written] = step, self.saves

        struck = False
        if fault is None:
            write(self.root, 0)
        else:
            child = os.fork()
            if child == 0:
                code = 3
                try:
                    code = faults.attempt(self.root, write, call, faults.FAULTS[fault])
                finally:
                    os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert code in (0, 1, 2, 9), code
            struck = code != 2

        after = self.intact()
        kept = sorted({other for other in there if other <= step} | {step})[-KEEP:]
        if not struck:
            expected = {other: number for other, number in before.items() if other in kept}
            assert after == {**expected, step: self.saves}
        elif after.get(step) == self.saves:
            assert {other: after.get(other) for other in kept if other in before and other != step} == {
                other: before[other] for other in kept if other in before and other != step
            }
        else:
            assert after == before

    @precondition(lambda self: self.directories())
    @rule(data=st.data(), how=st.sampled_from(["flip", "cut", "extend", "remove", "pipe", "directory", "link", "swap"]))
    def damage(self, data: st.DataObject, how: str) -> None:
        directories = self.directories()
        directory = directories[data.draw(st.sampled_from(sorted(directories)))]
        file = directory / data.draw(st.sampled_from(["manifest.json", "arrays.safetensors"]))
        if not stat.S_ISREG(file.lstat().st_mode if os.path.lexists(file) else 0):
            return
        whole = file.read_bytes()
        position = data.draw(st.integers(0, max(0, len(whole) - 1)))
        if how == "flip" and whole:
            changed = bytearray(whole)
            changed[position] ^= 1 << data.draw(st.integers(0, 7))
            file.write_bytes(changed)
        elif how == "cut":
            os.truncate(file, position)
        elif how == "extend":
            file.write_bytes(whole + b"x")
        elif how == "swap":
            other = directories[data.draw(st.sampled_from(sorted(directories)))] / file.name
            if other != file and os.path.lexists(other):
                elsewhere = self.place / "elsewhere"
                other.rename(elsewhere)
                file.rename(other)
                elsewhere.rename(file)
        elif how in ("remove", "pipe", "directory"):
            file.unlink()
            if how != "remove":
                {"pipe": os.mkfifo, "directory": os.mkdir}[how](file)
        elif how == "link":
            target = self.place / f"target-{len(list(self.place.iterdir()))}"
            file.rename(target)
            file.symlink_to(target)

    # ------------------------------------------------------------------ what always holds

    @invariant()
    def the_newest_intact_one_is_resumed_from(self) -> None:
        intact, before = self.intact(), everything(self.root)
        messages: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
        logger = logging.getLogger("bmrl")
        logger.addHandler(handler)
        try:
            found = latest_checkpoint(self.root, arrays(0))
        finally:
            logger.removeHandler(handler)
        assert everything(self.root) == before
        newest = max(intact, default=None)
        if newest is None:
            assert found is None
        else:
            assert found is not None
            step, tree = found
            assert step == newest
            for name, array in arrays(intact[newest]).items():
                assert tree[name].dtype == array.dtype and (tree[name] == array).all()
        passed_over = [step for step in self.directories() if newest is None or step > newest]
        assert len(messages) == len(passed_over)
        for step in passed_over:
            assert any(f"step-{step:09d}" in message for message in messages), (step, messages)


def main(examples: int) -> None:
    # A process that dies loses nothing that it has written: the flush is a place to die at, and slow.
    os.fsync = functools.partial(sys.audit, "fsync")
    checkpoint.arithmetic = lambda: "here"  # forks and the threads of JAX do not go together
    logging.getLogger("bmrl").propagate = False
    run_state_machine_as_test(
        Checkpoints,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],  # to shrink a failure takes minutes; Phase.shrink does it
            suppress_health_check=list(HealthCheck),
        ),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
