"""Carry out campaigns by name, all of them if none is named, and collect their sections into one report."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bmrl.runs.machine import machine
from torture import (
    Section,
    determinism,
    divergence,
    divergence_elsewhere,
    files,
    kills,
    memory,
    resume,
    runtime,
    states,
    workers,
)
from torture.smoke import Smoke
from torture.trials import codes

CAMPAIGNS: dict[str, Callable[[Path, float], Section]] = {
    "kills-point-goal": partial(kills.kill_everywhere, partial(Smoke, "point-goal")),
    "kills-random": kills.kill_at_random,
    "terminations": resume.terminate_at_random,
    "resume": resume.resume_everywhere,
    "determinism": determinism.compare_settings,
    "divergence": divergence.diverge,
    "divergence-elsewhere": divergence_elsewhere.diverge_elsewhere,
    "checkpoints": states.explore,
    "files": files.damage_files,
    "memory": memory.train_from_disk,
    "runtime": runtime.mislead,
    "workers": workers.kill_workers,
}
REPORT = Path("docs/reliability-report.md")


def main() -> int:
    """The exit code: 1 if anything failed that must hold."""
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=", ".join(CAMPAIGNS))
    parser.add_argument("--minutes", type=float, default=1e9, help="after which a campaign begins nothing new")
    parser.add_argument("--place", type=Path, default=Path("runs/torture"), help="what they leave; they go on from it")
    args = parser.parse_args()
    if unknown := set(args.campaigns) - CAMPAIGNS.keys():
        parser.error(f"no such campaign: {', '.join(unknown)}")
    failed = 0
    for name in args.campaigns or CAMPAIGNS:
        place = args.place.absolute() / name
        place.mkdir(parents=True, exist_ok=True)
        section = CAMPAIGNS[name](place, 60 * args.minutes)
        text = f"{section.text.strip()}\n\nCode: {', '.join(codes(place))}.\n"
        (place / "section.md").write_text(text)
        print(text, flush=True)
        failed += section.failures
    # Also what earlier calls found: campaigns can be carried out one by one.
    sections = [args.place / name / "section.md" for name in CAMPAIGNS]
    head = f"# What the campaigns of `make torture` found\n\nOn {machine()}.\n"
    REPORT.write_text("\n".join([head, *(path.read_text() for path in sections if path.exists())]))
    print(f"report: {REPORT}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
