import dataclasses

import numpy as np

from bmrl import pipeline
from bmrl.experiments import get_experiment
from bmrl.runs.checkpoint import latest_checkpoint, save_tree
from bmrl.runs.storage import commit_directory
from bmrl.runs.training import train
from torture.resume import resume_stage, stages


def short_run(directory):
    experiment = get_experiment("point-goal", "smoke", 0)
    collect = dataclasses.replace(experiment.collect, transitions=150, warmup=100)
    teach = {"default": dataclasses.replace(experiment.teach["default"], updates=30)}
    return pipeline.start_run(directory, dataclasses.replace(experiment, collect=collect, teach=teach))


def test_collection_and_phase_1_resume_at_every_checkpoint(tmp_path):
    run, stage = short_run(tmp_path / "run"), stages("point-goal")
    assert resume_stage(stage["collect"], run, tmp_path / "collect") == {"step 50": None, "step 100": None}
    assert resume_stage(stage["teach-default"], run, tmp_path / "teach") == {"step 10": None, "step 20": None}


def count(run, forget=False, resume=True):
    """A stage that counts; or forgets a part of its state; or never goes on from a checkpoint."""
    with pipeline.working_stage(run, "count", True, {}, {}) as checkpoints:
        found = latest_checkpoint(checkpoints, np.zeros(2)) if resume else None
        step, state = found or (0, np.zeros(2))

        def advance(state, step, steps):
            return state + steps, {"loss": np.ones(())}

        def snapshot(state):
            return state * [1, not forget]

        run.metrics.truncate("count", step)
        state = train("count", 40, state, step, advance, snapshot, checkpoints, run.metrics, 0.0)
        commit_directory(run.directory / "count", lambda directory: save_tree(directory, state), {})


def test_a_stage_that_forgets_or_begins_anew_is_found_out(tmp_path):
    def outcomes(name, **how):
        found = resume_stage(lambda run: count(run, **how), short_run(tmp_path / name), tmp_path / f"{name}-copies")
        assert list(found) == ["step 10", "step 20", "step 30"]
        return set(found.values())

    assert outcomes("sound") == {None}
    assert outcomes("anew", resume=False) == {"it did not go on from there"}
    assert outcomes("forgetful", forget=True) == {"not as undisturbed: count/arrays.safetensors, count/manifest.json"}
