"""What the readers of a run directory refuse. That they read what is sound, the tests of the commands show."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bmrl import pipeline
from bmrl.data import write_batch
from bmrl.errors import BmrlError, CorruptError
from bmrl.experiments import get_experiment
from bmrl.families import get_family
from bmrl.learned import load_learners, load_student
from bmrl.minari_export import export_minari
from bmrl.pipeline import collect_stage, open_run, start_run, working_on
from bmrl.report import KEY, read_results
from bmrl.workflow import load_agent
from torture import kinds
from torture.mutations import reseal


def forge(path, change):
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    reseal(path)


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    root = tmp_path_factory.mktemp("examples")
    for name, make in (("learners", kinds.make_learners), ("student", kinds.make_student)):
        make(root / name)
    return root


LOADERS = {"learners": lambda path: load_learners(path, kinds.teach_config()), "student": load_student}


@pytest.mark.parametrize("what", LOADERS)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.pop("spec"), "has None as observation_dim"),
        (lambda m: m.update(spec=[2, 1]), "has None as observation_dim"),
        (lambda m: m["spec"].update(action_dim=-1), "has -1 as action_dim, a size is needed"),
        (lambda m: m["spec"].update(action_dim=True), "has True as action_dim"),
        (lambda m: m["spec"].update(action_dim=10**30), "as action_dim"),
        (lambda m: m.update(learners="2"), "has '2' as learners"),
        (lambda m: m.update(learners=3), "was saved with another configuration"),
    ],
)
def test_manifests_that_describe_no_networks(examples, what, change, says):
    path = examples / what / "default"
    whole = (path / "manifest.json").read_bytes()
    try:
        forge(path, change)
        with pytest.raises(BmrlError) as caught:
            LOADERS[what](path)
    finally:
        (path / "manifest.json").write_bytes(whole)
    assert says in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [lambda m: m.pop("config"), lambda m: m.update(config=3)])
@pytest.mark.parametrize(("what", "says"), [("learners", "default holds a run with another"), ("student", "default: ")])
def test_manifests_without_a_configuration(examples, what, says, change):
    test_manifests_that_describe_no_networks(examples, what, change, says)


def test_learners_of_another_configuration(examples):
    path, config = examples / "learners" / "default", kinds.teach_config()
    changed = replace(config, algorithm=replace(config.algorithm, greed=1.0))
    with pytest.raises(BmrlError, match=r"default holds .* another configuration: algorithm.greed: 2.5 -> 1.0;"):
        load_learners(path, changed)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["config"]["student"].update(value_hidden=[0, 3]), "describes no networks"),
        (lambda m: m["config"]["student"].update(value_hidden=[]), "Q_S, G_S and xi_S need a hidden layer"),
        (lambda m: m.update(latent_dim=-1), "has -1 as latent_dim"),
        (lambda m: m.pop("max_correction"), "max_correction"),
    ],
)
def test_manifests_that_describe_no_student(examples, change, says):
    test_manifests_that_describe_no_networks(examples, "student", change, says)


@pytest.mark.parametrize("what", LOADERS)
@pytest.mark.parametrize("odd", [np.nan, -np.inf])
def test_weights_that_are_not_finite(examples, what, odd):
    path = examples / what / "default"
    whole = {name: (path / name).read_bytes() for name in ("manifest.json", "arrays.safetensors")}
    arrays = load_file(path / "arrays.safetensors")
    name = max(arrays, key=lambda name: arrays[name].size)
    arrays[name].flat[1] = odd
    try:
        save_file(arrays, path / "arrays.safetensors")
        reseal(path)
        with pytest.raises(CorruptError, match="is not finite") as caught:
            LOADERS[what](path)
    finally:
        for file, content in whole.items():
            (path / file).write_bytes(content)
    assert repr(name) in str(caught.value) or name in str(caught.value)


def test_fewer_batches_than_train_mdps_are_told(tmp_path, caplog):
    run = start_run(tmp_path, get_experiment("point-goal", "smoke", 0))
    mdps = get_family("point-goal").train_mdps()
    for number, mdp in enumerate(mdps):
        write_batch(
            tmp_path / "batches" / f"mdp-{number:03d}",
            observations=np.zeros((3, 2)),
            actions=np.zeros((2, 2)),
            rewards=np.zeros(2),
            terminations=[0, 1],
            truncations=[0, 0],
            mdp=mdp,
            provenance={"by": "hand"},
        )
    collect_stage(run)
    assert caplog.records == []
    shutil.rmtree(tmp_path / "batches" / f"mdp-{len(mdps) - 1:03d}")
    collect_stage(run)
    (told,) = caplog.messages
    says = f"batches of {len(mdps) - 1} MDPs, point-goal has {len(mdps)} train MDPs: training is on those alone"
    assert told.endswith(says)


@pytest.mark.parametrize("name", ["batches", "teachers/default", "students", "checkpoints", "figures/x.png"])
def test_a_link_in_a_run_is_refused_and_one_to_a_run_is_not(tmp_path, name):
    link = tmp_path / "link"
    start_run(tmp_path / "run", get_experiment("point-goal", "smoke", 0))
    link.symlink_to(tmp_path / "run")
    open_run(link)
    with working_on(link):
        pass
    (tmp_path / "elsewhere").mkdir()
    (link / name).parent.mkdir(exist_ok=True)
    (link / name).symlink_to(tmp_path / "elsewhere")
    for enter in (
        open_run,
        lambda place: working_on(place).__enter__(),
        load_agent,
        lambda x: export_minari(x, "me/toy"),
    ):
        with pytest.raises(CorruptError, match=f"link/{name} is a symbolic link"):
            enter(link)


def test_where_another_configuration_is_nothing_is_tidied_up(tmp_path):
    place, preset = tmp_path / "run", get_experiment("point-goal", "smoke", 0)
    start_run(place, preset)
    left = [place / "teachers" / ".default.old", place / ".results.json.tmp-0123abcd"]
    left[0].mkdir(parents=True)
    left[1].touch()
    before = sorted(place.rglob("*"))
    with (
        pytest.raises(BmrlError, match="another configuration: seed: 0 -> 1;"),
        pipeline.working_on_run(place, replace(preset, seed=1)),
    ):
        pass
    assert sorted(path for path in place.rglob("*") if path.name != ".lock") == before
    with pipeline.working_on_run(place, preset):
        assert sorted(path.name for path in place.iterdir()) == [".lock", "config.json", "log.txt", "teachers"]
        assert [path.name for path in (place / "teachers").iterdir()] == ["default"]


def test_a_log_that_a_full_disk_does_not_take_hides_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "open_log", lambda path: open("/dev/full", "a"))  # noqa: SIM115 - `working_on` closes it
    with pytest.raises(BmrlError, match="why it ends"), pipeline.working_on(tmp_path):
        pipeline.log.warning("a line")
        raise BmrlError("why it ends")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "rows", [{}, [3], [{}], [{"mdp": 3}], [{"mdp": {"goal": []}}], [{"seed": []}], [{"method": {}}], [{"method": None}]]
)
def test_results_that_are_none(tmp_path, rows):
    row = {**dict.fromkeys(KEY, 0), "mdp": {"goal": 1.0}}
    (tmp_path / "results.json").write_text(json.dumps([row]))
    assert read_results(tmp_path / "results.json") == [row]
    partial = isinstance(rows, list) and rows[0] not in (3, {})
    (tmp_path / "results.json").write_text(json.dumps([{**row, **rows[0]}] if partial else rows))
    with pytest.raises(BmrlError, match=r"results\.json is not a list of results"):
        read_results(tmp_path / "results.json")


def test_a_run_that_goes_on_elsewhere_warns_at_its_start(tmp_path, monkeypatch, caplog):
    run = pipeline.start_run(tmp_path, get_experiment("point-goal", "smoke", 0))
    for machine, warnings in (("here", 0), ("here", 0), ("there", 1), ("there", 1), ("here", 1)):
        caplog.clear()
        monkeypatch.setattr(pipeline, "arithmetic", lambda machine=machine: machine)
        pipeline.note_machine(run)
        assert caplog.text.count("was worked on elsewhere (") == warnings
    assert json.loads((tmp_path / "machines.json").read_text()) == ["here", "there"]
    (tmp_path / "machines.json").write_text("[3]")
    with pytest.raises(BmrlError, match=r"machines\.json"):
        pipeline.note_machine(run)
