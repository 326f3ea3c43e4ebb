"""Stages by groups of MDPs, in this process: the same numbers as in one piece, whatever was done before."""

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from toy import CLONING, toy, trained

from bmrl import pipeline
from bmrl.batch_rl.replay import best_episodes, pool
from bmrl.batch_rl.teach import observation_normaliser
from bmrl.collect import sac
from bmrl.data import read_batches
from bmrl.engine import Engine, parts
from bmrl.errors import BmrlError, CorruptError
from bmrl.learned import load_taught
from bmrl.runs.metrics import Metrics, last_step, read_metrics
from torture.smoke import contents


def results(directory):
    """The hashes of the arrays of batches and learners, by their paths."""
    found = contents(directory)
    return {name: sha for name, sha in found.items() if name.startswith(("batches", "shared", "teachers", "pooled"))}


@pytest.fixture
def untaught(grouped, tmp_path):
    """A run with the same batches, and no learners."""
    shutil.copytree(grouped.directory / "batches", tmp_path / "run" / "batches")
    return pipeline.start_run(tmp_path / "run", grouped.experiment)


@pytest.mark.parametrize("group", [0, 2])
def test_phase_1_in_other_groups_leaves_the_same_bits(grouped, untaught, group):
    trained(untaught.directory, untaught.experiment, Engine(group=group))
    assert results(untaught.directory) == results(grouped.directory)
    assert (untaught.directory / "parts" / "mdp-000-001").exists() == (group == 2)
    mine, theirs = (read_metrics(run.directory / "metrics.csv") for run in (untaught, grouped))
    taught = [row for row in theirs if row.stage != "collect"]
    assert sorted(map(repr, mine)) == sorted(map(repr, taught)) and len(taught) < len(theirs)


def test_learners_see_the_best_episodes_of_all_mdps_and_the_pooled_one_those_that_were_logged(grouped):
    lessons, logged = pipeline.lessons(grouped, "default"), best_episodes(pipeline.load_replay(grouped), 0.5)
    assert lessons.size.sum() < pipeline.load_replay(grouped).size.sum()
    for kind, logs in (("teachers", lessons.logs), ("pooled", pool(logged).logs)):
        _, taught = load_taught(grouped.directory / kind / "default", grouped.experiment.teach["default"])
        expected = np.stack([observation_normaliser(log).mean for log in logs])
        np.testing.assert_array_equal(taught.states.normaliser.mean, expected)


def test_shared_logs_are_made_once_and_kept(grouped, untaught, monkeypatch):
    """As batches; anew only where some are missing or were made otherwise."""
    with pytest.raises(BmrlError, match=r"teach\.default: .* distill\.default, which is not there"):
        pipeline.lessons(replace(untaught, experiment=replace(untaught.experiment, distill={})), "default")
    first = pipeline.lessons(untaught, "default")
    kept = untaught.directory / "shared" / "default"
    before = contents(kept)
    assert before == contents(grouped.directory / "shared" / "default")
    assert [batch.size for batch in read_batches(kept)] == first.size.tolist()
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "shared_episodes", None)
        (second,) = pipeline.lessons(untaught, "default", slice(1, 2)).logs
        jax.tree.map(np.testing.assert_array_equal, second, first.logs[1])
    shutil.rmtree(kept / "mdp-000")
    assert pipeline.lessons(untaught, "default").size.tolist() == first.size.tolist() and contents(kept) == before
    less = {"default": replace(untaught.experiment.teach["default"], best=0.2)}
    less = pipeline.lessons(replace(untaught, experiment=replace(untaught.experiment, teach=less)), "default")
    assert (less.size < first.size).all()


def test_what_parts_leave(grouped):
    assert sorted(path.name for path in (grouped.directory / "parts").iterdir()) == [
        "config.json",
        "mdp-000-000",
        "mdp-000-002",  # the pooled learner's
        "mdp-001-001",
        "mdp-002-002",
    ]
    rows = [row for row in read_metrics(grouped.directory / "metrics.csv") if row.stage == "collect"]
    assert {row.learner for row in rows} == {0, 1, 2}
    assert not list(grouped.directory.rglob("step-*")) and not list(grouped.directory.glob("parts/*/*/*"))


