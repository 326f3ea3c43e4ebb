"""The CEM ablation: from a run directory to the page, and verdicts that follow from the rows."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from networks import reference
from PIL import Image

from bmrl import pipeline
from bmrl.batch_rl.base import Targets
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.distill import DistillConfig
from bmrl.distill.student import Statistics, Student, StudentConfig
from bmrl.experiments import get_experiment
from bmrl.learned import save_student
from bmrl.networks import Normaliser
from bmrl.reproduce import cem_ablation, reproduce
from bmrl.reproduce.cem_ablation import page
from bmrl.types import Spec

CONFIG = DistillConfig(StudentConfig(3, "posterior", (4,), (4,), 4, (3,), (8,), (8,), (8,)), ContextConfig(4), 1, 1, 1)
SPEC = Spec(17, 6)
VELOCITIES = (0.475, 1.075, 1.475)


def small(name, scale, seed):
    """The experiment with a student of a few neurons."""
    return replace(get_experiment(name, scale, seed), distill={"default": CONFIG})


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A run directory with a student, as figure 3 leaves one."""
    monkeypatch.setattr(cem_ablation, "get_experiment", small)

    def make():
        statistics = Statistics(*(Normaliser.identity(n) for n in (17, 41, 1, 1)))
        sizes = {"mdps": 29, "latent_dim": 12, "max_correction": 0.05, "predict_next": False}
        return Student(jax.random.PRNGKey(0), SPEC, statistics, CONFIG.student, **sizes)

    directory = tmp_path / "runs" / "halfcheetah-velocity-0"
    pipeline.start_run(directory, small("halfcheetah-velocity", "smoke", 0))
    targets = Targets(np.zeros((29, 1)), np.zeros((29, 1, 12)))
    save_student(directory / "students" / "default", CONFIG, SPEC, targets, 0.05, reference.filled(make, seed=1), {}, 0)
    return tmp_path / "runs"


def test_from_the_run_directory_to_the_page(runs, tmp_path):
    out = tmp_path / "out"
    reproduce("cem-ablation", "smoke", "0", out, runs, "*")
    units = json.loads((out / "results.json").read_text())["units"]
    assert set(units) == {"halfcheetah-velocity/seed-0/returns", "halfcheetah-velocity/seed-0/values"}
    returns, values = (units[f"halfcheetah-velocity/seed-0/{name}"]["rows"] for name in ("returns", "values"))
    methods = ("tiMe", "CEM on Q_S", "random shooting on Q_S")
    found = [(row["method"], row["mdp"]["target_velocity"]) for row in returns]
    assert found == [(method, v) for method in methods for v in VELOCITIES]
    assert all(len(row["returns"]) == 2 for row in returns)
    assert len({str(row["returns"]) for row in returns}) == 9
    kinds = ("G_S, xi_S", "CEM", "uniform")
    assert [(r["mdp"]["target_velocity"], r["actions"]) for r in values] == [(v, k) for v in VELOCITIES for k in kinds]
    for row in values:
        assert len(row["estimates"]) == len(row["returns"]) == 2
        assert row["reach"] == pytest.approx(0.1)
        assert row["converged"] == pytest.approx(1 - 0.99**0.1, rel=1e-4)
    for v in range(3):
        cem, uniform = (np.array(values[3 * v + k]["estimates"]) for k in (1, 2))
        assert (cem > uniform).all()
    text = (out / "README.md").read_text()
    assert "2 iterations of 40 actions, of which the best 4 " in text.replace("\n", " ")
    with Image.open(out / "cem-ablation.png") as picture:
        assert picture.width > 1000


# ---------------------------------------------------------------------- the page

CEM = {"iterations": 5, "population": 400, "elites": 40}


def return_row(method, seed, velocity, mean, spread=1.0):
    returns = [mean - spread, mean + spread]
    return {"method": method, "seed": seed, "mdp": {"target_velocity": velocity}, "returns": returns, "cem": CEM}


