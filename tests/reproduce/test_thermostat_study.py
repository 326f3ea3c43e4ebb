"""The thermostat study: MPC with known answers, the tuned PI, the verdict by hand, and the study in miniature."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reproduce.toy import tiny as tiny_of_robots
from reproduce.toy import untrained

from bmrl import pipeline
from bmrl.batch_rl import SVG
from bmrl.batch_rl.teach import TeachConfig
from bmrl.controllers import ControllerAgent, users_settings
from bmrl.evaluate.rollout import run_episodes
from bmrl.families import FAMILIES
from bmrl.families.thermostat import (
    BAND,
    DISCOMFORT,
    THERMOSTAT,
    capacity,
    discretise,
    efficiency,
    heat_loss,
)
from bmrl.families.weather import HOME, HOURS_A_STEP, STEPS_A_DAY, Surroundings, price
from bmrl.reproduce import reproduce
from bmrl.reproduce.thermostat import page, units
from bmrl.reproduce.thermostat.mpc import AHEAD, MEAN_SUN, persistent, plan, run_mpc
from bmrl.reproduce.thermostat.tuned_pi import GRID, settings_of, tune

HOUSE = {
    "transmission": 0.2,
    "ventilation": 0.05,
    "thermal_mass": 6.0,
    "aperture": 5.0,
    "sizing": 1.5,
    "comfort_temperature": 21.0,
}
DAY = replace(THERMOSTAT, horizon=STEPS_A_DAY)


def steady(outdoor=0.0, steps=AHEAD):
    """Nothing changes, and someone is always at home."""
    return Surroundings(np.full(steps, outdoor), np.zeros(steps), np.zeros(steps), np.full(steps, HOME))


def at_rest(indoor, outdoor=0.0):
    share = 0.9 * HOUSE["transmission"]
    return np.array([indoor, (indoor + share * outdoor) / (1 + share)])


def paid(outputs, temperatures, hours, ahead):
    """What a plan costs by the linear house, whoever made it."""
    a, b = discretise({name: np.array(x) for name, x in HOUSE.items()}, HOURS_A_STEP)
    total, now = 0.0, temperatures
    for t, u in enumerate(outputs):
        heat = float(capacity(HOUSE)) * u
        now = a @ now + b @ [ahead.outdoor[t], ahead.sun[t], heat + ahead.gains[t]]
        total += price(hours[t]) * heat * HOURS_A_STEP / efficiency(ahead.outdoor[t])
        total += DISCOMFORT * HOURS_A_STEP * (max(20 - now[0], 0) + max(now[0] - 22, 0))
    return float(total)


def test_at_one_price_a_plan_holds_the_lower_edge_of_the_band():
    low = HOUSE["comfort_temperature"] - BAND
    outputs = plan(HOUSE, at_rest(low), np.full(AHEAD, 12.0), steady())
    needed = low * float(heat_loss(HOUSE)) / float(capacity(HOUSE))
    np.testing.assert_allclose(outputs[: AHEAD // 2], needed, atol=1e-6)


def test_a_plan_heats_before_the_price_rises():
    hours = np.arange(AHEAD) * HOURS_A_STEP % 24
    outputs = plan(HOUSE, at_rest(20.0), hours, steady())
    before, peak, midday = (outputs[round(4 * a) : round(4 * b)] for a, b in ((16.5, 17), (17, 17.5), (11, 13)))
    assert before.mean() > 1.5 * midday.mean() and peak.mean() < 0.6 * midday.mean()


def test_no_other_plan_is_cheaper():
    rng = np.random.default_rng(0)
    hours, now, ahead = np.arange(AHEAD) * HOURS_A_STEP % 24, at_rest(19.0), steady(-3.0)
    best = plan(HOUSE, now, hours, ahead)
    least = paid(best, now, hours, ahead)
    for scale in (0.01, 0.1, 1.0):
        for _ in range(10):
            other = np.clip(best + scale * rng.normal(size=AHEAD), 0, 1)
            assert paid(other, now, hours, ahead) > least


def test_mpc_beats_what_users_set_and_forecasts_help():
    house = {**HOUSE, "comfort_temperature": 21.0}
    logged = [
        run_episodes(DAY, [house] * 2, ControllerAgent(users_settings([house], [[kind] * 2], 0)), 5).returns.mean()
        for kind in ("hysteresis", "PI")
    ]
    perfect, blind = (run_mpc(DAY, [house] * 2, 5, forecast) for forecast in (True, False))
    assert perfect.returns.mean() > max(logged) and perfect.returns.mean() > blind.returns.mean() - 0.05
    assert perfect.observations.shape == (2, STEPS_A_DAY + 1, 14) and set(perfect.infos) == set(DAY.info_names)


def test_without_a_forecast_only_the_schedule_is_known():
    simulator = THERMOSTAT.simulator([HOUSE], seed=0)
    simulator.reset()
    known = simulator.forecast(20)
    blind = persistent(known)
    np.testing.assert_array_equal(blind.outdoor, np.full((1, 20), known.outdoor[0, 0]))
    assert (blind.sun == MEAN_SUN).all() and len(np.unique(blind.gains)) == 1
    np.testing.assert_array_equal(blind.occupancy, known.occupancy)


def test_pi_is_tuned_to_the_best_point_in_each_house(monkeypatch):
    monkeypatch.setitem(GRID, "above_comfort", (-1.0, 3.0))
    monkeypatch.setitem(GRID, "setback", (4.0,))
    monkeypatch.setitem(GRID, "gain", (0.6,))
    monkeypatch.setitem(GRID, "start", (0.0, 0.6))
    mdps = [HOUSE, {**HOUSE, "comfort_temperature": 22.5}]
    found = tune(DAY, mdps, 2, 0)
    assert found.shape == (2, 4) and (found[:, 0] == -1.0).all()
    np.testing.assert_allclose(settings_of(mdps, found).setpoint, [20.0, 21.5])


# ---------------------------------------------------------------------- the page


def row(method, variant, mdp, mean, seed):
    about = {"method": method, "variant": variant, "family": "thermostat", "mdp": mdp, "seed": seed, "split": "test"}
    return {
        **about,
        "returns": [mean],
        "return_mean": mean,
        "electricity": [100.0],
        "cost": [30.0],
        "discomfort": [5.0],
    }


def made_up(seed=0, student=9.5, logged=0.0, mpc=10.0, online=2.0):
    """A seed's rows, the same in every house: the best logged thermostat is the schedule."""
    found = []
    for mdp in THERMOSTAT.test_mdps():
        found += [row("logged", k, mdp, logged - d, seed) for k, d in (("hysteresis", 2), ("schedule", 0), ("PI", 1))]
        found += [row("tiMe", "default", mdp, student, seed), row("MPC", "perfect forecast", mdp, mpc, seed)]
        about = {"method": "SAC from scratch", "family": "thermostat", "mdp": mdp, "seed": seed}
        found.append({**about, "return_mean": [-50.0, online]})
    return found


