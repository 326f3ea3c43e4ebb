"""Every kind of file that the package reads: a sound example of it, and the package's own reader of it."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bmrl.data import read_batches, write_batch
from bmrl.data.validate import validate
from bmrl.errors import BmrlError
from bmrl.runs.checkpoint import latest_checkpoint, save_checkpoint
from bmrl.runs.metrics import Metrics, read_metrics
from bmrl.runs.storage import read_json, write_json
from bmrl.runtime import Policy
from torture import logs, mutations
from torture.mutations import Mutate
from torture.policies import write_policy

# Imports of the heavier parts wait until their kind is read, so that the light kinds are quick.

SEED = 0  # of the examples


class Kind(NamedTuple):
    """One kind of file.

    Attributes:
        name: in the report.
        make: writes a sound example into an empty directory.
        read: reads it as the package does; BmrlError where the package refuses. AssertionError where what the
            package takes is no valid example of its kind.
        files: patterns of the files to damage.
        mutate: ways to damage them beside those for all bytes.
        sealed: whether hashes in a manifest tell what was altered.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    files: str
    mutate: Sequence[Mutate]
    sealed: bool


def fingerprint(value: Any) -> str:
    """The same for equal values, and another for others, down to the bits of the arrays."""
    return hashlib.sha256(_text(value).encode("utf-8", "surrogatepass")).hexdigest()


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{_text(value[key])}" for key in sorted(value)) + "}"
    if is_dataclass(value) and not isinstance(value, type):
        return _text(asdict(value))
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    if hasattr(value, "dtype"):
        array = np.asarray(value)
        return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"
    return repr(value)


# ---------------------------------------------------------------------- batches


def make_batches(root: Path) -> None:
    """Two MDPs of two episodes each, with an info field."""
    rng = np.random.default_rng(SEED)
    for number in range(2):
        write_batch(
            root / f"mdp-{number:03d}",
            observations=rng.normal(size=(7, 2)),
            actions=rng.uniform(-1, 1, (5, 1)),
            rewards=rng.normal(size=5),
            terminations=np.array([0, 0, 1, 0, 0]),
            truncations=np.array([0, 0, 0, 0, 1]),
            infos={"contact": rng.normal(size=(5, 2))},
            mdp={"goal": 1.5, "mass": number},
            family="toy",
            provenance={"seed": 3, "note": "é"},
        )


def read_all_batches(root: Path) -> Any:
    """Both batches; the report has to say the same of them as the reader."""
    report = validate(root)
    try:
        batches = read_batches(root)
    except BmrlError:
        assert report.problems, "the report accepts what training refuses"
        raise
    assert not report.problems, f"the report refuses what training accepts: {report.problems}"
    for batch in batches:
        size, ends = len(batch.actions), batch.episode_ends
        flags = [np.asarray(x).view(np.uint8) for x in (batch.terminations, batch.truncations)]
        arrays: list[Any] = [batch.observations, batch.actions, batch.rewards, *batch.infos.values()]
        assert all(np.isfinite(array).all() and array.dtype == np.float32 for array in arrays), "not finite float32"
        assert all(len(array) == size for array in (*arrays[1:], *flags)), "arrays of unequal length"
        assert all((flag <= 1).all() for flag in flags), "a flag that is neither 0 nor 1"
        assert np.abs(batch.actions).max() <= 1 + 1e-5, "an action out of bounds"
        assert max(np.abs(x).max() for x in (batch.observations, batch.rewards)) <= 2.0**40, "a value too large"
        assert ends[-1] == size and len(batch.observations) == size + len(ends), "observations out of step"
        assert batch.rows(np.arange(batch.size)).max() + 1 < len(batch.observations), "a row that is not there"
        assert batch.observations.ndim == batch.actions.ndim == 2 and batch.rewards.ndim == 1, "odd shapes"
        assert all(np.isfinite(float(number)) for number in (batch.manifest["mdp"] or {}).values()), "an odd parameter"
    return [_decoded(batch) for batch in batches]


