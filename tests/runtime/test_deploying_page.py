"""docs/deploying.md: what it shows runs."""

import re
from pathlib import Path

import numpy as np
import pytest

from torture.policies import write_policy

PAGE = (Path(__file__).parents[2] / "docs" / "deploying.md").read_text()
LOOP, RESTART, LOGS, FAMILIAR = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
BROKEN = 3  # the step whose sensors fail


class Plant:
    """Something to control: it drifts, and one of its sensors fails once."""

    def __init__(self):
        self.rng, self.step, self.actions, self.alarms = np.random.default_rng(0), 0, [], []

    def read_sensors(self):
        return [0.1, 0.2, np.nan if self.step == BROKEN else 0.3]

    def running(self):
        return self.step < 10

    def apply(self, action):
        self.actions.append(action)
        self.step += 1
        return self.rng.normal(), self.read_sensors()

    def alarm(self, reason):
        self.alarms.append(reason)


@pytest.fixture
def place(tmp_path, monkeypatch):
    write_policy(tmp_path / "policy", "candidates")
    monkeypatch.chdir(tmp_path)


def test_the_examples(place):
    plant = Plant()
    names = {name: getattr(plant, name) for name in ("read_sensors", "running", "apply", "alarm")}
    exec(LOOP, names)
    policy, state = names["policy"], names["state"]
    np.testing.assert_array_equal(plant.actions[BROKEN], policy.fallback)
    assert plant.alarms == ["observation[2] is nan, outside [-4, 4]"]
    assert state.steps.tolist() == [8]  # neither the transition to the broken reading, nor the one from it

    exec(RESTART, names)
    np.testing.assert_array_equal(names["state"].episode, state.episode)

    rng = np.random.default_rng(0)
    names |= {name: rng.uniform(-1, 1, (7, 3)) for name in ("seen", "seen_next")}
    names |= {"done": rng.uniform(0, 1, (7, 2)), "paid": 9 * np.ones(7)}
    exec(LOGS, names)
    assert names["state"].logs_size.tolist() == [7]
    exec(FAMILIAR, names)
    assert plant.alarms[1:] == ["this building is unlike all in the logs"]


def test_the_loop_has_ten_lines_after_its_import():
    assert len([line for line in LOOP.splitlines() if line and not line.startswith("from")]) <= 10
