"""Independent trials, carried out side by side; each outcome is kept as soon as it is known."""

import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from torture import code

Outcome = dict[str, Any]  # JSON values; "failure" is None, or what went wrong
Trial = Callable[[Path], Outcome]  # works in an empty directory that goes when it is done


def carry_out(trials: Mapping[str, Trial], place: Path, seconds: float, workers: int) -> dict[str, Outcome]:
    """The outcomes of the trials that were done, in this call or an earlier one, by name and in the order of names.

    They are kept in ``place``/outcomes.jsonl, each with the commit of the code that was tried: remove it to try a
    program that has changed. No trial begins after ``seconds``. The order is random, so that what is done after a part
    of the time is a fair sample.
    """
    kept = place / "outcomes.jsonl"
    done: dict[str, Outcome] = {}
    if kept.exists():
        done = {line["trial"]: line["outcome"] for line in map(json.loads, kept.read_text().splitlines())}
    waiting = [name for name in trials if name not in done]
    random.Random(0).shuffle(waiting)
    end, tried = time.monotonic() + seconds, code()

    def attempt(name: str) -> Outcome | None:
        if time.monotonic() > end:
            return None
        with tempfile.TemporaryDirectory(dir=place) as directory:
            return trials[name](Path(directory))

    with ThreadPoolExecutor(workers) as pool, open(kept, "a", encoding="utf-8") as file:
        futures = {pool.submit(attempt, name): name for name in waiting}
        for future in as_completed(futures):
            name, outcome = futures[future], future.result()
            if outcome is not None:
                done[name] = outcome
                file.write(json.dumps({"trial": name, "outcome": outcome, "code": tried}) + "\n")
                file.flush()
                print(f"{len(done)}/{len(trials)} {name}: {outcome['failure'] or 'as it must be'}", flush=True)
    return {name: done[name] for name in trials if name in done}


def codes(place: Path) -> list[str]:
    """The commits whose code was tried in a campaign's directory: that of now where no outcomes are kept."""
    kept = place / "outcomes.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    return list(dict.fromkeys(json.loads(line)["code"] for line in lines)) or [code()]


def failures(outcomes: Mapping[str, Outcome]) -> list[str]:
    """A line of Markdown for each trial that failed."""
    return [f"- {name}: {outcome['failure']}" for name, outcome in outcomes.items() if outcome["failure"]]
