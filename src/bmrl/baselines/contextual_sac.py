"""Contextual SAC: Batch SAC over all batches at once, given an identity that f infers by the critic loss alone.

This is PEARL (Rakelly et al. 2019) on frozen batches, the baseline of section 5.1. An identity z ~ q(z|c) stands
beside every observation. q is a product of Gaussians, one a transition of the context c. The actor and the critics
are SAC's; f learns from the critic loss, Eq. 2, and from KL(q || N(0, I)).
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from bmrl import parallel
from bmrl.batch_rl.base import Metrics as Means
from bmrl.batch_rl.base import critics_loss_fn, gradient_step, unless_diverged
from bmrl.batch_rl.replay import Replay
from bmrl.batch_rl.sac import SAC, SACState
from bmrl.batch_rl.teach import spec_of
from bmrl.distill.contexts import ContextConfig, ContextDraw, draw_contexts, read_contexts
from bmrl.distill.distill import data_statistics
from bmrl.distill.reward_model import RewardModel, RewardModelConfig, fit_reward_model
from bmrl.errors import BmrlError
from bmrl.networks import MLP, Normaliser
from bmrl.networks.set_encoder import Evidence, context_inputs
from bmrl.runs.checkpoint import latest_checkpoint
from bmrl.runs.metrics import Metrics
from bmrl.runs.training import CHUNK, ReadAhead, train
from bmrl.types import Spec, Transition

KL_WEIGHT = 0.1  # PEARL's
MIN_VARIANCE = 1e-7  # of a transition's Gaussian, as in PEARL


class GaussianEncoder(eqx.Module):
    """f as PEARL has it: a Gaussian over z for each transition; the posterior of a context is their product.

    Evidence is in natural parameters [mu / sigma^2, 1 / sigma^2], which add up in a product of Gaussians.
    """

    inputs: Normaliser  # of [s, a, r, s' - s]
    network: MLP  # mu, and the variance before softplus

    def __init__(self, key: Array, spec: Spec, inputs: Normaliser, hidden: tuple[int, ...], latent_dim: int):
        self.inputs = inputs
        self.network = MLP(key, 2 * spec.observation_dim + spec.action_dim + 1, hidden, 2 * latent_dim)

    @property
    def evidence_dim(self) -> int:
        """Size of the evidence of a transition."""
        return self.network.biases[-1].shape[-1]

    def observe(self, transitions: Transition) -> Float[Array, "*n evidence"]:
        """The evidence of each transition."""
        mean, raw = jnp.split(self.network(self.inputs(context_inputs(transitions))), 2, axis=-1)
        precision = 1.0 / jnp.maximum(jax.nn.softplus(raw), MIN_VARIANCE)
        return jnp.concatenate([mean * precision, precision], axis=-1)

    def posterior(self, evidence: Evidence) -> tuple[Float[Array, "*n latent"], Float[Array, "*n latent"]]:
        """Mean and variance of q(z|c); those of the prior N(0, I) where there is no evidence."""
        weighted, precision = jnp.split(evidence.total, 2, axis=-1)
        variance = 1.0 / jnp.where(evidence.size[..., None] > 0, precision, 1.0)
        return weighted * variance, variance


class ContextualState(NamedTuple):
    """Everything a contextual SAC is."""

    sac: SACState  # its observations are [s, z]
    encoder: GaussianEncoder
    encoder_optimiser: optax.OptState


class Minibatch(NamedTuple):
    """c contexts of up to n transitions, each with q transitions of the same MDP to learn from."""

    context: Transition  # [c, n, ...]
    mask: Bool[Any, "c n"]
    queries: Transition  # [c, q, ...]
    mdp: Int[Any, " c"]
    source: Int[Any, " c"]  # the batch that the context comes from


@dataclass(frozen=True)
class ContextualSAC:
    """What is learned from K batches, and for how long."""

    sac: SAC  # its minibatch is of every MDP, as PEARL's is
    context: ContextConfig
    queries: int  # transitions that share a context; divides the minibatch of an MDP
    encoder_hidden: tuple[int, ...]  # f
    latent_dim: int  # of z
    reward_model: RewardModelConfig  # relabels contexts, where they are
    updates: int

    def init(self, key: Array, spec: Spec, observations: Normaliser, inputs: Normaliser) -> ContextualState:
        """A fresh learner; the statistics are of observations and of what f reads."""
        sac_key, encoder_key = jax.random.split(key)
        both = Normaliser(
            jnp.concatenate([observations.mean, jnp.zeros(self.latent_dim)]),
            jnp.concatenate([observations.scale, jnp.ones(self.latent_dim)]),
        )
        joined = Spec(spec.observation_dim + self.latent_dim, spec.action_dim)
        encoder = GaussianEncoder(encoder_key, spec, inputs, self.encoder_hidden, self.latent_dim)
        return ContextualState(self.sac.init(sac_key, joined, both), encoder, self._adam.init(encoder))

    def update(self, state: ContextualState, batch: Minibatch, key: Array) -> tuple[ContextualState, Means]:
        """A step of SAC on [s, z], to which z is data, and a step of f on `encoder_loss_fn` with the same targets."""
        z_key, sac_key = jax.random.split(key)
        z, _ = sample_identity(state.encoder, batch, z_key)
        joined = with_identity(batch.queries, z)
        y = self.sac.regression_target(state.sac, joined, sac_key)
        (_, kl), gradient = jax.value_and_grad(encoder_loss_fn, has_aux=True)(state.encoder, state.sac, batch, y, z_key)
        encoder, optimiser = gradient_step(self._adam, gradient, state.encoder_optimiser, state.encoder)
        sac, metrics = self.sac.update(state.sac, joined, sac_key)
        return ContextualState(sac, encoder, optimiser), metrics | {"kl": kl}

    def act(self, state: ContextualState, observations: Array, evidence: Evidence, key: Array) -> Array:
        """SAC's mean action under the posterior mean of z."""
        z, _ = state.encoder.posterior(evidence)
        return self.sac.act(state.sac, jnp.concatenate([observations, z], axis=-1), key)

    @property
    def _adam(self) -> optax.GradientTransformation:
        return optax.adam(self.sac.learning_rate)


