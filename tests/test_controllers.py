"""Ordinary thermostats: what each does by hand, how users set them, and the logs that they leave."""

import numpy as np
import pytest

from bmrl.collect import ControllerLogs, log_controllers
from bmrl.controllers import KINDS, PI, SCHEDULE, ControllerAgent, Settings, users_settings
from bmrl.data import read_batches
from bmrl.errors import BmrlError
from bmrl.families import FAMILIES
from bmrl.families.thermostat import AT_HOME, COSINE, INDOOR, OUTPUT, SINE, THERMOSTAT, UNTIL_HOME
from bmrl.types import Transition


def settings(kind, **changed):
    """One thermostat at 20 °C."""
    values = {
        "kind": KINDS.index(kind),
        "setpoint": 20.0,
        "setback": 3.0,
        "deadband": 1.0,
        "warm_from": 6.0,
        "warm_until": 22.0,
        "gain": 0.5,
        "reset_time": 2.0,
        "start": 0.0,
        "offsets": np.zeros(4),
        **changed,
    }
    return Settings(**{name: np.array([value]) for name, value in values.items()})


def observed(indoor, hour=12.0, home=True, until=0.0):
    x = np.zeros((1, 14), np.float32)
    x[0, [INDOOR, AT_HOME, UNTIL_HOME]] = indoor, home, until
    x[0, [SINE, COSINE]] = np.sin(np.pi * hour / 12), np.cos(np.pi * hour / 12)
    return x


def drive(one, observations):
    """The outputs in 0 ... 1 that a thermostat asks for along some observations."""
    agent, outputs = ControllerAgent(one), []
    memory = agent.start(1)
    for now in observations:
        action = agent.act(memory, now, None)
        outputs.append((action.item() + 1) / 2)
        memory = agent.observe(memory, Transition(now, action, np.zeros(1), now, np.zeros(1, bool)))
    return outputs


def test_two_points_have_a_deadband_and_no_clock():
    seen = [observed(x, hour=3.0, home=False) for x in (19.4, 19.8, 20.4, 20.6, 19.8, 19.4)]
    assert drive(settings("hysteresis"), seen) == [1, 1, 1, 0, 0, 1]


def test_a_schedule_sets_back_by_the_clock():
    seen = [observed(18.0, hour=h) for h in (5.75, 6.25, 12, 21.75, 22.25, 2)]
    assert drive(settings(SCHEDULE), seen) == [0, 1, 1, 1, 0, 0]


def test_pi_follows_the_occupants_and_integrates():
    found = drive(settings(PI), [observed(19.5)] * 3)
    np.testing.assert_allclose(found, [0.25 + k * 0.5 * 0.5 * 0.25 / 2 for k in range(3)], rtol=1e-5)
    assert drive(settings(PI), [observed(19.0, home=False, until=5.0)]) == [0]


def test_pi_does_not_wind_up():
    cold, warm = [observed(15.0)] * 200, [observed(20.5)]
    assert drive(settings(PI), cold + warm)[-1] < 0.1
    hot, cool = [observed(25.0)] * 200, [observed(19.0)]
    assert drive(settings(PI), hot + cool)[-1] == pytest.approx(0.5)


def test_optimal_start_begins_the_earlier_the_colder_it_is():
    def asks(indoor, until):
        return drive(settings(PI, start=0.5), [observed(indoor, home=False, until=until)])[0] > 0

    assert [asks(18.0, until) for until in (1.25, 1.0, 0.5)] == [False, True, True]
    assert asks(16.0, 1.5) and not asks(19.5, 0.5)


def test_an_override_shifts_the_setpoint_for_its_hours():
    one = settings("hysteresis", offsets=np.array([0.0, 2.0, 2.0, 0.0]))
    assert drive(one, [observed(21.0)] * 4) == [0, 1, 1, 0]


def test_users_differ_between_houses_and_weeks_and_repeat_with_the_seed():
    mdps, kinds = THERMOSTAT.train_mdps()[:8], [[PI] * 40] * 8
    found = users_settings(mdps, kinds, seed=1)
    for one, other in zip(found, users_settings(mdps, kinds, seed=1), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(found.setpoint, users_settings(mdps, kinds, seed=2).setpoint)
    weeks = (found.setpoint - np.repeat([m["comfort_temperature"] for m in mdps], 40)).reshape(8, 40)
    assert 0.55 < weeks.std(1).mean() < 0.85 and 0.2 < weeks.mean(1).std() < 0.9
    for name in ("setback", "deadband", "warm_from", "gain", "reset_time"):
        assert len(np.unique(getattr(found, name))) == 320
    overridden = found.offsets != 0
    assert overridden.any(1).mean() > 0.9 and 0.01 < overridden.mean() < 0.1


def test_logs_are_the_controllers_alone(tmp_path):
    mdps = THERMOSTAT.train_mdps()[:2]
    log_controllers(THERMOSTAT, mdps, ControllerLogs(weeks=3), 0, tmp_path / "a")
    log_controllers(THERMOSTAT, mdps, ControllerLogs(weeks=3), 0, tmp_path / "b")
    for batch, again, mdp in zip(read_batches(tmp_path / "a"), read_batches(tmp_path / "b"), mdps, strict=True):
        np.testing.assert_array_equal(batch.observations, again.observations)
        assert (batch.size, batch.episodes) == (3 * 672, 3) and batch.manifest["mdp"] == mdp
        assert batch.manifest["provenance"] == {"collector": "controllers", "seed": 0, "weeks": 3}
        commands = batch.actions.reshape(3, 672)
        for week in commands[:2]:  # two-point control
            assert set(np.unique(week)) == {-1.0, 1.0}
        assert len(np.unique(commands[2])) > 30  # PI
        assert set(batch.infos) == {"electricity", "discomfort", "envelope"}
        assert batch.observations[:, OUTPUT].max() <= 1
        # The occupants are neither frozen nor boiled.
        assert batch.observations[:, INDOOR].min() > 10 and batch.observations[:, INDOOR].max() < 32


def test_other_families_have_no_controllers(tmp_path):
    family = FAMILIES["point-goal"]
    with pytest.raises(BmrlError, match="point-goal has no controllers"):
        log_controllers(family, family.train_mdps(), ControllerLogs(3), 0, tmp_path)
