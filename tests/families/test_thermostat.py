"""Thermostats: the house's physics with known answers, the heat pump's limits, weather, tariff and reward."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from bmrl.families.thermostat import (
    AT_HOME,
    BAND,
    BASE,
    DISCOMFORT,
    HELD,
    INDOOR,
    INDOOR_CAPACITY,
    INDOOR_RESISTANCE,
    MINIMUM,
    MINIMUM_OFF,
    MINIMUM_ON,
    OUTDOOR,
    OUTPUT,
    PRICE,
    RAMP,
    SLEEPING,
    SLEEPS_COOLER,
    SUN_IN_WALLS,
    THERMOSTAT,
    band,
    capacity,
    discomfort,
    discretise,
    efficiency,
    heat_loss,
    plant,
)
from bmrl.families.weather import (
    AWAY,
    HOME,
    HOURS_A_STEP,
    clear_sky,
    draw_surroundings,
    hours_until,
    price,
)

HOUSES = [*THERMOSTAT.train_mdps(), *THERMOSTAT.test_mdps()]
STACKED = {name: np.array([mdp[name] for mdp in HOUSES]) for name in THERMOSTAT.bounds}
HOUSE = {
    "transmission": 0.2,
    "ventilation": 0.05,
    "thermal_mass": 6.0,
    "aperture": 5.0,
    "sizing": 1.5,
    "comfort_temperature": 21.0,
}


def test_figures_of_two_weeks_of_two_steps():
    observations = np.zeros((2, 3, 14))
    observations[:, :, PRICE] = [[0.2, 0.4, 9.0], [0.3, 0.3, 9.0]]
    infos = {"electricity": np.array([[1.0, 2.0], [3.0, 0.0]]), "discomfort": np.array([[0.5, 0.25], [0.0, 0.0]])}
    found = THERMOSTAT.figures(observations, np.zeros((2, 2)), infos)
    assert {name: x.tolist() for name, x in found.items()} == {
        "electricity": [3.0, 3.0],
        "cost": [pytest.approx(1.0), pytest.approx(0.9)],
        "discomfort": [0.75, 0.0],
    }


def network(mdp):
    """F and G of dT/dt = F T + G (outdoor, sun, heat), written down from the drawing of the network."""
    link = 1 / INDOOR_RESISTANCE
    air, walls = INDOOR_CAPACITY, mdp["thermal_mass"]
    f = [[-(link + mdp["ventilation"]) / air, link / air], [link / walls, -(link + mdp["transmission"]) / walls]]
    sun = mdp["aperture"] * np.array([(1 - SUN_IN_WALLS) / air, SUN_IN_WALLS / walls])
    g = [[mdp["ventilation"] / air, sun[0], 1 / air], [mdp["transmission"] / walls, sun[1], 0.0]]
    return np.array(f), np.array(g)


# ---------------------------------------------------------------------- the house


def test_a_step_is_the_matrix_exponential():
    a, b = discretise(STACKED, HOURS_A_STEP)
    for k, mdp in enumerate(HOUSES):
        f, g = network(mdp)
        whole = expm(np.block([[f, g], [np.zeros((3, 5))]]) * HOURS_A_STEP)
        np.testing.assert_allclose(a[k], whole[:2, :2], rtol=1e-10)
        np.testing.assert_allclose(b[k], whole[:2, 2:], rtol=1e-9, atol=1e-15)


def test_fine_euler_steps_come_to_the_same():
    (f, g), inputs = network(HOUSE), np.array([-5.0, 0.2, 4.0])
    a, b = discretise({name: np.array(x) for name, x in HOUSE.items()}, HOURS_A_STEP)
    exact = fine = np.array([20.0, 17.0])
    parts = 20_000
    for _ in range(4):
        exact = a @ exact + b @ inputs
        for _ in range(parts):
            fine = fine + (f @ fine + g @ inputs) * HOURS_A_STEP / parts
    np.testing.assert_allclose(exact, fine, atol=1e-4)


def test_at_rest_the_heat_is_the_loss():
    a, b = discretise({name: np.array(x) for name, x in HOUSE.items()}, 1e4)  # hours: long enough to come to rest
    indoor, envelope = a @ [15.0, 15.0] + b @ [-5.0, 0.0, 4.0]
    assert indoor == pytest.approx(-5 + 4.0 / float(heat_loss(HOUSE)))
    # The envelope divides the path through it: R_ie to the one side, 1 / transmission to the other.
    assert (indoor - envelope) / INDOOR_RESISTANCE == pytest.approx(HOUSE["transmission"] * (envelope + 5))
    assert float(heat_loss(HOUSE)) == pytest.approx(0.05 + 1 / (0.9 + 1 / 0.2))


def test_energy_is_conserved():
    """What comes in and does not go out is stored; flows are integrated over steps of 0.4 s."""
    hours = 1e-4
    a, b = discretise({name: np.array(x) for name, x in HOUSE.items()}, hours)
    inputs, now = np.array([2.0, 0.3, 5.0]), np.array([19.0, 16.0])
    first, gained = now, 0.0
    for _ in range(5000):
        indoor, envelope = now
        out = HOUSE["ventilation"] * (indoor - 2.0) + HOUSE["transmission"] * (envelope - 2.0)
        gained += (5.0 + HOUSE["aperture"] * 0.3 - out) * hours
        now = a @ now + b @ inputs
    stored = INDOOR_CAPACITY * (now - first)[0] + HOUSE["thermal_mass"] * (now - first)[1]
    assert stored == pytest.approx(gained, rel=1e-4)


def test_time_constants_are_those_of_houses():
    """Minutes to an hour of the air, half a day to a week of the envelope."""
    eigenvalues = np.array([np.linalg.eigvals(network(mdp)[0]) for mdp in HOUSES])
    fast, slow = np.sort(-1 / eigenvalues, axis=1).T
    assert ((fast > 0.25) & (fast < 1.0)).all()
    assert ((slow > 10) & (slow < 200)).all()


def test_the_simulator_steps_the_network():
    simulator = THERMOSTAT.simulator([HOUSE], seed=3)
    simulator.reset()
    (f, g), before = network(HOUSE), simulator.temperatures[0]
    ahead = simulator.forecast(8)
    for t in range(8):
        step = simulator.step(np.ones((1, 1)))
        heat = float(capacity(HOUSE)) * step.observations[0, OUTPUT] + ahead.gains[0, t]
        whole = expm(np.block([[f, g], [np.zeros((3, 5))]]) * HOURS_A_STEP)
        before = whole[:2, :2] @ before + whole[:2, 2:] @ [ahead.outdoor[0, t], ahead.sun[0, t], heat]
        np.testing.assert_allclose(simulator.temperatures[0], before, rtol=1e-6)
        assert step.observations[0, INDOOR] == pytest.approx(before[0], rel=1e-5)
        assert step.infos["envelope"][0] == pytest.approx(before[1], rel=1e-5)


# ---------------------------------------------------------------------- the heat pump


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_the_heat_pump_keeps_its_limits(commands):
    output, held, run, runs = np.zeros(1), np.full(1, MINIMUM_OFF), MINIMUM_OFF, []
    for command in commands:
        before = output[0]
        output, held = plant(np.array([command]), output, held)
        now = output[0]
        assert now == 0 or MINIMUM <= now <= 1
        if (now > 0) == (before > 0):
            run += 1
            assert before == 0 or abs(now - before) <= RAMP + 1e-12
        else:
            runs.append((before > 0, run))
            run = 1
            assert now in (0, MINIMUM)
        assert held[0] == run
    for was_on, length in runs:
        assert length >= (MINIMUM_ON if was_on else MINIMUM_OFF)


def test_the_heat_pump_follows_where_it_may():
    def after(command, output, held):
        return [float(x) for x in plant(np.array(command), np.array(output), np.array(held))]

    assert after(0.6, 0.5, 5) == [0.6, 6]
    assert after(1.0, 0.5, 5) == [0.85, 6]
    assert after(0.2, 0.5, 5) == [MINIMUM, 6]  # asked for less than it can
    assert after(0.1, 0.5, 5) == [0.0, 1]
    assert after(0.0, 0.5, 1) == [MINIMUM, 2]  # not yet on for its least time
    assert after(1.0, 0.0, 1) == [0.0, 2]  # nor off
    assert after(1.0, 0.0, 2) == [MINIMUM, 1]


def test_efficiency_falls_with_the_cold():
    assert efficiency(np.array(7.0)) == pytest.approx(6.81 - 0.121 * 38 + 0.00063 * 38**2)
    assert (np.diff(efficiency(np.linspace(-14, 20, 50))) > 0).all()
    assert 1.9 < efficiency(np.array(-12.0)) < efficiency(np.array(15.0)) < 5
    assert float(capacity(HOUSE)) == pytest.approx(1.5 * float(heat_loss(HOUSE)) * 32)


# ---------------------------------------------------------------------- surroundings


def test_weather_is_a_heating_season_and_repeats_with_its_seed():
    weeks = [draw_surroundings(np.random.default_rng(k), 7) for k in range(200)]
    outdoor, sun = np.array([w.outdoor for w in weeks]), np.array([w.sun for w in weeks])
    assert 1 < outdoor.mean() < 5 and 3 < outdoor.std() < 7
    assert outdoor.min() > -25 and outdoor.max() < 30
    hours = np.arange(outdoor.shape[1]) * HOURS_A_STEP % 24
    assert outdoor[:, hours == 14].mean() > outdoor[:, hours == 5].mean() + 2
    assert sun[:, (hours < 5) | (hours > 20)].max() < 1e-6 and 0.8 < 24 * sun.mean() < 2.0  # kWh/(m² day)
    # A front stays: a day later its half is left, a week later nothing.
    seasonless = outdoor - outdoor.mean(0)
    kept = [np.corrcoef(seasonless[:, 0], seasonless[:, lag])[0, 1] for lag in (4, 96)]
    assert kept[0] > 0.9 > kept[1] > 0.4
    for one, other in zip(weeks[3], draw_surroundings(np.random.default_rng(3), 7), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_clear_sky_of_an_equinox():
    noon = clear_sky(np.array(79.5))  # the sun stands 90 - 52 degrees high
    height = np.sin(np.radians(38.0))
    assert noon == pytest.approx(1.098 * height * np.exp(-0.057 / height), rel=0.02)
    assert clear_sky(np.array(79.0)) < 1e-6


def test_tariff_and_schedule_by_hand():
    np.testing.assert_array_equal(
        price(np.array([0, 5.75, 6, 16.75, 17, 20.75, 21])), [0.2, 0.2, 0.28, 0.28, 0.42, 0.42, 0.28]
    )
    flags = np.array([0, 0, 1, 1, 0], bool)
    np.testing.assert_array_equal(hours_until(flags), [0.5, 0.25, 0, 0, 24])
    occupancy = np.concatenate([draw_surroundings(np.random.default_rng(k), 7).occupancy for k in range(50)])
    assert 0.15 < (occupancy == AWAY).mean() < 0.35 < (occupancy == HOME).mean() < 0.55


def test_test_weeks_have_weather_of_their_own():
    train, test = (THERMOSTAT.simulator([HOUSE] * 3, seed).reset() for seed in (0, 1))
    assert len({row[OUTDOOR].item() for row in (*train, *test)}) == 6


# ---------------------------------------------------------------------- the reward


def observed(**columns):
    found = np.zeros(14)
    for name, value in columns.items():
        found[
            {
                "indoor": INDOOR,
                "outdoor": OUTDOOR,
                "price": PRICE,
                "home": AT_HOME,
                "asleep": SLEEPING,
                "output": OUTPUT,
            }[name]
        ] = value
    return found


def test_reward_by_hand():
    before, after = observed(outdoor=7.0, price=0.3, home=1), observed(indoor=18.5, output=0.5)
    loss, cop = float(heat_loss(HOUSE)), float(efficiency(np.array(7.0)))
    used, usual = 0.25 * 0.5 * float(capacity(HOUSE)) / cop, 0.25 * loss * (BASE - 7) / cop
    reward = THERMOSTAT.reward(HOUSE, before, np.zeros(1), after, {})
    assert reward == pytest.approx(0.3 * (usual - used) - DISCOMFORT * 0.25 * 1.5)  # wanted: 20 ... 22


@pytest.mark.parametrize(
    ("when", "indoor", "kelvin"),
    [
        ({"home": 1}, 20.0, 0.0),
        ({"home": 1}, 19.0, 1.0),
        ({"home": 1}, 23.5, 1.5),
        ({"asleep": 1}, 16.0, 0.0),
        ({"asleep": 1}, 15.0, 1.0),
        ({"asleep": 1}, 22.5, 0.5),
        ({}, 5.0, 0.0),
    ],
)
def test_discomfort_is_kelvin_hours_out_of_the_band(when, indoor, kelvin):
    assert discomfort(HOUSE, observed(**when), observed(indoor=indoor)) == pytest.approx(kelvin * HOURS_A_STEP)
    low, high = band(HOUSE, observed(asleep=1))
    assert (low, high) == (21 - BAND - SLEEPS_COOLER, 21 + BAND)


def test_differences_of_returns_are_those_of_cost_and_discomfort():
    gaps = []
    for command in (-1.0, 0.2):
        simulator, now, total, spent = THERMOSTAT.simulator([HOUSE], seed=0), None, 0.0, 0.0
        now = simulator.reset()
        for _ in range(96):
            step = simulator.step(np.full((1, 1), command))
            total += float(step.rewards[0])
            spent += float(now[0, PRICE] * step.infos["electricity"][0] + DISCOMFORT * step.infos["discomfort"][0])
            now = step.observations
        gaps.append(total + spent)
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-4) and gaps[0] > 1


def test_what_the_plant_does_is_observed():
    simulator = THERMOSTAT.simulator([HOUSE], seed=0)
    simulator.reset()
    seen = [simulator.step(np.full((1, 1), c)).observations[0, [OUTPUT, HELD]] for c in (1, 1, 1, -1, 1)]
    expected = [[0.3, 0.25], [0.65, 0.5], [1.0, 0.75], [0.0, 0.25], [0.0, 0.5]]
    np.testing.assert_allclose(seen, expected, atol=1e-6)
