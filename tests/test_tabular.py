"""Finite MDPs: values by hand and by linear solves, both conventions of Proposition 1, Q-learning, inference."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmrl.tabular import (
    SCHEDULES,
    Batch,
    TabularMDP,
    act_by_inference,
    backup,
    batch_mdp,
    count,
    greedy,
    optimal_q,
    outcome_log_likelihoods,
    policy_values,
    pool,
    pool_with_identity,
    q_learning,
    random_mdp,
    sample_batch,
    step,
)

DISCOUNT = 0.9
S, A = 3, 2
UNIFORM = np.full((S, A), 1 / A)


def make_batch(*transitions):
    states, actions, rewards, next_states = (np.array(x) for x in zip(*transitions, strict=True))
    return Batch(states, actions, rewards.astype(float), next_states)


def make_mdp(seed=0):
    return random_mdp(S, A, DISCOUNT, np.random.default_rng(seed))


def sample(n, seed=0, policy=UNIFORM):
    return sample_batch(make_mdp(seed), policy, n, np.random.default_rng(seed))


# ---------------------------------------------------------------------- planning


def test_optimal_q_of_a_chain_by_hand():
    # State 0: action 0 stays and pays 1, action 1 goes on to state 1 and pays nothing. State 1 pays 2 for ever.
    transitions = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    rewards = np.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 2.0]]])
    q = optimal_q(TabularMDP(transitions, rewards, DISCOUNT))
    np.testing.assert_allclose(q, [[1 + 0.9 * 18, 18], [20, 20]])


def test_a_pair_without_a_next_state_ends_the_episode():
    mdp = TabularMDP(np.array([[[1.0], [0.0]]]), np.array([[[0.5], [7.0]]]), DISCOUNT)
    np.testing.assert_allclose(optimal_q(mdp), [[5, 0]])


@pytest.mark.parametrize("seed", range(3))
def test_optimal_values_are_the_best_of_all_policies(seed):
    mdp = make_mdp(seed)
    policies = [np.eye(A)[list(actions)] for actions in itertools.product(range(A), repeat=S)]
    best = np.max([policy_values(mdp, policy) for policy in policies], 0)
    q = optimal_q(mdp)
    np.testing.assert_allclose(q.max(1), best)
    np.testing.assert_allclose(policy_values(mdp, greedy(q)), best)
    np.testing.assert_allclose(q, backup(mdp, best))


def test_policy_values_average_over_actions():
    one_state = TabularMDP(np.ones((1, 2, 1)), np.array([[[1.0], [0.0]]]), DISCOUNT)
    np.testing.assert_allclose(policy_values(one_state, np.array([[0.25, 0.75]])), [2.5])


def test_greedy_takes_the_first_of_equals():
    np.testing.assert_array_equal(greedy(np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])), [[0, 1, 0], [1, 0, 0]])


# ---------------------------------------------------------------------- batches


def test_samples_follow_the_mdp_and_the_policy():
    mdp, policy, n = make_mdp(), np.array([[0.2, 0.8], [1.0, 0.0], [0.5, 0.5]]), 100_000
    batch = sample_batch(mdp, policy, n, np.random.default_rng(0))
    counts = count(batch, S, A)
    np.testing.assert_allclose(counts.sum(-1) / n, policy / S, atol=0.01)
    found = batch_mdp(batch, S, A, DISCOUNT, "absorbing")
    tried = counts.sum(-1) > 0
    np.testing.assert_array_equal(tried, policy > 0)
    np.testing.assert_allclose(found.transitions[tried], mdp.transitions[tried], atol=0.02)
    assert set(batch.rewards) == {0.0, 1.0}
    often = counts > 5000
    np.testing.assert_allclose(found.rewards[often], mdp.rewards[often], atol=0.03)


def test_certain_steps_are_certain():
    mdp = TabularMDP(np.array([[[0.0, 1.0]], [[1.0, 0.0]]]), np.array([[[0.0, 1.0]], [[0.0, 0.0]]]), DISCOUNT)
    rewards, next_states = step(mdp, np.array([0, 1, 0]), np.zeros(3, int), np.random.default_rng(0))
    np.testing.assert_array_equal(next_states, [1, 0, 1])
    np.testing.assert_array_equal(rewards, [1, 0, 1])


def test_batch_mdp_by_hand():
    batch = make_batch((0, 0, 1, 0), (0, 0, 0, 0), (0, 0, 4, 1), (1, 1, -2, 0))
    np.testing.assert_array_equal(count(batch, 2, 2), [[[2, 1], [0, 0]], [[0, 0], [1, 0]]])
    absorbing = batch_mdp(batch, 2, 2, DISCOUNT, "absorbing")
    np.testing.assert_allclose(absorbing.transitions, [[[2 / 3, 1 / 3], [0, 0]], [[0, 0], [1, 0]]])
    np.testing.assert_allclose(absorbing.rewards, [[[0.5, 4], [0, 0]], [[0, 0], [-2, 0]]])
    self_loop = batch_mdp(batch, 2, 2, DISCOUNT, "self-loop")
    np.testing.assert_allclose(self_loop.transitions, [[[2 / 3, 1 / 3], [1, 0]], [[0, 1], [1, 0]]])
    np.testing.assert_array_equal(self_loop.rewards, absorbing.rewards)


def test_counterexample_to_the_proposition_as_stated():
    batch = make_batch((0, 0, 1, 0))
    learned = q_learning(batch, 1, 2, DISCOUNT, SCHEDULES["0.1"], [5000], np.random.default_rng(0))
    np.testing.assert_allclose(learned[-1], [[10, 0]])
    np.testing.assert_allclose(optimal_q(batch_mdp(batch, 1, 2, DISCOUNT, "absorbing")), [[10, 0]])
    np.testing.assert_allclose(optimal_q(batch_mdp(batch, 1, 2, DISCOUNT, "self-loop")), [[10, 9]])


transitions = st.tuples(
    st.integers(0, S - 1), st.integers(0, A - 1), st.sampled_from([-1.0, 0.0, 0.5, 1.0]), st.integers(0, S - 1)
)


@given(st.lists(transitions, min_size=1, max_size=12))
def test_conventions_differ_by_the_discounted_value_where_nothing_was_tried(logged):
    batch = make_batch(*logged)
    absorbing, self_loop = (optimal_q(batch_mdp(batch, S, A, DISCOUNT, c)) for c in ("absorbing", "self-loop"))
    untried = count(batch, S, A).sum(-1) == 0
    values = absorbing.max(1)
    close = {"rtol": 0, "atol": 1e-8}
    np.testing.assert_allclose(self_loop.max(1), values, **close)
    np.testing.assert_allclose(self_loop, np.where(untried, DISCOUNT * values[:, None], absorbing), **close)
    best = [q >= values[:, None] - 1e-8 for q in (absorbing, self_loop)]
    np.testing.assert_array_equal(*best)


def test_a_state_that_tells_the_mdp_keeps_the_batches_apart():
    batches = [sample(200, seed) for seed in range(3)]
    told = batch_mdp(pool_with_identity(batches, S), 3 * S, A, DISCOUNT, "absorbing")
    own = [optimal_q(batch_mdp(batch, S, A, DISCOUNT, "absorbing")) for batch in batches]
    np.testing.assert_allclose(optimal_q(told).reshape(3, S, A), own)
    pooled = optimal_q(batch_mdp(pool(batches), S, A, DISCOUNT, "absorbing"))
    assert np.abs(pooled - own).max() > 0.1


def test_head_and_pool():
    first, second = sample(5), sample(4, 1)
    both = pool([first.head(2), second])
    np.testing.assert_array_equal(both.rewards, [*first.rewards[:2], *second.rewards])
    assert {len(x) for x in both} == {6}


# ---------------------------------------------------------------------- Q-learning


def test_slow_step_sizes_have_their_closed_form():
    # One pair that leads back to its state: the error shrinks by 1 - α (1 - γ) with each update.
    record = [1, 10, 1000]
    learned = q_learning(
        make_batch((0, 0, 1, 0)), 1, 1, DISCOUNT, SCHEDULES["1 / (1 + t)"], record, np.random.default_rng(0)
    )
    factors = 1 - (1 - DISCOUNT) / np.arange(1, 1001)
    np.testing.assert_allclose(learned[:, 0, 0], [10 * (1 - factors[:n].prod()) for n in record])


def test_q_learning_approaches_the_corrected_limit_and_leaves_untried_pairs():
    batch = sample(500, policy=np.array([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]]))
    limit = optimal_q(batch_mdp(batch, S, A, DISCOUNT, "absorbing"))
    learned = q_learning(batch, S, A, DISCOUNT, SCHEDULES["1 / (1 + t/1000)"], [1, 100_000], np.random.default_rng(0))
    assert learned.shape == (2, S, A)
    errors = np.abs(learned - limit).max((1, 2))
    assert errors[1] < 0.3 and errors[0] > 3
    np.testing.assert_array_equal(learned[:, 0, 1], 0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_what_they_say(name):
    schedule = SCHEDULES[name]
    blocks = [schedule.step_sizes(np.arange(10**k, 10 ** (k + 1))) for k in (4, 5)]
    # A sum over decades of t is infinite where they do not shrink, and finite where they shrink by a factor.
    assert (blocks[1].sum() > 0.99 * blocks[0].sum()) == schedule.sum_is_infinite
    assert ((blocks[1] ** 2).sum() < 0.5 * (blocks[0] ** 2).sum()) == schedule.squares_are_finite


# ---------------------------------------------------------------------- inferring the MDP


def test_likelihoods_count_outcomes():
    found = np.exp(outcome_log_likelihoods([make_batch((0, 1, 1, 2), (0, 1, 1, 2), (0, 1, 0, 1))], S, A))
    np.testing.assert_allclose(found.sum((-2, -1)), 1)
    np.testing.assert_allclose(found[0, 0, 1], np.array([[0.5, 0.5], [1.5, 0.5], [0.5, 2.5]]) / 6)
    np.testing.assert_allclose(found[0, 1], 1 / 6)


def test_inference_pays_for_one_wrong_action_only():
    pays = [(1.0, 0.0), (0.0, 1.0)]
    mdps = [TabularMDP(np.ones((1, 2, 1)), np.array(p)[None, :, None], DISCOUNT) for p in pays]
    batches = [make_batch(*[(0, a, r, 0) for a, r in enumerate(p)] * 500) for p in pays]
    q, likelihoods = np.stack([optimal_q(mdp) for mdp in mdps]), outcome_log_likelihoods(batches, 1, 2)
    most = (1 - DISCOUNT**20) / (1 - DISCOUNT)
    for k, (mdp, lost) in enumerate(zip(mdps, (0, 1), strict=True)):
        result = act_by_inference(mdp, q, likelihoods, episodes=4, steps=20, rng=np.random.default_rng(0))
        np.testing.assert_allclose(result.returns, most - lost)
        assert result.posteriors.shape == (20, 4, 2)
        np.testing.assert_allclose(result.posteriors[0], 0.5)
        assert result.posteriors[1, :, k].min() > 0.99


def test_inference_starts_in_each_state_in_turn():
    # Every pair ends in state 0; the first state alone pays, once.
    mdp = TabularMDP(np.tile([1.0, 0.0], (2, 1, 1)), np.array([[[0.0, 0.0]], [[1.0, 1.0]]]), DISCOUNT)
    likelihoods = outcome_log_likelihoods([make_batch((0, 0, 0, 0))], 2, 1)
    result = act_by_inference(mdp, np.zeros((1, 2, 1)), likelihoods, 4, 3, np.random.default_rng(0))
    np.testing.assert_allclose(result.returns, [0, 1, 0, 1])
