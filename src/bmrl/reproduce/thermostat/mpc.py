"""Model predictive control of a house that is known, with a forecast: what a policy could do at best."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import bmat, coo_matrix, diags, eye

from bmrl.evaluate.rollout import Episodes
from bmrl.families.base import Array, Parameters
from bmrl.families.thermostat import (
    BAND,
    DISCOMFORT,
    OUTPUT,
    SLEEPS_COOLER,
    ThermostatFamily,
    capacity,
    discretise,
    efficiency,
)
from bmrl.families.weather import ASLEEP, AWAY, HOURS_A_STEP, STEPS_A_DAY, Surroundings, price

AHEAD = 2 * STEPS_A_DAY  # steps of the plan
REPLAN = 4  # steps between two plans
MEAN_SUN, MEAN_GAINS = 0.06, 0.45  # kW/m² and kW, of the heating season


def plan(mdp: Parameters, temperatures: Array, hours: Array, ahead: Surroundings) -> Array:
    """The cheapest outputs [steps] in 0 ... 1 for one house, by a linear programme.

    The house is exact; of the heat pump's limits only the capacity is kept, so that the plan is the better for it.
    Variables: outputs u, temperatures T_i and T_e after each step, K below and above the band.

    Args:
        mdp: the house.
        temperatures: [2], T_i and T_e now.
        hours: [steps] of the day.
        ahead: what will act on the house, [steps] each.
    """
    n = len(hours)
    a, b = discretise({name: np.asarray(value) for name, value in mdp.items()}, HOURS_A_STEP)
    inputs = np.stack([ahead.outdoor, ahead.sun, ahead.gains])  # [3, steps]
    heat = float(capacity(mdp))
    shift, unit, none = eye(n, k=-1), eye(n), coo_matrix((n, n))
    # T(k + 1) = A T(k) + B inputs(k), both temperatures
    rows = [
        [-b[0, 2] * heat * unit, unit - a[0, 0] * shift, -a[0, 1] * shift, none, none],
        [-b[1, 2] * heat * unit, -a[1, 0] * shift, unit - a[1, 1] * shift, none, none],
    ]
    right = b @ inputs
    right[:, 0] += a @ temperatures
    someone, asleep = ahead.occupancy != AWAY, ahead.occupancy == ASLEEP
    low = mdp["comfort_temperature"] - BAND - SLEEPS_COOLER * asleep
    high = np.full(n, mdp["comfort_temperature"] + BAND)
    counted = diags(someone.astype(float))
    limits = [[none, -counted, none, -unit, none], [none, counted, none, none, -unit]]
    money = price(hours) * heat * HOURS_A_STEP / efficiency(ahead.outdoor)
    worse = np.full(n, DISCOMFORT * HOURS_A_STEP)
    found = linprog(
        np.concatenate([money, np.zeros(2 * n), worse, worse]),
        A_ub=bmat(limits, "csr"),
        b_ub=np.concatenate([-low * someone, high * someone]),
        A_eq=bmat(rows, "csr"),
        b_eq=right.ravel(),
        bounds=[(0.0, 1.0)] * n + [(None, None)] * (2 * n) + [(0.0, None)] * (2 * n),
        method="highs",
    )
    outputs: Array = found.x[:n]
    return outputs


def run_mpc(family: ThermostatFamily, mdps: Sequence[Parameters], seed: int, perfect: bool) -> Episodes:
    """A week of each house under plans that are made anew every hour, from the true temperatures of air and envelope.

    What the plant makes of an output that it cannot have is owed to the next step. ``perfect``: the plan knows all that
    will come; else it takes the outdoor temperature of now, the mean sun and the mean gains to stay, and knows the
    occupants' schedule alone.
    """
    simulator = family.simulator(mdps, seed)
    observations, actions, rewards, infos = [simulator.reset()], [], [], []
    plans, owed = np.zeros((simulator.n, REPLAN)), np.zeros(simulator.n)
    for t in range(family.horizon):
        if t % REPLAN == 0:
            ahead, temperatures = simulator.forecast(AHEAD), simulator.temperatures
            ahead = ahead if perfect else persistent(ahead)
            hours = (t + np.arange(AHEAD)) % STEPS_A_DAY * HOURS_A_STEP
            for slot, mdp in enumerate(mdps):
                house = Surroundings(*(x[slot] for x in ahead))
                plans[slot] = plan(mdp, temperatures[slot], hours, house)[:REPLAN]
        wanted = plans[:, t % REPLAN]
        action = (2 * np.clip(wanted + owed, 0.0, 1.0) - 1).astype(np.float32)[:, None]
        step = simulator.step(action)
        owed = np.clip(owed + wanted - step.observations[:, OUTPUT], -0.5, 0.5)
        observations.append(step.observations)
        actions.append(action)
        rewards.append(step.rewards)
        infos.append(step.infos)
    return Episodes(
        np.stack(observations, 1),
        np.stack(actions, 1),
        np.stack(rewards, 1),
        np.full(simulator.n, family.horizon),
        np.ones(simulator.n, bool),
        {name: np.stack([info[name] for info in infos], 1) for name in family.info_names},
        None,
        None,
    )


def persistent(ahead: Surroundings) -> Surroundings:
    """What a controller without a forecast takes to come."""
    return ahead._replace(
        outdoor=np.broadcast_to(ahead.outdoor[:, :1], ahead.outdoor.shape),
        sun=np.full_like(ahead.sun, MEAN_SUN),
        gains=np.full_like(ahead.gains, MEAN_GAINS),
    )