def value_row(actions, seed, velocity, over, converged=1.0, spread=0.1):
    """Four states whose returns differ widely, with estimates ``over`` above, give or take ``spread``."""
    returns = np.array([-10.0, -20.0, -30.0, -40.0])
    row = {"actions": actions, "seed": seed, "mdp": {"target_velocity": velocity}, "cem": CEM}
    estimates = returns + over + spread * np.array([1, -1, 1, -1])
    return {**row, "estimates": estimates.tolist(), "returns": returns.tolist(), "reach": 100, "converged": converged}


def rows_of(seeds=(0, 1), cem_return=-80.0, cem=3.0, uniform=2.0, converged=1.0):
    rows = []
    for seed in seeds:
        for v in VELOCITIES:
            rows += [return_row("tiMe", seed, v, -50 - 10 * seed), return_row("CEM on Q_S", seed, v, cem_return)]
            rows += [value_row("G_S, xi_S", seed, v, 1.0, converged, spread=0)]
            rows += [value_row("CEM", seed, v, cem, converged), value_row("uniform", seed, v, uniform, converged)]
    return rows


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "holds"),
        ({"uniform": 0.5}, "holds in part"),
        ({"uniform": 1.01}, "holds in part"),  # more, but not clearly
        ({"cem": 1.01}, "holds in part"),
        ({"cem_return": -40.0}, "does not hold"),
        ({"cem_return": -80.5}, "holds in part"),  # clearly worse on three seeds of four
        ({"cem_return": -70.5}, "does not hold"),  # on two
        ({"seeds": (0, 1)}, "too few seeds"),
    ],
)
def test_the_verdict_follows_from_the_rows(change, verdict, tmp_path):
    text = page(rows_of(**({"seeds": range(4), "cem_return": -90.0} | change)), tmp_path)
    assert f"The paper's claim: **{verdict}**" in text


def test_each_part_is_judged_by_the_means_of_seeds(tmp_path):
    seeds = range(3)
    rows = rows_of(seeds)
    rows = [row for row in rows if not (row.get("actions") == "CEM" and row["mdp"] == {"target_velocity": 0.475})]
    rows += [value_row("CEM", seed, 0.475, over=1.01) for seed in seeds]
    text = page(rows, tmp_path)
    assert (
        "| Q_S over-estimates CEM's actions more than those of G_S and xi_S | 1.34 | 3 of 3 | 6 of 9 | holds |" in text
    )


def test_the_tables_say_what_the_rows_say(tmp_path):
    text = page(rows_of(), tmp_path)
    assert "| 0.475 m/s | −55 [−60, −50] | −80 [−80, −80] |  | −95 |" in text
    # estimates at -25 + 3 on average; 2 more than G_S and xi_S; .2 / sqrt(3 * 4 * 2) of two seeds with 4 states each
    assert "| 1.475 m/s | CEM | 8 | −22 | −25 | 3 | 2 ± 0.041 |" in text
    assert "| 1.475 m/s | G_S, xi_S | 8 | −24 | −25 | 1 |  |" in text
    assert "| CEM on Q_S earns less than tiMe | 25 | 2 of 2 | 6 of 6 | too few seeds |" in text
    assert "A caution" not in text


def test_a_teacher_short_of_its_fixed_point_is_told(tmp_path):
    text = page(rows_of(converged=0.634), tmp_path)
    assert "about 100\ntimes in all" in text
    assert "63% of what the infinite horizon" in text


@pytest.mark.parametrize("kept", ["method", "actions"])
def test_a_page_of_some_units_says_what_is_missing(kept, tmp_path):
    rows = [row for row in rows_of(seeds=(0,)) if kept in row]
    text = page(rows, tmp_path)
    assert "not measured yet" in text
    assert "The paper's claim: **" not in text
    assert ("## Returns" in text, "## Values" in text) == (kept == "method", kept == "actions")
    assert (tmp_path / "cem-ablation.png").is_file()


def test_rows_without_a_valid_episode_are_left_out(tmp_path):
    rows = rows_of(seeds=(0,))
    rows[0]["returns"] = []
    assert "| 0.475 m/s |  | −80 |  | −95 |" in page(rows, tmp_path)
