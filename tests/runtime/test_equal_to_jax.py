"""The runtime against JAX: every network, and every action of an episode."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import reference
from runtime.students import KINDS, MDPS, make

from bmrl.distill.contexts import ContextConfig
from bmrl.evaluate.agents import FixedDraws, StudentAgent, select_action
from bmrl.networks import set_encoder
from bmrl.networks.set_encoder import Evidence
from bmrl.runtime import description, networks
from bmrl.runtime.actor import Actor
from bmrl.types import Transition

N = 6  # MDPs at once
SEEDS = range(8)


def transitions(rng, n=N):
    shapes = ((n, 3), (n, 2), (n,), (n, 3))
    s, a, r, next_s = (rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes)
    return Transition(3 * s, a, 5 * r, 3 * next_s, np.zeros(n, bool))


@reference.jit
def outputs(student, t, evidence, z):
    """All that the networks say of transitions [n], each under the identity of its own evidence."""
    m = student.encoder.identity(evidence)
    found = {
        "evidence": student.encoder.observe(t),
        "identity": m,
        "value": student.values(t.observations, t.actions, m),
        "prediction": student.predictions(t.observations, t.actions, m),
    }
    if student.candidate is not None:
        found["candidate"] = student.candidates(t.observations, z, m)
    if student.correction is not None:
        found["correction"] = student.corrections(t.observations, t.actions, m)
    return found


def test_what_is_written_on_both_sides():
    assert get_args(set_encoder.Pooling) == description.POOLINGS
    assert set_encoder.MAX_LOG_PRECISION == networks.MAX_LOG_PRECISION
    assert set_encoder.PROPOSERS == networks.PROPOSERS


@pytest.mark.parametrize("name", KINDS)
def test_network_outputs(name):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        student, policy = make(KINDS[name], seed)
        here = policy.student
        t, size = transitions(rng), np.array([0, 1, 2, 3, 4, 4], np.float32)
        total = (4 * rng.normal(size=(N, here.encoder.outputs)) * (size > 0)[:, None]).astype(np.float32)
        if here.pooling == "precision":
            total[:, here.encoder.outputs // 2 :] = abs(total[:, here.encoder.outputs // 2 :])
        z = rng.uniform(-0.5, 0.5, (N, here.latent_dim)).astype(np.float32)
        expected = outputs(student, t, Evidence(jnp.asarray(total), jnp.asarray(size)), z)

        s, a, r, next_s, _ = t
        m = here.identity(total, size)
        targets = (r[:, None] - student.statistics.rewards.mean) / student.statistics.rewards.scale
        if expected["prediction"].shape[-1] > 1:
            change = (next_s - s - student.encoder.inputs.mean[-3:]) / student.encoder.inputs.scale[-3:]
            targets = np.concatenate([targets, change], axis=-1)
        found = {
            "evidence": here.evidence(s, a, r, next_s),
            "identity": m,
            "value": here.values(s, a, here.value.modulation(m)),
            "prediction": here.errors(s, a, r, next_s, m) + targets,
        }
        if here.candidate is not None:
            found["candidate"] = here.candidates(s, z, here.candidate.modulation(m))
        if here.correction is not None:
            found["correction"] = here.corrections(s, a, here.correction_modulation(m))
        assert found.keys() == expected.keys()
        for part, values in found.items():
            assert values.dtype == np.float32, part
            np.testing.assert_allclose(values, expected[part], rtol=1e-5, atol=1e-5, err_msg=f"{part}, seed {seed}")


@pytest.mark.parametrize("name", KINDS)
def test_actions_of_an_episode(name):
    """Those of an agent with fixed draws; where two actions are about as good, either may be taken."""
    size, window = KINDS[name]["context"]
    compared, differ = 0, 0
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        student, policy = make(KINDS[name], seed)
        agent = StudentAgent(student, ContextConfig(size, vary_size=not window), select=FixedDraws())
        memory, state = agent.start(N), policy.start(N)
        for _ in range(6):
            t = transitions(rng)
            expected = agent.act(memory, t.observations, jax.random.PRNGKey(rng.integers(1000)))  # which is not used
            found, state = policy.predict(t.observations, state)
            assert state.reasons == ("",) * N
            other = np.abs(found - expected).max(axis=1) > 1e-5
            compared, differ = compared + N, differ + other.sum()
            gap = agent.values(memory, t.observations, found) - agent.values(memory, t.observations, expected)
            assert np.abs(gap[other]).max(initial=0.0) < 1e-4
            np.testing.assert_allclose(policy.identity(state), agent.identity(memory), rtol=1e-4, atol=1e-5)
            memory = agent.observe(memory, t)
            state = policy.observe(state, t.observations, t.actions, t.rewards, t.next_observations)
    assert differ < 0.02 * compared


@pytest.mark.parametrize("name", ["a value alone", "candidates and corrections"])
def test_fixed_draws_are_those_of_the_usual_choice_for_one_episode(name):
    """In one episode `select_action` with the key of the same seed; in several each gets the same numbers."""
    student, _ = make(KINDS[name])
    rng = np.random.default_rng(0)
    s = np.repeat(transitions(rng, 1).observations, 2, axis=0)
    total = np.repeat(rng.normal(size=(1, MDPS)).astype(np.float32), 2, axis=0)
    two = Evidence(jnp.asarray(total), jnp.ones(2))
    found = reference.jit(FixedDraws(3).__call__)(student, two, s, jax.random.PRNGKey(7))
    one = jax.tree.map(lambda x: x[:1], two)
    expected = reference.jit(select_action)(student, one, s[:1], jax.random.PRNGKey(3))
    np.testing.assert_allclose(found, np.repeat(expected, 2, axis=0), atol=1e-6)


def test_of_equally_probable_mdps_the_same_propose():
    student, policy = make(KINDS["deterministic candidates"])
    s, total = transitions(np.random.default_rng(0)).observations, np.zeros((N, MDPS), np.float32)
    total[:2, 3] = 5  # one is more probable than the others
    expected = select_action(student, Evidence(jnp.asarray(total), jnp.ones(N)), s, jax.random.PRNGKey(0))
    found = Actor(policy.student, {}, 0.5, 0).act(s, total, np.ones(N, np.float32), deterministic=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_without_latents_and_at_the_mean_identity_nothing_is_drawn():
    for name in ("deterministic candidates", "at the mean identity", "at the mean identity, corrected"):
        _, policy = make(KINDS[name])
        s = transitions(np.random.default_rng(0), 5).observations
        np.testing.assert_array_equal(policy.predict(s)[0], policy.predict(s, deterministic=False)[0])


@pytest.mark.parametrize("name", ["candidates and corrections", "a value alone, mean action"])
def test_fresh_draws_differ_from_call_to_call_and_from_slot_to_slot(name):
    _, policy = make(KINDS[name])
    s = np.repeat(transitions(np.random.default_rng(0), 1).observations, 50, axis=0)
    stored, _ = policy.predict(s)
    assert (stored == stored[0]).all()
    first, second = (policy.predict(s, deterministic=False)[0] for _ in range(2))
    assert len(np.unique(first, axis=0)) > 1
    assert (first != second).any()
