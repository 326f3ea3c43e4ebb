"""Configurations of the baselines: what is tried, which is best, and some of the study in miniature."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reproduce.toy import random_batches, untrained

from bmrl import pipeline
from bmrl.batch_rl import BCQ, TD3BC
from bmrl.batch_rl.teach import TeachConfig
from bmrl.distill.student import StudentConfig
from bmrl.experiments import get_experiment
from bmrl.families import FAMILIES
from bmrl.reproduce import baselines, reproduce
from bmrl.reproduce.configurations import BASELINES, CHOSEN, chosen, configured, preset, tries, value
from bmrl.reproduce.study import plain
from bmrl.runs.training import DivergedError

FAMILY = FAMILIES["halfcheetah-velocity"]
METHODS = [(family, method) for family, methods in BASELINES.items() for method in methods]


@pytest.mark.parametrize(("family", "method"), METHODS)
def test_every_method_has_as_many_configurations_and_its_preset_is_the_first(family, method, tmp_path):
    experiment = get_experiment(family, "laptop", 0)
    found = tries(experiment, method, baselines.TRIES)
    assert len(found) == len(set(found)) == baselines.TRIES
    assert found[0] == preset(experiment, method)
    assert found[:3] == tries(replace(experiment, seed=7), method, 3)
    units = [unit.name for unit in baselines.units("laptop", [0], tmp_path) if unit.name.startswith(family)]
    assert len(set(units)) == 1 + len(BASELINES[family]) * baselines.TRIES


@pytest.mark.parametrize(("family", "method"), METHODS)
def test_every_value_is_tried_and_nothing_that_is_not_listed(family, method):
    experiment, choices = get_experiment(family, "laptop", 0), BASELINES[family][method]
    base = preset(experiment, method)
    found = tries(experiment, method, baselines.TRIES)[1:]
    for name, values in choices.items():
        factor = base.updates if name == "updates" else 1
        assert {value(config, name) for config in found} == {factor * x if factor > 1 else x for x in values}
    for config in found:
        own = {name: value(config, name) for name in choices}
        assert configured(base, own | {"updates": own["updates"] / base.updates}) == config


def test_values_are_those_of_the_configuration_or_else_of_its_algorithm():
    base = TeachConfig(TD3BC(hidden=(4,), batch_size=8), 100)
    found = configured(base, {"updates": 2, "best": 0.3, "hidden": (2, 2), "greed": 1.0})
    assert found == TeachConfig(TD3BC(hidden=(2, 2), batch_size=8, greed=1.0), 200, 0.3)
    assert [value(found, name) for name in ("updates", "best", "hidden")] == [200, 0.3, (2, 2)]
    experiment = get_experiment("point-goal", "laptop", 0)
    contextual = preset(experiment, "contextual SAC (paper contexts)")
    found = configured(contextual, {"updates": 0.5, "latent_dim": 2, "batch_size": 32})
    sac = replace(contextual.sac, batch_size=32)
    assert found == replace(contextual, sac=sac, updates=8000, latent_dim=2)
    assert contextual.context == experiment.distill["paper"].context


def test_baselines_see_logs_as_they_were_logged():
    for name in ("halfcheetah-velocity", "hopper-velocity"):
        experiment = get_experiment(name, "laptop", 0)
        assert experiment.teach["default"].logs != "own"
        assert {preset(experiment, method).logs for method in list(BASELINES[name])[:3]} == {"own"}


def rows(method, place, returns, seed=0, family=FAMILY.name, **more):
    about = {"unit": f"{family}/seed-{seed}/m/{place}", "family": family, "method": method, "seed": seed, **more}
    mdps = baselines.mdps_of(family)
    return [plain({**about, "mdp": mdp, "return_mean": x}) for mdp, x in zip(mdps, returns, strict=True)]


def test_the_best_on_average_over_seeds_and_mdps_comes_first(tmp_path):
    method = "behaviour cloning"
    a, b, c = ({"configuration": {"updates": n}} for n in (1, 2, 3))
    made = [
        *rows(method, "0", (-10, -20, -30), **a),
        *rows(method, "0", (-10, -20, -90), seed=1, **a),  # -30 on average
        *rows(method, "1", (-20, -20, -20), **b),
        *rows(method, "1", (-34, -34, -34), seed=1, **b),  # -27
        *rows(method, "2", (-1, -1, -1), **c),
        *rows(method, "2", (None, -1, -1), seed=1, **c),  # diverged
        *rows(method, "0", (0, 0, 0), seed=2, **a),  # where the others have not been tried
        *rows("tiMe", "references", (-5, -6, -7)),
    ]
    found = baselines.best_first(made)
    assert [outcome.values["updates"] for outcome in found[FAMILY.name, method]] == [2, 1, 3]
    assert [outcome.mean for outcome in found[FAMILY.name, method]] == [-27, -30, -np.inf]
    assert list(found) == [(FAMILY.name, "tiMe"), (FAMILY.name, method)]
    page = baselines.page(made, tmp_path)
    assert "| tiMe | −6 | −5 | −6 | −7 |" in page and "| 3 | −inf | −inf | −1 | −1 |" in page
    with Image.open(tmp_path / "baselines.png") as image:
        image.load()


def test_rows_are_found_though_their_numbers_were_cut_short():
    """Goals lie at multiples of pi / 2, of which rows have five digits."""
    made = rows("pooled", "0", (-40, -50, -60), family="point-goal", configuration={"updates": 1})
    assert made[1]["mdp"] != baselines.mdps_of("point-goal")[1]
    (outcome,) = baselines.best_first(made)["point-goal", "pooled"]
    assert outcome.returns == [-40, -50, -60]


@pytest.mark.parametrize(("family", "method"), CHOSEN)
def test_the_figures_have_the_configurations_that_were_best_of_the_committed_ones(family, method):
    units = json.loads(Path("docs/results/baselines/results.json").read_text())["units"]
    rows = [{"unit": name, **row} for name, unit in units.items() for row in unit["rows"]]
    outcomes = baselines.best_first(rows)[family, method]
    experiment = get_experiment(family, "laptop", 0)
    config = chosen(experiment, method, "laptop")
    assert len(outcomes) == baselines.TRIES
    assert plain({name: value(config, name) for name in outcomes[0].values}) == outcomes[0].values
    assert chosen(experiment, method, "paper") == preset(experiment, method)


def tiny(name, scale, seed):
    """The experiment whose paper variant has networks of a few neurons."""
    experiment = get_experiment(name, scale, seed)
    paper = replace(experiment.distill["paper"], student=StudentConfig(4, "mean", (4,), (), 4, (), (4,), (4,), (4,)))
    learners = TeachConfig(BCQ(critic_hidden=(4,), generator_hidden=(4,), batch_size=4), 1)
    teach, distill = {**experiment.teach, "paper": learners}, {**experiment.distill, "paper": paper}
    return replace(experiment, teach=teach, distill=distill)


@pytest.fixture
def few(monkeypatch):
    """The family with few of its MDPs, logged at random and not learned from; who was taught."""
    taught = []

    def teach(replay, config, seed, *rest):
        taught.append((type(config.algorithm).__name__, len(replay), int(replay.size.sum())))
        return untrained(replay, config, seed)

    family = replace(FAMILY, train=FAMILY.train[:2], validation=FAMILY.validation[:1])
    monkeypatch.setitem(FAMILIES, FAMILY.name, family)
    monkeypatch.setattr(baselines, "get_experiment", tiny)
    monkeypatch.setattr(pipeline, "collect", random_batches)
    monkeypatch.setattr(pipeline, "teach", teach)
    return taught


def test_a_learner_and_a_student_in_miniature(tmp_path, few):
    for method in ("behaviour-cloning", "tiMe-paper") * 2:
        reproduce("baselines", "smoke", "0", tmp_path, None, f"halfcheetah-velocity/seed-0/{method}/1")
        if method == "tiMe-paper":
            units = json.loads((tmp_path / "results.json").read_text())["units"]
            (tmp_path / "results.json").unlink()  # what was learned is found again
    assert few == [("Cloning", 1, 40), ("BCQ", 2, 40)]
    found = [row for unit in units.values() for row in unit["rows"]]
    assert [(row["method"], row["context"]) for row in found] == [
        ("behaviour cloning", "none"),
        ("tiMe (paper)", "episode"),
    ]
    for row in found:
        assert row["split"] == "validation" and row["mdp"] == FAMILY.validation_mdps()[0]
        assert len(row["returns"]) == baselines.EPISODES
        assert set(row["configuration"]) == set(BASELINES[FAMILY.name][row["method"]])
    assert "### tiMe (paper)" in (tmp_path / "README.md").read_text()


def test_a_configuration_that_diverges_ends_nothing(tmp_path, few, monkeypatch):
    def diverge(*_):
        raise DivergedError("cloning: the learner diverged", None)

    monkeypatch.setattr(pipeline, "teach", diverge)
    reproduce("baselines", "smoke", "0", tmp_path, None, "halfcheetah-velocity/seed-0/behaviour-cloning/*")
    units = json.loads((tmp_path / "results.json").read_text())["units"]
    assert [[row["return_mean"] for row in unit["rows"]] for unit in units.values()] == [[None], [None]]
    assert "| −inf | −inf |" in (tmp_path / "README.md").read_text()
