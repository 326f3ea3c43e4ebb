"""Which train MDPs stand for a test MDP: the oracle's mixture of them, and the nearest."""

import jax.numpy as jnp
import numpy as np
import pytest
from evaluate.test_agents import student_of

from bmrl.distill.contexts import ContextConfig
from bmrl.errors import BmrlError
from bmrl.evaluate.evaluate import mixture, nearest, oracle_agent
from bmrl.families import FAMILIES
from bmrl.families.base import place

DYNAMICS = FAMILIES["halfcheetah-dynamics"]


def at(*coordinates):
    """MDPs at points of the unit cube."""
    return [place(DYNAMICS.bounds, DYNAMICS.logarithmic, point) for point in coordinates]


TETRAHEDRON = at((0, 0, 0), (0.8, 0, 0), (0, 0.8, 0), (0, 0, 0.8))


@pytest.mark.parametrize("name", ["halfcheetah-velocity", "hopper-velocity"])
def test_with_one_parameter_it_is_linear_interpolation(name):
    family = FAMILIES[name]
    grid = [mdp["target_velocity"] for mdp in family.train_mdps()]
    x = np.concatenate([np.random.default_rng(0).uniform(*family.bounds["target_velocity"], 50), grid, [0.0, 1.475]])
    found = mixture(family, [{"target_velocity": v} for v in x], family.train_mdps())
    expected = [np.interp(x, grid, corner) for corner in np.eye(len(grid))]  # ends stay beyond the ends
    np.testing.assert_allclose(found, np.transpose(expected), atol=1e-6)


def test_with_several_it_is_interpolation_in_the_smallest_simplex_around():
    far = at((1, 1, 1), (1, 0, 1))
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    inside = at(weights @ DYNAMICS.coordinates(TETRAHEDRON))
    np.testing.assert_allclose(mixture(DYNAMICS, inside, [*TETRAHEDRON, *far]), [[*weights, 0, 0]], atol=1e-9)
    np.testing.assert_allclose(mixture(DYNAMICS, TETRAHEDRON, [*far, *TETRAHEDRON]), np.eye(6)[2:], atol=1e-9)


def test_beyond_the_train_mdps_it_is_what_comes_nearest():
    outside = at((1, 0, 0), (0.4, 0.4, 0.0), (0.0, 1.0, 0.0))
    found = mixture(DYNAMICS, outside, TETRAHEDRON)
    np.testing.assert_allclose(found, [[0, 1, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 1, 0]], atol=1e-9)


def test_with_fewer_mdps_than_corners_all_mix():
    middle = {"mass": 1.0, "friction": 1.0, "damping": 1.0}
    ends = [middle | {"mass": 0.5}, middle | {"mass": 2.0}]
    np.testing.assert_allclose(mixture(DYNAMICS, [middle, ends[0]], ends), [[0.5, 0.5], [1, 0]], atol=1e-9)


@pytest.mark.parametrize("name", ["halfcheetah-dynamics", "halfcheetah-velocity-dynamics"])
def test_mixtures_are_weights_that_come_near_the_mdp(name):
    family = FAMILIES[name]
    mdps = [*family.test_mdps(), *family.sample(np.random.default_rng(0), 10)]
    found = mixture(family, mdps, family.train_mdps())
    assert (found >= 0).all() and (found > 1e-9).sum(1).max() <= len(family.bounds) + 1
    np.testing.assert_allclose(found.sum(1), 1)
    error = np.linalg.norm(found @ family.coordinates(family.train) - family.coordinates(mdps), axis=1)
    own = family.coordinates(family.train)[nearest(mdps, family.train, family)]
    assert (error < np.linalg.norm(own - family.coordinates(mdps), axis=1)).all()  # nearer than any one of them


def test_the_nearest_is_found_by_ratios():
    ends = [{"mass": x, "friction": 1.0, "damping": 1.0} for x in (0.5, 2.0)]
    # 1.1 is nearer to 0.5 than to 2, but not by ratio
    assert nearest([ends[0] | {"mass": 1.1}, ends[0] | {"mass": 0.9}], ends, DYNAMICS).tolist() == [1, 0]


def test_the_oracle_acts_on_the_mixture_of_embeddings():
    family, student = FAMILIES["point-goal"], student_of(pooling="posterior", latent_dim=2)
    train = family.train_mdps()
    between = {"goal_angle": train[0]["goal_angle"] * 0.25 + train[1]["goal_angle"] * 0.75}
    agent = oracle_agent(student, ContextConfig(4), family, train, [train[2], between])
    memory = agent.start(2)
    first, second, third = np.asarray(student.encoder.embeddings)
    expected = jnp.stack([third, 0.25 * first + 0.75 * second])
    np.testing.assert_allclose(agent.identity(memory), expected, atol=1e-4)
    # Actions are proposed for the two train MDPs around it; told one of them alone, for that and its neighbour
    assert agent.prior is not None
    proposers = student.encoder.proposers(agent.prior)
    np.testing.assert_allclose(proposers, [[third, second], [second, first]], atol=1e-6)
    assert agent.observe(memory, None) is memory  # it needs no context
    with pytest.raises(BmrlError, match="pooling='posterior'"):
        oracle_agent(student_of(pooling="mean", latent_dim=2), ContextConfig(4), family, train, [between])
