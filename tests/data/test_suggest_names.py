"""Drafts of files as people have them: names, times and numbers that are not quite those of a textbook."""

import numpy as np

from bmrl.data.suggest import suggest
from tests.data.logs import csv


def test_a_building_management_export(tmp_path):
    rows = [f"West,03/13/2021 10:{minute} PM,20.{minute},0.5" for minute in range(10, 30)]
    rows[7] = rows[7].replace("20.17", "---")
    csv(tmp_path, "Building Name,Timestamp,Zone Temp,Damper\n" + "\n".join(rows))
    draft = suggest(str(tmp_path / "log.csv"))
    assert "#   Zone Temp (number, 20.1 ... 20.28)" in draft
    lines = [line.partition("  #")[0] for line in draft.splitlines()]
    assert 'observations = ["Zone Temp", "Damper"]' in lines
    assert {'missing_as = ["---"]', 'mdp = "Building Name"', 'time = "Timestamp"', 'time_format = "?"'} <= set(lines)


def test_rewards_in_a_column_are_rows(tmp_path):
    np.savez(tmp_path / "log.npz", obs=np.ones((9, 2)), act=np.zeros((9, 1)), rew=np.ones((9, 1)))
    draft = suggest(str(tmp_path / "log.npz"))
    assert "axes" not in draft and 'outcome_of = "this action"' in draft
