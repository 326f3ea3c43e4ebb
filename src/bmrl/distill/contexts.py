"""How training contexts are drawn."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from bmrl.batch_rl.replay import Replay
from bmrl.types import Transition

Draw: TypeAlias = Literal["transitions", "prefix", "mixed"]


@dataclass(frozen=True)
class ContextConfig:
    """What f is shown in training. ``PAPER`` is the paper's: one random transition of the same batch."""

    size: int = 16  # the largest context
    vary_size: bool = True  # sizes uniform in 0 ... size (so the blank identity is trained), else always ``size``
    draw: Draw = "mixed"  # from anywhere; an episode's first ones; half each
    relabel: bool = True  # (s, a, s') from any MDP's batch, with the reward that this MDP would have paid


PAPER = ContextConfig(size=1, vary_size=False, draw="transitions", relabel=False)


class ContextDraw(NamedTuple):
    """What is random of a context."""

    source: Int[Any, "*n"]  # the batch that it comes from
    size: Int[Any, "*n"]  # how many transitions
    prefix: Bool[Any, "*n"]  # the first ones of the episode around ``start``, else those at ``anywhere``
    start: Int[Any, "*n"]
    anywhere: Int[Any, "*n size"]


class ContextIndex(NamedTuple):
    """Where a context's transitions lie: transition ``position`` of batch ``source``; only those in ``mask`` count."""

    source: Int[np.ndarray, "*n"]
    position: Int[np.ndarray, "*n size"]
    mask: Bool[np.ndarray, "*n size"]


def draw_context(key: Array, sizes: Int[Array, " K"], mdp: Int[Array, ""], config: ContextConfig) -> ContextDraw:
    """One context for MDP ``mdp`` out of K batches of the given sizes."""
    source_key, size_key, kind_key, start_key, index_key = jax.random.split(key, 5)
    source = jax.random.randint(source_key, (), 0, len(sizes)) if config.relabel else mdp
    return ContextDraw(
        source,
        jax.random.randint(size_key, (), 0, config.size + 1) if config.vary_size else jnp.int32(config.size),
        {
            "transitions": jnp.bool_(False),
            "prefix": jnp.bool_(True),
            "mixed": jax.random.bernoulli(kind_key),
        }[config.draw],
        jax.random.randint(start_key, (), 0, sizes[source]),
        jax.random.randint(index_key, (config.size,), 0, sizes[source]),
    )


def draw_contexts(key: Array, sizes: Int[Array, " K"], mdp: Int[Array, " c"], config: ContextConfig) -> ContextDraw:
    """A context for each of the MDPs."""
    keys = jax.random.split(key, len(mdp))
    return jax.vmap(lambda key, one: draw_context(key, sizes, one, config))(keys, mdp)


def read_contexts(draw: ContextDraw, replay: Replay) -> tuple[Transition, ContextIndex]:
    """The transitions of drawn contexts, [*n, size, ...], and where they come from."""
    where = locate(draw, replay)
    source = np.broadcast_to(where.source[..., None], where.position.shape)
    return replay.take_from(source, where.position), where


def locate(draw: ContextDraw, replay: Replay) -> ContextIndex:
    """Where the transitions of drawn contexts lie, which for a prefix depends on where episodes begin."""
    slots = np.arange(draw.anywhere.shape[-1])
    first = replay.starts_of(draw.source, draw.start)[..., None]
    last = replay.size[draw.source][..., None] - 1
    prefix = np.minimum(first + slots, last)
    source = np.broadcast_to(draw.source[..., None], prefix.shape)
    in_episode = (replay.starts_of(source, prefix) == first) & (first + slots <= last)
    is_prefix = draw.prefix[..., None]
    mask = (slots < draw.size[..., None]) & (in_episode | ~is_prefix)
    return ContextIndex(draw.source, np.where(is_prefix, prefix, draw.anywhere), mask)
