"""What the rows of one log become, with answers that can be read off the rows."""

import numpy as np
import pytest

from bmrl.data import episodes
from tests.data.logs import PLAIN, csv, problems, run


def only(batches):
    (batch,) = batches
    return batch


def transitions(batch):
    """(s, a, r, s', termination, truncation) of every transition, of one column each."""
    rows = batch.rows(np.arange(batch.size))
    columns = (
        batch.observations[rows, 0],
        batch.actions[:, 0],
        batch.rewards,
        batch.observations[rows + 1, 0],
        batch.terminations,
        batch.truncations,
    )
    return [tuple(float(value) for value in row) for row in zip(*columns, strict=True)]


def test_a_row_has_the_reward_of_its_action_and_the_last_row_is_an_observation_alone(tmp_path):
    csv(tmp_path, "s,a,r\n1,.25,10\n2,.5,20\n3,.75,30\n")
    imported, batches = run(tmp_path, PLAIN)
    assert transitions(only(batches)) == [(1, 0.25, 10, 2, 0, 0), (2, 0.5, 20, 3, 0, 1)]
    counts = imported.mdps["log"]
    assert (counts["rows"], counts["transitions"], counts["episodes"], counts["observations"]) == (3, 2, 1, 1)
    assert (counts["cut"], counts["unused"], counts["truncated"], counts["terminated"]) == (1, 0, 0, 0)


def test_a_row_has_the_reward_of_the_last_action(tmp_path):
    """The first row's reward is of no action of the log: it may be missing, as may the last row's action."""
    csv(tmp_path, "s,a,r\n1,.5,\n2,-.5,20\n3,,30\n")
    _, batches = run(tmp_path, PLAIN.replace("this action", "last action"))
    assert transitions(only(batches)) == [(1, 0.5, 20, 2, 0, 0), (2, -0.5, 30, 3, 0, 1)]


ENDS = PLAIN.replace('"none"', '"end"')


def test_a_terminal_row_that_the_last_action_led_to(tmp_path):
    csv(tmp_path, "s,a,r,end\n1,.5,0,no\n2,-.5,20,no\n3,0.25,30,yes\n7,.5,0,no\n8,.5,80,no\n")
    imported, batches = run(tmp_path, ENDS.replace("this action", "last action"))
    assert transitions(only(batches)) == [(1, 0.5, 20, 2, 0, 0), (2, -0.5, 30, 3, 1, 0), (7, 0.5, 80, 8, 0, 1)]
    assert imported.mdps["log"]["terminated"] == 1 and imported.mdps["log"]["observations"] == 2


def test_a_terminal_transition_without_its_next_observation_is_decided_by_the_mapping(tmp_path):
    csv(tmp_path, "s,a,r,end\n1,.5,10,0\n2,-.5,20,1\n7,.5,70,0\n8,.5,80,0\n")
    assert problems(tmp_path, ENDS)["terminal"] == (f"{tmp_path / 'log.csv'}, line 3", 1)
    _, batches = run(tmp_path, ENDS + 'terminal_observation = "drop"')
    assert transitions(only(batches)) == [(1, 0.5, 10, 2, 0, 1), (7, 0.5, 70, 8, 0, 1)]
    (tmp_path / "batches").rename(tmp_path / "other")
    _, batches = run(tmp_path, ENDS + 'terminal_observation = "repeat"', "log.csv")
    assert transitions(only(batches)) == [(1, 0.5, 10, 2, 0, 0), (2, -0.5, 20, 2, 1, 0), (7, 0.5, 70, 8, 0, 1)]


def test_a_row_without_an_action_is_the_last_observation_of_an_episode(tmp_path):
    csv(tmp_path, "s,a,r,end\n1,.5,10,0\n2,-.5,20,1\n3,,,\n7,.5,70,0\n8,,,\n")
    _, batches = run(tmp_path, ENDS)
    assert transitions(only(batches)) == [(1, 0.5, 10, 2, 0, 0), (2, -0.5, 20, 3, 1, 0), (7, 0.5, 70, 8, 0, 1)]


