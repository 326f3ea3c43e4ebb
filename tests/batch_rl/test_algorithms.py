"""The contract of phase 1, for every algorithm: values of small MDPs that are known, and exact training."""

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest
from batch_rl import toys
from networks import reference

from bmrl import parallel
from bmrl.batch_rl import SAC, SVG, TD3BC
from bmrl.batch_rl import teach as teaching
from bmrl.batch_rl.base import window_of
from bmrl.batch_rl.replay import Replay
from bmrl.batch_rl.teach import Taught, TeachConfig, teach
from bmrl.runs.checkpoint import latest_checkpoint
from bmrl.runs.metrics import Metrics, read_metrics

GAMMA = 0.5


def probe(steps, episodes=8):
    """Episodes of steps (s, reward, s', end), where end is "", "terminated" or "truncated".

    The observation is [s, 0, 0]; actions are uniform. The number s' and the reward may be functions of (a, s),
    where a is the action's first component: the second has no effect.
    """
    rng = np.random.default_rng(0)
    out, observations = [], []
    for _ in range(episodes):
        for s, reward, s_next, end in steps:
            if not observations:
                observations, actions, rewards = [[s, 0, 0]], [], []
            action, s = rng.uniform(-1, 1, 2), observations[-1][0]
            reward, s_next = (x(action[0], s) if callable(x) else x for x in (reward, s_next))
            observations.append([s_next, 0, 0])
            actions.append(action)
            rewards.append(reward)
            if end:
                out.append((np.array(observations), np.array(actions), np.array(rewards), end == "terminated"))
                observations = []
    return out


PROBES = {
    # What is observed after a terminal step looks like a state worth 1, and must not be read.
    "a terminal reward": probe([(0, 1, 0, "terminated")], 16),
    "two steps": probe([(0, 0, 1, ""), (1, 1, 0, "terminated")]),
    "a time-out is bootstrapped through": probe([(0, 0, 1, "truncated"), (1, 1, 0, "terminated")]),
    "a self-loop for ever": probe([(0, 1, 0, "")] * 3 + [(0, 1, 0, "truncated")], 5),
    "the action pays": probe([(0, lambda a, s: a, 0, "terminated")], 64),
    "the opposite pays": probe([(0, lambda a, s: -a, 0, "terminated")], 64),
    "the action pays later": probe([(0, 0, lambda a, s: a, ""), (None, lambda a, s: s, 0, "terminated")], 200),
}
VALUES = {  # of states s, whatever the action
    "a terminal reward": {0: 1.0},
    "two steps": {0: GAMMA, 1: 1.0},
    "a time-out is bootstrapped through": {0: GAMMA, 1: 1.0},
    "a self-loop for ever": {0: 1 / (1 - GAMMA)},
}
SLOPES = {"the action pays": 1.0, "the opposite pays": -1.0, "the action pays later": GAMMA}  # of Q(0, a) in a


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    return toys.replay(tmp_path_factory.mktemp("probes"), PROBES.values())


@pytest.fixture(scope="module", params=toys.ALGORITHMS)
def algorithm(request):
    return toys.ALGORITHMS[request.param]


def train(algorithm, replay, directory, updates, seed=0, checkpoint_seconds=1e9):
    metrics = Metrics(directory / "metrics.csv")
    config = TeachConfig(algorithm, updates)
    taught = teach(replay, config, seed, directory / "checkpoints", metrics, "teach", checkpoint_seconds)
    assert (taught.diverged == -1).all()
    return taught.states


@pytest.fixture(scope="module")
def learners(algorithm, replay, tmp_path_factory):
    """One learner a probe, trained to the end."""
    return train(algorithm, replay, tmp_path_factory.mktemp("trained"), 1000)


@pytest.fixture(scope="module")
def offers(algorithm):
    """act and targets of K learners, [K, n, ...], compiled."""
    act = parallel.over_learners(algorithm.act)
    return act, parallel.over_learners(algorithm.targets)


def every(values):
    """The same for each learner."""
    return np.broadcast_to(np.asarray(values, np.float32), (len(PROBES), *np.shape(values)))


KEYS = np.asarray(jax.random.split(jax.random.PRNGKey(1), len(PROBES)))


def bits(tree):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def learner(tree, k):
    return jax.tree.map(lambda x: x[k], tree)


# ---------------------------------------------------------------------- what it learns


def test_the_values_of_the_probes_are_the_known_ones(learners, offers):
    s, a = np.zeros((18, 3)), np.zeros((18, 2))
    s[9:, 0], a[:, 0] = 1, np.tile(np.linspace(-0.8, 0.8, 9), 2)
    values = np.asarray(offers[1](learners, every(s), every(a), KEYS).values).reshape(len(PROBES), 2, 9)
    for k, name in enumerate(PROBES):
        for state, known in VALUES.get(name, {}).items():
            np.testing.assert_allclose(values[k, state], known, atol=0.1, err_msg=name)
        if name in SLOPES:
            np.testing.assert_allclose(values[k, 0], SLOPES[name] * a[:9, 0], atol=0.15, err_msg=name)


