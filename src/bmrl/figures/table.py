"""The results as a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from bmrl.errors import printable
from bmrl.figures.style import mdp_name, number, quantity

NAMED = 4  # parameters of an MDP that are written out


def results_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of results.json, a line each: returns as mean ± standard deviation over n episodes.

    There is a column of the mean final distance to the goal where any row has one. MDPs of more than `NAMED` parameters
    are told by their number in the order of the rows: their names would fill the screen.
    """
    distances = any("final_distance" in row for row in rows)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    parameters = list({name for row in rows for name in row["mdp"]})
    header = quantity(parameters[0]).name if len(parameters) == 1 else "MDP"
    mdps = list(dict.fromkeys(mdp_name(row["mdp"]) for row in rows))
    for name in ("method", "variant", header):
        table.add_column(name)
    for name in ("return", *(["final\ndistance"] if distances else []), "length"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("context")
    for name in ("n", "seed"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        known = len(row["returns"]) > 0  # otherwise the simulation of every episode became unstable
        name = mdp_name(row["mdp"]).removeprefix(f"{header} ")
        name = name if len(parameters) <= NAMED else f"no. {mdps.index(name) + 1}"
        cells = [row["method"], row["variant"], name]
        cells.append(f"{number(row['return_mean'])} ± {number(row['return_std'], 2)}" if known else "–")
        if distances:
            final = row.get("final_distance", ())
            cells.append(f"{np.mean(final):.2f}" if len(final) else "–")
        cells += [number(row["length_mean"]) if known else "–", row.get("context", "–")]
        cut = row.get("invalid_episodes", 0)  # which became unstable, or gave no numbers
        table.add_row(
            *cells, f"{row['episodes']} of {row['episodes'] + cut}" if cut else str(row["episodes"]), str(row["seed"])
        )
    return table


def judgement_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of judgement.json, a line an MDP: under the user's own name where it was imported."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    imported = any(row["imported"] for row in rows)
    for name in ("batch", "MDP") if imported else ("MDP",):
        table.add_column(name, overflow="fold")
    for name in ("transitions", "policy's value", "interval", "logged value", "better", "far actions"):
        table.add_column(name, justify="right")
    for row in rows:
        named = row["mdp"] is not None and len(row["mdp"]) == 1
        name = mdp_name(row["mdp"]) if named else row["name"]
        table.add_row(
            *((row["name"], escape(printable(row["imported"] or name))) if imported else (name,)),
            f"{row['transitions']:,}",
            number(row["value"]),
            f"{number(row['low'])} … {number(row['high'])}",
            number(row["logged_value"]),
            f"{row['better']:.0%} of {len(row['values'])}",
            "–" if row["far"] is None else f"{row['far']:.0%}",
        )
    return table