def test_a_missing_action_amid_an_episode_is_refused_or_cuts(tmp_path):
    csv(tmp_path, "s,a,r\n1,.5,10\n2,,20\n3,.5,30\n4,.5,40\n")
    assert problems(tmp_path, PLAIN) == {"action missing": (f"{tmp_path / 'log.csv'}, line 3", 1)}
    imported, batches = run(tmp_path, PLAIN + 'missing = "cut"')
    assert transitions(only(batches)) == [(1, 0.5, 10, 2, 0, 1), (3, 0.5, 30, 4, 0, 1)]
    assert imported.mdps["log"]["missing"] == 1


def test_truncations_end_episodes_and_their_row_is_an_observation(tmp_path):
    csv(tmp_path, "s,a,r,cut\n1,.5,10,\n2,-.5,20,\n3,.5,30,TRUE\n7,.5,70,false\n8,.5,80,True\n".replace(",\n", ",F\n"))
    imported, batches = run(tmp_path, PLAIN + 'truncations = "cut"')
    assert transitions(only(batches)) == [(1, 0.5, 10, 2, 0, 0), (2, -0.5, 20, 3, 0, 1), (7, 0.5, 70, 8, 0, 1)]
    assert imported.mdps["log"]["episodes"] == 2


def test_next_observations_keep_every_row(tmp_path):
    """The last but one's next observation is not the next row's: the episode is cut there, and told."""
    csv(tmp_path, "s,a,r,n,end\n1,.5,10,2,0\n2,-.5,20,9,0\n3,.5,30,4,0\n4,.5,40,5,1\n6,.5,60,7,0\n")
    imported, batches = run(tmp_path, ENDS + 'next_observations = "n"')
    assert transitions(only(batches)) == [
        (1, 0.5, 10, 2, 0, 0),
        (2, -0.5, 20, 9, 0, 1),
        (3, 0.5, 30, 4, 0, 0),
        (4, 0.5, 40, 5, 1, 0),
        (6, 0.5, 60, 7, 0, 1),
    ]
    assert imported.mdps["log"]["jumps"] == 1 and imported.mdps["log"]["unused"] == 0


EPISODES = PLAIN + 'episode = "e"\n'


def test_an_episode_id_that_restarts_in_each_mdp(tmp_path):
    """MDPs take turns, and are in the order of their names."""
    csv(tmp_path, "m,e,s,a,r\nb10,0,1,.5,1\nb2,0,11,.5,1\nb10,0,2,.5,1\nb2,0,12,.5,1\nb2,1,13,.5,1\nb2,1,14,.5,1\n")
    imported, batches = run(tmp_path, EPISODES + 'mdp = "m"')
    assert list(imported.mdps) == ["b2", "b10"]
    assert [batch.manifest["provenance"]["imported"] for batch in batches] == ["b2", "b10"]
    assert transitions(batches[0]) == [(11, 0.5, 1, 12, 0, 1), (13, 0.5, 1, 14, 0, 1)]
    assert transitions(batches[1]) == [(1, 0.5, 1, 2, 0, 1)]


def test_an_episode_of_one_row_is_counted_as_unused(tmp_path):
    csv(tmp_path, "e,s,a,r\n0,1,.5,1\n0,2,.5,1\n1,3,.5,1\n")
    imported, batches = run(tmp_path, EPISODES)
    assert transitions(only(batches)) == [(1, 0.5, 1, 2, 0, 1)]
    assert imported.mdps["log"]["unused"] == 1


def test_an_episode_that_goes_on_after_another(tmp_path):
    csv(tmp_path, "e,s,a,r\n0,1,.5,1\n1,11,.5,1\n0,2,.5,1\n1,12,.5,1\n")
    assert problems(tmp_path, EPISODES) == {"order": (f"{tmp_path / 'log.csv'}, line 3", 1)}
    _, batches = run(tmp_path, EPISODES + 'unordered = "sort"')
    assert transitions(only(batches)) == [(1, 0.5, 1, 2, 0, 1), (11, 0.5, 1, 12, 0, 1)]


