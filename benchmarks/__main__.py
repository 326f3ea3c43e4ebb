"""Measure by name, everything if nothing is named; keep the rows, and make the report of all rows that there are."""

import argparse
from pathlib import Path
from typing import cast

import benchmarks
from benchmarks import Benchmark, collection, growth, peer, phase1, phase2, start
from bmrl.figures.style import DPI, styled
from bmrl.reproduce.markdown import table
from bmrl.reproduce.study import plain
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

Where bmrl stands beside a peer or a limit, the two did the same work in the same run, by turns, and the best turn of
each counts. `make bench` measures all; a section names the command that measures it alone, and its rows are in
`docs/benchmarks/`. On a GPU: [gpu](results/gpu/README.md). Whole experiments:
[whole-experiments](results/whole-experiments.md)."""


WHY = """Why some are missed. **Phase 1**: one learner alone (K = 1) has one core of two. Products of minibatches of
100 and 256 rows are slower than the best square one, and activations, Adam and the averages of target networks, which
are no products, take their time beside them; at laptop sizes reading and logging, too: compare the stage's share with
that of bare updates below. **Phase 2**: the default's f has an output for each train MDP, and a step reads from as
many batches as there are, up to its contexts. **Few robots**: a second thread makes the physics of 8 robots 1.1 to
1.2 times as fast and that of 29 1.5 times (by hand), and the rest of a step is NumPy's whatever their number."""


def main() -> None:
    """See the package."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=benchmarks.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--short", action="store_true", help="as little as shows that they run")
    parser.add_argument("--place", type=Path, default=Path("runs/benchmarks"), help="where they work")
    parser.add_argument("--docs", type=Path, help="where rows and report are written: docs, or what --short asks for")
    args = parser.parse_args()
    if unknown := set(args.names) - BENCHMARKS.keys():
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    if args.short and args.docs is None:
        parser.error("--short gives no figures for docs: say with --docs where to write")
    docs = args.docs or Path("docs")
    for name in args.names or BENCHMARKS:
        place = args.place.absolute() / name
        place.mkdir(parents=True, exist_ok=True)
        rows = BENCHMARKS[name].measure(place, args.short)
        command = f"python -m benchmarks {name}{' --short' if args.short else ''}"
        (docs / "benchmarks").mkdir(parents=True, exist_ok=True)
        found = {"machine": machine(), "command": command, "rows": plain(rows)}
        write_json(docs / "benchmarks" / f"{name}.json", found)
    report(docs)


def report(docs: Path) -> None:
    """``docs``/benchmarks.md and its pictures, of all rows in ``docs``/benchmarks."""
    sections, reached = [], []
    (docs / "images").mkdir(parents=True, exist_ok=True)
    for name, benchmark in BENCHMARKS.items():
        if not (kept := docs / "benchmarks" / f"{name}.json").exists():
            continue
        found = read_json(kept)
        picture = docs / "images" / f"benchmark-{name}.png"
        with styled():
            benchmark.draw(found["rows"]).savefig(picture, dpi=DPI)
        if "--short" in found["command"]:
            sections.append("*Of the next section there is only a trial: it shows that it runs, and no figures.*")
        for what, wanted, got, met in benchmark.targets(found["rows"]):
            reached.append((what, wanted, got, "met" if met else "**missed**"))
        sections += [
            benchmark.section(found["rows"]).strip(),
            f"![{name}](images/{picture.name})",
            f"`{found['command']}`, on {found['machine']}.",
        ]
    text = "\n\n".join([HEAD, table(("target", "wanted", "found", ""), reached), WHY, *sections])
    (docs / "benchmarks.md").write_text(text + "\n")
    print(f"report: {docs / 'benchmarks.md'}")


if __name__ == "__main__":
    main()
