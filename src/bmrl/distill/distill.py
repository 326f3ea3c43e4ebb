"""Phase 2 (Algorithm 1): joint, end-to-end distillation of K learners into one identity-conditioned student."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from bmrl import parallel
from bmrl.batch_rl.base import Algorithm, Targets, polyak
from bmrl.batch_rl.bcq import clipped_latents, critic_target
from bmrl.batch_rl.replay import Replay
from bmrl.batch_rl.teach import spec_of
from bmrl.distill.contexts import ContextConfig, ContextIndex, draw_context
from bmrl.distill.reward_model import RewardModel, RewardModelConfig, fit_reward_model
from bmrl.distill.student import Statistics, Student, StudentConfig
from bmrl.errors import BmrlError
from bmrl.networks import Normaliser
from bmrl.networks.set_encoder import context_inputs
from bmrl.runs.checkpoint import latest_checkpoint
from bmrl.runs.metrics import Metrics
from bmrl.runs.training import train
from bmrl.types import ABLATION, Transition, Watch

MAX_LOSS_RATIO = 1000.0  # bound on how far a term is scaled up to Q_S's
AVERAGE_RATE = 0.01  # of the running means of the losses, by which they are scaled


@dataclass(frozen=True)
class Parts:
    """Parts of the loss that an ablation leaves out; the default is all of it."""

    auxiliary: bool = True  # P's terms
    scaling: bool = True  # every term scaled to Q_S's; False: the plain sum
    proposal_gradients: bool = True  # of G_S and xi_S into the identity


WHOLE = Parts()


@dataclass(frozen=True)
class TDConfig:
    """Q_S learned from rewards by BCQ's target, in the place of the learners' values."""

    discount: float = 0.99
    target_rate: float = 0.005  # Polyak step of the target student
    candidates: int = 10  # actions that G_S and xi_S propose in the next state


@dataclass(frozen=True)
class DistillConfig:
    """Networks, contexts and optimisation of phase 2."""

    student: StudentConfig
    context: ContextConfig
    updates: int
    contexts: int  # contexts a minibatch, each of an MDP drawn uniformly
    queries: int  # transitions a context: the minibatch has contexts * queries elements
    queries_everywhere: bool = False  # distil MDP j's learner on every batch, not only on j's own
    learning_rate: float = 1e-3
    decay: bool = True  # the learning rate falls to zero along a cosine
    predict_next: bool = False  # P predicts s' as well as r
    reward_model: RewardModelConfig = field(default_factory=RewardModelConfig)
    parts: Parts = field(default=WHOLE, metadata=ABLATION)  # of the loss
    td: TDConfig | None = field(default=None, metadata=ABLATION)  # None: Q_S is distilled


class Minibatch(NamedTuple):
    """One minibatch: c contexts of up to n transitions, each with q transitions to distil."""

    mdp: Int[Array, " c"]  # whose learner is distilled
    context: Transition  # [c, n, ...]
    mask: Bool[Array, "c n"]
    queries: Transition  # [c, q, ...]
    targets: Targets  # [c, q, ...]
    weights: Float[Array, "c q"]  # 0 where the transition is in its own context, else 1


class DistillState(NamedTuple):
    """Everything phase 2 needs to go on."""

    student: Student
    optimiser: optax.OptState
    averages: dict[str, Float[Array, ""]]  # running mean of each loss term
    target: Student | None = None  # a slow copy of the student, for TD targets


# ---------------------------------------------------------------------- what is distilled


def teacher_targets(algorithm: Algorithm, states: Any, replay: Replay, seed: int, everywhere: bool = False) -> Targets:
    """Every learner's targets on its own batch, [K, n, ...], or ``everywhere``: on every batch, [K, K, n, ...].

    The networks are frozen, so once per transition is enough.
    """

    def targets(state: Any, replay: Replay, key: Array) -> Targets:
        chunk = 1000
        count = -(-len(replay.rewards) // chunk)
        index = jnp.arange(count * chunk).reshape(count, chunk)
        index = jnp.minimum(index, len(replay.rewards) - 1)

        def one(args: tuple[Array, Array]) -> Targets:
            rows, i = args
            batch = replay.take(rows)
            return algorithm.targets(state, batch.observations, batch.actions, jax.random.fold_in(key, i))

        chunks = jax.lax.map(one, (index, jnp.arange(count)))
        return jax.tree.map(lambda x: x.reshape(count * chunk, *x.shape[2:])[: len(replay.rewards)], chunks)

    learners = len(replay.size)
    keys = np.asarray(parallel.learner_keys(seed, "targets", learners))
    if not everywhere:
        return parallel.unshard(parallel.over_learners(targets)(*parallel.shard((states, replay, keys))), learners)

    def on_all(state: Any, key: Array, replay: Replay) -> Targets:
        return jax.lax.map(lambda one: targets(state, one, key), replay)

    program = parallel.over_learners(on_all, replicated=1)
    return parallel.unshard(program(*parallel.shard((states, keys)), replay), learners)


def train_statistics(replay: Replay, targets: Targets) -> Statistics:
    """Means and scales over the train batches, each MDP with the same weight."""
    own = targets.values if targets.values.ndim == 2 else [x[k] for k, x in enumerate(targets.values)]
    values = _over_mdps([x[:n, None] for x, n in zip(own, replay.size, strict=True)])
    return Statistics(*data_statistics(replay), values)


def data_statistics(replay: Replay) -> tuple[Normaliser, Normaliser, Normaliser]:
    """Those that need no learner: of observations, of f's inputs [s, a, r, s' - s], and of rewards."""
    transitions = [jax.tree.map(lambda x, k=k: x[k], replay).take(np.arange(n)) for k, n in enumerate(replay.size)]
    return (
        _over_mdps([t.observations for t in transitions]),
        _over_mdps([np.asarray(context_inputs(t)) for t in transitions]),
        _over_mdps([t.rewards[:, None] for t in transitions]),
    )


def _over_mdps(rows: list[Any]) -> Normaliser:
    mean = np.mean([x.mean(0, dtype=np.float64) for x in rows], axis=0)
    variance = np.mean([((x - mean) ** 2).mean(0, dtype=np.float64) for x in rows], axis=0)
    scale = np.sqrt(variance)
    return Normaliser(jnp.asarray(mean, jnp.float32), jnp.asarray(np.where(scale > 1e-6, scale, 1.0), jnp.float32))


# ---------------------------------------------------------------------- losses (section 4.1, Algorithm 1 line 12)


def losses(student: Student, batch: Minibatch, parts: Parts = WHOLE) -> dict[str, Array]:
    """The unscaled terms of Algorithm 1's loss, each a mean over elements and components.

    ``value`` is in units of the targets' variance, ``reward`` and ``next_observation`` of their own. Where f infers a
    posterior over the train MDPs, ``mdp`` is its cross-entropy to the context's MDP, and G_S and xi_S, which propose
    actions of one MDP's learner, get that MDP's embedding (zero where the context is empty); Q_S and P get what f
    inferred.
    """
    encoder = student.encoder
    evidence = encoder.evidence(batch.context, batch.mask)
    m = proposer = encoder.identity(evidence)[:, None]  # one for all queries of a context
    if encoder.labels:
        proposer = encoder.embedding(batch.mdp, evidence)[:, None]
    proposer = proposer if parts.proposal_gradients else jax.lax.stop_gradient(proposer)
    s, a = batch.queries.observations, batch.queries.actions
    statistics = jax.lax.stop_gradient(student.statistics)  # a trained scale would only shrink the loss

    def mean(squares: Array) -> Array:
        per_element = squares if squares.ndim == batch.weights.ndim else squares.mean(-1)
        return (batch.weights * per_element).sum() / jnp.maximum(batch.weights.sum(), 1.0)

    terms = {"value": mean(((student.values(s, a, m) - batch.targets.values) / statistics.values.scale[0]) ** 2)}
    if student.candidate is not None:
        proposals = student.candidates(s, batch.targets.latents, proposer)
        terms["candidate"] = mean((proposals - batch.targets.candidates) ** 2)
    if student.correction is not None:
        terms["correction"] = mean(
            (student.corrections(s, batch.targets.candidates, proposer) - batch.targets.corrections) ** 2
        )
    if encoder.labels:
        terms["mdp"] = optax.softmax_cross_entropy_with_integer_labels(evidence.total, batch.mdp).mean()
    if not parts.auxiliary:
        return terms
    predicted = student.predictions(s, a, m)
    rewards = statistics.rewards(batch.queries.rewards[..., None])
    terms["reward"] = mean((predicted[..., :1] - rewards) ** 2)
    if predicted.shape[-1] > 1:
        d = s.shape[-1]
        change = batch.queries.next_observations - s
        inputs = jax.lax.stop_gradient(student.encoder.inputs)
        change = (change - inputs.mean[-d:]) / inputs.scale[-d:]
        terms["next_observation"] = mean((predicted[..., 1:] - change) ** 2)
    return terms


def scaled_loss(
    student: Student, batch: Minibatch, averages: dict[str, Array], steps: Array, parts: Parts = WHOLE
) -> tuple[Array, tuple[dict[str, Array], dict[str, Array]]]:
    """L_Q + sum over the other terms of stopgrad(mean L_Q / mean L_x) L_x, with running means, the ratio bounded."""
    terms = losses(student, batch, parts)
    # A plain mean over the first steps, then an exponential one.
    rate = jnp.maximum(AVERAGE_RATE, 1.0 / (steps + 1.0))
    averages = {name: (1 - rate) * averages[name] + rate * jax.lax.stop_gradient(x) for name, x in terms.items()}
    ratios = {
        name: jnp.clip(averages["value"] / jnp.maximum(averages[name], 1e-12), 1 / MAX_LOSS_RATIO, MAX_LOSS_RATIO)
        for name in terms
    }
    if not parts.scaling:
        ratios = {name: jnp.ones(()) for name in terms}
    total = jnp.sum(jnp.stack([ratios[name] * x for name, x in terms.items()]))
    return total, (terms, averages)


def td_values(target: Student, batch: Minibatch, key: Array, config: TDConfig) -> Float[Array, "c q"]:
    """BCQ's target r + gamma (1 - d) max_a' Q_S(s', a', m) with one critic, all networks of the target student's.

    The a' are proposed as the policy proposes them, under what the target student's f infers from the same context.
    """
    mdp_key, latent_key = jax.random.split(key)
    evidence = target.encoder.evidence(batch.context, batch.mask)
    proposers = target.encoder.sample(mdp_key, evidence, config.candidates)[:, :, None]
    s = batch.queries.next_observations
    s = jnp.broadcast_to(s, (config.candidates, *s.shape))
    a = target.candidates(s, clipped_latents(latent_key, (*s.shape[:-1], target.latent_dim)), proposers)
    a = jnp.clip(a + target.corrections(s, a, proposers), -1.0, 1.0)
    next_values = target.values(s, a, target.encoder.identity(evidence)[:, None])[None]
    return critic_target(batch.queries.rewards, batch.queries.terminations, next_values, config.discount, 1.0)


# ---------------------------------------------------------------------- training


def draw_minibatch(
    key: Array, replay: Replay, targets: Targets, reward_model: RewardModel | None, config: DistillConfig
) -> Minibatch:
    """Contexts and the transitions to distil, each pair for the same MDP."""
    mdp_key, context_key, source_key, query_key = jax.random.split(key, 4)
    mdp = jax.random.randint(mdp_key, (config.contexts,), 0, len(replay.size))
    context, where = draw_contexts(context_key, replay, mdp, config.context, reward_model)

    query_mdp = jnp.broadcast_to(mdp[:, None], (config.contexts, config.queries))
    source = query_mdp
    if config.queries_everywhere:
        source = jax.random.randint(source_key, query_mdp.shape, 0, len(replay.size))
    index = jax.random.randint(query_key, query_mdp.shape, 0, replay.size[source])
    queries = replay.take_from(source, index)
    if reward_model is not None and config.queries_everywhere:
        queries = reward_model.relabel(queries, source, query_mdp)
    same = (index[:, :, None] == where.position[:, None]) & where.mask[:, None]
    same &= source[:, :, None] == where.source[:, None, None]
    asked = (query_mdp, source, index) if config.queries_everywhere else (query_mdp, index)
    chosen = jax.tree.map(lambda x: x[asked], targets)
    if config.queries_everywhere:
        # Where nothing is known, Q_S is to be the mean of all learners' values. It is at hand; learned from drawn
        # learners it would carry their spread as noise, far larger than what one first action gains over another.
        blank = ~where.mask.any(-1, keepdims=True)
        chosen = chosen._replace(values=jnp.where(blank, targets.values[:, source, index].mean(0), chosen.values))
    return Minibatch(mdp, context, where.mask, queries, chosen, 1.0 - same.any(-1))


def draw_contexts(
    key: Array, replay: Replay, mdp: Int[Array, " c"], config: ContextConfig, reward_model: RewardModel | None
) -> tuple[Transition, ContextIndex]:
    """A context [c, n, ...] for each of the MDPs, relabelled if there is a reward model, and where it comes from."""
    draw = jax.vmap(lambda k, j: draw_context(k, replay, j, config))
    where: ContextIndex = draw(jax.random.split(key, len(mdp)), mdp)
    source = jnp.broadcast_to(where.source[:, None], where.position.shape)
    context = replay.take_from(source, where.position)
    if reward_model is not None:
        context = reward_model.relabel(context, source, jnp.broadcast_to(mdp[:, None], source.shape))
    return context, where


def distill(
    replay: Replay,
    targets: Targets,
    max_correction: float,
    config: DistillConfig,
    seed: int,
    checkpoints: Path,
    metrics: Metrics,
    stage: str,
    checkpoint_seconds: float,
    watch: Watch | None = None,
) -> Student:
    """Train f, E, P, Q_S, G_S and xi_S jointly; goes on from the newest checkpoint."""
    if config.queries_everywhere and not config.context.relabel:
        raise BmrlError(f"{stage}: queries_everywhere needs the reward model of relabelled contexts (relabel: true)")
    if config.td and targets.candidates is None:
        raise BmrlError(f"{stage}: TD targets need learners that propose actions (BCQ)")
    statistics = train_statistics(replay, targets)
    replay, targets = jax.tree.map(jnp.asarray, (replay, targets))
    key = parallel.learner_keys(seed, stage, 1)[0]
    reward_key, init_key, train_key = jax.random.split(key, 3)
    reward_model = None
    if config.context.relabel:
        metrics.truncate("reward-model", 0)
        reward_model, loss = fit_reward_model(
            replay, statistics.context, spec_of(replay), config.reward_model, reward_key
        )
        metrics.log("reward-model", config.reward_model.updates, {"reward_loss": float(loss)})

    state, step = initial_state(init_key, replay, targets, statistics, max_correction, config), 0
    if found := latest_checkpoint(checkpoints, state):
        step, state, _ = found
        state = jax.tree.map(jnp.asarray, state)
    metrics.truncate(stage, step)
    program = _train_program(config)

    def advance(state: DistillState, step: int, steps: int) -> tuple[DistillState, dict[str, np.ndarray]]:
        state, terms = program(state, replay, targets, reward_model, train_key, step, steps)
        return state, {name: np.asarray(x) for name, x in terms.items()}

    def snapshot(state: DistillState) -> DistillState:
        return jax.tree.map(np.asarray, state)

    look = (lambda step, state: watch(step, state.student)) if watch else None
    state = train(stage, config.updates, state, step, advance, snapshot, checkpoints, metrics, checkpoint_seconds, look)
    return state.student


def initial_state(
    key: Array, replay: Replay, targets: Targets, statistics: Statistics, max_correction: float, config: DistillConfig
) -> DistillState:
    """A fresh student with the heads that the targets ask for."""
    latent_dim = None if targets.latents is None else targets.latents.shape[-1]
    student = Student(
        key,
        spec_of(replay),
        statistics,
        config.student,
        mdps=len(replay.size),
        latent_dim=latent_dim,
        max_correction=max_correction,
        predict_next=config.predict_next,
    )
    names = ["value"]
    names += ["candidate"] if student.candidate else []
    names += ["correction"] if student.correction else []
    names += ["reward"] if config.parts.auxiliary else []
    names += ["mdp"] if student.encoder.labels else []
    names += ["next_observation"] if config.parts.auxiliary and config.predict_next else []
    averages = {name: jnp.zeros(()) for name in names}
    return DistillState(student, _optimiser(config).init(student), averages, student if config.td else None)


def _optimiser(config: DistillConfig) -> optax.GradientTransformation:
    rate = config.learning_rate
    return optax.adam(optax.cosine_decay_schedule(rate, config.updates) if config.decay else rate)


@functools.lru_cache(maxsize=8)
def _train_program(config: DistillConfig) -> Any:
    optimiser = _optimiser(config)

    def one(
        state: DistillState, replay: Replay, targets: Targets, reward_model: RewardModel | None, key: Array, step: Array
    ) -> tuple[DistillState, dict[str, Array]]:
        key = jax.random.fold_in(key, step)
        batch = draw_minibatch(key, replay, targets, reward_model, config)
        if config.td:
            assert state.target is not None
            values = td_values(state.target, batch, jax.random.fold_in(key, 4), config.td)  # 0 ... 3: the draws
            batch = batch._replace(targets=batch.targets._replace(values=values))
        loss = jax.grad(scaled_loss, has_aux=True)
        grad, (terms, averages) = loss(state.student, batch, state.averages, step, config.parts)
        updates, optimiser_state = optimiser.update(grad, state.optimiser)
        student = optax.apply_updates(state.student, updates)
        target = polyak(state.target, student, config.td.target_rate) if config.td else None
        return DistillState(student, optimiser_state, averages, target), terms

    @jax.jit
    def train(
        state: DistillState,
        replay: Replay,
        targets: Targets,
        reward_model: RewardModel | None,
        key: Array,
        start: Int[Array, ""],
        steps: Int[Array, ""],
    ) -> tuple[DistillState, dict[str, Array]]:
        def body(i: Array, carry: Any) -> Any:
            state, total = carry
            state, terms = one(state, replay, targets, reward_model, key, start + i)
            return state, {name: total[name] + x / steps for name, x in terms.items()}

        zeros = {name: jnp.zeros(()) for name in state.averages}
        return jax.lax.fori_loop(0, steps, body, (state, zeros))

    return train
