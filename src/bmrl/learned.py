"""What phases 1 and 2 leave: learners and students, each a sealed directory with the configuration that made it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bmrl.batch_rl.base import Targets
from bmrl.batch_rl.teach import Taught, Training, teacher_template
from bmrl.config import check_config, from_json, to_json
from bmrl.distill.distill import DistillConfig
from bmrl.distill.student import Statistics, Student
from bmrl.errors import BmrlError, CorruptError
from bmrl.networks import Normaliser
from bmrl.runs.checkpoint import load_tree, save_tree
from bmrl.runs.storage import commit_directory, is_committed, require_format, verify_directory
from bmrl.types import Spec

MAX_SIZE = 1 << 24  # no axis of an array of ours is that long


class Format(NamedTuple):
    """What a committed directory holds."""

    name: str
    version: int


LEARNERS, STUDENT = Format("bmrl-learners", 2), Format("bmrl-student", 3)


class Learners(NamedTuple):
    """Trained learners of one algorithm: states [n, ...] of the n batches that are not left out."""

    algorithm: Any
    states: Any
    left_out: dict[int, int]  # batches whose learners diverged: after how many updates

    @property
    def batches(self) -> int:
        """How many batches were learned from."""
        return len(jax.tree.leaves(self.states)[0]) + len(self.left_out)


def save_learners(
    path: Path, config: Training, spec: Spec, taught: Taught, sources: Mapping[str, str], seed: int
) -> None:
    """Write phase 1's result."""
    manifest = {
        "format": LEARNERS.name,
        "version": LEARNERS.version,
        "config": to_json(config),
        "seed": seed,
        "sources": dict(sources),
        "spec": spec._asdict(),
        "learners": len(taught.diverged),
        "diverged": {f"mdp-{k:03d}": int(step) for k, step in enumerate(taught.diverged) if step >= 0},
    }
    commit_directory(path, lambda directory: save_tree(directory, taught.states), manifest)


def load_learners(path: Path, config: Training, leave_out_diverged: bool = False) -> Learners:
    """Read phase 1's result, verified.

    Raises BmrlError where it is damaged or of another configuration, or where a learner has diverged, unless that is
    to be left out.
    """
    _, (states, steps) = load_taught(path, config)
    diverged = {k: int(step) for k, step in enumerate(steps) if step >= 0}
    if diverged and not leave_out_diverged:
        raise BmrlError(
            f"{path}: {name_diverged(diverged)} diverged; leave these MDPs out with --leave-out-diverged, or look at "
            "their batches with 'bmrl data validate' and teach them again in another run directory"
        )
    kept = [k for k in range(len(steps)) if k not in diverged]
    return Learners(config.algorithm, jax.tree.map(lambda x: x[kept], states) if diverged else states, diverged)


def load_taught(path: Path, config: Training) -> tuple[Spec, Taught]:
    """What `save_learners` wrote, verified. Raises BmrlError where it is damaged or of another configuration."""
    manifest = verified(path, LEARNERS, "teach")
    check_config(path, manifest.get("config"), to_json(config))
    spec, learners, diverged = _spec(path, manifest), _size(path, manifest, "learners"), _diverged(path, manifest)
    steps = np.array([diverged.get(k, -1) for k in range(learners)], np.int32)
    return spec, Taught(_load_weights(path, lambda: teacher_template(config.algorithm, spec, learners)), steps)


def diverged_in(path: Path) -> dict[int, int]:
    """The batches whose learners diverged: after how many updates. Raises BmrlError where it is missing or damaged."""
    return _diverged(path, verified(path, LEARNERS, "teach"))


def _diverged(path: Path, manifest: dict[str, Any]) -> dict[int, int]:
    steps = from_json(manifest.get("diverged"), dict[str, int], f"{path}: diverged")
    names = {k: f"mdp-{k:03d}" for k in range(_size(path, manifest, "learners"))}
    return {k: steps[name] for k, name in names.items() if name in steps}


def name_diverged(diverged: dict[int, int]) -> str:
    """Learners that diverged, in words."""
    named = ", ".join(f"mdp-{k:03d} (after {step} updates)" for k, step in diverged.items())
    return f"the learner{'s' if len(diverged) > 1 else ''} of {named}"


def save_student(
    path: Path,
    config: DistillConfig,
    spec: Spec,
    targets: Targets,
    max_correction: float,
    student: Student,
    sources: Mapping[str, str],
    seed: int,
) -> None:
    """Write phase 2's result."""
    manifest = {
        "format": STUDENT.name,
        "version": STUDENT.version,
        "config": to_json(config),
        "seed": seed,
        "sources": dict(sources),
        "spec": spec._asdict(),
        "learners": len(targets.values),
        "latent_dim": None if targets.latents is None else targets.latents.shape[-1],
        "max_correction": max_correction,
    }
    commit_directory(path, lambda directory: save_tree(directory, student), manifest)


def load_student(path: Path) -> tuple[Student, DistillConfig]:
    """Read phase 2's result, verified. Raises BmrlError where it is damaged."""
    manifest = verified(path, STUDENT, "distill")
    config: DistillConfig = from_json(manifest.get("config"), DistillConfig, str(path))
    spec, learners = _spec(path, manifest), _size(path, manifest, "learners")
    latent_dim = None if manifest.get("latent_dim") is None else _size(path, manifest, "latent_dim")
    max_correction = from_json(manifest.get("max_correction"), float, f"{path}: max_correction")

    def build() -> Student:
        sizes = (spec.observation_dim, 2 * spec.observation_dim + spec.action_dim + 1, 1, 1)
        return Student(
            jax.random.PRNGKey(0),
            spec,
            Statistics(*(Normaliser.identity(n) for n in sizes)),
            config.student,
            mdps=learners,
            latent_dim=latent_dim,
            max_correction=max_correction,
            predict_next=config.predict_next,
        )

    return jax.tree.map(jnp.asarray, _load_weights(path, lambda: jax.eval_shape(build))), config


def _spec(path: Path, manifest: dict[str, Any]) -> Spec:
    spec = manifest.get("spec")
    return Spec(*(_size(path, spec if isinstance(spec, dict) else {}, name) for name in Spec._fields))


def _size(path: Path, values: dict[str, Any], name: str) -> int:
    size = values.get(name)
    if type(size) is not int or not 0 <= size <= MAX_SIZE:
        raise CorruptError(f"{path}: its manifest has {size!r} as {name}, a size is needed; make it again")
    return size


def _load_weights(path: Path, template: Callable[[], Any]) -> Any:
    """The arrays of networks that a manifest describes; none of them is NaN or infinite."""
    try:
        like = template()
    except (BmrlError, TypeError, ValueError, ArithmeticError) as error:
        reason = " ".join(str(error).split())
        raise CorruptError(f"{path}: its manifest describes no networks ({reason}); make it again") from error
    tree = load_tree(path, like)
    for key, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not callable(leaf) and not np.isfinite(leaf).all():
            raise CorruptError(f"{path}: array {jax.tree_util.keystr(key)!r} is not finite; make it again")
    return tree


def verified(path: Path, kind: Format, stage: str) -> dict[str, Any]:
    """The manifest of what a stage left, with all hashes looked at. Raises BmrlError where it is missing or damaged."""
    if not is_committed(path):
        raise BmrlError(f"{path} is missing: run 'bmrl {stage}' on the run directory first")
    manifest = verify_directory(path)
    require_format(path, manifest, *kind)
    return manifest
