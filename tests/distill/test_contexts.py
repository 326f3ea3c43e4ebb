import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_rl import toys
from networks import reference

from bmrl.batch_rl import Targets
from bmrl.distill.contexts import PAPER, ContextConfig, draw_context
from bmrl.distill.distill import DistillConfig, draw_minibatch
from bmrl.distill.student import StudentConfig

LENGTHS = [[3, 1, 4], [2], [5, 5, 2, 1]]  # of the episodes of three MDPs: 8, 2 and 13 transitions
SIZES = [sum(lengths) for lengths in LENGTHS]
N = 3000


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    mdps = [toys.numbered(lengths, k) for k, lengths in enumerate(LENGTHS)]
    return jax.tree.map(jnp.asarray, toys.replay(tmp_path_factory.mktemp("batches"), mdps))


MDPS = np.arange(N) % 3


def draw(replay, config):
    """N contexts for the MDPs 0, 1, 2, 0, ..., as numpy arrays."""
    keys = jax.random.split(jax.random.PRNGKey(0), N)
    many = reference.jit(jax.vmap(lambda key, mdp: draw_context(key, replay, mdp, config)))(keys, MDPS)
    return jax.tree.map(np.asarray, many)


def share(values):
    """{value: its share}."""
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), (counts / len(values)).tolist(), strict=True))


def is_prefix(mdp, positions, starts):
    """Whether positions are the first transitions of one episode of that MDP."""
    first = positions[0]
    return starts[mdp, first] == first and all(
        p == first + i and starts[mdp, p] == first for i, p in enumerate(positions)
    )


def test_a_prefix_holds_the_first_transitions_of_one_episode(replay):
    where = draw(replay, ContextConfig(size=4, draw="prefix", relabel=False))
    starts, sizes = np.asarray(replay.starts), []
    assert np.array_equal(where.source, MDPS)
    for mdp, positions, mask in zip(where.source, where.position, where.mask, strict=True):
        used = positions[mask]
        assert (used < SIZES[mdp]).all()
        assert mask[: len(used)].all()
        assert len(used) == 0 or is_prefix(mdp, used, starts)
        sizes.append(len(used))
    assert set(sizes) == {0, 1, 2, 3, 4}
    for mdp in range(3):  # every episode begins some context
        begun = {
            p[0] for m, p, mask in zip(where.source, where.position, where.mask, strict=True) if m == mdp and mask[0]
        }
        assert begun == set(np.cumsum([0, *LENGTHS[mdp][:-1]]).tolist())
    # Sizes are uniform in 0 ... 4 but for the episode's end: an episode of 5 has them all.
    of_five = [mask.sum() for p, mask, m in zip(where.position, where.mask, MDPS, strict=True) if m == 2 and p[0] < 10]
    for portion in share(np.array(of_five)).values():
        assert portion == pytest.approx(0.2, abs=0.06)


def test_the_papers_context_is_one_random_transition_of_the_same_batch(replay):
    where = draw(replay, PAPER)
    assert where.mask.shape == (N, 1)
    assert where.mask.all()
    assert np.array_equal(where.source, MDPS)
    for mdp, size in enumerate(SIZES):
        portions = share(where.position[mdp == MDPS, 0])
        assert portions.keys() == set(range(size))
        assert all(portion == pytest.approx(1 / size, rel=0.5) for portion in portions.values())


def test_a_relabelled_context_comes_from_one_mdp_drawn_uniformly(replay):
    where = draw(replay, ContextConfig(size=4, vary_size=False, draw="mixed", relabel=True))
    for mdp in range(3):
        portions = share(where.source[mdp == MDPS])
        assert portions == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3}, abs=0.06)
    assert (where.position < np.array(SIZES)[where.source][:, None]).all()
    # Half of the contexts come from anywhere.
    starts = np.asarray(replay.starts)
    prefixes = [
        not mask.all() or is_prefix(source, p, starts)
        for source, p, mask in zip(where.source, where.position, where.mask, strict=True)
        if source == 2  # of which few transitions begin an episode
    ]
    assert 0.4 < np.mean(prefixes) < 0.6


def test_an_element_in_its_own_context_weighs_nothing(replay):
    nothing = StudentConfig(1, 1, (), (), 1, (), ())
    config = DistillConfig(nothing, ContextConfig(4, relabel=True), 1, contexts=200, queries=16)
    # Targets say which transition they belong to.
    targets = Targets(replay.rewards + 0.5, *(replay.rewards[..., None] + shift for shift in (0.1, 0.2, 0.3)))
    minibatch = reference.jit(lambda key: draw_minibatch(key, replay, targets, None, config))(jax.random.PRNGKey(0))
    context, mask, queries, targets, weights = jax.tree.map(np.asarray, minibatch)
    assert context.observations.shape == (200, 4, 2)
    assert queries.actions.shape == (200, 16, 1)
    np.testing.assert_array_equal(targets.values, queries.rewards + 0.5)
    for shift, x in zip((0.1, 0.2, 0.3), targets[1:], strict=True):
        np.testing.assert_allclose(x[..., 0], queries.rewards + shift, rtol=1e-6)
    foreign = 0
    for c in range(200):
        held = context.rewards[c][mask[c]].tolist()
        mdp = queries.rewards[c] // 1000  # a reward's thousands are its MDP
        assert (mdp == mdp[0]).all()
        foreign += any(reward // 1000 != mdp[0] for reward in held)
        for q in range(16):
            assert queries.rewards[c, q] > 0  # padding is 0
            # The same position in another MDP's batch is another transition.
            assert weights[c, q] == (0.0 if queries.rewards[c, q] in held else 1.0)
    assert (context.rewards[mask] > 0).all()
    assert 0.05 < 1 - weights.mean() < 0.9
    assert share(queries.rewards[:, 0] // 1000) == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3}, abs=0.15)
    assert foreign > 60