# ---------------------------------------------------------------------- losses


def sample_identity(
    encoder: GaussianEncoder, batch: Minibatch, key: Array
) -> tuple[Float[Array, "c latent"], Float[Array, " c"]]:
    """Z ~ q(z|c) for each context, differentiable in f, and KL(q || N(0, I)) in nats."""
    mean, variance = encoder.posterior(Evidence.of(encoder.observe(batch.context), batch.mask))
    kl = 0.5 * (variance + mean**2 - 1.0 - jnp.log(variance)).sum(-1)
    return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape), kl


def with_identity(queries: Transition, z: Float[Array, "c latent"]) -> Transition:
    """The queries of every context as one minibatch of observations [s, z], as SAC reads them."""

    def join(s: Array) -> Array:
        return jnp.concatenate([s, jnp.broadcast_to(z[:, None], (*s.shape[:-1], z.shape[-1]))], axis=-1)

    joined = queries._replace(
        observations=join(queries.observations), next_observations=join(queries.next_observations)
    )
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), joined)


def encoder_loss_fn(
    encoder: GaussianEncoder, sac: SACState, batch: Minibatch, y: Array, key: Array
) -> tuple[Array, Array]:
    """SAC's critic loss at z ~ q(z|c) + 0.1 KL(q || N(0, I)) (Rakelly et al. 2019, Algorithm 1), and the mean KL."""
    z, kl = sample_identity(encoder, batch, key)
    joined = with_identity(batch.queries, z)
    critics_loss, _ = critics_loss_fn(sac.critics, sac.normaliser(joined.observations), joined.actions, y)
    return critics_loss + KL_WEIGHT * kl.mean(), kl.mean()


# ---------------------------------------------------------------------- training


class MinibatchDraw(NamedTuple):
    """What is random of a minibatch."""

    mdp: Int[Any, " c"]
    context: ContextDraw
    position: Int[Any, "c q"]