def _decoded(batch: Any) -> dict[str, Any]:
    fields = ("observations", "actions", "rewards", "terminations", "truncations", "infos", "episode_ends")
    manifest = {key: batch.manifest[key] for key in ("mdp", "family", "provenance", "counts")}
    return {"name": batch.name, "manifest": manifest, **{field: getattr(batch, field) for field in fields}}


# ---------------------------------------------------------------------- checkpoints, learners, students


def _tree() -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    return {"weights": rng.normal(size=(3, 4)).astype(np.float32), "key": np.array([1, 2], np.uint32), "n": np.int32(7)}


def make_checkpoint(root: Path) -> None:
    """One checkpoint."""
    save_checkpoint(root, 5, _tree())


def read_checkpoint(root: Path) -> Any:
    """The newest checkpoint; that there is none is the refusal of a stage that then starts anew."""
    found = latest_checkpoint(root, _tree())
    if found is None:
        raise BmrlError("no intact checkpoint")
    return found


def teach_config() -> Any:
    """What the small learners were taught with."""
    from bmrl.batch_rl import TD3BC
    from bmrl.batch_rl.teach import TeachConfig

    return TeachConfig(TD3BC(hidden=(3,)), updates=5)


def make_learners(root: Path) -> None:
    """Two small learners of TD3+BC."""
    import jax

    from bmrl.batch_rl.teach import Taught
    from bmrl.learned import save_learners
    from bmrl.networks import Normaliser
    from bmrl.types import Spec

    config, spec = teach_config(), Spec(2, 1)
    keys = jax.random.split(jax.random.PRNGKey(SEED), 2)
    states = jax.vmap(lambda key: config.algorithm.init(key, spec=spec, normaliser=Normaliser.identity(2)))(keys)
    save_learners(root / "default", config, spec, Taught(jax.tree.map(np.asarray, states), np.full(2, -1)), {}, SEED)


def read_learners(root: Path) -> Any:
    """The learners; weights that are taken are finite."""
    import jax

    from bmrl.learned import load_learners

    algorithm, states, _ = load_learners(root / "default", teach_config())
    leaves = jax.tree.leaves(states)
    assert all(np.isfinite(leaf).all() for leaf in leaves), "weights that are not finite"
    return algorithm, leaves


def make_student(root: Path) -> None:
    """A small student with a candidate network."""
    import jax

    from bmrl.batch_rl.base import Targets
    from bmrl.distill.student import Statistics, Student
    from bmrl.learned import save_student
    from bmrl.networks import Normaliser
    from bmrl.types import Spec

    config, spec = _experiment().distill["default"], Spec(2, 1)
    statistics = Statistics(*(Normaliser.identity(n) for n in (2, 6, 1, 1)))
    student = Student(
        jax.random.PRNGKey(SEED),
        spec,
        statistics,
        config.student,
        mdps=2,
        latent_dim=None,
        max_correction=0.0,
        predict_next=config.predict_next,
    )
    targets = Targets(values=np.zeros((2, 5)))
    save_student(root / "default", config, spec, targets, 0.0, student, {}, SEED)


def read_student(root: Path) -> Any:
    """The student; weights that are taken are finite."""
    import jax

    from bmrl.config import to_json
    from bmrl.learned import load_student

    student, config = load_student(root / "default")
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(student) if not callable(leaf)]
    assert all(np.isfinite(leaf).all() for leaf in leaves), "weights that are not finite"
    return to_json(config), leaves


# ---------------------------------------------------------------------- policies that left their run


def make_policy(root: Path) -> None:
    """A small policy with all networks that there are."""
    write_policy(root / "policy", "latents")