def test_collection_depends_on_the_groups_alone(grouped, tmp_path):
    """The part with one MDP, collected by itself: its keys and its start states are those of its number."""
    run = pipeline.start_run(tmp_path / "run", grouped.experiment)
    pipeline.collect_batches(run, 2, 3)
    alone, there = results(run.directory), results(grouped.directory)
    assert alone == {name: there[name] for name in alone} and len(alone) > 3


def test_what_is_done_is_not_done_again_and_the_rest_goes_on(grouped, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "bmrl")
    run = pipeline.start_run(tmp_path / "run", grouped.experiment)
    first, last = (parts.Collecting(run, "collect", *span) for span in ((0, 1), (2, 3)))
    last.perform()  # in any order
    assert last.done() == 60 and first.done() == 0
    saved = []

    def save_and_fail(root, step, tree):
        save(root, step, tree)
        saved.append(step)
        raise KeyboardInterrupt

    save = sac.save_checkpoint
    monkeypatch.setattr("bmrl.collect.sac.save_checkpoint", save_and_fail)
    with pytest.raises(KeyboardInterrupt):
        first.perform()
    assert saved == [20] and first.newest_checkpoint() == "step-000000020" and not first.finished()
    monkeypatch.setattr("bmrl.collect.sac.save_checkpoint", save)
    monkeypatch.setattr(
        parts.Collecting,
        "work",
        lambda part: (saved.append(part.name), pipeline.collect_batches(part.own, part.first, part.last)),
    )
    trained(run.directory, run.experiment, Engine(group=1))
    assert saved == [20, "mdp-000-000", "mdp-001-001"]
    assert f"going on from {first.own.directory}" in caplog.text
    assert results(run.directory) == results(grouped.directory)


@pytest.mark.parametrize("moves", [1, 2, 3])
def test_killed_while_batches_become_the_runs_nothing_of_the_parts_is_lost(grouped, tmp_path, monkeypatch, moves):
    run, moved, rename = pipeline.start_run(tmp_path / "run", grouped.experiment), [], os.rename

    def move(path, target):
        rename(path, target)
        if Path(target).parent == run.directory / "batches":
            moved.append(target)
            if len(moved) == moves:
                raise KeyboardInterrupt

    monkeypatch.setattr("os.rename", move)
    with pytest.raises(KeyboardInterrupt):
        parts.collect_stage(run, Engine(group=1), None)
    monkeypatch.undo()
    trained(run.directory, run.experiment)
    assert results(run.directory) == results(grouped.directory)
    mine, theirs = (read_metrics(x.directory / "metrics.csv") for x in (run, grouped))
    assert mine == theirs


def test_checkpoints_that_a_kill_left_beside_a_parts_result_go(grouped, untaught, monkeypatch):
    part = parts.Learning(untaught, "teach-default", 0, 2, "teachers", "default")

    def kill(run, stage):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline, "drop_checkpoints", kill)
        part.perform()
    assert part.finished() and part.newest_checkpoint()
    trained(untaught.directory, untaught.experiment, Engine(group=2), resume=True)
    assert results(untaught.directory) == results(grouped.directory)
    assert not list(untaught.directory.rglob("step-*"))


def test_a_table_of_a_part_that_was_emptied_ends_no_run(grouped, untaught, caplog):
    part = parts.Learning(untaught, "teach-default", 0, 2, "teachers", "default")
    part.perform()
    (part.own.directory / "metrics.csv").write_bytes(b"")
    trained(untaught.directory, untaught.experiment, Engine(group=2), resume=True)
    assert results(untaught.directory) == results(grouped.directory)


def test_a_group_that_diverges_is_no_failure_but_all_of_them_are(untaught):
    wild = toy(replace(CLONING, learning_rate=1e38)).teach
    run = replace(untaught, experiment=replace(untaught.experiment, teach=wild))
    with pytest.raises(BmrlError, match="teach-default: every learner diverged"):
        parts.phase_1_stages(run, ["default"], False, Engine(group=2))
    part = parts.Learning(run, "teach-default", 2, 3, "teachers", "default")
    _, taught = load_taught(part.path, part.config)
    assert taught.diverged.tolist() == [0]
    assert "the learner of mdp-002 diverged" in (part.own.directory / "log.txt").read_text()


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        (Engine(group=3), r"has parts of 1 MDPs: go on with --group 1"),
        (Engine(group=-1), "must be 0 or more"),
        (Engine("ray", worker_cpus=0), "--worker-cpus 1 or more"),
        (Engine(worker_gpus=1), "are for --engine ray"),
        (Engine(worker_cpus=2), "are for --engine ray"),
    ],
)
def test_engines_that_a_run_refuses(grouped, engine, says):
    with pytest.raises(BmrlError, match=says):
        parts.check_engine(grouped.directory, engine)
    assert parts.check_engine(grouped.directory, Engine()) == 1  # as begun


