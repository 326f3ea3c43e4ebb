"""docs/own-logs.md: what it shows is what happens."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from bmrl.data.import_report import counts_table
from bmrl.data.mapping import Mapping
from bmrl.data.suggest import suggest
from tests.data.logs import problems, run

PAGE = (Path(__file__).parents[2] / "docs" / "own-logs.md").read_text()


def shown(language):
    (block,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return block


@pytest.fixture
def place(tmp_path):
    (tmp_path / "logs.csv").write_text(shown("csv"))
    return tmp_path


def test_the_example(place):
    imported, (north, south) = run(place, shown("toml"))
    console = Console(width=200)
    with console.capture() as capture:
        console.print(counts_table(imported))
    seen = [line.split() for line in capture.get().splitlines() if line.strip() and "─" not in line]
    assert seen == [line.split() for line in shown("text").splitlines()]
    np.testing.assert_array_equal(north.rewards, np.float32([-0.4, -0.3, -0.2]))
    assert (south.episodes, south.actions.tolist()) == (2, [[0.0], [0.125]])


def test_the_table_as_people_write_it(tmp_path):
    """With the lines that are shown, it imports; what is said of drafts holds."""
    table, lines = PAGE.split("## A table as people write it")[1].split("```")[1:4:2]
    (tmp_path / "logs.csv").write_text(table.strip() + "\n01.02.2021;00:15;19;,5;1.000\n01.02.2021;00:30;19;1;1\n")
    always = 'observations = "Raum"\nactions = "Ventil"\nrewards = "Wärme"\noutcome_of = "this action"\n'
    _, (batch,) = run(tmp_path, always + 'terminations = "none"' + lines)
    assert (batch.size, batch.rewards.tolist(), batch.observations.ravel().tolist()) == (1, [1000], [19, 19])
    drafted, said = tomllib.loads(suggest(str(tmp_path / "logs.csv"))), tomllib.loads(lines)
    assert said.pop("missing") == "cut" and {key: drafted[key] for key in said} == said


@pytest.mark.parametrize(("key", "kind", "line"), [("timezone", "backwards", 3), ("gaps", "gap", 7)])
def test_what_each_line_settles(place, key, kind, line):
    mapping = re.sub(rf"{key} .*\n", "", shown("toml"))
    found = problems(place, mapping)
    assert f"{found[kind][0]} ".startswith(f"{place / 'logs.csv'}, line {line} ")


def test_rewards_by_the_function(place):
    (place / "reward.py").write_text(shown("python"))
    mapping = re.sub(r"rewards .*\n", "", shown("toml"))
    _, (north, _) = run(place, mapping, "logs.csv", reward=f"{place / 'reward.py'}:comfort")
    np.testing.assert_array_equal(north.rewards, -abs(north.observations[1:, 0] - np.float32(21)))


def test_every_key_is_explained():
    (table,) = re.findall(r"\| line \|.*?\n\n", PAGE, re.DOTALL)
    explained = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.split("\n") if row)))
    assert explained == {each.name for each in fields(Mapping)} - {"path", "lines", "said"}
