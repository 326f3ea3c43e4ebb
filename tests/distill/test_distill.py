"""Phase 2 as a whole, on MDPs whose teachers are known in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batch_rl import toys
from distill import toy
from networks import reference

from bmrl.batch_rl import Targets
from bmrl.distill.distill import initial_state, teacher_targets, train_statistics
from bmrl.errors import BmrlError
from bmrl.runs.checkpoint import latest_checkpoint
from bmrl.runs.metrics import read_metrics
from bmrl.types import Transition


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    return toy.replay(tmp_path_factory.mktemp("batches"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def student(replay, directory):
    return toy.train(replay, directory)


def bits(tree):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


@reference.jit
def evaluate(student, context, mdp, s, a, z, candidates):
    """All outputs for queries [c, n, ...], each with the identity of its context [c, t, ...]; proposals for ``mdp``."""
    evidence = student.encoder.evidence(context, jnp.ones(context.rewards.shape, bool))
    m = student.encoder.identity(evidence)[:, None]
    proposer = student.encoder.embedding(jnp.full(evidence.size.shape, mdp), evidence)[:, None]
    return {
        "value": student.values(s, a, m),
        "predictions": student.predictions(s, a, m),
        "candidate": student.candidates(s, z, proposer)[..., 0],
        "correction": student.corrections(s, candidates[..., None], proposer)[..., 0],
    }


def test_the_student_knows_each_teacher_by_its_context(student):
    rng, contexts, queries = np.random.default_rng(7), 20, 30
    s, a, z = (rng.uniform(-x, x, (contexts, queries, d)).astype(np.float32) for x, d in ((0.7, 2), (0.9, 1), (0.5, 2)))
    for mdp in range(3):
        observations, actions, rewards, _ = map(np.stack, zip(*toy.episodes(mdp, [4] * contexts, seed=1), strict=True))
        context = Transition(observations[:, :-1], actions, rewards, observations[:, 1:], rewards > 0)
        candidates = toy.candidate(s[..., 0], z, mdp)
        outputs = evaluate(student, context, mdp, s, a, z, candidates)

        def error(found, known):
            return np.sqrt(np.mean((np.asarray(found) - known) ** 2))

        known = [toy.value(s[..., 0], a[..., 0], k) for k in range(3)]
        errors = [error(outputs["value"], x) for x in known]
        assert errors[mdp] < 0.3 * np.std(known)
        assert min(errors[:mdp] + errors[mdp + 1 :]) > 3 * errors[mdp]
        rewards = student.statistics.rewards.inverse(outputs["predictions"][..., :1])[..., 0]
        assert error(rewards, toy.reward(s[..., 0] + 0.3 * a[..., 0], mdp)) < 0.25
        assert error(outputs["candidate"], candidates) < 0.2
        assert error(outputs["correction"], toy.correction(candidates, mdp)) < 0.2 * toy.MAX_CORRECTION


def test_the_student_has_the_heads_that_targets_and_configuration_ask_for(replay):
    def start(targets, bound, predict_next):
        config = dataclasses.replace(toy.CONFIG, predict_next=predict_next)
        statistics = train_statistics(replay, targets)
        return jax.eval_shape(lambda: initial_state(jax.random.PRNGKey(0), replay, targets, statistics, bound, config))

    targets = toy.targets(replay)
    deterministic = targets._replace(latents=targets.latents[..., :0], corrections=None)
    for predict_next in (False, True):
        for state, heads in (
            (start(targets, toy.MAX_CORRECTION, predict_next), {"candidate", "correction"}),
            (start(deterministic, 0.0, predict_next), {"candidate"}),
            (start(Targets(targets.values), 0.0, predict_next), set()),
        ):
            student, change = state.student, {"next_observation"} if predict_next else set()
            assert {head for head in ("candidate", "correction") if getattr(student, head) is not None} == heads
            assert state.averages.keys() == {"value", "reward", "mdp"} | heads | change
            # P predicts the reward, and the change of the two observations.
            assert student.prediction.biases[-1].shape == (1 + 2 * predict_next,)


def test_every_unscaled_term_falls(student, directory):
    rows = read_metrics(directory / "metrics.csv")
    terms = {row.name for row in rows if row.stage == "distill"}
    assert terms == {"value", "candidate", "correction", "reward", "mdp", "next_observation"}
    for term in terms:
        values = [row.value for row in rows if row.stage == "distill" and row.name == term]
        # One context in five is blank: it leaves the spread between the MDPs.
        bound = 0.3 if term == "value" else 0.6
        assert np.mean(values[-5:]) < bound * values[0], term


def test_statistics_are_not_trained(student, replay):
    statistics = train_statistics(replay, toy.targets(replay))
    assert bits(student.statistics) == bits(statistics)
    assert bits(student.encoder.inputs) == bits(statistics.context)


def test_the_same_seed_gives_the_same_student_and_nothing_is_compiled_twice(
    student, replay, directory, tmp_path, caplog
):
    again = []
    assert toys.compiled(caplog, lambda: again.append(toy.train(replay, tmp_path))) == []
    assert bits(again[0]) == bits(student)
    assert read_metrics(tmp_path / "metrics.csv") == read_metrics(directory / "metrics.csv")
    assert bits(toy.train(replay, tmp_path / "other", seed=1)) != bits(student)


def test_a_killed_training_goes_on_exactly(student, replay, directory, tmp_path, monkeypatch):
    toys.kill_at_log(monkeypatch, 110)
    with pytest.raises(toys.Killed):
        toy.train(replay, tmp_path, checkpoint_seconds=0)
    monkeypatch.undo()
    shapes = jax.eval_shape(
        lambda: initial_state(
            jax.random.PRNGKey(0),
            replay,
            toy.targets(replay),
            student.statistics,
            toy.MAX_CORRECTION,
            toy.CONFIG,
        )
    )
    step, _ = latest_checkpoint(tmp_path / "checkpoints", shapes)
    assert 0 < step < 1000
    assert bits(toy.train(replay, tmp_path)) == bits(student)
    rows, whole = (
        [row for row in read_metrics(path / "metrics.csv") if row.stage == "distill"] for path in (tmp_path, directory)
    )
    assert rows == whole


def test_targets_that_are_not_finite_name_their_learner(tmp_path):
    episode = (np.zeros((11, 3)), np.zeros((10, 2)), np.ones(10), False)
    replay, algorithm = toys.replay(tmp_path, [[episode], [episode]]), toys.ALGORITHMS["bcq"]
    states = jax.tree.map(lambda x: np.stack([x, np.nan * x]), toys.state(algorithm))
    with pytest.raises(BmrlError, match=r"learner 1 of 2, .* mend the targets of BCQ"):
        teacher_targets(algorithm, states, replay, 0, tmp_path / "scratch")


def test_targets_are_each_learners_own_on_its_own_batch(tmp_path):
    """More transitions than are evaluated at once, and batches of unequal size."""
    replay = toys.replay(
        tmp_path,
        [
            [(np.full((n + 1, 3), k) + np.arange(n + 1)[:, None] / n, np.full((n, 2), k / 4), np.ones(n), False)]
            for k, n in enumerate((1203, 1100))
        ],
    )
    algorithm = toys.ALGORITHMS["bcq"]
    states = jax.tree.map(lambda x: np.stack([x, 0.5 * x]), toys.state(algorithm))
    targets = teacher_targets(algorithm, states, replay, 0, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []  # nothing to clean up, whatever happens
    assert targets.values.shape == (2, 1203)
    assert targets.latents.shape == (2, 1203, 4)
    assert targets.candidates.shape == targets.corrections.shape == (2, 1203, 2)

    @jax.jit
    def straight(state, batch, z):
        s = state.normaliser(batch.observations)
        candidates = state.generator.decode(s, z)
        xi = state.perturbation(jnp.concatenate([s, candidates], -1))
        return state.critics(s, batch.actions)[0], candidates, 0.05 * jnp.tanh(xi)

    def check(found, k, log):
        found = jax.tree.map(lambda x: x[: log.size], found)
        expected = straight(jax.tree.map(lambda x: x[k], states), log.take(np.arange(log.size)), found.latents)
        for one, other in zip((found.values, found.candidates, found.corrections), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        inside = found.latents[np.abs(found.latents) < 0.5]  # not clipped
        assert len(np.unique(inside)) > 0.99 * len(inside)  # a z of its own for every transition

    everywhere = teacher_targets(algorithm, states, replay, 0, tmp_path / "scratch", everywhere=True)
    assert everywhere.candidates.shape == (2, 2, 1203, 2)
    for k, log in enumerate(replay.logs):
        own, of_all = (jax.tree.map(lambda x, k=k: x[k], x) for x in (targets, everywhere))
        check(own, k, log)
        jax.tree.map(lambda x, y, n=log.size, k=k: np.testing.assert_array_equal(x[k, :n], y[:n]), of_all, own)
        check(jax.tree.map(lambda x, k=k: x[1 - k], of_all), k, replay.logs[1 - k])
        # others in every log; all four may be clipped alike
        assert (of_all.latents[0, :1100] != of_all.latents[1, :1100]).any(1).mean() > 0.9
