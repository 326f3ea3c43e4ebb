"""Values of policies whose values are known, from logs of others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bmrl.batch_rl.fqe import FQE, Pairs
from bmrl.batch_rl.replay import Episodes, Replay
from bmrl.batch_rl.teach import teach
from bmrl.evaluate.judging import far_share, logged_returns
from bmrl.judge import JudgeConfig, cautions
from bmrl.runs.metrics import Metrics

GAMMA = 0.8


def log(terminated: bool, episodes: int = 60, length: int = 5, offset: float = 3.0) -> Episodes:
    """One state; uniform actions in [-1, 1]; the reward is the action plus an offset."""
    rng = np.random.default_rng(0)
    n = episodes * length
    actions = rng.uniform(-1, 1, (n, 1)).astype(np.float32)
    ends = length * np.arange(1, episodes + 1)
    terminations = np.isin(np.arange(n), ends - 1) & terminated
    return Episodes(np.zeros((n + episodes, 1), np.float32), actions, actions[:, 0] + offset, terminations, ends)


def always(action: float, of: Episodes) -> Pairs:
    return Pairs(of, np.full((len(of.observations), 1), action, np.float32), np.arange(len(of.ends)), GAMMA)


@pytest.mark.parametrize("terminated", [False, True])
def test_the_value_of_another_policy_is_found(terminated, tmp_path) -> None:
    """For ever 3 + a, or, where one step in five is the last, until then."""
    pairs = [always(action, log(terminated, episodes=3000)) for action in (-0.8, 0.8)]
    config = JudgeConfig(FQE(hidden=(32,), batch_size=64, learning_rate=3e-3, discount=GAMMA, target_rate=0.02), 800)
    taught = teach(Replay(tuple(pairs)), config, 0, tmp_path / "c", Metrics(tmp_path / "m.csv"), "fqe", 1e9)
    for k, (action, p) in enumerate(zip((-0.8, 0.8), pairs, strict=True)):
        state = jax.tree.map(lambda x, k=k: jnp.asarray(x[k]), taught.states)
        found = p.returns(state.values(p.first()) + p.lag(state)).mean()
        goes_on = GAMMA * (0.8 if terminated else 1.0)
        assert found == pytest.approx((3 + action) / (1 - goes_on), rel=0.06)


def test_what_was_logged_is_counted_to_its_end() -> None:
    """Rewards of 1: cut episodes go on as they were, terminated ones do not."""
    one = log(terminated=False)._replace(rewards=np.ones(300, np.float32))
    both = np.arange(len(one.ends))
    assert logged_returns(one, GAMMA).value(both, GAMMA) == pytest.approx(1 / (1 - GAMMA))
    ended = one._replace(terminations=log(terminated=True).terminations)
    assert logged_returns(ended, GAMMA).value(both, GAMMA) == pytest.approx((1 - GAMMA**5) / (1 - GAMMA))


def test_drawn_episodes_are_the_logs_own() -> None:
    """An episode that is drawn twice counts twice, each with its own transitions and starts."""
    whole = always(0.5, log(False, episodes=3, length=4))
    drawn = Pairs(whole.log, whole.chosen, np.array([2, 0, 2]), GAMMA)
    found = drawn.take(np.arange(12)).observations[:, 1]
    np.testing.assert_array_equal(found, whole.log.actions[[8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11], 0])
    np.testing.assert_array_equal(drawn.starts(np.arange(12)), np.repeat([0, 4, 8], 4))
    assert drawn.dims == (2, 0)
    assert drawn.first().tolist() == [[0.0, 0.5]] * 3


def test_actions_that_nobody_logged_are_far() -> None:
    rng = np.random.default_rng(0)
    one = log(False)._replace(observations=rng.normal(size=(360, 1)).astype(np.float32))
    rows = np.arange(300) + np.searchsorted(one.ends, np.arange(300), side="right")
    own = np.zeros((360, 1), np.float32)
    own[rows] = one.actions
    assert far_share(one, own, seed=0) == pytest.approx(0.05, abs=0.01)
    assert far_share(one, own + 3, seed=0) == 1.0
    assert np.isnan(far_share(one._replace(ends=one.ends[-1:]), own, seed=0))


def test_states_without_a_neighbour_in_another_episode_do_not_count() -> None:
    """An episode that is nearly all of the log, in which the policy does as was logged."""
    rng = np.random.default_rng(0)
    whole = log(False, episodes=100_000, length=3)
    actions, states = rng.uniform(-1, 1, size=(2, 300_002, 1)).astype(np.float32)
    logged = np.delete(actions, 299_988, axis=0)[:300_000]
    one = whole._replace(observations=states, actions=logged, ends=np.array([299_988, 300_000]))
    assert far_share(one, actions, seed=17) <= 0.1


def test_of_an_episode_that_is_nearly_all_of_a_log_nothing_is_said_to_be_far() -> None:
    """Of those that are looked at, none has a neighbour in another episode."""
    whole = log(False, episodes=100_000, length=3)
    one = whole._replace(observations=whole.observations[:300_002], ends=np.array([299_999, 300_000]))
    assert np.isnan(far_share(one, np.zeros((300_002, 1), np.float32), seed=1))


def test_cautions_name_logs_that_say_little_and_policies_that_are_judged_badly():
    shares = [("a", 0.25), ("house [7]", 0.3), (None, 0.9), ("no episodes", None)]
    rows = [{"name": f"mdp-00{k}", "imported": name, "far": far} for k, (name, far) in enumerate(shares)]
    assert cautions(rows, trials=False) == [
        "little is logged of what the policy does in house [7], mdp-002: their values are the least sure"
    ]
    assert cautions(rows[:1], trials=False) == []
    (caution,) = cautions(rows[:1], trials=True)
    assert "trials" in caution and "far too low" in caution
