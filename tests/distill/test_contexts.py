import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_rl import toys
from networks import reference

from bmrl.batch_rl import Targets
from bmrl.distill.contexts import PAPER, ContextConfig, draw_contexts, locate
from bmrl.distill.distill import DistillConfig, draw_minibatch, read_minibatch, relabelled
from bmrl.distill.student import StudentConfig

LENGTHS = [[3, 1, 4], [2], [5, 5, 2, 1]]  # of the episodes of three MDPs: 8, 2 and 13 transitions
SIZES = [sum(lengths) for lengths in LENGTHS]
N = 3000


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    mdps = [toys.numbered(lengths, k) for k, lengths in enumerate(LENGTHS)]
    return toys.replay(tmp_path_factory.mktemp("batches"), mdps)


MDPS = np.arange(N) % 3


def draw(replay, config):
    """N contexts for the MDPs 0, 1, 2, 0, ..., as numpy arrays."""
    program = reference.jit(lambda key, sizes: draw_contexts(key, sizes, jnp.asarray(MDPS), config))
    drawn = program(jax.random.PRNGKey(0), replay.size)
    return locate(jax.tree.map(np.asarray, drawn), replay)


def starts_of(replay):
    """The first transition of the episode of each transition, a list an MDP."""
    return [log.starts(np.arange(log.size)) for log in replay.logs]


def share(values):
    """{value: its share}."""
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), (counts / len(values)).tolist(), strict=True))


def is_prefix(mdp, positions, starts):
    """Whether positions are the first transitions of one episode of that MDP."""
    first = positions[0]
    return starts[mdp][first] == first and all(
        p == first + i and starts[mdp][p] == first for i, p in enumerate(positions)
    )


def test_a_prefix_holds_the_first_transitions_of_one_episode(replay):
    where = draw(replay, ContextConfig(size=4, draw="prefix", relabel=False))
    starts, sizes = starts_of(replay), []
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
    starts = starts_of(replay)
    prefixes = [
        not mask.all() or is_prefix(source, p, starts)
        for source, p, mask in zip(where.source, where.position, where.mask, strict=True)
        if source == 2  # of which few transitions begin an episode
    ]
    assert 0.4 < np.mean(prefixes) < 0.6


class Payer:
    """In the place of a reward model: says who paid and who is to pay."""

    def relabel(self, transitions, source, mdp):
        return transitions._replace(rewards=1000 * source + mdp)


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_minibatch_pairs_contexts_with_transitions_and_targets(replay, everywhere):
    nothing = StudentConfig(1, "posterior", (), (), 1, (), (1,))
    context = ContextConfig(4, relabel=True)
    config = DistillConfig(nothing, context, 1, contexts=200, queries=16, queries_everywhere=everywhere)
    # A reward's thousands say which MDP's batch it is from; targets also say whose they are, in millions.
    values = toys.padded(replay).rewards + np.float32(0.5)
    if everywhere:
        values = values + np.float32(1e6) * np.arange(3, dtype=np.float32)[:, None, None]
    given = Targets(values, *(values[..., None] + np.float32(shift) for shift in (1, 2, 3)))
    program = reference.jit(lambda key, sizes: draw_minibatch(key, sizes, config))
    drawn = program(jax.random.PRNGKey(0), replay.size)
    found = read_minibatch(jax.tree.map(np.asarray, drawn), replay, given, config)
    mdp, context, source, mask, queries, query_source, targets, weights = found
    assert relabelled(found, None, config) is found
    paid = relabelled(found, Payer(), config)
    np.testing.assert_array_equal(
        paid.context.rewards, np.broadcast_to(1000 * source[:, None] + mdp[:, None], mask.shape)
    )
    asked = 1000 * query_source + mdp[:, None] if everywhere else queries.rewards
    np.testing.assert_array_equal(paid.queries.rewards, asked)
    np.testing.assert_array_equal(np.broadcast_to(source[:, None], mask.shape)[mask], context.rewards[mask] // 1000)
    assert context.observations.shape == (200, 4, 2)
    assert queries.actions.shape == (200, 16, 1)
    assert (context.rewards[mask] > 0).all()

    sources = queries.rewards // 1000
    np.testing.assert_array_equal(query_source, sources)
    mdps = np.repeat(mdp[:, None], 16, axis=1)  # one MDP a context
    if not everywhere:
        np.testing.assert_array_equal(sources, mdps)
    else:  # where nothing is known, the mean of what all three say: as if MDP 1, the middle one, said it
        blank = ~mask.any(1)
        assert 10 < blank.sum() < 100
        np.testing.assert_array_equal(targets.values // 1e6, np.where(blank[:, None], 1, mdps))
    assert share(mdps[:, 0]) == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3}, abs=0.15)
    assert (sources == mdps).mean() == pytest.approx(1 / 3 if everywhere else 1, abs=0.1)
    np.testing.assert_array_equal(targets.values % 1e6, queries.rewards + 0.5)
    drawn = queries.rewards + np.float32(0.5) + (np.float32(1e6) * mdps if everywhere else 0)
    for shift, x in enumerate(targets[1:], start=1):  # of the drawn MDP, whether anything is known or not
        np.testing.assert_array_equal(x[..., 0], drawn + shift)

    # Contexts come from any batch. A transition in its own context weighs nothing; the one at the same position
    # of another batch is another transition.
    assert 0.5 < np.mean(context.rewards[:, 0] // 1000 != mdps[:, 0]) < 0.8
    for c in range(200):
        held = context.rewards[c][mask[c]].tolist()
        assert weights[c].tolist() == [0.0 if reward in held else 1.0 for reward in queries.rewards[c].tolist()]
    assert 0.05 < 1 - weights.mean() < 0.9
