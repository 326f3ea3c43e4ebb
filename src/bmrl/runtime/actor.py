"""How the policy chooses: `bmrl.evaluate.agents.select_action`, and its random numbers."""

from typing import NamedTuple

import numpy as np

from bmrl.errors import CorruptError
from bmrl.runtime.networks import Array, Arrays, Student, take


class Draws(NamedTuple):
    """The random numbers of choices in n MDPs; stored ones have n = 1 and serve every MDP and step."""

    gumbels: Array | None  # [candidates, n, K], where candidates are proposed for train MDPs
    latents: Array | None  # [candidates, n, d_z] of G_S, whose d_z may be 0; None: there is one candidate, of zeros
    actions: Array | None  # [shots, n, d_a], where there is a value alone


class Actor:
    """Chooses among candidates of G_S and xi_S or, where there is a value alone, among uniform actions.

    A student with `mean_action` and candidates has but one, proposed at the mean identity with latents of zero.
    """

    def __init__(self, student: Student, arrays: Arrays, latent_clip: float, seed: int | None):
        """Take the stored random numbers out of ``arrays``; CorruptError where they do not fit the student."""
        self._student, self._latent_clip, self._random = student, latent_clip, np.random.default_rng(seed)
        self._stored = _stored_draws(student, arrays)
        # For whom G_S and xi_S can be told to act: each train MDP and, the last, none yet. Their part is computed once.
        self._of_candidate, self._of_correction = np.zeros((0, 0)), None
        if self._stored.gumbels is not None:
            assert student.embeddings is not None and student.candidate is not None
            whom = np.vstack([student.embeddings, np.zeros_like(student.embeddings[:1])])
            self._of_candidate = student.candidate.modulation(whom)
            if student.correction is not None:
                self._of_correction = student.correction_modulation(whom)

    def act(self, s: Array, total: Array, size: Array, deterministic: bool) -> Array:
        """The actions [n, d_a] in [-1, 1]: with the highest Q_S, or the only one; NaN where none is finite."""
        draws = self._stored if deterministic else self._fresh_draws(len(s))
        m = self._student.identity(total, size)
        if draws.actions is not None:
            actions = np.broadcast_to(draws.actions, (len(draws.actions), len(s), draws.actions.shape[-1]))
        else:
            actions = self._proposals(s, total, size, m, draws)
            if self._student.mean_action:
                only: Array = actions[0]
                return only
        values = self._student.values(s, actions, self._student.value.modulation(m))
        best = values.argmax(axis=0)[None]
        chosen: Array = np.take_along_axis(actions, best[..., None], axis=0)[0]
        finite = np.isfinite(np.take_along_axis(values, best, axis=0)[0])
        return np.where(finite[:, None], chosen, np.float32(np.nan))

    def _proposals(self, s: Array, total: Array, size: Array, m: Array, draws: Draws) -> Array:
        """Candidates [candidates, n, d_a], each of an MDP drawn from the posterior, or at the mean identity."""
        student = self._student
        assert student.candidate is not None
        if draws.gumbels is None:
            of_candidate = student.candidate.modulation(m)
            of_correction = student.correction_modulation(m) if student.correction else None
        else:
            mdp = np.where(size > 0, (total + draws.gumbels).argmax(axis=-1), len(self._of_candidate) - 1)
            of_candidate = self._of_candidate[mdp]
            of_correction = None if self._of_correction is None else self._of_correction[mdp]
        latents = np.zeros((1, 1, student.latent_dim), np.float32) if draws.latents is None else draws.latents
        latents = np.broadcast_to(latents, (len(latents), len(s), latents.shape[-1]))
        actions = student.candidates(s, latents, of_candidate)
        if of_correction is not None:
            actions = actions + student.corrections(s, actions, of_correction)
        return np.clip(actions, -1.0, 1.0)

    def _fresh_draws(self, n: int) -> Draws:
        """As many as are stored, for n MDPs."""

        def shape(stored: Array) -> tuple[int, ...]:
            return len(stored), n, stored.shape[-1]

        gumbels, latents, actions = self._stored
        clip, random = self._latent_clip, self._random
        return Draws(
            None if gumbels is None else random.gumbel(size=shape(gumbels)).astype(np.float32),
            None if latents is None else np.clip(random.standard_normal(shape(latents), np.float32), -clip, clip),
            None if actions is None else random.uniform(-1.0, 1.0, shape(actions)).astype(np.float32),
        )


def _stored_draws(student: Student, arrays: Arrays) -> Draws:
    if student.candidate is None:
        return Draws(None, None, take(arrays, "draws.actions", None, student.action_dim)[:, None])
    if student.mean_action:
        return Draws(None, None, None)
    gumbels = take(arrays, "draws.gumbels", None, student.encoder.outputs)[:, None] if student.labels else None
    if student.latent_dim:
        latents = take(arrays, "draws.latents", None, student.latent_dim)[:, None]
    else:
        latents = np.zeros((1 if gumbels is None else len(gumbels), 1, 0), np.float32)
    if gumbels is not None and len(gumbels) != len(latents):
        raise CorruptError("there are not as many draws.gumbels as draws.latents; export the policy again")
    return Draws(gumbels, latents, None)
