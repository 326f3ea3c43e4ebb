"""Configurations of the baselines: what is tried, which is best, and some of the study in miniature."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reproduce.test_dynamics import random_batches, untrained

from bmrl import pipeline
from bmrl.batch_rl import BCQ
from bmrl.batch_rl.teach import TeachConfig
from bmrl.distill.student import StudentConfig
from bmrl.experiments import get_experiment
from bmrl.families import FAMILIES
from bmrl.reproduce import baselines, reproduce

FAMILY = FAMILIES["halfcheetah-velocity"]


@pytest.mark.parametrize("method", baselines.BASELINES)
def test_every_method_has_as_many_configurations_and_its_preset_is_the_first(method, tmp_path):
    experiment = get_experiment("halfcheetah-velocity", "laptop", 0)
    found = baselines.tries(experiment, method, baselines.TRIES)
    assert len(found) == baselines.TRIES and len(set(found)) == len(found)
    assert found[0] == baselines.preset(experiment, method)
    assert found[:3] == baselines.tries(replace(experiment, seed=7), method, 3)
    units = [unit.name for unit in baselines.units("laptop", [0], tmp_path) if "halfcheetah" in unit.name]
    assert len(units) == 1 + len(baselines.BASELINES) * baselines.TRIES


def test_configurations_have_the_values_that_are_listed_and_nothing_else_is_changed():
    experiment = get_experiment("hopper-velocity", "laptop", 0)
    for method, choices in baselines.BASELINES.items():
        base = baselines.preset(experiment, method)
        for config in baselines.tries(experiment, method, 6)[1:]:
            chosen = {name: baselines.value(config, name) for name in choices}
            factor = chosen["updates"] / base.updates
            assert all(chosen[name] in values for name, values in choices.items() if name != "updates")
            assert factor in choices["updates"]
            assert baselines.configured(base, {**chosen, "updates": factor}) == config
    assert baselines.preset(experiment, "pooled (TD3BC)").logs == "own"


def rows(method, variant, returns, seed=0, **more):
    about = {"unit": "u", "family": FAMILY.name, "method": method, "variant": variant, "seed": seed, **more}
    mdps = FAMILY.validation_mdps()
    return [{**about, "mdp": mdp, "return_mean": x} for mdp, x in zip(mdps, returns, strict=True)]


def test_the_best_on_average_over_seeds_and_mdps_comes_first(tmp_path):
    method = "behaviour cloning"
    a, b, c = ({"configuration": {"updates": n}} for n in (1, 2, 3))
    made = [
        *rows(method, "00", (-10, -20, -30), **a),
        *rows(method, "00", (-10, -20, -90), seed=1, **a),  # -30 on average
        *rows(method, "01", (-20, -20, -20), **b),
        *rows(method, "01", (-34, -34, -34), seed=1, **b),  # -27
        *rows(method, "02", (None, -1, -1), **c),
        *rows("tiMe", "", (-5, -6, -7)),
    ]
    found = baselines.best_first(made)
    assert [tried.values["updates"] for tried in found[FAMILY.name, method]] == [2, 1, 3]
    assert [tried.mean for tried in found[FAMILY.name, method]] == [-27, -30, -np.inf]
    assert list(found) == [(FAMILY.name, "tiMe"), (FAMILY.name, method)]
    page = baselines.page(made, tmp_path)
    assert "| tiMe | −6 | −5 | −6 | −7 |" in page
    with Image.open(tmp_path / "baselines.png") as image:
        image.load()


def tiny(name, scale, seed):
    """The experiment whose paper variant has networks of a few neurons."""
    experiment = get_experiment(name, scale, seed)
    paper = replace(experiment.distill["paper"], student=StudentConfig(4, "mean", (4,), (), 4, (), (4,), (4,), (4,)))
    learners = TeachConfig(BCQ(critic_hidden=(4,), generator_hidden=(4,), batch_size=4), 1)
    return replace(experiment, teach={**experiment.teach, "paper": learners}, distill={"paper": paper})


def test_a_learner_and_a_student_in_miniature(tmp_path, monkeypatch):
    few = replace(FAMILY, train=FAMILY.train[:2], validation=FAMILY.validation[:1])
    taught = []

    def teach(replay, config, seed, *rest):
        taught.append((type(config.algorithm).__name__, len(replay), int(replay.size.sum())))
        return untrained(replay, config, seed)

    monkeypatch.setitem(FAMILIES, FAMILY.name, few)
    monkeypatch.setattr(baselines, "get_experiment", tiny)
    monkeypatch.setattr(pipeline, "collect", random_batches)
    monkeypatch.setattr(pipeline, "teach", teach)
    methods = ("behaviour-cloning", "tiMe-paper")
    for method in methods * 2:  # the second time nothing is left to do
        reproduce("baselines", "smoke", "0", tmp_path, None, f"halfcheetah-velocity/seed-0/{method}/01")
    assert taught == [("Cloning", 1, 40), ("BCQ", 2, 40)]
    units = json.loads((tmp_path / "results.json").read_text())["units"]
    found = [row for unit in units.values() for row in unit["rows"]]
    assert [row["method"] for row in found] == ["behaviour cloning", "tiMe (paper)"]
    for row, method in zip(found, methods, strict=True):
        assert row["variant"] == "01" and row["split"] == "validation" and row["mdp"] == few.validation_mdps()[0]
        assert len(row["returns"]) == baselines.EPISODES and set(row["configuration"]) == set(
            baselines.BASELINES[row["method"]]
        )
        kept = tmp_path / "runs" / "halfcheetah-velocity-0" / "baselines" / method / "01"
        assert len([x for x in kept.iterdir() if x.name in ("learner", "student")]) == 1
    assert "### tiMe (paper)" in (tmp_path / "README.md").read_text()
