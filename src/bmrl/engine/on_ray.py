"""The parts of a stage as tasks on a Ray cluster: the one module that knows Ray.

Ray chooses the node, starts the process and tells when it dies; all else is in the files of the run directory, which
every node sees. This process starts no work of its own: it submits, submits again what a worker's death broke off, and
shows the progress that the parts' files tell.
"""

import logging
import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bmrl import parallel, pipeline
from bmrl.engine import Engine
from bmrl.engine.parts import PATIENCE, Part
from bmrl.errors import BmrlError
from bmrl.runs import stopping
from bmrl.runs.progress import Progress, warn_on_terminal

LOOK = 2.0  # s between two looks at the parts' files
DEATHS = 5  # of a part's workers with no new checkpoint between them: then it is given up
SECONDS_TO_STOP = 60.0  # for tasks that are cancelled to save their state

_log = logging.getLogger(__name__)


def perform_on_ray(parts: Sequence[Part], engine: Engine, family: str | None) -> None:
    """Do the parts of one stage that are not done yet, as many at a time as the cluster has room for.

    A part whose worker or node dies is done again, from its newest checkpoint. A signal to stop, or a part that fails,
    stops all others once their state is saved.

    Raises:
        BmrlError: there is no cluster; as the part does, if one fails; a part whose workers die again and again.
        Stopped: a signal asked for it.
    """
    waiting = [part for part in parts if not part.finished()]
    if not waiting:
        return
    ray = connect()
    word = None if family is None else _absolute(family)
    task = ray.remote(num_cpus=engine.worker_cpus, num_gpus=engine.worker_gpus, max_retries=0)(_work)
    running: dict[Any, Part] = {task.remote(part, engine.worker_cpus, word): part for part in waiting}
    total = sum(part.steps * (part.last - part.first) for part in parts)
    deaths: Counter[str] = Counter()
    saved = {part.name: part.newest_checkpoint() for part in waiting}
    stage, looked = parts[0].stage, time.monotonic()
    _log.info("%s: %d of %d parts are to be done on the cluster", stage, len(waiting), len(parts))
    with Progress(stage, total, _done(parts)) as progress, stopping.saving_first():
        try:
            while running:
                ended, _ = ray.wait(list(running), timeout=0.5)
                for reference in ended:
                    part = running.pop(reference)
                    if (death := _death(ray, reference)) is None:
                        continue
                    newest = part.newest_checkpoint()
                    deaths[part.name] = deaths[part.name] + 1 if newest == saved[part.name] else 1
                    saved[part.name] = newest
                    if deaths[part.name] == DEATHS:
                        raise BmrlError(
                            f"{stage}: the workers of {part.name} died {DEATHS} times with no new checkpoint between "
                            f"them ({death}): look into {part.own.directory / 'log.txt'}, and at the nodes' memory"
                        )
                    _log.warning("%s: the worker of %s died (%s): the part goes on anew", stage, part.name, death)
                    running[task.remote(part, engine.worker_cpus, word)] = part
                if stopping.asked():
                    raise stopping.Stopped
                if not running or time.monotonic() - looked > LOOK:
                    progress.update(_done(parts))
                    looked = time.monotonic()
        finally:
            for reference in running:
                ray.cancel(reference)
            ray.wait(list(running), num_returns=len(running), timeout=SECONDS_TO_STOP) if running else None


def connect() -> Any:
    """Ray, connected to the cluster of RAY_ADDRESS, or else to the one that this machine is a node of.

    Raises BmrlError if there is none.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # before the import, which reads it
    import ray

    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS", "auto")
    handlers = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    try:
        if found := re.fullmatch(r"([^:/]+):(\d+)", address):  # Ray itself tries for minutes
            socket.create_connection((found[1], int(found[2])), timeout=10.0).close()
        ray.init(address=address, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        said = " ".join(str(error).split())
        raise BmrlError(f"--engine ray: no cluster at {address} can be used ({said}): see docs/cluster.md") from error
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:  # Ray takes SIGTERM for itself
                signal.signal(number, handler)
    return ray


def _death(ray: Any, reference: Any) -> str | None:
    """Of what the worker of a task that has ended died; None if it did not. Raises what the task itself raised."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, BmrlError):
            raise error.cause from None
        if not isinstance(error.cause, stopping.Stopped):
            raise
        return "it was told to stop"
    except ray.exceptions.RayError as error:
        return type(error).__name__
    return None


def _work(part: Part, cpus: int, family: str | None) -> None:
    """Do a part: what a task runs, in a process of its own."""
    warn_on_terminal()
    stopping.listen()  # to cancel a task is to interrupt its process
    parallel.set_up_jax(cpus)
    parallel.mend_cache()
    pipeline.check_family(part.run.experiment, family)
    part.perform(PATIENCE)


def _done(parts: Sequence[Part]) -> int:
    """Steps of all learners, as the files say."""
    return sum(part.done() * (part.last - part.first) for part in parts)


def _absolute(family: str) -> str:
    """PATH.py:NAME as every node can find it."""
    path, _, name = family.rpartition(":")
    return f"{Path(path).resolve()}:{name}"
