"""Parts as tasks on a cluster of one node beside its head: workers that die, tasks that fail, a signal to stop."""

import logging
import os
import shutil
import signal
import threading
import time
from importlib.util import find_spec

import pytest
from toy import toy, trained

from bmrl import pipeline
from bmrl.engine import Engine, parts
from bmrl.errors import BmrlError
from bmrl.runs import stopping
from torture import workers
from torture.smoke import differences

if find_spec("ray") is None:  # not imported before it knows that there is a token
    pytest.skip("no Ray", allow_module_level=True)
ENGINE = Engine("ray", group=1)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with pytest.MonkeyPatch.context() as patch, workers.cluster(1) as environment:
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
            patch.setenv(name, environment[name])
        yield
        disconnect()


def disconnect():
    import ray

    ray.shutdown()


def test_a_worker_that_is_killed_changes_nothing(grouped, tmp_path, caplog):
    caplog.set_level(logging.INFO, "bmrl")
    directory, struck = tmp_path / "run", []

    def strike():
        while not struck:
            time.sleep(0.02)
            for number in workers.working(directory):
                os.kill(number, signal.SIGKILL)
                struck.append(number)

    killer = threading.Thread(target=strike)
    killer.start()
    trained(directory, grouped.experiment, ENGINE)
    killer.join()
    assert "died (WorkerCrashedError): the part goes on anew" in caplog.text
    assert differences(directory, grouped.directory) is None


def test_a_task_that_fails_says_what_it_would_say_here(tmp_path):
    run = pipeline.start_run(tmp_path / "run", toy())
    (run.directory / "batches" / "mdp-000").mkdir(parents=True)
    part = parts.Learning(run, "teach-default", 0, 1, "teachers", "default")
    said = []
    for engine in (Engine(), ENGINE):
        with pytest.raises(BmrlError) as caught:
            parts.perform([part], engine)
        said.append(str(caught.value))
    assert said[0] == said[1] and "mdp-000" in said[0] and "\n" not in said[0]


def test_a_signal_to_stop_is_passed_on_and_the_state_saved(grouped, tmp_path, monkeypatch):
    shutil.copytree(grouped.directory / "batches", tmp_path / "run" / "batches")
    run = pipeline.start_run(tmp_path / "run", toy(updates=10**5))
    part = parts.Learning(run, "teach-default", 0, 1, "teachers", "default")
    monkeypatch.setattr(stopping, "asked", lambda: part.done() > 0)
    with pytest.raises(stopping.Stopped):
        parts.perform([part], ENGINE)
    assert int(part.newest_checkpoint().removeprefix("step-")) > 0
    assert not workers.working(run.directory)


def test_a_part_whose_workers_die_again_and_again_is_given_up(tmp_path):
    class Deadly(parts.Part):
        steps = 1

        def finished(self):
            return False

        def work(self):
            os.kill(os.getpid(), 9)

    run = pipeline.start_run(tmp_path / "run", toy())
    with pytest.raises(BmrlError, match=r"the workers of mdp-000-000 died 5 times .*\(WorkerCrashedError\): look into"):
        parts.perform([Deadly(run, "collect", 0, 1)], ENGINE)


def test_no_cluster(tmp_path, monkeypatch):
    disconnect()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    run = pipeline.start_run(tmp_path / "run", toy())
    with pytest.raises(
        BmrlError, match=r"--engine ray: no cluster at 127.0.0.1:1 can be used \(.*refused.*\): see docs/cluster.md"
    ):
        parts.collect_stage(run, ENGINE, None)
    assert parts.check_engine(run.directory, Engine("ray", group=2)) == 2  # nothing was done with the other group
