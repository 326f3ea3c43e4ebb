"""Tiny algorithms and tiny batches, written to the disk and read back as training reads them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from networks import reference

from bmrl.batch_rl import BCQ, SAC, SVG, TD3BC
from bmrl.batch_rl.replay import minibatches, stack
from bmrl.data import read_batches, write_batch
from bmrl.networks import Normaliser
from bmrl.runs.metrics import Metrics
from bmrl.types import Spec, Transition

SPEC = Spec(3, 2)

ALGORITHMS = {
    "sac": SAC(hidden=(32,), batch_size=32, learning_rate=1e-2, discount=0.5, target_rate=0.1),
    "bcq": BCQ((32,), (32,), batch_size=32, learning_rate=1e-2, discount=0.5, target_rate=0.1),
    "td3_bc": TD3BC((32,), batch_size=32, learning_rate=1e-2, discount=0.5, target_rate=0.1),
    "svg": SVG(
        (32,),
        (32,),
        16,
        window=3,
        learning_rate=1e-2,
        actor_rate=1e-2,
        model_updates=300,
        policy_updates=300,
        discount=0.5,
        target_rate=0.1,
    ),
}


@functools.cache
def update(algorithm):
    """One learner's update, compiled once for all tests."""
    return reference.jit(algorithm.update)


def compiled(caplog, function):
    """The names of the programs that JAX compiles in a call."""
    caplog.clear()
    with jax.log_compiles():
        function()
    return [r.getMessage().split()[1] for r in caplog.records if r.getMessage().startswith("Compiling ")]


class Killed(Exception):
    """The power went out."""


def kill_at_log(monkeypatch, call):
    """End training at the given call of Metrics.log, after its rows are written."""
    original, calls = Metrics.log, []

    def log(self, *args):
        original(self, *args)
        calls.append(args)
        if len(calls) == call:
            raise Killed

    monkeypatch.setattr(Metrics, "log", log)


def minibatch(n=32):
    rng = np.random.default_rng(0)
    s, s_next = rng.normal(size=(2, n, 3)).astype(np.float32)
    actions = rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    return Transition(s, actions, rng.normal(size=n).astype(np.float32), s_next, rng.random(n) < 0.3)


def state(algorithm):
    """A learner whose targets have weights of their own: mistaking one network for another is seen."""
    normaliser = Normaliser(jnp.array([0.1, -0.2, 0.3]), jnp.array([1.5, 0.5, 2.0]))
    state = reference.filled(lambda: algorithm.init(jax.random.PRNGKey(0), SPEC, normaliser))
    optimisers = {name: reference.zeros(getattr(state, name)) for name in state._fields if "optimiser" in name}
    return state._replace(normaliser=normaliser, **optimisers)


def write(directory, mdps):
    """Each MDP is a list of episodes: (observations [T + 1, d_s], actions [T, d_a], rewards [T], terminated)."""
    for k, episodes in enumerate(mdps):
        observations, actions, rewards, terminated = zip(*episodes, strict=True)
        last = np.cumsum([len(r) for r in rewards]) - 1
        terminations = np.zeros(last[-1] + 1, bool)
        terminations[last] = terminated
        truncations = np.zeros(last[-1] + 1, bool)
        truncations[last] = ~np.array(terminated)
        write_batch(
            directory / f"mdp-{k:03d}",
            observations=np.concatenate(observations),
            actions=np.concatenate(actions),
            rewards=np.concatenate(rewards),
            terminations=terminations,
            truncations=truncations,
            mdp={"secret": float(k)},
            family="toy",
            provenance={},
        )
    return read_batches(directory)


def replay(directory, mdps):
    """The batches of ``write`` as training reads them."""
    return stack(write(directory, mdps))


def episodes_of(log):
    """Each episode's transitions."""
    starts = log.starts(np.arange(log.size))
    return [log.take(np.flatnonzero(starts == start)) for start in np.unique(starts)]


def padded(replay):
    """All transitions of K logs, [K, n, ...]; a log's last one is repeated to the length of the longest."""
    index = np.arange(replay.size.max())
    return minibatches(replay, np.minimum(index, replay.size[:, None] - 1))


def numbered(lengths, mdp=0, observation_dim=2):
    """Episodes of the given lengths whose every number says where it comes from; every other one terminates.

    Transition t (counted over all episodes) has reward 1000 * mdp + t + 1: never the zero of padding.
    """
    episodes, t = [], 0
    for e, length in enumerate(lengths):
        observations = 1000 * mdp + 100 * e + np.arange(length + 1)[:, None] + np.zeros(observation_dim)
        rewards = 1000 * mdp + t + 1 + np.arange(length)
        actions = rewards[:, None] / 1e4
        episodes.append((observations, actions, rewards, e % 2 == 0))
        t += length
    return episodes
