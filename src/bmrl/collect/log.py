"""What every collection does: one row a step and MDP, one reset, one batch directory an MDP."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bmrl.data import write_batch
from bmrl.errors import BmrlError
from bmrl.families.base import Family, Parameters, Simulator


def empty_log(learners: int, transitions: int, family: Family) -> dict[str, np.ndarray]:
    """Room for so many transitions of each learner, {field: [learners, transitions, ...]}."""

    def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
        return np.zeros((learners, transitions, *shape), dtype)

    log = {
        "observations": zeros(family.observation_dim),
        "actions": zeros(family.action_dim),
        "rewards": zeros(),
        "next_observations": zeros(family.observation_dim),
        "terminations": zeros(dtype=bool),
        "truncations": zeros(dtype=bool),
    }
    return log | {f"infos.{name}": zeros() for name in family.info_names}


def record(
    log: dict[str, np.ndarray], t: int, now: np.ndarray, actions: np.ndarray, simulator: Simulator
) -> np.ndarray:
    """Step every MDP, write the transitions into row t, and start the next episodes: the one reset there is."""
    step = simulator.step(actions)
    log["observations"][:, t], log["actions"][:, t], log["rewards"][:, t] = now, actions, step.rewards
    log["next_observations"][:, t] = step.observations
    log["terminations"][:, t], log["truncations"][:, t] = step.terminations, step.truncations
    for name in simulator.family.info_names:
        log[f"infos.{name}"][:, t] = step.infos[name]
    if step.infos.get("invalid", np.zeros(1)).any():
        slot = simulator.first + int(step.infos["invalid"].argmax())
        raise BmrlError(f"mdp-{slot:03d}: the simulation became unstable at step {t}; nothing was written")
    ended = step.terminations | step.truncations
    return simulator.reset(ended) if ended.any() else step.observations


def write_log(path: Path, log: dict[str, np.ndarray], mdp: Parameters, family: Family, provenance: dict) -> None:
    """One MDP's log as a batch directory: an episode's last next observation becomes a row of its own."""
    truncations = log["truncations"].copy()
    truncations[-1] |= not log["terminations"][-1]  # the buffer's end cuts the last episode
    if (bounds := family.action_bounds(mdp)) is not None:  # for a policy that leaves its run
        provenance = provenance | {"action_bounds": [bound.tolist() for bound in bounds]}
    ends = np.flatnonzero(log["terminations"] | truncations)
    observations = np.insert(log["observations"], ends + 1, log["next_observations"][ends], axis=0)
    write_batch(
        path,
        observations=observations,
        actions=log["actions"],
        rewards=log["rewards"],
        terminations=log["terminations"],
        truncations=truncations,
        infos={name.removeprefix("infos."): x for name, x in log.items() if name.startswith("infos.")},
        mdp=mdp,
        family=family.name,
        provenance=provenance,
    )


def provenance(config: Any, seed: int) -> dict[str, Any]:
    """What a batch's manifest says of how it was made, as JSON values; ``config`` is a dataclass with a collector."""
    made: dict[str, Any] = json.loads(json.dumps({"collector": config.collector, "seed": seed, **asdict(config)}))
    return made
