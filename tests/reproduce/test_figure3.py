"""Figure 3: SAC's curve is what was earned, every verdict follows from the rows."""

import json
from dataclasses import replace

import numpy as np
import pytest
from reproduce.toy import random_batches, untrained

from bmrl import pipeline
from bmrl.batch_rl import BCQ, SAC, TD3BC
from bmrl.batch_rl.teach import TeachConfig
from bmrl.distill.student import StudentConfig
from bmrl.errors import BmrlError
from bmrl.experiments import get_experiment
from bmrl.families import FAMILIES, get_family
from bmrl.reproduce import figure3, reproduce
from bmrl.reproduce.runs import working_run
from bmrl.reproduce.scratch import Scratch, from_scratch
from bmrl.runs.metrics import read_metrics

MDP = {"target_velocity": 0.475}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    experiment = replace(get_experiment("point-goal", "smoke", 0), episodes=3)
    sac = SAC(hidden=(8,), batch_size=8)
    config = replace(experiment.collect, transitions=2500, warmup=200, sac=sac)
    mdps = get_family("point-goal").test_mdps()[:2]
    return Scratch(experiment, mdps, config, 2, tmp_path_factory.mktemp("scratch") / "run")


def test_sac_from_scratch_is_tested_along_its_way_and_at_its_end(scratch):
    rows = from_scratch(scratch)
    curves = [row for row in rows if row["method"] == "SAC from scratch"]
    assert [row["mdp"] for row in curves] == list(scratch.mdps)
    for row in curves:
        assert row["interactions"] == [1000, 2000, 2500]
        assert len(row["return_mean"]) == len(row["return_std"]) == 3
        assert row["length_mean"] == [20.0] * 3
        assert all(-700 < x < -20 for x in row["return_mean"])
    own = [row for row in rows if row["method"] == "on own data"]
    assert [(row["mdp"], row["episodes"]) for row in own] == [(mdp, 3) for mdp in scratch.mdps]
    # Done again, nothing is trained, and the rows are the same.
    before = read_metrics(scratch.directory / "metrics.csv")
    assert from_scratch(scratch) == rows
    assert read_metrics(scratch.directory / "metrics.csv") == before


def test_what_lies_there_of_another_configuration_is_refused(scratch):
    from_scratch(scratch)
    with pytest.raises(BmrlError, match=r"another configuration: points: 2 -> 3"):
        from_scratch(replace(scratch, points=3))


def rows_of(**returns):
    """Rows of five seeds for every method: its mean return at each seed."""
    rows = []
    for method, values in returns.items():
        method = method.replace("_", " ")
        for seed, value in enumerate(np.broadcast_to(values, 5).tolist()):
            row = {
                "unit": f"u/seed-{seed}",
                "method": method,
                "family": "halfcheetah-velocity",
                "mdp": MDP,
                "seed": seed,
            }
            if method == "SAC from scratch":
                row |= {"interactions": [10, 60_000], "return_mean": [-95.0, value], "length_mean": [200.0, 200.0]}
            else:
                row |= {"return_mean": value, "length_mean": 200.0, "variant": "default", "episodes": 25}
            rows.append(row)
    return rows


OTHERS = {
    "pooled": -90.0,
    "behaviour_cloning": -80.0,
    "standing_still": -95.0,
    "uniform_actions": -130.0,
    "nearest_teacher": -26.0,
}


@pytest.mark.parametrize(
    ("time", "verdict"),
    [
        ([-20, -24, -25, -25, -25], "| at least as good |"),
        ([-30, -31, -32, -31, -31], "| on par |"),  # 10 % of -25 + 95 is 7: down to -32
        ([-33, -34, -33, -33, -33], "| below |"),
        ([-20, -20, -20, -90, -90], "| undecided |"),  # good on average of the middle, but not to be relied upon
    ],
)
def test_the_verdict_follows_from_the_bound(time, verdict, tmp_path):
    page = figure3.page(rows_of(tiMe=time, SAC_from_scratch=-25.0, **OTHERS), tmp_path)
    line = next(line for line in page.splitlines() if "60,000" in line)
    assert line.endswith(verdict), line
    assert "| −7 |" in line and "| yes |" in line
    assert (tmp_path / "figure3.png").stat().st_size > 10_000
    assert (tmp_path / "halfcheetah-velocity.png").stat().st_size > 10_000


