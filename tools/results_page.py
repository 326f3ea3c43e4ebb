"""Gather finished runs into docs/results: one JSON file of rows, and a Markdown table of them.

python tools/results_page.py docs/results/point-goal runs/point-goal-0 runs/point-goal-1 ...
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from bmrl.figures.returns import plot_returns
from bmrl.figures.style import mdp_name
from bmrl.reproduce.markdown import table
from bmrl.runs.machine import machine


def seconds(run: Path) -> dict[str, int]:
    """Wall-clock of every stage, from the run's log."""
    found = re.findall(r"INFO (\S+): finished after (\d+) s", (run / "log.txt").read_text())
    return {stage: int(s) for stage, s in found}


def main() -> None:
    """Write OUT.json, OUT.md and OUT-returns.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    identity, times = {}, {}
    for run in args.runs:
        mine = [r for r in json.loads((run / "results.json").read_text()) if r["split"] == "test"]
        rows += [row for row in mine if row["context"] in ("episode", "none") or row["method"] != "tiMe"]
        times[mine[0]["seed"]] = seconds(run)
        tests = json.loads((run / "identity.json").read_text())
        figures = ("identity_mean", "identity_worst", "action_mean", "action_worst")
        identity[mine[0]["seed"]] = {variant: {name: test[name] for name in figures} for variant, test in tests.items()}
    report = {"machine": machine(), "seconds": times, "identity": identity, "rows": rows}
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(page(rows, times, identity))
    plot_returns(rows, {}, args.out.with_name(args.out.name + "-returns.png"))


def page(rows: list[dict[str, Any]], times: dict[int, dict[str, int]], identity: dict[int, Any]) -> str:
    """The tables: returns by seed, the identity's test, wall-clock."""
    mdps = list(dict.fromkeys(mdp_name(row["mdp"]) for row in rows))
    returns: dict[tuple[str, str, str, int], list[str]] = defaultdict(list)
    for row in rows:
        text = f"{row['return_mean']:.1f} ± {row['return_std']:.1f}"
        if "final_distance" in row:
            text += f" ({np.mean(row['final_distance']):.2f})"
        returns[row["method"], row["variant"], row["context"], row["seed"]].append(text)
    distance = ", and mean final distance to the goal in brackets" if "final_distance" in rows[0] else ""
    lines = [f"Mean return ± standard deviation over {rows[0]['episodes']} episodes{distance}.", ""]
    head = ("method", "variant", "context", "seed", *mdps)
    lines.append(table(head, [(*map(str, key), *cells) for key, cells in sorted(returns.items())]))
    lines += ["", f"Machine: {machine()}."]
    if stages := list(dict.fromkeys(stage for t in times.values() for stage in t)):
        seconds = [(str(seed), *(str(t.get(s, "")) for s in stages)) for seed, t in times.items()]
        lines += ["", "Wall-clock, seconds:", "", table(("seed", *stages), seconds)]
    lines += [
        "",
        "Relabelled contexts of 10 whose identity is nearest to the right MDP's, and whose action follows:",
        "",
    ]
    shares = [
        (str(seed), variant, *(f"{x:.1%}" for x in test.values()))
        for seed, tests in identity.items()
        for variant, test in tests.items()
    ]
    lines.append(table(("seed", "variant", "identity", "its worst pair", "action", "its worst pair"), shares))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