def test_verdict_by_hand():
    better, share = page.verdict(made_up()).split("\n")
    assert "each house: too few seeds** (10 of 10 houses, median of 1 seed; 9.5 EUR" in better
    assert "each house: too few seeds** (10 of 10; the median house has 95.0%" in share
    # The oracle is the better of the two, and the median over the seeds counts.
    assert page.scores(made_up(online=19.0))[0].shares == pytest.approx(np.full(10, 0.5))
    three = made_up(0) + made_up(1, student=8.0) + made_up(2, student=9.1)
    assert page.verdict(three).count(": holds**") == 2 and "the median house has 91.0%" in page.verdict(three)
    worse = [x for seed in range(3) for x in made_up(seed, student=-1.0)]
    assert page.verdict(worse).count("does not hold") == 2
    assert page.verdict(made_up()[:-1]).startswith("Not all units")


def test_the_page_of_some_units(tmp_path):
    text = page.page(made_up() + made_up(1, student=7.5), tmp_path)
    assert "| tiMe | 8.5 |" in text and "| tiMe | 5 | 100 | 30 | 8.5 |" in text
    assert "| SAC from scratch | – | – | – | 2 |" in text and "week.png" not in text
    assert "| logged (schedule) | 0 |" in text and "ISO 13790" in text and "| J |" in text
    assert page.page([], tmp_path).startswith("# Thermostats")


def tiny(name, scale, seed):
    """The experiment with networks of a few neurons."""
    learner = TeachConfig(SVG((4,), (4,), batch_size=2, window=4), 1)
    return replace(tiny_of_robots(name, scale, seed), teach={"default": learner})


def test_the_study_in_miniature(tmp_path, monkeypatch):
    few = replace(THERMOSTAT, train=THERMOSTAT.train[:3], test=THERMOSTAT.test[:2], horizon=STEPS_A_DAY)
    monkeypatch.setitem(FAMILIES, THERMOSTAT.name, few)
    monkeypatch.setattr(units, "get_experiment", tiny)
    monkeypatch.setattr(pipeline, "teach", untrained)
    for name in GRID:
        monkeypatch.setitem(GRID, name, GRID[name][:1])
    arguments = ("thermostat", "smoke", "0", tmp_path, None, "seed-0/[ct]*")
    reproduce(*arguments)
    found = json.loads((tmp_path / "results.json").read_text())["units"]
    assert list(found) == ["seed-0/controllers", "seed-0/tiMe"]
    rows = [r for unit in found.values() for r in unit["rows"]]
    weeks = [r for r in rows if r["method"] == "week"]
    assert [r["of"] for r in weeks] == ["tuned PI", "tiMe"] and len(weeks[0]["week"]["indoor"]) == STEPS_A_DAY
    methods = {(r["method"], r["variant"]) for r in rows if r["method"] != "week"}
    assert methods == set(page.METHODS) - {("SAC from scratch", "")}
    for r in rows:
        if r["method"] != "week":
            assert r["mdp"] in few.test_mdps() and r["electricity"][0] >= 0 and r["discomfort"][0] >= 0
    with Image.open(tmp_path / "week.png") as image:
        image.load()
    text = (tmp_path / "README.md").read_text()
    assert "no verdict yet" in text
    reproduce(*arguments)  # nothing is left to do: all rows come from the file
    assert (tmp_path / "README.md").read_text() == text