def read_policy(root: Path) -> Any:
    """What it does at first and after a transition; whatever is taken acts finitely and within its bounds."""
    policy = Policy.load(root / "policy")
    s, a, state = np.zeros((5, policy.observation_dim)), policy.fallback, policy.start(5)
    s += np.linspace(-3.0, 3.0, 5)[:, None]
    first, state = policy.predict(s, state)
    state = policy.observe(state, s, np.tile(a, (5, 1)), np.arange(5.0), s)
    second, state = policy.predict(s, state)
    for actions in (first, second):
        assert ((actions >= policy.action_low) & (actions <= policy.action_high)).all(), "an action out of bounds"
    assert all(np.isfinite(x).all() for x in state[:-1]), "a state that is not finite"
    bounds = policy.observation_low, policy.observation_high, policy.reward_low, policy.reward_high
    return [policy.family, *bounds, policy.action_low, policy.action_high, a, first, second, list(state)]


# ---------------------------------------------------------------------- configurations and results


def _experiment() -> Any:
    """An experiment with small networks."""
    from bmrl.experiments import get_experiment

    experiment = get_experiment("point-goal", "smoke", SEED)
    small = replace(
        experiment.distill["default"].student,
        identity_dim=2,
        encoder_hidden=(3,),
        auxiliary_hidden=(),
        auxiliary_dim=2,
        prediction_hidden=(),
        value_hidden=(3,),
    )
    return replace(experiment, distill={"default": replace(experiment.distill["default"], student=small)})


def make_config(root: Path) -> None:
    """A run directory with a configuration alone."""
    from bmrl.pipeline import start_run

    start_run(root, _experiment())


def read_config(root: Path) -> Any:
    """The run; what is taken says the same when written again."""
    from bmrl.config import to_json
    from bmrl.families import get_family
    from bmrl.pipeline import open_run, start_run

    experiment = open_run(root).experiment
    start_run(root, experiment)
    get_family(experiment.family)
    return to_json(experiment)


NOTED = {"batches/mdp-000": "0" * 64}


def make_notes(root: Path) -> None:
    """What a run and a judgement note beside their results, with a checkpoint of an unfinished stage."""
    from bmrl.pipeline import SOURCES, note_machine, start_run, working_stage

    run = start_run(root / "run", _experiment())
    note_machine(run)
    with suppress(Killed), working_stage(run, "teach-default", True, NOTED, teach_config()) as checkpoints:
        assert (checkpoints / SOURCES).exists()
        make_checkpoint(checkpoints)
        raise Killed
    write_json(run.directory / "parts/config.json", {"group": 2})
    hold_judgement(root)


def read_notes(root: Path) -> Any:
    """All of it, as a command that goes on reads it."""
    from bmrl.engine import LOCAL
    from bmrl.engine.parts import check_engine
    from bmrl.pipeline import note_machine, open_run, working_stage

    run = open_run(root / "run")
    note_machine(run)
    with suppress(Killed), working_stage(run, "teach-default", True, NOTED, teach_config()):
        raise Killed
    hold_judgement(root)
    group = check_engine(run.directory, LOCAL)  # 0 where the note is gone: parts are named by their MDPs themselves
    assert group >= 0, "a group of less than no MDPs"
    return [group, read_json(run.directory / "machines.json")]


def hold_judgement(root: Path) -> None:
    """The directory of a judgement, of this configuration and of no other."""
    from bmrl.pipeline import hold_config

    hold_config(root / "judged", {"judge": {"updates": 10}, "members": 2, "seed": SEED, "variant": "default"})


class Killed(Exception):
    """A stage was broken off."""


def make_results(root: Path) -> None:
    """The rows of two tests."""
    row = {
        "method": "tiMe",
        "variant": "default",
        "split": "test",
        "seed": 0,
        "context": "episode",
        "episodes": 2,
        "mdp": {"goal": 1.0},
        "returns": [1.5, -2.0],
        "return_mean": -0.25,
    }
    write_json(root / "results.json", [row, {**row, "mdp": {"goal": 2.0}}])


def read_run_results(root: Path) -> Any:
    """The rows, merged with one more test as a stage does."""
    from bmrl.report import merge, read_results

    return merge(read_results(root / "results.json"), [])


def make_metrics(root: Path) -> None:
    """A table of some steps."""
    metrics = Metrics(root / "metrics.csv")
    for step in range(0, 50, 10):
        metrics.log("teach-default", step, {"loss": np.array([0.5, np.nan]) / (step + 1), "reward": -float(step)})


