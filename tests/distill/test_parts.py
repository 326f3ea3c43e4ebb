"""What an ablation leaves out is out, and TD targets are BCQ's."""

import dataclasses
import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distill import test_losses, toy
from distill.test_losses import CONFIG, CONTEXTS, LATENT, MAX_CORRECTION, MDPS, QUERIES, SPEC, STATISTICS
from networks import reference

from bmrl.batch_rl.bcq import clipped_latents
from bmrl.config import from_json, to_json
from bmrl.distill.distill import DistillConfig, Parts, TDConfig, losses, scaled_loss, td_values
from bmrl.distill.student import CANDIDATES, Student

batch = test_losses.batch  # the fixture


def student_of(**changes):
    config = dataclasses.replace(CONFIG, **changes)

    def make():
        key, sizes = jax.random.PRNGKey(0), {"mdps": MDPS, "latent_dim": LATENT}
        return Student(key, SPEC, STATISTICS, config, **sizes, max_correction=MAX_CORRECTION, predict_next=True)

    where = lambda student: (student.statistics, student.encoder.inputs)  # noqa: E731
    return eqx.tree_at(where, reference.filled(make), (STATISTICS, STATISTICS.context))


def gradients(student, batch, parts):
    """Of the candidates' and of the corrections' term: every leaf [2, ...]."""

    def proposals(student):
        terms = losses(student, batch, parts)
        return jnp.stack([terms["candidate"], terms["correction"]])

    return reference.jit(jax.jacrev(proposals))(student)


def zero(tree):
    return all(np.all(np.asarray(x) == 0) for x in jax.tree.leaves(tree))


def test_gradients_of_proposals_into_the_identity_can_be_cut(batch):
    for student, identity in ((student_of(pooling="mean"), "network"), (student_of(), "embeddings")):
        for cut in (False, True):
            found = gradients(student, batch, Parts(proposal_gradients=not cut))
            for term, head in enumerate((found.candidate, found.correction)):
                assert zero(jax.tree.map(lambda x, i=term: x[i], getattr(found.encoder, identity))) == cut
                assert not zero(jax.tree.map(lambda x, i=term: x[i], head))


def test_an_identity_withheld_from_the_corrections_changes_nothing_in_them(batch):
    student = student_of(pooling="mean", correction_identity=False)
    s, a = batch.queries.observations, batch.queries.actions
    one, other = (student.corrections(s, a, x * jnp.ones((CONTEXTS, 1, 3))) for x in (0.1, 0.9))
    np.testing.assert_array_equal(one, other)
    found = gradients(student, batch, Parts())
    candidate, correction = (jax.tree.map(lambda x, i=i: x[i], found.encoder.network) for i in (0, 1))
    assert zero(correction) and not zero(candidate)


def test_without_labels_nothing_is_told_whose_the_context_is(batch):
    student = student_of(labels=False)
    assert "mdp" in losses(student_of(), batch) and "mdp" not in losses(student, batch)
    other = batch._replace(mdp=(batch.mdp + 1) % MDPS)
    for name, x in losses(student, batch).items():
        assert float(x) == float(losses(student, other)[name]), name
    evidence = student.encoder.evidence(batch.context, batch.mask)
    np.testing.assert_array_equal(student.encoder.proposers(evidence), student.encoder.identity(evidence)[None])


def test_without_the_auxiliary_loss_its_networks_are_not_trained(batch):
    student = student_of()
    averages = dict.fromkeys(losses(student, batch, Parts(auxiliary=False)), jnp.float32(1))
    assert averages.keys() == {"value", "candidate", "correction", "mdp"}
    loss = functools.partial(scaled_loss, parts=Parts(auxiliary=False))
    found, _ = reference.jit(jax.grad(loss, has_aux=True))(student, batch, averages, 0)
    assert zero((found.auxiliary, found.prediction)) and not zero(found.value)


def test_the_unscaled_loss_is_the_plain_sum(batch):
    student = student_of()
    terms = losses(student, batch)
    averages = dict.fromkeys(terms, jnp.float32(1))
    total, _ = scaled_loss(student, batch, averages, 0, Parts(scaling=False))
    assert float(total) == pytest.approx(sum(map(float, terms.values())), rel=1e-6)
    assert abs(float(scaled_loss(student, batch, averages, 0)[0]) - float(total)) > 0.1


@pytest.mark.parametrize("pooling", ["posterior", "mean"])
def test_td_targets_equal_a_slow_reference(batch, pooling):
    student, key, config = student_of(pooling=pooling), jax.random.PRNGKey(3), TDConfig(0.9)
    ended = np.zeros((CONTEXTS, QUERIES), bool)
    ended[1, 2] = True
    batch = batch._replace(queries=batch.queries._replace(terminations=ended))
    found = np.asarray(td_values(student, batch, key, config))

    z = np.asarray(clipped_latents(key, (CANDIDATES, 1, CONTEXTS, QUERIES, LATENT)))[:, 0]
    evidence = student.encoder.evidence(batch.context, batch.mask)
    proposers = np.asarray(student.encoder.proposers(evidence), np.float64)
    assert len(proposers) == (2 if pooling == "posterior" else 1)
    for c in range(CONTEXTS):
        context = jax.tree.map(lambda x, c=c: x[c], batch.context)
        m = reference.identity(student.encoder, context, batch.mask[c])
        for q in range(QUERIES):
            s = reference.normalise(STATISTICS.observations, batch.queries.next_observations[c, q])
            values = []
            for latent, proposer in itertools.product(z[:, c, q], proposers[:, c]):
                a = np.tanh(reference.conditioned_mlp(student.candidate, [*s, *latent], proposer))
                xi = np.tanh(reference.conditioned_mlp(student.correction, [*s, *a], proposer))
                a = np.clip(a + MAX_CORRECTION * xi, -1, 1)
                values.append(5 * reference.conditioned_mlp(student.value, [*s, *a], m)[0] - 20)
            y = batch.queries.rewards[c, q] + (0 if ended[c, q] else 0.9 * max(values))
            assert found[c, q] == pytest.approx(y, rel=1e-4), (c, q)


def test_parts_left_out_are_told_in_the_configuration_and_the_whole_is_not():
    plain = to_json(toy.CONFIG)
    assert not {"parts", "td"} & plain.keys() and not {"labels", "correction_identity"} & plain["student"].keys()
    changed = dataclasses.replace(
        toy.CONFIG,
        student=dataclasses.replace(toy.STUDENT, labels=False),
        parts=Parts(scaling=False),
        td=TDConfig(discount=0.9),
    )
    assert to_json(changed)["td"]["discount"] == 0.9
    for config in (toy.CONFIG, changed):
        assert from_json(to_json(config), DistillConfig, "here") == config