def draw_minibatch(key: Array, sizes: Int[Array, " K"], config: ContextualSAC) -> MinibatchDraw:
    """As many contexts and queries of every MDP, drawn independently of each other."""
    context_key, query_key = jax.random.split(key)
    mdp = jnp.repeat(jnp.arange(len(sizes)), config.sac.batch_size // config.queries)
    position = jax.random.randint(query_key, (len(mdp), config.queries), 0, sizes[mdp][:, None])
    return MinibatchDraw(mdp, draw_contexts(context_key, sizes, mdp, config.context), position)


def read_minibatch(draw: MinibatchDraw, replay: Replay) -> Minibatch:
    """The minibatches [*n, ...] that were drawn, as numpy arrays, with transitions as they were logged."""
    context, where = read_contexts(draw.context, replay)
    queries = replay.take_from(np.broadcast_to(draw.mdp[..., None], draw.position.shape), draw.position)
    return Minibatch(context, where.mask, queries, draw.mdp, where.source)


def train_contextual_sac(
    replay: Replay,
    config: ContextualSAC,
    seed: int,
    checkpoints: Path,
    metrics: Metrics,
    stage: str,
    checkpoint_seconds: float,
) -> ContextualState:
    """Train on K batches; goes on from the newest checkpoint.

    Raises BmrlError if contexts cannot share the minibatch evenly, or if training diverges.
    """
    if config.sac.batch_size % config.queries:
        raise BmrlError(f"{stage}: {config.queries} queries a context do not divide {config.sac.batch_size}")
    reward_key, init_key, train_key = jax.random.split(parallel.learner_keys(seed, stage, 1)[0], 3)
    observations, inputs, _ = data_statistics(replay)
    spec = spec_of(replay)
    reward_model = None
    if config.context.relabel:
        reward_model, _ = fit_reward_model(replay, inputs, spec, config.reward_model, reward_key)

    state, step = config.init(init_key, spec, observations, inputs), 0
    if found := latest_checkpoint(checkpoints, state):
        step, state = found
        state = jax.tree.map(jnp.asarray, state)
    metrics.truncate(stage, step)
    draw, program = _programs(config)

    drawn = ReadAhead(lambda step: read_minibatch(draw(train_key, replay.size, step), replay))

    def advance(state: ContextualState, step: int, steps: int) -> tuple[ContextualState, dict[str, np.ndarray]]:
        state, losses = program(state, drawn.at(step), reward_model, train_key, step, steps)
        drawn.prepare(step + steps)
        return state, parallel.on_host(losses)

    on_host = parallel.on_host
    return train(stage, config.updates, state, step, advance, on_host, checkpoints, metrics, checkpoint_seconds)


@functools.lru_cache(maxsize=8)
def _programs(config: ContextualSAC) -> tuple[Any, Any]:
    """The compiled programs of training: draw the minibatches of `CHUNK` steps; make at most as many steps."""

    def keys_of(key: Array, step: Array) -> tuple[Array, Array]:
        batch_key, update_key = jax.random.split(jax.random.fold_in(key, step))
        return batch_key, update_key

    @jax.jit
    def draw(key: Array, sizes: Int[Array, " K"], start: Int[Array, ""]) -> MinibatchDraw:
        return jax.vmap(lambda step: draw_minibatch(keys_of(key, step)[0], sizes, config))(start + jnp.arange(CHUNK))

    @jax.jit
    def train(
        state: ContextualState,
        batches: Minibatch,
        reward_model: RewardModel | None,
        key: Array,
        start: Int[Array, ""],
        steps: Int[Array, ""],
    ) -> tuple[ContextualState, Means]:
        def body(i: Array, carry: Any) -> Any:
            batch: Minibatch = jax.tree.map(lambda x: x[i], batches)
            if reward_model is not None:
                source, mdp = (jnp.broadcast_to(x[:, None], batch.mask.shape) for x in (batch.source, batch.mdp))
                batch = batch._replace(context=reward_model.relabel(batch.context, source, mdp))
            return config.update(carry[0], batch, keys_of(key, start + i)[1])

        shapes = jax.eval_shape(lambda: body(jnp.int32(0), (state, None))[1])
        nothing = {name: jnp.full(x.shape, jnp.nan, x.dtype) for name, x in shapes.items()}
        new, losses = jax.lax.fori_loop(0, steps, body, (state, nothing))
        return unless_diverged(new, state, losses)

    return parallel.on_host_alone(draw), train