TIMED = PLAIN + 'time = "t"\nstep = 10\n'


def test_rows_out_of_order_are_refused_or_sorted(tmp_path):
    csv(tmp_path, "t,s,a,r\n0,1,.5,1\n20,3,.5,3\n10,2,.5,2\n")
    found = problems(tmp_path, TIMED)
    assert found["backwards"] == (f"{tmp_path / 'log.csv'}, line 3", 1)
    _, batches = run(tmp_path, TIMED + 'unordered = "sort"')
    assert transitions(only(batches)) == [(1, 0.5, 1, 2, 0, 0), (2, 0.5, 2, 3, 0, 1)]


@pytest.mark.parametrize(("keep", "reward"), [("first", 2), ("last", 9)])
def test_rows_of_one_time_are_refused_or_one_is_kept(tmp_path, keep, reward):
    csv(tmp_path, "t,s,a,r\n0,1,.5,1\n10,2,.5,2\n10,2,.5,9\n20,3,.5,3\n")
    assert problems(tmp_path, TIMED) == {"repeated": (f"{tmp_path / 'log.csv'}, line 3", 1)}
    imported, batches = run(tmp_path, TIMED + f'duplicates = "{keep}"')
    assert transitions(only(batches)) == [(1, 0.5, 1, 2, 0, 0), (2, 0.5, reward, 3, 0, 1)]
    assert imported.mdps["log"]["duplicates"] == 1 and imported.mdps["log"]["unused"] == 0


def test_gaps_are_refused_or_cut_or_kept(tmp_path):
    """A step of 10.9 is one of 10; those of 11.1 and of 5 are not."""
    csv(tmp_path, "t,s,a,r\n0,1,.5,1\n10.9,2,.5,2\n22,3,.5,3\n32,4,.5,4\n37,5,.5,5\n47,6,.5,6\n")
    assert problems(tmp_path, TIMED) == {"gap": (f"{tmp_path / 'log.csv'}, line 3 (10.9, then 22)", 2)}
    imported, batches = run(tmp_path, TIMED + 'gaps = "cut"')
    assert [row[0] for row in transitions(only(batches))] == [1, 3, 5]
    assert (only(batches).episodes, imported.mdps["log"]["gaps"]) == (3, 2)
    (tmp_path / "batches").rename(tmp_path / "other")
    imported, batches = run(tmp_path, TIMED + 'gaps = "keep"', "log.csv")
    assert (only(batches).size, only(batches).episodes, imported.mdps["log"]["gaps"]) == (5, 1, 2)
    (tmp_path / "batches").rename(tmp_path / "third")
    _, batches = run(tmp_path, TIMED.replace("10", '"any"'), "log.csv")
    assert (only(batches).size, only(batches).episodes) == (5, 1)


def test_times_that_restart_with_every_episode(tmp_path):
    csv(tmp_path, "t,s,a,r,end\n0,1,.5,1,0\n10,2,.5,2,1\n0,3,.5,3,0\n10,4,.5,4,0\n")
    _, batches = run(tmp_path, TIMED.replace('"none"', '"end"') + 'terminal_observation = "repeat"')
    assert [row[0] for row in transitions(only(batches))] == [1, 2, 3]


def test_a_missing_value_is_refused_with_line_and_column_or_cuts(tmp_path):
    csv(tmp_path, "s,x,a,r\n1,1,.5,1\n2,NaN,.5,2\n3,3,.5,\n4,4,.5,4\n5,5,.5,5\n6,6,.5,6\n")
    mapping = PLAIN.replace('["s"]', '["s", "x"]')
    where = f"{tmp_path / 'log.csv'}, line 3, observations ('x')"
    assert problems(tmp_path, mapping) == {"value missing": (where, 3)}
    imported, batches = run(tmp_path, mapping + 'missing = "cut"')
    assert [row[0] for row in transitions(only(batches))] == [4, 5]
    assert imported.mdps["log"]["missing"] == 3


