"""The study of judging: agreement with true returns by hand, its page, and the whole of it in miniature."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image
from reproduce.toy import tiny, untrained

from bmrl import pipeline
from bmrl.distill.distill import initial_state, train_statistics
from bmrl.families import FAMILIES
from bmrl.families.thermostat import THERMOSTAT
from bmrl.families.weather import STEPS_A_DAY
from bmrl.reproduce import judging, reproduce


def row(mdp, truth, value, logged, split="train", seed=0, spread=1.0):
    about = {"family": "thermostat", "split": split, "seed": seed, "mdp": THERMOSTAT.train_mdps()[mdp]}
    judged = {"value": value, "low": value - spread, "high": value + spread, "logged_value": logged, "far": 0.25}
    return {**about, **judged, "truth": truth, "truths": [truth - 1, truth + 1, truth - 1, truth + 1]}


ROWS = [row(0, 1.0, 1.5, -1.0), row(1, 2.0, 4.0, 0.0), row(2, 3.0, 3.0, 4.0), row(3, 4.0, 5.5, 1.0)]


def test_agreement_by_hand():
    found = judging.agreement(ROWS)
    assert found.rank == pytest.approx(0.8)  # ranks 1 3 2 4
    assert found.rank_logged == pytest.approx(0.8)  # ranks 1 2 4 3
    assert found.error == pytest.approx(np.sqrt((0.25 + 4 + 0 + 2.25) / 4)) and found.bias == pytest.approx(1.0)
    assert found.error_logged == pytest.approx(np.sqrt((4 + 4 + 1 + 9) / 4))
    assert (found.held, found.sign, found.better, found.far) == (0.5, 1.0, 0.75, 0.25)
    assert found.noise == pytest.approx(0.5)
    assert judging.agreement([row(0, 1.0, -2.0, 0.0)]).sign == 0.0
    assert np.isnan(judging.agreement(ROWS[:2]).rank)


def test_the_page_of_some_units(tmp_path):
    wrong = [row(k, float(k), -float(k), -float(k == 1), "held-out", spread=0.1) for k in range(4)]
    text = judging.page(ROWS + wrong, tmp_path)
    assert "than what was logged is: too few seeds** (1 of 2" in text
    assert "better than what was logged does: too few seeds** (0 of 2" in text
    assert "| thermostat, train MDPs | 4 | 0.80 (0.80) | 1.27 (2.12) | 1 | 50% | 100% | 75% | 25% | 0.5 |" in text
    assert "| thermostat, held-out MDPs | 4 | −1.00 (" in text and "halfcheetah-velocity, " not in text
    with Image.open(tmp_path / "judging.png") as image:
        image.load()
    assert judging.page([], tmp_path).startswith("# Judging without a plant")


def undistilled(replay, targets, bound, config, seed, *_):
    """What phase 2 leaves, without its updates."""
    statistics = train_statistics(replay, targets)
    return initial_state(jax.random.PRNGKey(seed), replay, targets, statistics, bound, config).student


def test_the_study_in_miniature(tmp_path, monkeypatch):
    few = replace(THERMOSTAT, train=THERMOSTAT.train[:3], validation=THERMOSTAT.validation[:2], horizon=STEPS_A_DAY)
    monkeypatch.setitem(FAMILIES, THERMOSTAT.name, few)
    monkeypatch.setattr(judging, "get_experiment", tiny)
    monkeypatch.setattr(pipeline, "teach", untrained)
    monkeypatch.setattr(pipeline, "distill", undistilled)
    reproduce("judging", "smoke", "0", tmp_path, None, "thermostat*")
    ((name, unit),) = json.loads((tmp_path / "results.json").read_text())["units"].items()
    assert name == "thermostat/seed-0"
    assert [r["mdp"] for r in unit["rows"]] == [*few.train_mdps(), *few.validation_mdps()]
    assert [r["split"] for r in unit["rows"]] == ["train"] * 3 + ["held-out"] * 2
    for r in unit["rows"]:
        assert len(r["truths"]) == len(r["values"]) == 2 and np.isfinite(r["truths"]).all()
        assert r["truth"] == pytest.approx(np.mean(r["truths"]), rel=1e-4)
    assert "| thermostat, held-out MDPs | 2 | nan (nan) |" in (tmp_path / "README.md").read_text()
