import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import reference

from bmrl.networks import Normaliser
from bmrl.networks.set_encoder import Evidence, SetEncoder, context_inputs
from bmrl.types import Spec, Transition

SPEC, SIZE, CONTEXTS = Spec(2, 1), 5, 3


@pytest.fixture(scope="module", params=["posterior", "precision", "mean"])
def encoder(request):
    mean, scale = jnp.array([0.5, -1, 0, 2, 0, 0]), jnp.array([1, 2, 1, 3, 0.5, 0.5])
    key, inputs = jax.random.PRNGKey(0), Normaliser(mean, scale)
    encoder = reference.filled(lambda: SetEncoder(key, SPEC, inputs, (8,), 3, 4, request.param))
    return eqx.tree_at(lambda f: f.inputs, encoder, inputs)


@pytest.fixture(scope="module")
def identities(encoder):
    return reference.jit(lambda context, mask: encoder.identity(encoder.evidence(context, mask)))


@pytest.fixture
def context():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=(CONTEXTS, SIZE, *shape)).astype(np.float32)

    return Transition(normal(2), normal(1), normal(), normal(2), np.zeros((CONTEXTS, SIZE), bool))


MASK = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 1, 0, 0]], bool)  # the last: one transition


def test_what_f_reads(context):
    one = jax.tree.map(lambda x: x[1, 2], context)
    expected = [*one.observations, *one.actions, one.rewards, *(one.next_observations - one.observations)]
    np.testing.assert_array_equal(context_inputs(context)[1, 2], expected)


def test_the_identity_equals_its_reference(encoder, identities, context):
    m = identities(context, MASK)
    assert m.shape == (CONTEXTS, 3)
    for c in range(CONTEXTS):
        one = jax.tree.map(lambda x, c=c: x[c], context)
        np.testing.assert_allclose(m[c], reference.identity(encoder, one, MASK[c]), rtol=1e-4, atol=1e-5)


def test_the_order_does_not_matter(identities, context):
    for permutation in ([4, 3, 2, 1, 0], [2, 0, 4, 1, 3]):
        permuted = jax.tree.map(lambda x, p=permutation: x[:, p], context)
        np.testing.assert_allclose(
            identities(permuted, MASK[:, permutation]), identities(context, MASK), rtol=1e-5, atol=1e-6
        )


def test_every_masked_transition_counts(identities, context):
    for i in range(SIZE):
        changed = context._replace(rewards=context.rewards + 5 * np.eye(SIZE, dtype=np.float32)[i])
        differs = np.abs(identities(changed, MASK) - identities(context, MASK)).max(1) > 1e-5
        np.testing.assert_array_equal(differs, MASK[:, i])


def test_the_empty_context_is_exactly_zero(identities, context):
    assert np.array_equal(identities(context, np.zeros_like(MASK)), np.zeros((CONTEXTS, 3)))


