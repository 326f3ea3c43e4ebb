"""Phase 2 (Algorithm 1): joint, end-to-end distillation of K learners into one identity-conditioned student."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from bmrl import parallel
from bmrl.batch_rl.base import Algorithm, Targets, polyak, unless_diverged
from bmrl.batch_rl.bcq import critic_target
from bmrl.batch_rl.replay import BLOCK_BYTES, Log, Replay, gone_through
from bmrl.batch_rl.teach import spec_of
from bmrl.batch_rl.windows import Windows
from bmrl.distill.contexts import ContextConfig, ContextDraw, draw_contexts, read_contexts
from bmrl.distill.reward_model import RewardModel, RewardModelConfig, fit_reward_model
from bmrl.distill.student import Statistics, Student, StudentConfig
from bmrl.errors import BmrlError
from bmrl.networks import Normaliser, normaliser_of
from bmrl.networks.set_encoder import context_inputs
from bmrl.runs.checkpoint import latest_checkpoint
from bmrl.runs.metrics import Metrics
from bmrl.runs.storage import ScratchArray
from bmrl.runs.training import CHUNK, ReadAhead, train
from bmrl.types import ABLATION, Transition, Watch

MAX_LOSS_RATIO = 1000.0  # bound on how far a term is scaled up to Q_S's
AVERAGE_RATE = 0.01  # of the running means of the losses, by which they are scaled
TARGET_ROWS = 1000  # transitions of a batch that are put to its learner at once


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

    mdp: Int[Any, " c"]  # whose learner is distilled
    context: Transition  # [c, n, ...]
    source: Int[Any, " c"]  # the batch that it comes from
    mask: Bool[Any, "c n"]
    queries: Transition  # [c, q, ...]
    query_source: Int[Any, "c q"]
    targets: Targets  # [c, q, ...]
    weights: Float[Array, "c q"]  # 0 where the transition is in its own context, else 1


class DistillState(NamedTuple):
    """Everything phase 2 needs to go on."""

    student: Student
    optimiser: optax.OptState
    averages: dict[str, Float[Array, ""]]  # running mean of each loss term
    target: Student | None = None  # a slow copy of the student, for TD targets


# ---------------------------------------------------------------------- what is distilled


def teacher_targets(
    algorithm: Algorithm, states: Any, replay: Replay, seed: int, directory: Path, everywhere: bool = False
) -> Targets:
    """Every learner's targets on its own batch, [K, n, ...], or ``everywhere``: on every batch, [K, K, n, ...].

    The networks are frozen, so once per transition is enough. They lie in files without a name in ``directory``, for
    they are as large as the batches.

    Raises BmrlError where the disk is full, and for targets that are not finite.
    """
    learners, rows = len(replay), np.arange(TARGET_ROWS)
    states, keys = parallel.shard((states, np.asarray(parallel.learner_keys(seed, "targets", learners))))

    def targets(state: Any, key: Array, observations: Array, actions: Array, draw: Array) -> Targets:
        return algorithm.targets(state, observations, actions, jax.random.fold_in(key, draw))

    program = parallel.over_learners(targets)
    chunks = -(-int(replay.size.max()) // TARGET_ROWS)

    def of_chunk(logs: Sequence[Log], chunk: int, others: np.ndarray) -> Targets:
        """What every learner says of a log's transitions, the same number of each; the last ones are repeated.

        ``others`` [K] counts the logs from each learner's own on, so that latents are others in each.
        """
        start, draws = chunk * TARGET_ROWS, parallel.shard((others * chunks + chunk).astype(np.uint32))
        taken = [log.take(np.minimum(start + rows, log.size - 1)) for log in logs]
        inputs = parallel.shard((np.stack([t.observations for t in taken]), np.stack([t.actions for t in taken])))
        return parallel.unshard(program(states, keys, *inputs, draws), learners)

    def asked() -> Iterator[tuple[tuple[int, ...], Targets]]:
        """Each learner about its own log, or all about one log after the other; with the place of the first row."""
        for j, logs in enumerate([[log] * learners for log in replay.logs] if everywhere else [replay.logs]):
            others = (j - np.arange(learners)) % learners if everywhere else np.zeros(learners, int)
            for chunk in range(-(-max(log.size for log in logs) // TARGET_ROWS)):
                found, start = of_chunk(logs, chunk, others), chunk * TARGET_ROWS
                for k, log in enumerate(logs):
                    said = jax.tree.map(lambda x, k=k, n=log.size - start: x[k, : max(0, n)], found)
                    if not all(np.isfinite(x).all() for x in jax.tree.leaves(said)):
                        raise BmrlError(
                            f"learner {k} of {learners}, counted from 0, has targets that are not finite, among "
                            f"transitions {start} to {start + TARGET_ROWS - 1} of a log: mend the targets of "
                            f"{type(algorithm).__name__}"
                        )
                    yield (k, j, start) if everywhere else (k, start), said

    padded = parallel.padded(learners)
    inputs = (jax.ShapeDtypeStruct((padded, TARGET_ROWS, d), np.float32) for d in spec_of(replay))
    shape = (learners,) * (2 if everywhere else 1) + (int(replay.size.max()),)
    chunk_shapes = jax.eval_shape(program, states, keys, *inputs, jax.ShapeDtypeStruct((padded,), np.uint32))
    with ExitStack() as opened:
        files = jax.tree.map(
            lambda x: opened.enter_context(ScratchArray(directory, (*shape, *x.shape[2:]), x.dtype)), chunk_shapes
        )
        for where, said in asked():
            for file, x in zip(jax.tree.leaves(files), jax.tree.leaves(said), strict=True):
                file.write(where, x)
        return jax.tree.map(ScratchArray.read, files)


def train_statistics(replay: Replay, targets: Targets) -> Statistics:
    """Means and scales over the train batches, each MDP with the same weight."""
    own = targets.values if targets.values.ndim == 2 else [x[k] for k, x in enumerate(targets.values)]

    def values(k: int) -> Iterator[np.ndarray]:
        n, rows = replay.size[k], BLOCK_BYTES // 4
        return (own[k][start : min(start + rows, n), None] for start in range(0, n, rows))

    return Statistics(
        *data_statistics(replay), normaliser_of(*(functools.partial(values, k) for k in range(len(replay))))
    )


def data_statistics(replay: Replay) -> tuple[Normaliser, Normaliser, Normaliser]:
    """Those that need no learner: of observations, of f's inputs [s, a, r, s' - s], and of rewards."""

    def rows(log: Log) -> Iterator[np.ndarray]:
        return (np.asarray(context_inputs(transitions)) for transitions in gone_through(log))

    inputs = normaliser_of(*(functools.partial(rows, log) for log in replay.logs))
    observation, action = spec_of(replay)
    reward = observation + action
    return inputs.part(0, observation), inputs, inputs.part(reward, reward + 1)


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
        change = student.encoder.inputs.part(-s.shape[-1])(batch.queries.next_observations - s)
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
    evidence, s = target.encoder.evidence(batch.context, batch.mask), batch.queries.next_observations
    a = target.choices(key, s, target.encoder.proposers(evidence)[:, :, None])
    s = jnp.broadcast_to(s, (len(a), *s.shape))
    next_values = target.values(s, a, target.encoder.identity(evidence)[:, None])[None]
    return critic_target(batch.queries.rewards, batch.queries.terminations, next_values, config.discount, 1.0)


# ---------------------------------------------------------------------- training


class MinibatchDraw(NamedTuple):
    """What is random of a minibatch."""

    mdp: Int[Any, " c"]
    context: ContextDraw
    source: Int[Any, "c q"]  # of the transitions to distil
    position: Int[Any, "c q"]


def draw_minibatch(key: Array, sizes: Int[Array, " K"], config: DistillConfig) -> MinibatchDraw:
    """Contexts and the transitions to distil, each pair for the same MDP, out of K batches of the given sizes."""
    mdp_key, context_key, source_key, query_key = jax.random.split(key, 4)
    mdp = jax.random.randint(mdp_key, (config.contexts,), 0, len(sizes))
    source = jnp.broadcast_to(mdp[:, None], (config.contexts, config.queries))
    if config.queries_everywhere:
        source = jax.random.randint(source_key, source.shape, 0, len(sizes))
    position = jax.random.randint(query_key, source.shape, 0, sizes[source])
    return MinibatchDraw(mdp, draw_contexts(context_key, sizes, mdp, config.context), source, position)


def read_minibatch(draw: MinibatchDraw, replay: Replay, targets: Targets, config: DistillConfig) -> Minibatch:
    """The minibatches [*n, ...] that were drawn, as numpy arrays, with transitions as they were logged."""
    context, where = read_contexts(draw.context, replay)
    same = (draw.position[..., None] == where.position[..., None, :]) & where.mask[..., None, :]
    same &= draw.source[..., None] == where.source[..., None, None]
    mdp = np.broadcast_to(draw.mdp[..., None], draw.position.shape)
    asked = (mdp, draw.source, draw.position) if config.queries_everywhere else (mdp, draw.position)
    chosen = jax.tree.map(lambda x: x[asked], targets)
    if config.queries_everywhere:
        # Where nothing is known, Q_S is to be the mean of all learners' values. It is at hand; learned from drawn
        # learners it would carry their spread as noise, far larger than what one first action gains over another.
        blank = ~where.mask.any(-1)
        chosen.values[blank] = targets.values[:, draw.source[blank], draw.position[blank]].mean(0)
    weights = np.float32(1.0) - same.any(-1)
    queries = replay.take_from(draw.source, draw.position)
    return Minibatch(draw.mdp, context, where.source, where.mask, queries, draw.source, chosen, weights)


def relabelled(batch: Minibatch, reward_model: RewardModel | None, config: DistillConfig) -> Minibatch:
    """The minibatch with every transition as the MDP that it stands for would have given it."""
    if reward_model is None:
        return batch

    def relabel(transitions: Transition, source: Array) -> Transition:
        mdp = jnp.broadcast_to(batch.mdp[:, None], transitions.rewards.shape)
        return reward_model.relabel(transitions, jnp.broadcast_to(source, mdp.shape), mdp)

    batch = batch._replace(context=relabel(batch.context, batch.source[:, None]))
    return batch._replace(queries=relabel(batch.queries, batch.query_source)) if config.queries_everywhere else batch


def check_distill(config: DistillConfig, stage: str) -> None:
    """Raises BmrlError for what needs another part of the configuration that is not there."""
    relabel, student = config.context.relabel, config.student
    if config.queries_everywhere and not relabel:
        raise BmrlError(f"{stage}: queries_everywhere needs the reward model of relabelled contexts (relabel: true)")
    if config.td and student.mean_action:
        raise BmrlError(f"{stage}: td takes the best of several actions, the policy has one (mean_action: false)")
    if not student.trials:
        return
    if not (relabel and config.reward_model.next_observations):
        raise BmrlError(f"{stage}: trials need a model of the MDPs (relabel: true, next_observations: true)")
    if student.pooling != "posterior" or not student.labels or student.mean_action:
        raise BmrlError(f"{stage}: trials weigh train MDPs (pooling: posterior, labels: true, mean_action: false)")


Tried: TypeAlias = Callable[[RewardModel], Float[np.ndarray, "mdps learners"]]
"""What learners return in a model of the MDPs."""


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
    tried: Tried | None = None,
) -> Student:
    """Train f, E, P, Q_S, G_S and xi_S jointly; goes on from the newest checkpoint.

    ``tried`` tries the learners in a model of the MDPs (see `distill.trials`), for a student that acts by trials.
    """
    check_distill(config, stage)
    if config.td and targets.candidates is None:
        raise BmrlError(f"{stage}: TD targets need learners that propose actions (BCQ)")
    if config.student.trials and targets.candidates is None:
        raise BmrlError(f"{stage}: trials need learners that propose actions (TD3+BC)")
    statistics = train_statistics(replay, targets)
    key = parallel.learner_keys(seed, stage, 1)[0]
    reward_key, init_key, train_key = jax.random.split(key, 3)
    reward_model = None
    if config.context.relabel:
        metrics.truncate("reward-model", 0)
        reward_model, losses_of_updates = fit_reward_model(
            replay, statistics.context, spec_of(replay), config.reward_model, reward_key
        )
        for part in np.array_split(np.arange(len(losses_of_updates)), min(100, len(losses_of_updates))):
            metrics.log("reward-model", int(part[-1]) + 1, {"reward_loss": losses_of_updates[part].mean()})

    state, step = initial_state(init_key, replay, targets, statistics, max_correction, config), 0
    if found := latest_checkpoint(checkpoints, state):
        step, state = found
        state = jax.tree.map(jnp.asarray, state)
    elif config.student.trials:
        assert reward_model is not None and tried is not None
        student = eqx.tree_at(lambda x: x.encoder.trials, state.student, jnp.asarray(tried(reward_model)))
        state = state._replace(student=student, target=student if config.td else None)
    metrics.truncate(stage, step)
    draw, program = _programs(config)

    draws = config.contexts * (config.context.size + config.queries)
    keys = np.asarray(jax.random.split(train_key, len(replay)))
    windows = Windows(replay, keys, draws, targets, config.queries_everywhere)

    def read(step: int) -> Minibatch:
        given = windows.at(step)
        return read_minibatch(draw(train_key, given.replay.size, step), given.replay, given.beside, config)

    drawn = ReadAhead(read)

    def advance(state: DistillState, step: int, steps: int) -> tuple[DistillState, dict[str, np.ndarray]]:
        state, terms = program(state, drawn.at(step), reward_model, train_key, step, steps)
        drawn.prepare(step + steps)
        return state, parallel.on_host(terms)

    look = (lambda step, state: watch(step, state.student)) if watch else None
    on_host, seconds = parallel.on_host, checkpoint_seconds
    state = train(stage, config.updates, state, step, advance, on_host, checkpoints, metrics, seconds, look)
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
        mdps=len(replay),
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
def _programs(config: DistillConfig) -> tuple[Any, Any]:
    """The compiled programs of phase 2: draw the minibatches of `CHUNK` steps; train for at most as many."""
    optimiser = _optimiser(config)

    def one(
        state: DistillState, batch: Minibatch, reward_model: RewardModel | None, key: Array, step: Array
    ) -> tuple[DistillState, dict[str, Array]]:
        batch = relabelled(batch, reward_model, config)
        if config.td:
            assert state.target is not None
            td_key = jax.random.fold_in(jax.random.fold_in(key, step), 4)  # 0 ... 3: the draws
            values = td_values(state.target, batch, td_key, config.td)
            batch = batch._replace(targets=batch.targets._replace(values=values))
        loss = jax.grad(scaled_loss, has_aux=True)
        grad, (terms, averages) = loss(state.student, batch, state.averages, step, config.parts)
        updates, optimiser_state = optimiser.update(grad, state.optimiser)
        student = optax.apply_updates(state.student, updates)
        target = polyak(state.target, student, config.td.target_rate) if config.td else None
        return DistillState(student, optimiser_state, averages, target), terms

    def draw(key: Array, sizes: Int[Array, " K"], start: Int[Array, ""]) -> MinibatchDraw:
        steps = start + jnp.arange(CHUNK)
        return jax.vmap(lambda step: draw_minibatch(jax.random.fold_in(key, step), sizes, config))(steps)

    @jax.jit
    def train(
        state: DistillState,
        batches: Minibatch,
        reward_model: RewardModel | None,
        key: Array,
        start: Int[Array, ""],
        steps: Int[Array, ""],
    ) -> tuple[DistillState, dict[str, Array]]:
        def body(i: Array, carry: Any) -> Any:
            state, total = carry
            batch = jax.tree.map(lambda x: x[i], batches)
            state, terms = one(state, batch, reward_model, key, start + i)
            return state, {name: total[name] + x / steps for name, x in terms.items()}

        zeros = {name: jnp.zeros(()) for name in state.averages}
        new, terms = jax.lax.fori_loop(0, steps, body, (state, zeros))
        return unless_diverged(new, state, terms)

    return parallel.on_host_alone(draw), train
