"""How long an exported policy takes for one decision, on one core, and to be imported.

    python benchmarks/runtime.py

Students of the presets' laptop sizes with random weights; each is exported, loaded and timed in a process of its own
that has one core and one thread. A decision is `predict` and `observe` of one MDP, as in a control loop.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS, CALLS = 20, 200  # the median round counts
STUDENTS = (
    "point-goal default",
    "point-goal paper",
    "halfcheetah-velocity default",
    "halfcheetah-velocity paper",
    "thermostat default",
)


def export(name: str, path: Path) -> None:
    """Write a policy of an experiment's student with random weights."""
    import jax
    import numpy as np

    from bmrl.distill.student import Statistics, Student
    from bmrl.experiments import get_experiment
    from bmrl.families import get_family
    from bmrl.networks import Normaliser
    from bmrl.policy import student_arrays
    from bmrl.runs.checkpoint import save_arrays
    from bmrl.runs.storage import commit_directory
    from bmrl.runtime.description import FORMAT, VERSION, Description
    from bmrl.types import Spec

    experiment, variant = name.split()
    preset = get_experiment(experiment, "laptop", 0)
    config, teach, family = preset.distill[variant], preset.teach[preset.learners(variant)], get_family(preset.family)
    s, a = family.observation_dim, family.action_dim
    latent_dim = {"BCQ": 2 * a, "TD3BC": 0, "SVG": 0}.get(type(teach.algorithm).__name__)
    student = Student(
        jax.random.PRNGKey(0),
        Spec(s, a),
        Statistics(*(Normaliser.identity(n) for n in (s, 2 * s + a + 1, 1, 1))),
        config.student,
        mdps=len(family.train),
        latent_dim=latent_dim,
        max_correction=getattr(teach.algorithm, "max_perturbation", 0.0),
        predict_next=config.predict_next,
    )
    description = Description(
        family=family.name,
        variant=variant,
        observation_low=[-9.0] * s,
        observation_high=[9.0] * s,
        reward_low=-9.0,
        reward_high=9.0,
        action_low=[-1.0] * a,
        action_high=[1.0] * a,
        fallback=[0.0] * a,
        context_size=config.context.size,
        window=not config.context.vary_size,
        pooling=student.encoder.pooling,
        labels=student.encoder.labels,
        trials=student.encoder.trials is not None,
        max_correction=float(student.max_correction),
        correction_identity=student.correction_identity,
        mean_action=student.mean_action,
        latent_clip=0.5,
        residuals=[1.0] * int(np.shape(student.prediction.biases[-1])[0]),
        misfit_limits=[1e9],
    )
    arrays = student_arrays(student)
    manifest = {"format": FORMAT, "version": VERSION, **description._asdict()}
    commit_directory(path, lambda directory: save_arrays(directory, arrays), manifest)


def timed(path: Path) -> dict[str, float]:
    """Milliseconds of `predict`, of `observe`, and of the 99th percentile of both; seconds of the import."""
    began = time.perf_counter()
    from bmrl.runtime import Policy

    imported = time.perf_counter() - began
    import numpy as np

    policy, rng = Policy.load(path), np.random.default_rng(0)
    state = policy.start()
    s = rng.uniform(-1, 1, (CALLS + 1, policy.observation_dim))
    rounds, decisions = [], []
    for _ in range(ROUNDS):
        spent = np.zeros((CALLS, 2))
        for i in range(CALLS):
            start = time.perf_counter()
            action, state = policy.predict(s[i], state)
            middle = time.perf_counter()
            state = policy.observe(state, s[i], action, 0.5, s[i + 1])
            spent[i] = middle - start, time.perf_counter() - middle
        rounds.append(1e3 * np.median(spent, axis=0))
        decisions.extend(1e3 * spent.sum(axis=1))
    predict, observe = np.median(rounds, axis=0)
    return {"predict": predict, "observe": observe, "slow": float(np.quantile(decisions, 0.99)), "import": imported}


def in_a_process(path: Path) -> dict[str, Any]:
    """`timed` on one core with one thread."""
    environment = {**os.environ, **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    done = subprocess.run([sys.executable, __file__, "--timed", path], env=environment, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timed", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.timed:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(json.dumps(timed(args.timed)))
        return
    from bmrl.runs.machine import machine

    print(f"One core of {machine()}; medians, and the 99th percentile of predict and observe together.\n")
    print("| student | predict, ms | observe, ms | 99 %, ms | import, s |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        for number, name in enumerate(STUDENTS):
            path = Path(directory) / f"policy-{number}"
            export(name, path)
            found = [in_a_process(path) for _ in range(5)]
            cells = (
                f"{statistics.median(x[part] for x in found):.2f}" for part in ("predict", "observe", "slow", "import")
            )
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