def test_rows_outside_the_mask_never_matter(encoder, identities, context):
    junk = jax.tree.map(lambda x: np.where(MASK.reshape(*MASK.shape, *[1] * (x.ndim - 2)), x, 1e6), context)
    junk = junk._replace(terminations=~MASK)
    assert np.array_equal(identities(junk, MASK), identities(context, MASK))

    gradient = reference.jit(jax.grad(lambda f, c: (f.identity(f.evidence(c, MASK)) ** 2).sum()))
    for one, other in zip(*(jax.tree.leaves(gradient(encoder, c)) for c in (junk, context)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_running_sum_of_evidence_gives_the_identity_of_the_whole_set(encoder, identities, context):
    pieces = encoder.observe(context)
    evidence = Evidence(jnp.zeros((CONTEXTS, encoder.evidence_dim)), jnp.zeros(CONTEXTS))
    assert np.array_equal(encoder.identity(evidence), np.zeros((CONTEXTS, 3)))
    for t in range(SIZE):
        evidence = Evidence(evidence.total + pieces[:, t], evidence.size + 1)
        prefix = np.broadcast_to(np.arange(SIZE) <= t, MASK.shape)  # at t = 0: a context of size 1
        np.testing.assert_allclose(encoder.identity(evidence), identities(context, prefix), rtol=1e-5, atol=1e-6)


def test_repeated_evidence_sharpens_the_posterior_and_leaves_the_mean(encoder, context):
    one = jax.tree.map(lambda x: np.repeat(x[0, :1], 5000, axis=0), context)
    evidence = np.asarray(encoder.observe(one)[0])
    expected = {
        "posterior": lambda: encoder.embeddings[evidence.argmax()],
        "precision": lambda: evidence[:3] / evidence[3:],  # the prior counts for nothing any more
        "mean": lambda: evidence,
    }[encoder.pooling]()
    m = encoder.identity(encoder.evidence(one, np.ones(5000, bool)))
    np.testing.assert_allclose(m, expected, atol=1e-2)


def test_more_evidence_than_a_bound_keeps_its_mean():
    evidence = Evidence(jnp.array([[2.0, -4.0], [10.0, 30.0], [0.0, 0.0]]), jnp.array([2.0, 10.0, 0.0]))
    bounded = evidence.at_most(5)
    np.testing.assert_allclose(bounded.total, [[2, -4], [5, 15], [0, 0]])
    np.testing.assert_allclose(bounded.size, [2, 5, 0])


def test_the_two_most_probable_mdps_propose(encoder, context):
    evidence = encoder.evidence(context, np.array([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]], bool))
    proposers = encoder.proposers(evidence)
    if encoder.embeddings is None:
        np.testing.assert_array_equal(proposers, encoder.identity(evidence)[None])
        return
    for c in range(2):
        first, second = np.argsort(evidence.total[c])[:-3:-1]
        np.testing.assert_array_equal(proposers[:, c], encoder.embeddings[np.array([first, second])])
    np.testing.assert_array_equal(proposers[:, 2], 0)  # nothing is known: blank


def test_a_known_mdp_has_its_embedding_once_there_is_evidence():
    encoder = SetEncoder(jax.random.PRNGKey(0), SPEC, Normaliser(jnp.zeros(6), jnp.ones(6)), (8,), 3, 4, "posterior")
    evidence = Evidence(jnp.zeros((2, 4)), jnp.array([3.0, 0.0]))
    found = encoder.embedding(jnp.array([2, 2]), evidence)
    np.testing.assert_array_equal(found, np.stack([encoder.embeddings[2], np.zeros(3)]))


def test_with_trials_the_learner_proposes_that_earns_most_on_average():
    statistics = Normaliser(jnp.zeros(6), jnp.ones(6))
    encoder = SetEncoder(jax.random.PRNGKey(0), SPEC, statistics, (8,), 3, 3, "posterior", trials=True)
    # MDP 0's own learner is its best by far; in the others, taken together, learner 2 is.
    table = jnp.array([[9.0, 0.0, 1.0], [0.0, 3.0, 2.0], [0.0, 1.0, 3.0]])
    encoder = eqx.tree_at(lambda x: x.trials, encoder, table)
    posteriors = np.array([[0.9, 0.05, 0.05], [0.0, 0.6, 0.4], [0.0, 0.9, 0.1], [0.05, 0.5, 0.45]], np.float32)
    proposers = encoder.proposers(encoder.told(posteriors))
    np.testing.assert_array_equal(proposers, encoder.embeddings[np.array([[0, 2, 1, 2]])])
    # Log-odds of 5 and 3 count a tenth: MDP 0 stays possible, whose own learner earns most.
    evidence = Evidence(jnp.array([[0.0, 5.0, 3.0], [0.0, 5.0, 3.0]]), jnp.array([3.0, 0.0]))
    np.testing.assert_array_equal(encoder.proposers(evidence), [[encoder.embeddings[0], np.zeros(3)]])


def test_without_trials_who_is_told_a_posterior_infers_it():
    encoder = SetEncoder(jax.random.PRNGKey(0), SPEC, Normaliser(jnp.zeros(6), jnp.ones(6)), (8,), 3, 4, "posterior")
    posterior = np.array([[0.5, 0.25, 0.25, 0.0]], np.float32)
    found = encoder.identity(encoder.told(posterior))
    np.testing.assert_allclose(found, posterior @ encoder.embeddings, rtol=1e-5, atol=1e-6)