def read_metric_table(root: Path) -> Any:
    """The rows, after the writer has opened the table to go on."""
    metrics = Metrics(root / "metrics.csv")
    rows = read_metrics(root / "metrics.csv")
    metrics.truncate("teach-default", 20)
    kept = [repr(row) for row in rows if row.stage != "teach-default" or row.step <= 20]  # NaN is not itself
    assert [repr(row) for row in read_metrics(root / "metrics.csv")] == kept, "rows lost"
    assert all(row.step >= 0 and (row.learner is None or row.learner >= 0) for row in rows), "a negative number"
    return rows


def _unit() -> Any:
    from bmrl.reproduce.study import Unit

    return Unit("toy/seed-0", {"seed": 0, "size": [1, 2]}, lambda: [])


def make_study(root: Path) -> None:
    """The ledger of one finished unit."""
    from bmrl.reproduce.study import Ledger

    ledger = Ledger(root / "results.json", "toy", "smoke")
    with ledger.timed(_unit()):
        pass
    ledger.add(_unit(), [{"method": "tiMe", "value": 1.25}])


def read_study(root: Path) -> Any:
    """The rows, and whether the unit is done, and the part of the page that the ledger writes."""
    from bmrl.reproduce.study import Ledger

    ledger = Ledger(root / "results.json", "toy", "smoke")
    return ledger.has(_unit()), ledger.rows(), ledger.provenance()


JSON = (mutations.odd_json_value, mutations.odd_json_value, mutations.odd_json_text)
WEIGHTS = (mutations.odd_safetensors_header, mutations.odd_safetensors_header, mutations.odd_weights)

KINDS = (
    Kind(
        "batch arrays",
        make_batches,
        read_all_batches,
        "*/*.npy",
        (mutations.odd_npy_header, mutations.odd_values),
        True,
    ),
    Kind("batch manifest", make_batches, read_all_batches, "*/manifest.json", JSON, True),
    Kind("checkpoint arrays", make_checkpoint, read_checkpoint, "*/arrays.safetensors", WEIGHTS, True),
    Kind("checkpoint manifest", make_checkpoint, read_checkpoint, "*/manifest.json", JSON, True),
    Kind("learners' weights", make_learners, read_learners, "*/arrays.safetensors", WEIGHTS, True),
    Kind("learners' manifest", make_learners, read_learners, "*/manifest.json", JSON, True),
    Kind("student's weights", make_student, read_student, "*/arrays.safetensors", WEIGHTS, True),
    Kind("student's manifest", make_student, read_student, "*/manifest.json", JSON, True),
    Kind("policy's weights", make_policy, read_policy, "*/arrays.safetensors", WEIGHTS, True),
    Kind("policy's manifest", make_policy, read_policy, "*/manifest.json", JSON, True),
    Kind("config.json", make_config, read_config, "config.json", JSON, False),
    Kind("notes of a run", make_notes, read_notes, "**/*[gs].json", JSON, False),
    Kind("results.json of a run", make_results, read_run_results, "results.json", JSON, False),
    Kind("results.json of a study", make_study, read_study, "results.json", JSON, False),
    Kind("CSV log", logs.make_csv, partial(logs.read_log, "log.csv"), "log.csv", (mutations.odd_cells,), False),
    Kind("Parquet log", logs.make_parquet, partial(logs.read_log, "log.parquet"), "log.parquet", (), False),
    Kind("NPZ log", logs.make_npz, partial(logs.read_log, "log.npz"), "log.npz", (), False),
    Kind("HDF5 log", logs.make_hdf5, partial(logs.read_log, "log.h5"), "log.h5", (), False),
    Kind("Minari metadata", logs.make_minari, partial(logs.read_log, "it-v0"), "it-v0/data/metadata.json", JSON, False),
    Kind("mapping", logs.make_csv, partial(logs.read_log, "log.csv"), "mapping.toml", (mutations.odd_cells,), False),
    Kind("metrics.csv", make_metrics, read_metric_table, "metrics.csv", (mutations.odd_cells,), False),
)