def test_the_policy_picks_the_action_that_pays(learners, offers):
    actions = np.asarray(offers[0](learners, every(np.zeros((18, 3))), KEYS))
    for k, name in enumerate(PROBES):
        if name in SLOPES:
            assert (np.sign(SLOPES[name]) * actions[k, :, 0] > 0.1).all(), (name, actions[k])


# ---------------------------------------------------------------------- what it offers


def test_actions_lie_in_the_unit_box_and_depend_on_the_key_alone(learners, offers):
    s = every(np.linspace(-50, 50, 54).reshape(18, 3))
    one, again = offers[0](learners, s, KEYS), offers[0](learners, s, KEYS)
    assert one.shape == (len(PROBES), 18, 2)
    assert np.abs(one).max() <= 1
    assert bits(one) == bits(again)


def test_the_targets_are_those_of_the_networks(algorithm, learners, offers):
    rng = np.random.default_rng(0)
    s, a = rng.normal(size=(18, 3)), rng.uniform(-1, 1, (18, 2))
    targets = offers[1](learners, every(s), every(a), KEYS)
    assert bits(targets) == bits(offers[1](learners, every(s), every(a), KEYS))
    for k in (0, 4):
        one, state = learner(targets, k), learner(learners, k)
        for i in range(18):
            row = reference.normalise(state.normaliser, s[i])
            values = [reference.critic(state.critics, member, row, a[i]) for member in range(2)]
            if isinstance(algorithm, SAC):
                assert one.values[i] == pytest.approx(min(values), rel=1e-4, abs=1e-5)
                continue
            assert one.values[i] == pytest.approx(values[0], rel=1e-4, abs=1e-5)
            if isinstance(algorithm, TD3BC | SVG):
                action = np.tanh(reference.mlp(state.actor, row))
                np.testing.assert_allclose(one.candidates[i], action, rtol=1e-4, atol=1e-5)
                continue
            candidate = np.tanh(reference.mlp(state.generator.decoder, [*row, *one.latents[i]]))
            np.testing.assert_allclose(one.candidates[i], candidate, rtol=1e-4, atol=1e-5)
            # The correction is that of the candidate, not of the logged action.
            corrected = 0.05 * np.tanh(reference.mlp(state.perturbation, [*row, *candidate]))
            np.testing.assert_allclose(one.corrections[i], corrected, rtol=1e-3, atol=1e-5)
    if isinstance(algorithm, SAC):
        assert targets.latents is targets.candidates is targets.corrections is None
    elif isinstance(algorithm, TD3BC | SVG):
        assert targets.latents.shape == (len(PROBES), 18, 0) and targets.corrections is None
    else:
        assert targets.latents.shape == (len(PROBES), 18, 4)
        assert np.abs(targets.latents).max() <= 0.5
        assert len(np.unique(targets.latents, axis=0)) == len(PROBES)
        assert len(np.unique(targets.latents[0], axis=0)) == 18  # one z a transition


# ---------------------------------------------------------------------- how it is trained


@pytest.fixture(params=["on the CPU", "on an accelerator"])
def where(request, monkeypatch):
    """The programs of the CPU, and those of an accelerator on the CPU."""
    monkeypatch.setattr(parallel, "on_cpu", lambda: request.param == "on the CPU")
    monkeypatch.setattr(teaching, "_programs", functools.lru_cache(teaching._programs.__wrapped__))