@pytest.mark.parametrize(("row", "column"), [("2,.5,1e39", "rewards"), ("2e12,.5,1", "observations ('s')")])
def test_a_value_that_is_infinite_or_too_large_is_refused(tmp_path, row, column):
    csv(tmp_path, f"s,a,r\n1,.5,1\n1e12,.5,1e12\n{row}\n3,.5,3\n")
    assert problems(tmp_path, PLAIN)["value too large"][0] == f"{tmp_path / 'log.csv'}, line 4, {column}"


def test_actions_are_scaled_and_their_unit_is_kept(tmp_path):
    csv(tmp_path, "s,a,b,r\n1,16,0,1\n2,28,.25,2\n3,22,1,3\n4,0,0,4\n")
    mapping = PLAIN.replace('["a"]', '["a", "b"]') + "low = [16, 0]\nhigh = [28, 1]"
    _, batches = run(tmp_path, mapping)
    assert only(batches).actions.tolist() == [[-1, -1], [1, -0.5], [0, 1]]
    assert only(batches).manifest["provenance"]["actions"] == {"names": ["a", "b"], "low": [16, 0], "high": [28, 1]}


def test_actions_in_their_range_keep_their_bits(tmp_path):
    csv(tmp_path, "s,a,r\n1,1e-20,1\n2,0,2\n")
    _, batches = run(tmp_path, PLAIN)
    assert only(batches).actions[0, 0] == np.float32(1e-20)


def test_an_action_out_of_bounds_is_named(tmp_path):
    csv(tmp_path, "s,a,r\n1,16,1\n2,29,2\n3,30,3\n4,0,4\n")
    where = f"{tmp_path / 'log.csv'}, line 3, 'a': 29, not in [16, 28]"
    assert problems(tmp_path, PLAIN + "low = 16\nhigh = 28") == {"outside": (where, 2)}


def test_whole_actions_may_be_choices(tmp_path):
    csv(tmp_path, "s,a,r\n1,0,1\n2,1,2\n3,0,3\n")
    assert list(problems(tmp_path, PLAIN)) == ["whole"]
    _, batches = run(tmp_path, PLAIN + "low = 0\nhigh = 1")
    assert only(batches).actions.tolist() == [[-1], [1]]


def test_rows_that_are_no_transition_at_all(tmp_path):
    csv(tmp_path, "s,a,r\n1,.5,1\n")
    assert problems(tmp_path, PLAIN) == {"alone": ("all rows", 1)}


def test_every_problem_is_told_at_once(tmp_path):
    csv(tmp_path, "t,s,a,r\n0,1,7,1\n10,2,.5,2\n10,,.5,2\n25,4,.5,4\n")
    assert set(problems(tmp_path, TIMED)) == {"repeated", "gap", "value missing", "outside"}


def test_blocks_end_anywhere(tmp_path, monkeypatch):
    """The transitions do not depend on how many rows are looked at together."""
    rng = np.random.default_rng(0)
    lines = [
        f"{t * 10 + (rng.random() < 0.1) * 5},{rng.random():.3f},{rng.random():.3f},{t},{rng.random() < 0.2}"
        for t in range(60)
    ]
    lines = [line if rng.random() > 0.1 else line.replace(f",{t},", ",,") for t, line in enumerate(lines)]
    csv(tmp_path, "t,s,a,r,end\n" + "\n".join(lines))
    mapping = TIMED.replace('"none"', '"end"') + 'terminal_observation = "repeat"\ngaps = "cut"\nmissing = "cut"\n'
    _, batches = run(tmp_path, mapping + "low = 0\nhigh = 1")
    whole = transitions(only(batches))
    assert only(batches).episodes > 5
    for rows in (1, 2, 3, 7):
        (tmp_path / "batches").rename(tmp_path / f"b{rows}")
        monkeypatch.setattr(episodes, "BLOCK_BYTES", rows * 50)
        _, batches = run(tmp_path, mapping + "low = 0\nhigh = 1", "log.csv")
        assert transitions(only(batches)) == whole