def test_two_seeds_are_too_few_for_a_verdict(tmp_path):
    rows = [row for row in rows_of(tiMe=-20.0, SAC_from_scratch=-25.0, **OTHERS) if row["seed"] < 2]
    page = figure3.page(rows, tmp_path)
    assert next(line for line in page.splitlines() if "60,000" in line).endswith("| too few seeds |")


def test_a_method_that_a_baseline_beats_is_said_to_be_below_it(tmp_path):
    page = figure3.page(rows_of(tiMe=-30.0, SAC_from_scratch=-25.0, **(OTHERS | {"pooled": -28.0})), tmp_path)
    assert "| no |" in next(line for line in page.splitlines() if "60,000" in line)


def test_the_page_of_a_part_of_the_rows(tmp_path):
    page = figure3.page(rows_of(tiMe=-30.0, **OTHERS), tmp_path)
    assert "| tiMe | 0, 1, 2, 3, 4 | −30 |" in page and "60,000" not in page
    some = {name: OTHERS[name] for name in ("standing_still", "uniform_actions", "nearest_teacher")}
    page = figure3.page(rows_of(tiMe=-20.0, SAC_from_scratch=-25.0, **some), tmp_path)
    line = next(line for line in page.splitlines() if "60,000" in line)
    assert line.endswith("| 1.07 |  | 6 | at least as good |")  # no baseline is there to be above of


def test_a_baseline_that_diverged_leaves_the_verdict_on_sac_alone(tmp_path):
    rows = rows_of(tiMe=[-20, -24, -25, -25, -25], SAC_from_scratch=-25.0, **OTHERS)
    whole = figure3.page(rows, tmp_path)
    for row in rows:
        if (row["method"], row["seed"]) == ("pooled", 1):
            row |= {"return_mean": None, "length_mean": None}
    page = figure3.page(rows, tmp_path)
    line = next(line for line in page.splitlines() if "60,000" in line)
    assert line in whole.splitlines() and "| pooled | 0, 2, 3, 4 |" in page


def test_what_has_no_return_is_left_out(tmp_path):
    """Where no episode of a method was valid, its seed compares nothing; nor does a SAC that has none in the end."""
    rows = rows_of(tiMe=[-20, -24, -25, -25, -25], SAC_from_scratch=-25.0, **OTHERS)
    for row in rows:
        if (row["method"], row["seed"]) == ("tiMe", 1):
            row["return_mean"] = None
        if (row["method"], row["seed"]) == ("SAC from scratch", 0):
            row["return_mean"] = [-95.0, None]
    page = figure3.page(rows, tmp_path)
    line = next(line for line in page.splitlines() if "60,000" in line)
    assert line.startswith("| target velocity 0.475 m/s | 60,000 | 3 | 0 [0, 0] |")
    assert "| tiMe | 0, 2, 3, 4 |" in page and "| SAC from scratch | 1, 2, 3, 4 |" in page


def test_an_odd_longer_run_is_told_apart(tmp_path):
    rows = rows_of(SAC_from_scratch=-25.0)
    for row in rows:
        row["unit"] = "u/longer"
        row |= {"interactions": [60_000, 150_000, 300_000], "return_mean": [-26.0, -9.0, -24.0]}
    page = figure3.page(rows[:1], tmp_path)
    assert "| halfcheetah-velocity | target velocity 0.475 m/s | 0 | −26 | −24 | 300,000 |" in page
    assert "(longer.png)" in page and (tmp_path / "longer.png").stat().st_size > 10_000