@pytest.mark.usefixtures("where")
def test_many_learners_at_once_equal_a_loop_of_single_ones(algorithm, replay, tmp_path):
    window = window_of(algorithm)
    start, end = (train(algorithm, replay, tmp_path / str(updates), updates) for updates in (0, 12))
    for k, key in enumerate(parallel.learner_keys(0, "teach", len(PROBES))):
        state = learner(start, k)
        for i in range(12):  # more than teach runs in one call of its program
            sample_key, update_key = jax.random.split(jax.random.fold_in(key, i))
            first = jax.random.randint(sample_key, (algorithm.batch_size,), 0, replay.size[k] - window + 1)
            index = first if window == 1 else first[:, None] + np.arange(window)
            state, _ = toys.update(algorithm)(state, replay.logs[k].take(np.asarray(index)), update_key)
        for one, many in zip(jax.tree.leaves(state), jax.tree.leaves(learner(end, k)), strict=True):
            np.testing.assert_allclose(one, many, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("where")
def test_a_learner_that_diverges_stays_where_it_was_alone(replay, tmp_path):
    first, second, *rest = replay.logs
    replay = Replay((first, second._replace(rewards=second.rewards + np.float32(1e30)), *rest))
    config, found = TeachConfig(toys.ALGORITHMS["td3_bc"], 60), {}
    for updates in (0, 60):
        place = tmp_path / str(updates)
        some = replace(config, updates=updates)
        found[updates] = teach(replay, some, 0, place / "checkpoints", Metrics(place / "metrics.csv"), "teach", 1e9)
    assert found[60].diverged.tolist() == [-1, 0, *[-1] * len(rest)]
    for k in range(len(PROBES)):
        assert (bits(learner(found[60].states, k)) == bits(learner(found[0].states, k))) == (k == 1)


def test_the_same_seed_gives_the_same_learners_bit_for_bit(algorithm, replay, tmp_path):
    one, again, other = (train(algorithm, replay, tmp_path / str(i), 5, seed) for i, seed in enumerate((3, 3, 4)))
    assert bits(one) == bits(again)
    assert bits(one) != bits(other)


def test_nothing_is_compiled_twice(algorithm, replay, learners, tmp_path, caplog):
    assert toys.compiled(caplog, lambda: jax.jit(lambda x: x + 1)(0.0))  # would be seen
    assert toys.compiled(caplog, lambda: train(algorithm, replay, tmp_path, 5, seed=9)) == []


def test_a_learner_knows_nothing_of_the_others(algorithm, replay, tmp_path):
    first, second, *rest = replay.logs
    changed = Replay((first, second._replace(rewards=second.rewards + 1), *rest))
    one = train(algorithm, replay, tmp_path / "one", 5)
    other = train(algorithm, changed, tmp_path / "other", 5)
    for k in range(len(PROBES)):
        same = bits(learner(one, k)) == bits(learner(other, k))
        assert same == (k != 1)


def test_learners_start_from_the_same_weights_and_their_own_statistics(algorithm, replay, tmp_path):
    start = train(algorithm, replay, tmp_path, 0)
    assert bits(learner(start.critics, 0)) == bits(learner(start.critics, 5))
    for k, mean in ((0, 0.0), (1, 1 / 3)):
        np.testing.assert_allclose(start.normaliser.mean[k], [mean, 0, 0], atol=1e-6)


def test_a_killed_training_goes_on_exactly(algorithm, replay, tmp_path, monkeypatch, caplog):
    whole = train(algorithm, replay, tmp_path / "whole", 50)

    toys.kill_at_log(monkeypatch, 4)
    with pytest.raises(toys.Killed):
        train(algorithm, replay, tmp_path / "killed", 50, checkpoint_seconds=0)
    monkeypatch.undo()
    template = Taught(whole, np.zeros(len(PROBES), np.int32))
    step, _ = latest_checkpoint(tmp_path / "killed" / "checkpoints", template)
    assert 0 < step < 50
    resumed = []
    assert toys.compiled(caplog, lambda: resumed.append(train(algorithm, replay, tmp_path / "killed", 50))) == []
    assert bits(resumed[0]) == bits(whole)
    assert read_metrics(tmp_path / "killed/metrics.csv") == read_metrics(tmp_path / "whole/metrics.csv")


# ---------------------------------------------------------------------- where memory is short


def small_device(monkeypatch, room, after):
    """A device with room for so many learners, once training has got ``after`` some updates; the sizes it was given."""
    programs, sizes = teaching._programs, []

    def limited(*args):
        init, draw, program = programs(*args)

        def run(states, alive, batches, keys, step, steps):
            if step >= after:
                sizes.append(len(alive))
                if len(alive) > room:
                    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
            return program(states, alive, batches, keys, step, steps)

        return init, draw, run

    monkeypatch.setattr(teaching, "_programs", limited)
    return sizes


def test_a_device_that_is_full_trains_fewer_learners_at_a_time(replay, tmp_path, monkeypatch, caplog):
    algorithm = toys.ALGORITHMS["td3_bc"]
    whole = train(algorithm, replay, tmp_path / "whole", 50)
    sizes = small_device(monkeypatch, room=4, after=20)
    found = train(algorithm, replay, tmp_path / "small", 50, checkpoint_seconds=0)
    assert sizes[:4] == [len(PROBES), 4, len(PROBES) - 4, 4]  # from the checkpoint after 20 updates on
    assert bits(found) == bits(whole)
    assert read_metrics(tmp_path / "small/metrics.csv") == read_metrics(tmp_path / "whole/metrics.csv")
    assert "teach: the device's memory is full: from now on 4 learners at a time" in caplog.text


def test_a_device_without_room_for_one_learner_is_told(replay, tmp_path, monkeypatch):
    sizes = small_device(monkeypatch, room=0, after=0)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        train(toys.ALGORITHMS["td3_bc"], replay, tmp_path, 50)
    assert sizes == [len(PROBES), 4, 2, 1]
