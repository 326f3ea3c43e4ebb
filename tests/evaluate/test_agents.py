"""How the student acts, against a slow reference: who proposes, and who chooses."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import reference

from bmrl.batch_rl.bcq import clipped_latents
from bmrl.distill.contexts import ContextConfig
from bmrl.distill.student import CANDIDATES, Statistics, Student, StudentConfig
from bmrl.evaluate import agents
from bmrl.evaluate.agents import RANDOM_SHOOTING, StudentAgent, random_shooting, select_action
from bmrl.evaluate.cem import CEM
from bmrl.networks import Normaliser
from bmrl.networks.set_encoder import Evidence
from bmrl.types import Spec, Transition

SPEC, MDPS, MAX_CORRECTION, KEY = Spec(2, 1), 3, 0.3, jax.random.PRNGKey(4)
CONFIG = StudentConfig(3, "posterior", (6,), (5,), 4, (3,), (6, 5), (6,), (6,))
OBSERVATIONS = np.random.default_rng(1).normal(size=(4, 2)).astype(np.float32)
# MDP 0 for sure, MDPs 1 and 2 about as likely, all alike, nothing known.
EVIDENCE = np.array([[40, 0, 0], [-40, 0.3, 0], [1, 1, 1], [0, 0, 0]], np.float32)
SIZES = np.array([5, 3, 1, 0], np.float32)


def student_of(pooling, latent_dim, **changes):
    statistics = Statistics(*(Normaliser.identity(n) for n in (2, 6, 1, 1)))
    config = dataclasses.replace(CONFIG, pooling=pooling, **changes)

    def make():
        key, sizes = jax.random.PRNGKey(0), {"mdps": MDPS, "latent_dim": latent_dim}
        bound = MAX_CORRECTION if latent_dim else 0.0
        return Student(key, SPEC, statistics, config, **sizes, max_correction=bound, predict_next=False)

    student = eqx.tree_at(lambda x: x.statistics, reference.filled(make), statistics)
    if pooling == "mean":
        return student
    # Identities far from each other, so that the one that is acted upon shows.
    embeddings = 3 * np.random.default_rng(2).normal(size=(MDPS, 3)).astype(np.float32)
    return eqx.tree_at(lambda x: x.encoder.embeddings, student, jnp.asarray(embeddings))


@pytest.mark.parametrize("pooling", ["posterior", "mean"])
def test_actions_are_proposed_for_the_most_probable_mdps_and_chosen_under_the_mean_identity(pooling):
    student, posterior = student_of(pooling, latent_dim=2), pooling == "posterior"
    evidence = Evidence(jnp.asarray(EVIDENCE), jnp.asarray(SIZES))
    z = np.asarray(clipped_latents(KEY, (CANDIDATES, 1, 4, 2)))[:, 0]
    likeliest = [(0, 1), (1, 2), (0, 1), ()]  # of those alike the first ones

    expected = []
    for i in range(4):
        s = reference.normalise(student.statistics.observations, OBSERVATIONS[i])
        if posterior:
            embeddings = np.asarray(student.encoder.embeddings, np.float64)
            mean = np.array(reference.softmax(list(EVIDENCE[i]))) @ embeddings
        else:
            mean = EVIDENCE[i].astype(float) / max(SIZES[i], 1)
        mean = mean if SIZES[i] else np.zeros(3)
        values, actions = [], []
        proposers = [embeddings[k] for k in likeliest[i]] if posterior and SIZES[i] else [mean]
        for latent, m in itertools.product(z[:, i], proposers):
            action = np.tanh(reference.conditioned_mlp(student.candidate, [*s, *latent], m))
            action += MAX_CORRECTION * np.tanh(reference.conditioned_mlp(student.correction, [*s, *action], m))
            actions.append(np.clip(action, -1, 1))
            values.append(reference.conditioned_mlp(student.value, [*s, *actions[-1]], mean)[0])
        expected.append(actions[int(np.argmax(values))])
    np.testing.assert_allclose(select_action(student, evidence, OBSERVATIONS, KEY), expected, rtol=1e-4, atol=1e-5)


def test_of_deterministic_learners_two_actions_are_proposed_and_nothing_is_drawn():
    student = student_of("posterior", latent_dim=0)
    assert student.correction is None
    evidence = Evidence(jnp.asarray(EVIDENCE), jnp.asarray(SIZES))
    found = select_action(student, evidence, OBSERVATIONS, KEY)
    np.testing.assert_array_equal(found, select_action(student, evidence, OBSERVATIONS, jax.random.PRNGKey(5)))
    embeddings, chosen = np.asarray(student.encoder.embeddings), []
    for i, likeliest in enumerate([(0, 1), (1, 2), (0, 1)]):
        s = reference.normalise(student.statistics.observations, OBSERVATIONS[i])
        mean = np.array(reference.softmax(list(EVIDENCE[i]))) @ embeddings
        actions = [np.tanh(reference.conditioned_mlp(student.candidate, s, embeddings[k])) for k in likeliest]
        values = [reference.conditioned_mlp(student.value, [*s, *a], mean)[0] for a in actions]
        chosen.append(np.argmax(values))
        np.testing.assert_allclose(found[i], actions[chosen[-1]], rtol=1e-4, atol=1e-5)
    assert set(chosen) == {0, 1}


def test_a_single_train_mdp_proposes_alone():
    encoder = student_of("posterior", latent_dim=0).encoder
    network = eqx.tree_at(lambda x: (x.weights[-1], x.biases[-1]), encoder.network, (jnp.ones((6, 1)), jnp.ones(1)))
    one = eqx.tree_at(lambda x: (x.network, x.embeddings), encoder, (network, encoder.embeddings[:1]))
    proposers = one.proposers(Evidence(jnp.ones((2, 1)), jnp.array([1.0, 0.0])))
    np.testing.assert_array_equal(proposers, [[encoder.embeddings[0], np.zeros(3)]])


def test_a_student_with_mean_action_acts_by_the_proposal_at_the_mean_identity():
    student = student_of("posterior", latent_dim=2, mean_action=True)
    evidence = Evidence(jnp.asarray(EVIDENCE), jnp.asarray(SIZES))
    found = select_action(student, evidence, OBSERVATIONS, KEY)
    for i in range(4):
        s = reference.normalise(student.statistics.observations, OBSERVATIONS[i])
        m = np.array(reference.softmax(list(EVIDENCE[i]))) @ np.asarray(student.encoder.embeddings, np.float64)
        m = m if SIZES[i] else np.zeros(3)
        action = np.tanh(reference.conditioned_mlp(student.candidate, [*s, 0, 0], m))
        action += MAX_CORRECTION * np.tanh(reference.conditioned_mlp(student.correction, [*s, *action], m))
        np.testing.assert_allclose(found[i], np.clip(action, -1, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("select", "latent_dim"), [(select_action, None), (random_shooting, 2)])
def test_with_a_value_alone_or_asked_to_the_best_of_many_uniform_actions_is_taken(select, latent_dim):
    student = student_of("posterior", latent_dim)
    evidence = Evidence(jnp.asarray(EVIDENCE), jnp.asarray(SIZES))
    actions = np.asarray(jax.random.uniform(KEY, (RANDOM_SHOOTING, 4, 1), minval=-1.0, maxval=1.0))
    identities = np.asarray(student.encoder.identity(evidence))
    for i, found in enumerate(select(student, evidence, OBSERVATIONS, KEY)):
        s = reference.normalise(student.statistics.observations, OBSERVATIONS[i])
        values = [reference.conditioned_mlp(student.value, [*s, *a[i]], identities[i])[0] for a in actions]
        np.testing.assert_array_equal(found, actions[int(np.argmax(values)), i])


def test_cem_beats_random_shooting_in_every_state_whatever_stands_beside_it():
    student, cem = student_of("posterior", latent_dim=2), reference.jit(CEM())
    evidence = Evidence(jnp.asarray(EVIDENCE), jnp.asarray(SIZES))
    actions = cem(student, evidence, OBSERVATIONS, KEY)
    shot = random_shooting(student, evidence, OBSERVATIONS, KEY)
    identities = student.encoder.identity(evidence)
    assert (student.values(OBSERVATIONS, actions, identities) >= student.values(OBSERVATIONS, shot, identities)).all()
    first = cem(student, jax.tree.map(lambda x: x[:2], evidence), OBSERVATIONS[:2], KEY)
    np.testing.assert_allclose(first, actions[:2], atol=1e-5)
    assert (np.asarray(cem(student, evidence, OBSERVATIONS, jax.random.PRNGKey(5))) != np.asarray(actions)).any()


@pytest.mark.parametrize("select", [select_action, random_shooting, CEM(20, 4, 2)], ids=["G-xi", "shooting", "CEM"])
def test_an_agent_chooses_as_it_is_told_under_the_evidence_of_its_own_episodes(select):
    student, context = student_of("posterior", latent_dim=2), ContextConfig(2)
    agent = StudentAgent(student, context, select=select)
    rng, memory, total = np.random.default_rng(0), agent.start(4), np.zeros((4, MDPS))
    for _ in range(3):
        s, a, r, s_next = (rng.normal(size=(4, *d)).astype(np.float32) for d in ((2,), (1,), (), (2,)))
        transition = Transition(s, a, r, s_next, np.zeros(4, bool))
        total += np.asarray(student.encoder.observe(transition))
        memory = agent.observe(memory, transition)
    evidence = Evidence(jnp.asarray(total * 2 / 3, jnp.float32), jnp.full(4, 2.0))  # three, counted as two
    action = agent.act(memory, OBSERVATIONS, KEY)
    np.testing.assert_allclose(action, select(student, evidence, OBSERVATIONS, KEY), atol=1e-4)
    assert action.shape == (4, 1)
    assert (np.abs(action) <= 1).all()
    compiled = agents._student_act._cache_size()
    StudentAgent(student, context, select=dataclasses.replace(select) if isinstance(select, CEM) else select).act(
        memory, OBSERVATIONS, KEY
    )
    assert agents._student_act._cache_size() == compiled

    identities = np.asarray(student.encoder.identity(evidence))
    for i, found in enumerate(agent.values(memory, OBSERVATIONS, action)):
        s = reference.normalise(student.statistics.observations, OBSERVATIONS[i])
        expected = reference.conditioned_mlp(student.value, [*s, *action[i]], identities[i])[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
