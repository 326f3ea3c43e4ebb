"""The real commands, end to end, as a user runs them."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from bmrl import cli, pipeline, report
from bmrl.batch_rl.teach import Taught, TeachConfig
from bmrl.config import from_json
from bmrl.data import read_batch, write_batch
from bmrl.errors import BmrlError
from bmrl.evaluate.agents import FixedDraws
from bmrl.evaluate.evaluate import student_agent
from bmrl.experiments import get_experiment
from bmrl.judge import judge_stage
from bmrl.learned import load_learners, load_student, save_learners
from bmrl.policy import export_policy
from bmrl.reproduce import STUDIES
from bmrl.runs.checkpoint import save_checkpoint
from bmrl.runs.training import DivergedError
from bmrl.runtime import Policy
from bmrl.types import Spec
from torture.mutations import reseal

BMRL = [sys.executable, "-c", "from bmrl.cli import main; main()"]
SMOKE = ["run", "point-goal", "--scale", "smoke", "--seed", "3", "--variants", "default", "paper"]


def bmrl(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*BMRL, *map(str, words)], capture_output=True, text=True, timeout=300)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def unread(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """As `bmrl`, where the reader of what is printed has gone."""
    end, out = os.pipe()
    os.close(end)
    done = subprocess.run([*BMRL, *map(str, words)], stdout=out, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(out)
    return done


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, never disturbed."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    done = bmrl(*SMOKE, "--out", directory)
    assert "results:" in done.stdout and "tiMe" in done.stdout
    shutil.copy(directory / "results.json", directory.parent / "first-results.json")  # tests add rows of their own
    return directory


def manifests(directory: Path) -> dict[str, str]:
    """The hash of every array that a run made."""
    return {
        f"{path.parent.relative_to(directory)}/{name}": entry["sha256"]
        for path in sorted(directory.rglob("manifest.json"))
        for name, entry in json.loads(path.read_text())["files"].items()
    }


def test_a_run_leaves_what_it_promises(run: Path) -> None:
    assert json.loads((run / "config.json").read_text())["family"] == "point-goal"
    assert len(list((run / "batches").iterdir())) == 3
    for path in ("teachers/default", "pooled/default", "students/default", "students/paper"):
        assert (run / path / "manifest.json").is_file()
    assert not (run / "checkpoints").exists() or not list((run / "checkpoints").iterdir())
    rows = json.loads((run / "results.json").read_text())
    assert {(row["method"], row["variant"]) for row in rows} == {
        ("tiMe", "default"),
        ("tiMe", "paper"),
        ("nearest teacher", "SAC"),
        ("pooled", "SAC"),
    }
    for row in rows:
        assert row["family"] == "point-goal" and row["split"] == "test" and row["seed"] == 3
        assert len(row["returns"]) == row["episodes"] == len(row["final_distance"])
        assert row["return_mean"] == pytest.approx(np.mean(row["returns"]))
        assert row["return_std"] == pytest.approx(np.std(row["returns"])) and row["length_mean"] == 20
    pooled = [row for row in rows if row["method"] == "pooled"]
    assert all(np.isfinite([row["value_estimate"], row["discounted_soft_return"]]).all() for row in pooled)
    identity = json.loads((run / "identity.json").read_text())
    assert 0 <= identity["default"]["identity_worst"] <= identity["default"]["identity_mean"] <= 1
    header = (run / "metrics.csv").read_text().splitlines()
    stages = {line.split(",")[0] for line in header[1:]}
    assert {"collect", "teach-default", "pooled-default", "distill-default", "distill-paper"} <= stages
    assert sum(line.startswith("reward-model,") for line in header) == 100  # a curve, too
    pictures = {path.name for path in (run / "figures").iterdir()}
    assert {"returns-test.png", "trajectories-test.png", "identities-test.png", "policy-test.gif"} <= pictures
    for picture in (run / "figures").iterdir():
        with Image.open(picture) as image:
            image.load()
    assert "collect: finished after" in (run / "log.txt").read_text()


def test_an_exported_policy_acts_as_the_student_does(run: Path, tmp_path: Path) -> None:
    out, opened = tmp_path / "policy", pipeline.open_run(run)
    bmrl("policy", "export", run, "--out", out, "--variant", "paper", "--fallback", "0.5", "-1")
    assert Policy.load(out).fallback.tolist() == [0.5, -1.0]
    for variant in ("paper", "default"):
        export_policy(opened, out, variant)  # in the place of the one before
        policy = Policy.load(out)
        assert policy.family == "point-goal"
        student, config = load_student(run / "students" / variant)
        batch = read_batch(run / "batches" / "mdp-001")
        agent = student_agent(student, config.context, str(run / "batches" / "mdp-001"), [batch.manifest["mdp"]])
        agent.select = FixedDraws()
        names = ("observations", "actions", "rewards", "terminations", "truncations")
        state, memory = policy.warm_start({name: getattr(batch, name) for name in names}), agent.start(1)
        np.testing.assert_allclose(policy.identity(state), agent.identity(memory), rtol=1e-4, atol=1e-5)
        for s in batch.observations[:20]:
            expected = agent.act(memory, s[None], np.zeros(2, np.uint32))
            np.testing.assert_allclose(policy.predict(s[None], state)[0], expected, atol=1e-5)
        assert ((batch.observations >= policy.observation_low) & (batch.observations <= policy.observation_high)).all()
        assert state.reasons == ("",)

    for says, variant, path, fallback in (
        ("unknown variant 'new'", "new", out, ()),
        ("something else than a policy", "default", run / "batches" / "mdp-000", ()),
        ("--fallback", "default", out, (2.0, 0.0)),
    ):
        with pytest.raises(BmrlError, match=says):
            export_policy(opened, path, variant, fallback)


def test_evaluate_adds_rows_for_any_mdp_and_context(run: Path) -> None:
    before = json.loads((run / "results.json").read_text())
    bmrl("evaluate", run, "--mdp", "goal_angle=0.6", "--episodes", "3")
    bmrl("evaluate", run, "--context", "none")
    bmrl("evaluate", run, "--context", run / "batches")
    rows = json.loads((run / "results.json").read_text())
    assert rows[: len(before)] == before
    custom = [row for row in rows if row["split"] == "custom"]
    assert custom and all(row["mdp"] == {"goal_angle": 0.6} and row["episodes"] == 3 for row in custom)
    assert {row["context"] for row in rows if row["method"] == "tiMe"} == {"episode", "none", str(run / "batches")}
    bmrl("evaluate", run)  # the same test again gives the same rows
    assert json.loads((run / "results.json").read_text()) == rows


JUDGED = ("--members", "2", "--updates", "100")


@pytest.fixture(scope="session")
def judged(run: Path) -> Path:
    """A judgement, never disturbed."""
    out = run.parent / "judged"
    assert "judgement.png" in bmrl("judge", run, "--out", out, *JUDGED).stdout.replace("\n", "")
    return out


def test_a_policy_is_judged_from_the_logs_alone(run: Path, judged: Path) -> None:
    rows = json.loads((judged / "judgement.json").read_text())
    assert [(row["name"], row["imported"]) for row in rows] == [(f"mdp-00{k}", None) for k in range(3)]
    for row in rows:
        assert len(row["values"]) == len(row["logged"]) == 2
        assert row["low"] <= row["value"] <= row["high"]
        assert row["discount"] == 0.99
    assert (judged / "judgement.png").stat().st_size > 0


def test_a_judgement_of_something_else_is_not_gone_on_with(run: Path, judged: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "judged", json.loads((judged / "config.json").read_text())
    out.mkdir()
    (out / "config.json").write_text(json.dumps(whole | {"seed": 4}))
    (out / "judgement.json").write_text("[]")
    assert "judged holds a run with another configuration: seed: 4 -> 3;" in refused(
        "judge", run, "--out", out, *JUDGED
    )
    opened = pipeline.open_run(run)
    for says, members, updates, discount in (
        ("members: 2 -> 3; seed: 4 -> 3;", 3, 100, None),
        (r"judge\.updates: 100 -> 5; seed: 4 -> 3", 2, 5, None),
        (r"judge\.algorithm\.discount: 0\.99 -> 0\.9;", 2, 100, 0.9),
        ("--members", 1, 100, None),
        (r"--discount 0\.0", 2, 100, 0.0),
    ):
        with pytest.raises(BmrlError, match=says):
            judge_stage(opened, out, None, "default", members, updates, discount)
    assert not (out / "members").exists()


def test_logs_of_other_dimensions_judge_nothing(run: Path, tmp_path: Path) -> None:
    write_batch(
        tmp_path / "logs" / "mdp-000",
        observations=np.zeros((3, 3)),
        actions=np.zeros((2, 2)),
        rewards=np.zeros(2),
        terminations=np.zeros(2, bool),
        truncations=np.array([False, True]),
        provenance={},
    )
    with pytest.raises(BmrlError, match="logs: mdp-000 has 3 observations and 2 actions, the student 2 and 2:"):
        judge_stage(pipeline.open_run(run), tmp_path / "out", tmp_path / "logs", "default", 2, 4, None)
    assert not (tmp_path / "out").exists()


def test_a_judgement_that_was_killed_ends_as_if_undisturbed(run: Path, judged: Path, tmp_path: Path) -> None:
    words = ("judge", run, "--out", tmp_path, *JUDGED)
    process = subprocess.Popen([*BMRL, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    checkpoints = tmp_path / "checkpoints" / "member-1"
    try:
        while process.poll() is None and not list(checkpoints.glob("step-*")):
            time.sleep(0.005)
    finally:
        process.kill()
        _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "judgement.json").exists(), errors
    bmrl(*words)
    said = (tmp_path / "log.txt").read_text()
    assert f"going on from {checkpoints}" in said and said.count("member-0: started") == 1
    assert (tmp_path / "judgement.json").read_bytes() == (judged / "judgement.json").read_bytes()
    assert manifests(tmp_path) == manifests(judged)


def test_a_judgement_is_made_in_no_directory_of_other_things(run: Path, tmp_path: Path) -> None:
    (tmp_path / ".notes.old").write_text("mine")
    assert "is not empty and holds no run" in refused("judge", run, "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".notes.old"]


def test_a_judgement_that_nobody_reads_is_on_the_disk(run: Path, tmp_path: Path) -> None:
    done = unread("judge", run, "--out", tmp_path / "judged", "--members", "2", "--updates", "4")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert (tmp_path / "judged" / "judgement.json").exists()


def begun(directory: Path) -> bool:
    """Whether a result or checkpoint lies in the directory, which may come and go at any moment."""
    try:
        return any(path.name != pipeline.SOURCES for path in directory.iterdir())
    except FileNotFoundError:
        return False


def test_killed_in_every_stage_the_run_ends_as_if_undisturbed(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "killed"
    words = [*SMOKE, "--out", str(directory), "--resume"]
    killed = []
    signals = {
        "collect": signal.SIGTERM,
        "teach-default": signal.SIGKILL,
        "pooled-default": signal.SIGINT,
        "distill-default": signal.SIGTERM,
        "distill-paper": signal.SIGKILL,
        "evaluate": signal.SIGKILL,
    }
    for stage, number in signals.items():
        process = subprocess.Popen([*BMRL, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            while process.poll() is None:
                sign = directory / "students" / "paper" if stage == "evaluate" else directory / "checkpoints" / stage
                if begun(sign):
                    process.send_signal(number)
                    killed.append(stage)
                    break
                time.sleep(0.005)
            if number != signal.SIGKILL:
                process.wait(timeout=30)
        finally:
            process.kill()
            _, errors = process.communicate()
        assert stage in killed, errors
        if number != signal.SIGKILL:
            assert process.returncode == 75, errors
            assert "stopped: what was done is saved, the same command with --resume goes on" in errors
    assert not (directory / "results.json").exists()
    bmrl(*words)
    assert manifests(directory) == manifests(run)
    assert (directory / "results.json").read_text() == (run.parent / "first-results.json").read_text()


def test_stages_alone_make_the_same_run(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "stages"
    bmrl("collect", "point-goal", "--scale", "smoke", "--seed", "3", "--out", directory)
    bmrl("teach", directory)
    bmrl("distill", directory, "--variants", "default", "paper")
    bmrl("evaluate", directory)
    assert manifests(directory) == manifests(run)


def test_a_robot_runs_too(tmp_path: Path) -> None:
    bmrl("run", "hopper-velocity", "--scale", "smoke", "--out", tmp_path / "run")
    rows = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {row["mdp"]["target_velocity"] for row in rows} == {0.2, 1.1, 2.0}
    assert {"velocities-test.png", "policy-test.gif"} <= {p.name for p in (tmp_path / "run" / "figures").iterdir()}


# ---------------------------------------------------------------------- mistakes


def refused(*words: str | Path) -> str:
    """The one line that a refused command says."""
    done = bmrl(*words, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_help_and_bad_words() -> None:
    assert "evaluate" in bmrl("--help").stdout
    told = bmrl("reproduce", "--help").stdout
    assert [name for name in STUDIES if name not in told] == []
    module = subprocess.run([sys.executable, "-m", "bmrl", "--help"], capture_output=True, text=True, check=True)
    assert module.stdout == bmrl("--help").stdout
    assert "point-gaol" in refused("run", "point-gaol", "--out", "x")
    assert "medium" in refused("run", "point-goal", "--out", "x", "--scale", "medium")
    assert "seed" in refused("run", "point-goal", "--out", "x", "--seed", str(2**32))


def test_batches_that_do_not_fit_the_family_are_refused(tmp_path: Path) -> None:
    def batch(dimension: int, mdp: dict[str, float]) -> None:
        write_batch(
            tmp_path / "batches" / "mdp-000",
            observations=np.zeros((3, dimension)),
            actions=np.zeros((2, 2)),
            rewards=np.zeros(2),
            terminations=np.zeros(2, bool),
            truncations=np.array([False, True]),
            mdp=mdp,
            provenance={},
        )

    words = ["run", "point-goal", "--scale", "smoke", "--out", tmp_path]
    batch(3, {"goal_angle": 1.0})
    assert "3 observations" in refused(*words)
    batch(2, {"gravity": 9.8})
    assert "gravity" in refused(*words, "--resume")


def test_one_mdp_is_named_once_and_alone(run: Path) -> None:
    assert "--mdp has goal_angle twice" in refused("evaluate", run, "--mdp", "goal_angle=0", "goal_angle=1")
    assert "leave one of them out" in refused("evaluate", run, "--mdp", "goal_angle=0", "--split", "validation")


def test_a_repeated_test_replaces_one_whose_episodes_became_unstable() -> None:
    row = {"method": "m", "variant": "", "split": "test", "seed": 0, "context": "none", "mdp": {"x": 1.0}}
    old = [row | {"episodes": 1, "invalid_episodes": 4}, row | {"episodes": 2, "invalid_episodes": 0}]
    new = [row | {"episodes": 5, "invalid_episodes": 0}]
    assert report.merge(old, new) == [new[0], old[1]]


def test_a_run_is_no_place_for_a_judgement(run: Path) -> None:
    assert f"--out {run} is a run" in refused("judge", run, "--out", run)


@pytest.mark.parametrize("seed", [0.5, "0", -1, 2**31])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    with pytest.raises(BmrlError, match=r"a whole number in 0 .* 2147483647 is needed"):
        get_experiment("point-goal", "smoke", seed)  # type: ignore[arg-type]
    assert get_experiment("point-goal", "smoke", np.int64(3)).seed == 3


def test_logs_of_another_mdp_are_no_context(run: Path) -> None:
    logs = run / "batches" / "mdp-000"
    assert "no batch of the MDP" in refused("evaluate", run, "--mdp", "goal_angle=1", "--context", logs)
    bmrl("evaluate", run, "--mdp", "goal_angle=0", "--context", logs, "--episodes", "1")


@pytest.mark.parametrize("command", ["evaluate", "judge"])
def test_logs_that_scale_actions_differently_are_refused(run: Path, tmp_path: Path, command: str) -> None:
    batch = read_batch(run / "batches" / "mdp-000")
    write_batch(
        tmp_path / "mdp-000",
        **{name: getattr(batch, name) for name in ("observations", "actions", "rewards", "terminations")},
        truncations=batch.truncations,
        family="point-goal",
        mdp=batch.manifest["mdp"],
        provenance={"actions": {"names": ["x", "y"], "low": [0.0, 0.0], "high": [4.0, 4.0]}},
    )
    with pytest.raises(BmrlError, match=f"{run / 'batches'} and {tmp_path} scale actions differently"):
        if command == "evaluate":
            report.evaluate_stage(pipeline.open_run(run), ["goal_angle=0"], context=str(tmp_path))
        else:
            judge_stage(pipeline.open_run(run), tmp_path / "judged", tmp_path, "default", 2, 1, None)


def test_a_directory_that_holds_something_else_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("mine")
    message = refused("run", "point-goal", "--scale", "smoke", "--out", tmp_path)
    assert message.startswith("error: ") and str(tmp_path) in message and len(message.splitlines()) == 1
    assert os.listdir(tmp_path) == ["file.txt"]
    assert "--resume" in refused(*SMOKE, "--out", run)
    other = [*SMOKE[:5], "4", *SMOKE[6:]]
    assert "seed: 3 -> 4" in refused(*other, "--out", run, "--resume")


def test_a_run_killed_before_its_configuration_had_its_name_goes_on(tmp_path: Path) -> None:
    for name in (".lock", "log.txt", ".config.json.tmp-0123abcd"):
        (tmp_path / name).touch()
    for resume in (False, True):
        pipeline.check_place(tmp_path, resume)
    (tmp_path / ".results.json.tmp-0123abcd").touch()
    with pytest.raises(BmrlError, match="holds no run"):
        pipeline.check_place(tmp_path, resume=True)


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    for stage in ("teach", "distill", "evaluate"):
        assert "holds no run" in refused(stage, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_stages_out_of_order_say_which_is_missing(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "empty"
    directory.mkdir()
    (directory / "config.json").write_text((run / "config.json").read_text())
    assert "batches" in refused("teach", directory)
    assert "batches" in refused("distill", directory)
    assert "distill" in refused("evaluate", directory)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mdp", "goal_angel=1"], "goal_angel"),
        (["--mdp", "goal_angle=up"], "goal_angle=up"),
        (["--mdp", "goal_angle=nan"], "goal_angle"),
        (["--mdp", "goal_angle=9"], "goal_angle"),
        (["--episodes", "0"], "--episodes 0"),
        (["--episodes", "65537"], "--episodes 65537: 1 to 65536 are needed"),
        (["--context", "nowhere"], "nowhere"),
    ],
)
def test_bad_tests_are_refused(run: Path, words: list[str], said: str) -> None:
    assert said in refused("evaluate", run, *words)


def test_damaged_batches_are_named(run: Path, tmp_path: Path) -> None:
    batches, directory = tmp_path / "run" / "batches", tmp_path / "run"
    for source in sorted((run / "batches").iterdir()):
        b = read_batch(source)
        write_batch(
            batches / source.name,
            observations=b.observations,
            actions=b.actions,
            rewards=b.rewards,
            terminations=b.terminations,
            truncations=b.truncations,
            provenance={},
        )
    (directory / "config.json").write_text((run / "config.json").read_text())
    damaged = batches / "mdp-001" / "rewards.npy"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(bytes(content))
    message = refused("teach", directory)
    assert "mdp-001" in message and "rewards.npy" in message
    damaged.unlink()
    assert "rewards.npy" in refused("teach", directory)
    assert not (directory / "teachers").exists()


def test_a_damaged_config_is_named(run: Path, tmp_path: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["collect"]["transitions"] = "many"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "transitions" in refused("teach", tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "config.json" in refused("teach", tmp_path)


def test_a_learner_that_diverged_is_left_out_by_the_users_word_alone(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "diverged"
    shutil.copytree(run, directory)
    for name in ("students", "pooled", "figures", "results.json", "identity.json"):
        path = directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    teachers = directory / "teachers" / "default"
    manifest = json.loads((teachers / "manifest.json").read_text())
    config = from_json(manifest["config"], TeachConfig, "")
    states = load_learners(teachers, config).states
    save_learners(
        teachers, config, Spec(**manifest["spec"]), Taught(states, np.array([-1, 5, -1])), manifest["sources"], 3
    )

    done = bmrl("distill", directory, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "the learner of mdp-001 (after 5 updates) diverged" in done.stderr
    assert "--leave-out-diverged" in done.stderr and not (directory / "students").exists()

    done = bmrl(*SMOKE, "--out", directory, "--resume", "--leave-out-diverged")
    assert "the learner of mdp-001 (after 5 updates) diverged: these MDPs were left out" in " ".join(
        done.stdout.split()
    )
    student, _ = load_student(directory / "students" / "default")
    assert len(student.encoder.embeddings) == 2
    for row in json.loads((directory / "results.json").read_text()):
        assert row["left_out"] == ["mdp-001"] and "diverged" not in row
    pooled = json.loads((directory / "pooled" / "default" / "manifest.json").read_text())
    assert pooled["sources"].keys() == {"batches/mdp-000", "batches/mdp-002"}
    assert "nan" not in (directory / "results.json").read_text().lower()


def test_a_baseline_that_diverged_ends_no_run(run: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    directory = tmp_path / "run"
    shutil.copytree(run, directory)
    here, pooled = pipeline.open_run(directory), directory / "pooled" / "default"
    states = load_learners(pooled, here.experiment.teach["default"]).states
    shutil.rmtree(pooled)

    def diverge(*_):
        raise DivergedError("pooled-default: diverged before step 30", Taught(states, np.array([20])))

    monkeypatch.setattr(pipeline, "teach", diverge)
    with pytest.raises(BmrlError, match="pooled-default: diverged"):
        pipeline.pooled_stage(here)  # as the studies have it
    assert not pooled.exists()
    pipeline.phase_1_stages(here, ["default"])
    monkeypatch.setattr(pipeline, "teach", None)
    pipeline.phase_1_stages(here, ["default"], resume=True)  # nor is it tried again
    (directory / "results.json").unlink()
    report.evaluate_stage(here)
    assert "the baseline pooled/default diverged after 20 updates: it has no results" in capsys.readouterr().out
    rows = json.loads((directory / "results.json").read_text())
    assert {row["method"] for row in rows} == {"tiMe", "nearest teacher"}
    assert all(row["diverged"] == {"pooled/default": 20} and "left_out" not in row for row in rows)


def test_memory_that_is_full_is_told_in_one_line() -> None:
    full = "def full(command): raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory.\\nMore of it.')"
    code = f"import jax\nfrom bmrl import cli\n{full}\ncli.execute = full\ncli.main()"
    done = subprocess.run([sys.executable, "-c", code, "teach", "x"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: RESOURCE_EXHAUSTED: Out of memory.: where there is more memory, what ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", get_args(cli.Command))
def test_commands_name_a_way_to_go_on_that_they_have(command: type) -> None:
    kind = get_args(command)[0]
    said = cli.how_to_go_on(kind.__new__(kind))
    assert ("--resume" in said) == any(field.name == "resume" for field in dataclasses.fields(kind))
    assert ("is saved" in said) == (kind not in (cli.Evaluate, cli.Data, cli.Policy))


def test_what_is_left_of_a_damaged_result_is_refused_before_anything_is_trained(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(run, directory)
    manifest = directory / "teachers" / "default" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:100])
    said = (directory / "log.txt").read_text()
    message = refused(*SMOKE, "--out", directory, "--resume")
    assert "teachers/default holds something else, or is damaged" in message
    assert "teach-default: started" not in (directory / "log.txt").read_text()[len(said) :]


def test_fewer_batches_than_learners_are_refused(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(run, directory)
    shutil.rmtree(directory / "batches" / "mdp-002")
    shutil.rmtree(directory / "students" / "default")
    with pytest.raises(BmrlError, match=r"teachers/default was not made from the batches/mdp-002 that is there now:"):
        pipeline.distill_stage(pipeline.open_run(directory))
    teachers = directory / "teachers" / "default"
    manifest = json.loads((teachers / "manifest.json").read_text())
    del manifest["sources"]  # as an earlier version left it
    (teachers / "manifest.json").write_text(json.dumps(manifest))
    reseal(teachers)
    assert "has 2 batches, but" in refused("distill", directory)


def test_batches_learners_and_students_of_different_runs_are_not_mixed(run: Path, tmp_path: Path) -> None:
    directory, name = tmp_path / "run", "mdp-001"
    shutil.copytree(run, directory)
    here = pipeline.open_run(directory)

    def put_another(rewards: float) -> None:
        b = read_batch(run / "batches" / name)
        fields = ("observations", "actions", "terminations", "truncations")
        arrays = {field: getattr(b, field) for field in fields} | {"rewards": b.rewards + np.float32(rewards)}
        known = {key: b.manifest[key] for key in ("family", "mdp", "provenance")}
        write_batch(directory / "batches" / name, **arrays, **known)

    put_another(0.0)  # the same numbers are the same batch
    for stage in (pipeline.teach_stage, pipeline.pooled_stage, pipeline.distill_stage):
        stage(here)
    put_another(1.0)
    other = rf"was not made from the batches/{name} that is there now: put back"
    for stage in (pipeline.teach_stage, pipeline.pooled_stage, report.evaluate_stage):
        with pytest.raises(BmrlError, match=other):
            stage(here)
    with pytest.raises(BmrlError, match=other):
        export_policy(here, tmp_path / "policy")
    shutil.move(directory / "students" / "default", tmp_path / "student")
    with pytest.raises(BmrlError, match=r"teachers/default " + other):
        pipeline.distill_stage(here)
    assert not (directory / "checkpoints").exists() or not list((directory / "checkpoints").iterdir())

    put_another(0.0)
    shutil.move(tmp_path / "student", directory / "students" / "default")
    teachers = directory / "teachers" / "default"
    manifest = json.loads((teachers / "manifest.json").read_text())
    (teachers / "manifest.json").write_text(json.dumps(manifest | {"note": "taught elsewhere"}))
    reseal(teachers)
    for stage in (pipeline.distill_stage, report.evaluate_stage):
        with pytest.raises(BmrlError, match=r"students/default was not made from the teachers/default that is there"):
            stage(here)


def test_a_stage_is_not_resumed_with_other_batches(run: Path, tmp_path: Path) -> None:
    here = pipeline.Run(tmp_path, pipeline.open_run(run).experiment)
    config = here.experiment.teach["default"]
    for made_from in ({"batches/mdp-000": "1"}, {"batches/mdp-000": "2", "batches/mdp-001": "3"}):
        with (
            pytest.raises(KeyboardInterrupt),
            pipeline.working_stage(here, "teach", False, made_from, config) as checkpoints,
        ):
            raise KeyboardInterrupt  # before anything was saved: the next one may have other batches
    save_checkpoint(checkpoints, 5, np.zeros(1))
    with pipeline.working_stage(here, "teach", True, made_from, config) as checkpoints:
        save_checkpoint(checkpoints, 6, np.zeros(1))
        for other in ({**made_from, "batches/mdp-001": "4"}, {"batches/mdp-000": "2"}):
            message = r"checkpoints/teach was not made from the batches/mdp-001 that is there now: put back"
            with pytest.raises(BmrlError, match=message), pipeline.working_stage(here, "teach", True, other, config):
                pass
        seed = dataclasses.replace(here, experiment=dataclasses.replace(here.experiment, seed=4))
        message = r"checkpoints/teach was made with another seed: 3 -> 4; put the seed back"
        with pytest.raises(BmrlError, match=message), pipeline.working_stage(seed, "teach", True, made_from, config):
            pass
        longer = dataclasses.replace(config, updates=config.updates + 1)
        message = rf"checkpoints/teach holds a run with another configuration: updates: {config.updates} -> "
        with pytest.raises(BmrlError, match=message), pipeline.working_stage(here, "teach", True, made_from, longer):
            pass
        note = checkpoints / pipeline.SOURCES
        for odd in (made_from, {"seed": 3, "sources": made_from}):
            note.write_text(json.dumps(odd))
            message = r"checkpoints/teach/sources\.json does not say what the checkpoints were made from: restore it"
            with (
                pytest.raises(BmrlError, match=message),
                pipeline.working_stage(here, "teach", True, made_from, config),
            ):
                pass
        note.unlink()
        message = r"checkpoints/teach/sources\.json cannot be opened \(No such file or directory\); restore it"
        with (
            pytest.raises(BmrlError, match=message),
            pipeline.working_stage(here, "teach", True, made_from, config),
        ):
            pass
        assert not note.exists()


def test_a_seed_that_was_edited_between_two_stages_is_refused(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(run, directory)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"seed": 4}))
    here, other = pipeline.open_run(directory), r"default was made with another seed: 3 -> 4; put the seed back into"
    for stage in (pipeline.teach_stage, pipeline.pooled_stage, pipeline.distill_stage, report.evaluate_stage):
        with pytest.raises(BmrlError, match=other):
            stage(here)
    shutil.rmtree(directory / "students")
    with pytest.raises(BmrlError, match="teachers/" + other):
        pipeline.distill_stage(here)
    shutil.copytree(run / "students", directory / "students")
    for kind in ("teachers", "pooled"):
        shutil.rmtree(directory / kind)
    with pytest.raises(BmrlError, match="students/" + other):
        export_policy(here, tmp_path / "policy")


def test_a_log_elsewhere_is_not_written(run: Path, tmp_path: Path) -> None:
    directory, victim = tmp_path / "run", tmp_path / "victim"
    victim.write_text("mine")
    shutil.copytree(run, directory)
    (directory / "log.txt").unlink()
    (directory / "log.txt").symlink_to(victim)
    assert "log.txt is a symbolic link" in refused("evaluate", directory)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("NotSavedError('it could not be saved')", "it could not be saved"),
        (
            "PermissionError(13, 'Permission denied', '/there')",
            "/there cannot be read or written (Permission denied); mend that, or choose another place",
        ),
    ],
)
def test_a_place_that_takes_nothing_has_an_exit_code_of_its_own(error: str, says: str) -> None:
    full = f"def full(command): raise {error}"
    code = f"from bmrl import cli\nfrom bmrl.errors import NotSavedError\n{full}\ncli.execute = full\ncli.main()"
    done = subprocess.run([sys.executable, "-c", code, "teach", "x"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (74, f"error: {says}\n")


def test_places_that_the_system_refuses_are_told_in_one_line(run: Path, tmp_path: Path) -> None:
    done = bmrl("teach", tmp_path / ("x" * 300), check=False)
    assert done.returncode in (2, 74) and done.stderr.startswith(f"error: {tmp_path}/xxx")  # it depends on Python
    assert len(done.stderr.splitlines()) == 1
    with open("/dev/full", "w") as full:
        words = [*BMRL, "data", "validate", str(run)]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    says = "error: what is printed cannot be read or written (No space left on device); mend that, or "
    assert (done.returncode, done.stderr) == (74, says + "choose another place\n")


def test_a_test_whose_output_nobody_reads_is_on_the_disk(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(run, directory)
    for name in ("results.json", "identity.json"):
        (directory / name).unlink()
    (directory / "metrics.csv").write_bytes(b"")  # nor has it a log of the training
    left = [directory / "teachers" / ".default.tmp-0123abcd", directory / ".results.json.tmp-0123abcd"]
    left[0].mkdir()
    left[1].touch()
    done = unread("evaluate", directory)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert (directory / "results.json").exists() and (directory / "identity.json").exists()
    assert "there are no pictures of the training" in done.stderr
    assert not any(path.exists() for path in left)