@pytest.mark.parametrize("note", ['{"group": 0}', '{"group": -5}', "{}"])
def test_groups_that_none_are_refused(tmp_path, note):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "config.json").write_text(note)
    with pytest.raises(CorruptError, match=r"parts/config.json says no number of MDPs"):
        parts.check_engine(tmp_path, Engine())


def test_engines_that_a_new_run_refuses(tmp_path, monkeypatch):
    with pytest.raises(BmrlError, match="--engine ray: say with --group how many MDPs"):
        parts.check_engine(tmp_path, Engine("ray"))
    monkeypatch.setattr(parts, "find_spec", lambda name: None)
    with pytest.raises(BmrlError, match="needs Ray: install bmrl with its extra 'ray'"):
        parts.check_engine(tmp_path, Engine("ray", group=2))


def test_a_stage_begun_in_one_piece_is_finished_in_one(grouped, tmp_path):
    (tmp_path / "checkpoints" / "collect" / "step-000000020").mkdir(parents=True)
    with pytest.raises(BmrlError, match="'collect' begun in one piece: finish it without --group"):
        trained(tmp_path, grouped.experiment, Engine(group=2))


def test_an_unfinished_stage_is_neither_begun_anew_nor_mixed_with_another(grouped, untaught, tmp_path):
    parts.Learning(untaught, "teach-default", 0, 2, "teachers", "default").perform()
    with pytest.raises(BmrlError, match="unfinished stage 'teach-default': continue it with --resume"):
        trained(untaught.directory, untaught.experiment, Engine(group=2))
    batches = untaught.directory / "batches"
    (batches / "mdp-001").rename(tmp_path / "mdp-001")
    shutil.copytree(batches / "mdp-002", batches / "mdp-001")
    with pytest.raises(BmrlError, match="mdp-000-001/teachers/default was not made from the batches/mdp-001 that is"):
        trained(untaught.directory, untaught.experiment, Engine(group=2), resume=True)
    shutil.rmtree(batches / "mdp-001")
    (tmp_path / "mdp-001").rename(batches / "mdp-001")
    with pytest.raises(BmrlError, match="mdp-002-002/teachers/default was not made from the batches/mdp-001 that is"):
        trained(untaught.directory, untaught.experiment, Engine(group=2), resume=True)  # it shares the wrong one
    shutil.rmtree(untaught.directory / "parts" / "mdp-002-002" / "teachers")
    trained(untaught.directory, untaught.experiment, Engine(group=2), resume=True)
    assert results(untaught.directory) == results(grouped.directory)


def test_metrics_of_parts_become_the_runs(tmp_path, caplog, monkeypatch):
    whole, table = Metrics(tmp_path / "whole.csv"), tmp_path / "part.csv"
    whole.log("collect", 5, {"reward": [1.0]})
    whole.log("teach", 5, {"loss": [9.0]})  # of a join that was broken off
    part = Metrics(table)
    part.log("teach", 5, {"loss": np.array([0.1, np.nan], np.float32), "rate": 2.0})
    part.log("pooled", 7, {"loss": 1.0})
    assert (last_step(table, "teach"), last_step(table, "distill"), last_step(tmp_path / "none", "teach")) == (5, 0, 0)
    whole.take_over("teach", [(table, 4)])
    assert (tmp_path / "whole.csv").read_text().splitlines()[1:] == [
        "collect,5,0,reward,1.0",
        "teach,5,4,loss,0.1",
        "teach,5,5,loss,nan",
        "teach,5,,rate,2.0",
    ]
    monkeypatch.setattr("bmrl.runs.metrics.MAX_BYTES", 150)
    whole.take_over("teach", [(table, 0), (table, 2)])
    assert "stay where they are" in caplog.text and "teach,5,4," in (tmp_path / "whole.csv").read_text()
