"""What an update computes, in floating-point operations of its matrix products.

A layer of m inputs and n outputs costs 2 m n a row forward, as much for the gradient of its weights, and as much for
that of its inputs, of which only those columns count that something trained depends on. Nothing else is counted:
activations, random numbers, the optimiser and the averages of target networks are overhead.
"""

import itertools
from collections.abc import Sequence

from bmrl.batch_rl.bcq import BCQ, latent_dim
from bmrl.batch_rl.sac import SAC
from bmrl.types import Spec


def forward(rows: int, sizes: Sequence[int]) -> int:
    """A network of layers of these sizes, inputs first."""
    return 2 * rows * sum(m * n for m, n in itertools.pairwise(sizes))


def input_gradient(rows: int, sizes: Sequence[int], columns: int) -> int:
    """Back to so many of its input columns."""
    return forward(rows, [columns, *sizes[1:]])


def weight_gradient(rows: int, sizes: Sequence[int], columns: int = 0) -> int:
    """Of all weights, and back to so many input columns on the way."""
    return forward(rows, sizes) + input_gradient(rows, sizes, columns)


def update_flops(algorithm: BCQ | SAC, spec: Spec) -> int:
    """Of one update of one learner."""
    return _bcq(algorithm, spec) if isinstance(algorithm, BCQ) else _sac(algorithm, spec)


def _bcq(bcq: BCQ, spec: Spec) -> int:
    n, (s, a), z = bcq.batch_size, spec, latent_dim(spec.action_dim)
    encoder = [s + a, *bcq.generator_hidden, 2 * z]
    decoder = [s + z, *bcq.generator_hidden, a]
    critic = [s + a, *bcq.critic_hidden, 1]
    perturbation = [s + a, *bcq.critic_hidden, a]
    vae = sum(forward(n, x) for x in (encoder, decoder)) + weight_gradient(n, encoder) + weight_gradient(n, decoder, z)
    many = bcq.candidates * n
    target = forward(many, decoder) + forward(many, perturbation) + 2 * forward(many, critic)
    critics = 2 * (forward(n, critic) + weight_gradient(n, critic))
    climb = forward(n, decoder) + forward(n, perturbation) + forward(n, critic)  # by the first critic alone
    climb += input_gradient(n, critic, a) + weight_gradient(n, perturbation)
    return vae + target + critics + climb


def _sac(sac: SAC, spec: Spec) -> int:
    n, (s, a) = sac.batch_size, spec
    actor, critic = [s, *sac.hidden, 2 * a], [s + a, *sac.hidden, 1]
    target = forward(n, actor) + 2 * forward(n, critic)
    critics = 2 * (forward(n, critic) + weight_gradient(n, critic))
    climb = forward(n, actor) + weight_gradient(n, actor) + 2 * (forward(n, critic) + input_gradient(n, critic, a))
    return target + critics + climb
