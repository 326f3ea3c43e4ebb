"""How the policy chooses: `bmrl.evaluate.agents.select_action`, and its random numbers."""

import numpy as np

from bmrl.runtime.networks import Array, Arrays, Student, take


class Actor:
    """Chooses among what G_S and xi_S propose or, where there is a value alone, among uniform actions.

    A student with `mean_action` and candidates has but one, proposed at the mean identity with latents of zero.
    """

    def __init__(self, student: Student, arrays: Arrays, latent_clip: float, seed: int | None):
        """Take the stored random numbers out of ``arrays``; CorruptError where they do not fit the student."""
        self._student, self._latent_clip, self._random = student, latent_clip, np.random.default_rng(seed)
        self._only = student.candidate is not None and student.mean_action
        # Stored for one MDP, they serve every MDP and step: actions [shots, 1, d_a], or latents [candidates, 1, d_z]
        if student.candidate is None:
            self._stored = take(arrays, "draws.actions", None, student.action_dim)[:, None]
        elif self._only or not student.latent_dim:
            self._stored = np.zeros((1, 1, student.latent_dim), np.float32)
        else:
            self._stored = take(arrays, "draws.latents", None, student.latent_dim)[:, None]
        # For whom G_S and xi_S can be told to act: each train MDP and, the last, none yet. Their part is computed once.
        self._of_candidate, self._of_correction = None, None
        if student.labels and student.candidate is not None and not self._only:
            assert student.embeddings is not None
            whom = np.vstack([student.embeddings, np.zeros_like(student.embeddings[:1])])
            self._of_candidate = student.candidate.modulation(whom)
            if student.correction is not None:
                self._of_correction = student.correction_modulation(whom)

    def act(self, s: Array, total: Array, size: Array, deterministic: bool) -> Array:
        """The actions [n, d_a] in [-1, 1]: with the highest Q_S, or the only one; NaN where none is finite."""
        drawn = self._stored if deterministic or self._only else self._fresh(len(s))
        drawn = np.broadcast_to(drawn, (len(drawn), len(s), drawn.shape[-1]))
        m = self._student.identity(total, size)
        actions = drawn if self._student.candidate is None else self._proposals(s, total, size, m, drawn)
        if self._only:
            only: Array = actions[0]
            return only
        values = self._student.values(s, actions, self._student.value.modulation(m))
        best = values.argmax(axis=0)[None]
        chosen: Array = np.take_along_axis(actions, best[..., None], axis=0)[0]
        finite = np.isfinite(np.take_along_axis(values, best, axis=0)[0])
        return np.where(finite[:, None], chosen, np.float32(np.nan))

    def _proposals(self, s: Array, total: Array, size: Array, m: Array, latents: Array) -> Array:
        """Actions [choices, n, d_a]: as each of the proposing train MDPs would, or at the mean identity alone."""
        student = self._student
        assert student.candidate is not None
        if self._of_candidate is None:
            of_candidate = student.candidate.modulation(m)[None]
            of_correction = student.correction_modulation(m)[None] if student.correction else None
        else:
            mdp = np.where(size > 0, student.proposers(total), len(self._of_candidate) - 1)
            of_candidate = self._of_candidate[mdp]
            of_correction = None if self._of_correction is None else self._of_correction[mdp]
        latents = np.broadcast_to(latents[:, None], (len(latents), len(of_candidate), *latents.shape[1:]))
        actions = student.candidates(s, latents, of_candidate)
        if of_correction is not None:
            actions = actions + student.corrections(s, actions, of_correction)
        return np.clip(actions, -1.0, 1.0).reshape(-1, len(s), student.action_dim)

    def _fresh(self, n: int) -> Array:
        """As many random numbers as are stored, for n MDPs."""
        shape = len(self._stored), n, self._stored.shape[-1]
        if self._student.candidate is None:
            return self._random.uniform(-1.0, 1.0, shape).astype(np.float32)
        return np.clip(self._random.standard_normal(shape, np.float32), -self._latent_clip, self._latent_clip)
