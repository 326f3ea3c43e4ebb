"""Figure 2: a whole study at the smallest scale, and a page whose verdicts follow the rows."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bmrl.batch_rl import SAC
from bmrl.batch_rl.teach import TeachConfig
from bmrl.distill.reward_model import RewardModelConfig
from bmrl.distill.student import StudentConfig
from bmrl.experiments import get_experiment
from bmrl.families.point_goal import POINT_GOAL, goals
from bmrl.reproduce import figure2, reproduce
from bmrl.statistics import verdict

METHODS = [
    ("single-MDP teacher", ""),
    ("pooled", ""),
    ("contextual SAC", "paper contexts"),
    ("contextual SAC", "tiMe contexts"),
    ("tiMe", "default"),
    ("tiMe", "paper"),
]
WATCHED = [METHODS[1], *METHODS[4:]]  # while they train


def units_of(out):
    return json.loads((out / "results.json").read_text())["units"]


def tiny(name, scale, seed):
    """The preset with small networks, and one student for both variants: what takes time is compilation."""
    experiment, sac = get_experiment(name, scale, seed), SAC((16,), batch_size=32)
    student = StudentConfig(16, "posterior", (16,), (16,), 16, (16,), (16,))
    sizes = {"updates": 20, "contexts": 16, "reward_model": RewardModelConfig((16,), 16, updates=20, batch_size=16)}
    distill = replace(experiment.distill["default"], student=student, **sizes)
    return replace(
        experiment,
        collect=replace(experiment.collect, transitions=100, warmup=50, sac=sac),
        teach={"default": TeachConfig(sac, 20)},
        distill={"default": distill, "paper": distill},
    )


def test_the_study_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(figure2, "get_experiment", tiny)
    monkeypatch.setattr(figure2, "POINTS", 2)  # rollouts of 1,000 steps at each
    reproduce("figure2", "smoke", "3", tmp_path, None, "*")
    rows = units_of(tmp_path)["seed-3"]["rows"]
    tests, curves = ([row for row in rows if key in row] for key in ("returns", "updates"))
    assert [(row["method"], row["variant"]) for row in tests] == [m for m in METHODS for _ in range(3)]
    for row in tests:
        assert row["seed"] == 3 and np.shape(row["path"]) == (21, 2) and np.shape(row["ends"]) == (2, 2)
        assert row["path"][0] == [0, 0] and row["path"][-1] == row["ends"][0]
        distances = np.linalg.norm(np.array(row["ends"]) - goals(row["mdp"]["goal_angle"]), axis=1)
        np.testing.assert_allclose(row["final_distance"], distances, rtol=1e-3, atol=1e-3)
    assert [(row["method"], row["variant"]) for row in curves] == [m for m in WATCHED for _ in range(3)]
    for row in curves:
        assert row["updates"] == [10, 20] and len(row["return"]) == 2
    for curve, test in zip(curves[:3], tests[3:6], strict=True):
        assert curve["mdp"] == test["mdp"]
        assert curve["return"][-1] == pytest.approx(test["return_mean"], rel=1e-4)  # nothing random in it
        assert len(curve["value_estimate"]) == len(curve["discounted_soft_return"]) == 2
    # The pooled agent does not know the goal: neither does what it believes, but what it earns tells.
    believed, earned = ([row[x][-1] for row in curves[:3]] for x in ("value_estimate", "discounted_soft_return"))
    assert np.ptp(believed) < 0.2 * np.ptp(earned)
    page = (tmp_path / "README.md").read_text()
    for picture in ("figure2.png", "methods.png"):
        assert f"({picture})" in page
        with Image.open(tmp_path / picture) as image:
            image.load()
    for name in ("paper", "default"):
        assert (tmp_path / "runs" / "figure2-3" / "contextual" / name / "manifest.json").is_file()


# ---------------------------------------------------------------------- the page


def made_up_rows(returns, seeds, ends=None, belief=(-500.0, -500.0)):
    """Rows of all methods: ``returns`` and ``ends`` by method for what is not the best possible."""
    rows = []
    for seed in seeds:
        for method, variant in METHODS:
            for k, mdp in enumerate(POINT_GOAL.test_mdps()):
                end = (ends or {}).get(method, goals(mdp["goal_angle"]))
                value = returns.get((method, variant), returns.get(method, [-45.0] * 3))[k]
                row = {"method": method, "variant": variant, "family": "point-goal", "mdp": mdp, "seed": seed}
                row |= {"context": "none", "episodes": 2, "returns": [value] * 2, "return_mean": value}
                distance = float(np.linalg.norm(end - goals(mdp["goal_angle"])))
                row |= {"final_distance": [distance] * 2, "path": [[0.0, 0.0], list(end)], "ends": [list(end)] * 2}
                rows.append(row)
        for method, variant in WATCHED:
            for mdp in POINT_GOAL.test_mdps():
                row = {"method": method, "variant": variant, "family": "point-goal", "mdp": mdp, "seed": seed}
                steps = list(range(100, 2001, 100))
                row |= {"updates": steps, "return": [-100.0] * 20, "discounted_soft_return": [-1000.0] * 20}
                row["value_estimate"] = np.linspace(*belief, 20).tolist()
                rows.append(row)
    return rows


def verdicts(rows):
    tests, curves = ([row for row in rows if key in row] for key in ("returns", "updates"))
    seeds = len({row["seed"] for row in rows})
    return [verdict(claim.held, seeds, claim.changed) for claim in figure2.claims(tests, curves)]


CONTROL, POOLED, BELIEF, CENTRE, PAPER_CONTEXTS, TIME_CONTEXTS, DEFAULT, PAPER, BETTER_PAPER, BETTER = range(10)


def test_verdicts_follow_the_rows():
    failing = {"pooled": [-350.0, -255.0, -46.0], "contextual SAC": [-60.0, -200.0, -60.0]}
    rows = made_up_rows(failing, range(4), {"pooled": np.array([0.0, 5.0])})
    changed = "holds with a change"  # contextual SAC ends at all goals, if late at one
    # The default tiMe is not the paper's; contextual SAC earns less than the -45 of either.
    assert verdicts(rows) == ["holds"] * 4 + [changed] * 2 + [changed, "holds"] + ["holds", changed]
    for row in rows:
        if row["method"] == "contextual SAC" and row["variant"] == "paper contexts" and row["return_mean"] == -200.0:
            row["final_distance"] = [0.1, 2.1]
    assert verdicts(rows)[PAPER_CONTEXTS] == "holds"
    for method, claim, value in (
        ("single-MDP teacher", CONTROL, -47.3),
        ("tiMe", DEFAULT, -67.1),
    ):
        one = next(row for row in rows if row["method"] == method and "returns" in row)
        before, one["return_mean"] = one["return_mean"], value
        assert verdicts(rows)[claim] == "holds in part"
        one["return_mean"] = before
    for row in rows:
        if row["method"] == "tiMe" and row["variant"] == "paper" and "returns" in row:
            row["final_distance"] = [0.9, 1.2]
    assert verdicts(rows)[PAPER] == "does not hold"


def test_time_and_pearls_inference_are_compared_with_the_same_contexts():
    found = verdicts(made_up_rows({("tiMe", "paper"): [-60.0, -40.0, -60.0], "contextual SAC": [-50.0] * 3}, range(3)))
    assert (found[BETTER_PAPER], found[BETTER]) == ("does not hold", "holds with a change")


def test_what_the_pooled_agent_does_is_judged():
    to_one_goal = {"pooled": np.array([0.0, 8.2])}
    good = {"contextual SAC": [-50.0] * 3, "pooled": [-50.0] * 3}
    found = verdicts(made_up_rows(good, range(4, 7), to_one_goal, belief=(-900.0, -950.0)))
    assert found[CENTRE] == "does not hold"
    assert found[BELIEF] == "does not hold"  # a twentieth above the truth
    assert found[POOLED] == "holds"  # it ends far from two goals
    assert found[PAPER_CONTEXTS] == found[TIME_CONTEXTS] == "does not hold"
    diverging = verdicts(made_up_rows(good, range(4, 7), to_one_goal, belief=(-900.0, 900.0)))
    assert diverging[BELIEF] == "does not hold"


def test_a_page_of_two_seeds(tmp_path):
    rows = made_up_rows({"pooled": [-350.0, -255.0, -46.0]}, [0, 1])
    rows[-1]["return"] = [-90.0] * 20
    for row in rows[:3]:
        row["return_mean"] = -47.0
    page = figure2.page(rows, tmp_path)
    assert "| single-MDP teacher | -46.0 ± 1.0 (0.00) | -46.0 ± 1.0 (0.00) | -46.0 ± 1.0 (0.00) |" in page
    assert "| pooled | -350.0 ± 0.0 (0.00) | -255.0 ± 0.0 (0.00) | -46.0 ± 0.0 (0.00) |" in page
    assert "seeds 0, 1:" in page and "| goal 0° | goal 90° | goal 180° |" in page
    assert {path.name for path in tmp_path.iterdir()} == {"figure2.png", "methods.png"}


def test_the_optimum_is_nine_halves_of_ten():
    # Nine moves of 1 towards a goal 10 away leave 9 + 8 + ... + 1.
    assert figure2.optimum() == pytest.approx(-45.0)


def test_the_point_nearest_to_all_goals():
    def total(x, y):
        return sum(math.dist((x, y), goals(mdp["goal_angle"])) for mdp in POINT_GOAL.test_mdps())

    x, y = figure2.FERMAT
    assert all(total(x + dx, y + dy) > total(x, y) for dx, dy in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)))


def test_contextual_sac_has_the_contexts_of_tiMe():
    (unit,) = figure2.units("laptop", [0], Path("runs"))
    experiment, contextual = unit.config["experiment"], unit.config["contextual"]
    for name, config in contextual.items():
        assert config["context"] == experiment["distill"][name]["context"]
    assert contextual["paper"]["context"] == {"size": 1, "vary_size": False, "draw": "transitions", "relabel": False}
