"""How training contexts are drawn."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from bmrl.batch_rl.replay import Replay


@dataclass(frozen=True)
class ContextConfig:
    """What f is shown in training. ``PAPER`` is the paper's: one random transition of the same batch."""

    size: int = 16  # the largest context
    vary_size: bool = True  # sizes uniform in 0 ... size (so the blank identity is trained), else always ``size``
    draw: Literal["transitions", "prefix", "mixed"] = "mixed"  # from anywhere; an episode's first ones; half each
    relabel: bool = True  # (s, a, s') from any MDP's batch, with the reward that this MDP would have paid


PAPER = ContextConfig(size=1, vary_size=False, draw="transitions", relabel=False)


class ContextIndex(NamedTuple):
    """Where a context's transitions lie: transition ``position`` of batch ``source``; only those in ``mask`` count."""

    source: Int[Array, "*n"]
    position: Int[Array, "*n size"]
    mask: Bool[Array, "*n size"]


def draw_context(key: Array, replay: Replay, mdp: Int[Array, ""], config: ContextConfig) -> ContextIndex:
    """One context for MDP ``mdp`` out of K batches [K, ...]."""
    source_key, size_key, kind_key, start_key, index_key = jax.random.split(key, 5)
    slots = jnp.arange(config.size)
    source = jax.random.randint(source_key, (), 0, len(replay.size)) if config.relabel else mdp
    size = jax.random.randint(size_key, (), 0, config.size + 1) if config.vary_size else config.size

    anywhere = jax.random.randint(index_key, (config.size,), 0, replay.size[source])
    first = replay.starts[source, jax.random.randint(start_key, (), 0, replay.size[source])]
    prefix = jnp.minimum(first + slots, replay.size[source] - 1)
    in_episode = replay.starts[source, prefix] == first
    in_episode &= first + slots < replay.size[source]

    use_prefix = {
        "transitions": jnp.bool_(False),
        "prefix": jnp.bool_(True),
        "mixed": jax.random.bernoulli(kind_key),
    }[config.draw]
    position = jnp.where(use_prefix, prefix, anywhere)
    mask = (slots < size) & jnp.where(use_prefix, in_episode, True)
    return ContextIndex(source, position, mask)
