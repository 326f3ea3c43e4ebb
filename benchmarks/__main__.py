"""Measure by name, everything if nothing is named; keep the rows, and make the report of all rows that there are."""

import argparse
from pathlib import Path
from typing import cast

import benchmarks
from benchmarks import Benchmark, collection, growth, peer, phase1, phase2, start
from bmrl.figures.style import DPI, styled
from bmrl.runs.machine import machine
from bmrl.runs.storage import read_json, write_json

BENCHMARKS = cast(
    dict[str, Benchmark],
    {
        "phase1": phase1,
        "peer": peer,
        "phase2": phase2,
        "collection": collection,
        "start": start,
        "growth": growth,
    },
)
HEAD = """# Benchmarks

Each figure is a ratio: bmrl beside a peer or a limit that did the same work in the same run, by turns, the best turn of
each. `make bench` measures all; a section names the command that measures it alone."""


def main() -> None:
    """See the package."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=benchmarks.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--short", action="store_true", help="as little as shows that they run")
    parser.add_argument("--place", type=Path, default=Path("runs/benchmarks"), help="where rows are kept")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where the report is written")
    args = parser.parse_args()
    if unknown := set(args.names) - BENCHMARKS.keys():
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    for name in args.names or BENCHMARKS:
        place = args.place.absolute() / name
        place.mkdir(parents=True, exist_ok=True)
        rows = BENCHMARKS[name].measure(place, args.short)
        command = f"python -m benchmarks {name}{' --short' if args.short else ''}"
        write_json(args.place / f"{name}.json", {"machine": machine(), "command": command, "rows": rows})
    report(args.place, args.docs)


def report(place: Path, docs: Path) -> None:
    """``docs``/benchmarks.md and its pictures, of all rows in ``place``."""
    sections = [HEAD]
    (docs / "images").mkdir(parents=True, exist_ok=True)
    for name, benchmark in BENCHMARKS.items():
        if not (kept := place / f"{name}.json").exists():
            continue
        found = read_json(kept)
        picture = docs / "images" / f"benchmark-{name}.png"
        with styled():
            benchmark.draw(found["rows"]).savefig(picture, dpi=DPI)
        if "--short" in found["command"]:
            sections.append("*Of the next section there is only a trial: it shows that it runs, and no figures.*")
        sections += [
            benchmark.section(found["rows"]).strip(),
            f"![{name}](images/{picture.name})",
            f"`{found['command']}`, on {found['machine']}.",
        ]
    (docs / "benchmarks.md").write_text("\n\n".join(sections) + "\n")
    print(f"report: {docs / 'benchmarks.md'}")


if __name__ == "__main__":
    main()