def test_units_carry_all_that_their_rows_depend_on(tmp_path):
    units = {unit.name: unit for unit in figure3.units("laptop", [0, 1], tmp_path)}
    assert len(units) == 2 * 2 * 3 + 1
    scratch = units["halfcheetah-velocity/seed-1/scratch"].config
    assert scratch["seed"] == 1 and scratch["collect"]["sac"]["hidden"] == [256, 256]
    assert scratch["collect"]["sac"]["batch_size"] == 256
    assert scratch["collect"]["transitions"] == 60_000 and scratch["episodes"] == 25
    assert [name for name in units if "/longer" in name] == ["halfcheetah-velocity/seed-0/longer"]
    assert units["halfcheetah-velocity/seed-0/longer"].config["collect"]["transitions"] == 300_000
    # What the baselines learn from, and with; neither tiMe's learners nor its student.
    beside = units["halfcheetah-velocity/seed-1/baselines"].config
    assert beside["seed"] == 1 and beside["collect"]["transitions"] == 60_000 and beside["episodes"] == 25
    assert beside["baselines"]["pooled (TD3BC)"]["algorithm"]["greed"] == 10
    assert beside["teach"]["algorithm"]["algorithm"] == "BCQ" and "distill" not in beside


def tiny(name, scale, seed):
    """The experiment with networks of a few neurons, and logs that are not shared."""
    experiment = get_experiment(name, scale, seed)
    students = {
        variant: replace(config, student=StudentConfig(4, config.student.pooling, (4,), (), 4, (), (4,), (4,), (4,)))
        for variant, config in experiment.distill.items()
    }
    bcq = BCQ(critic_hidden=(4,), generator_hidden=(4,), batch_size=4)
    teach = {"default": TeachConfig(TD3BC(hidden=(4,), batch_size=4), 1), "paper": TeachConfig(bcq, 1)}
    return replace(experiment, teach=teach, distill=students, episodes=2)


def test_what_the_units_of_a_seed_test(tmp_path, monkeypatch):
    """With few of the family's MDPs, logged at random and hardly learned from."""
    family = FAMILIES["halfcheetah-velocity"]
    monkeypatch.setitem(FAMILIES, family.name, replace(family, train=family.train[:2], test=family.test[:1]))
    monkeypatch.setattr(figure3, "get_experiment", tiny)
    monkeypatch.setattr(pipeline, "collect", random_batches)
    monkeypatch.setattr(pipeline, "teach", untrained)
    with working_run(tiny(family.name, "smoke", 0), tmp_path / "runs" / f"{family.name}-0", students=("paper",)) as run:
        pipeline.pooled_stage(run)  # as other commands leave it there: no unit tests these
    for part in ("baselines", "tiMe"):
        reproduce("figure3", "smoke", "0", tmp_path, None, f"halfcheetah-velocity/seed-0/{part}")
    units = json.loads((tmp_path / "results.json").read_text())["units"]
    found = {
        name.split("/")[-1]: [(row["method"], row["variant"]) for row in unit["rows"]] for name, unit in units.items()
    }
    assert found == {
        "baselines": [(name, "") for name in ("pooled (TD3BC)", "pooled (BCQ)", "behaviour cloning", "tiMe (paper)")],
        "tiMe": [
            ("tiMe", "default"),
            ("nearest teacher", "TD3BC"),
            ("nearest teacher", "BCQ"),
            ("oracle", ""),
            ("standing still", ""),
            ("uniform actions", ""),
        ],
    }
    for row in (row for unit in units.values() for row in unit["rows"]):
        assert row["split"] == "test" and row["mdp"] == family.test_mdps()[0] and len(row["returns"]) == 2
    page = (tmp_path / "README.md").read_text()
    assert "| tiMe (paper) | 0 |" in page and "| behaviour cloning | 0 |" in page
