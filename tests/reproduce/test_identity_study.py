"""The study of the identity: what its helpers do, and the whole of it at smoke scale on a run that is there already."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from batch_rl import toys
from networks import reference
from PIL import Image

from bmrl.batch_rl.base import Targets
from bmrl.batch_rl.replay import Replay, select, stack
from bmrl.batch_rl.teach import Taught, spec_of, teacher_template
from bmrl.data import read_batches, write_batch
from bmrl.distill.student import Statistics, Student
from bmrl.experiments import get_experiment
from bmrl.families import FAMILIES, get_family
from bmrl.learned import Learners, load_learners, save_learners, save_student
from bmrl.networks import Normaliser
from bmrl.reproduce import reproduce
from bmrl.reproduce.identity import setting as setting_module
from bmrl.reproduce.identity import units
from bmrl.reproduce.identity.decoding import draw_contexts, posterior_mean, ridge
from bmrl.reproduce.identity.page import SECTIONS, page
from bmrl.reproduce.identity.setting import SMOKE_STUDENT, by_themselves, held_out, setting_of
from bmrl.reproduce.identity.training import ablated, bases
from bmrl.reproduce.lesson import Lesson, evenly
from bmrl.sources import batch_sources, learner_sources
from bmrl.types import Spec

LENGTHS = [[3, 1, 4, 2], [2, 5, 1]]
SMALL_STUDENT = replace(SMOKE_STUDENT, identity_dim=32)


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    return toys.replay(tmp_path_factory.mktemp("batches"), [toys.numbered(x, k) for k, x in enumerate(LENGTHS)])


# ---------------------------------------------------------------------- helpers


def test_train_mdps_are_evenly_spread_from_end_to_end():
    assert evenly(29, 8).tolist() == [0, 4, 8, 12, 16, 20, 24, 28]
    assert evenly(29, 2).tolist() == [0, 28]
    assert evenly(29, 29).tolist() == list(range(29))


def test_chosen_episodes_are_whole_and_in_order(replay):
    for k, lengths in enumerate(LENGTHS):
        whole, part = replay.logs[k], select(replay.logs[k], lambda episodes: np.array([2, 0]))
        assert part.size == (7, 3)[k]
        starts = np.cumsum([0, *lengths])
        order = np.concatenate([np.arange(starts[e], starts[e + 1]) for e in (2, 0)])
        jax.tree.map(np.testing.assert_array_equal, part.take(np.arange(len(order))), whole.take(order))
        assert part.starts(np.arange(part.size)).tolist() == [0] * lengths[2] + [lengths[2]] * lengths[0]


def test_contexts_of_logs_are_of_one_mdp_and_prefixes_begin_and_end_with_an_episode(replay):
    context, mask = draw_contexts(replay, 0, np.random.default_rng(0), 200, 3, prefix=False)
    assert mask.all() and set(np.unique(context.rewards)) == set(range(1, 11))
    context, mask = draw_contexts(replay, 0, np.random.default_rng(0), 200, 3, prefix=True)
    found = {tuple(r[m].astype(int).tolist()) for r, m in zip(context.rewards, mask, strict=True)}
    assert found == {(1, 2, 3), (4,), (5, 6, 7), (9, 10)}


def test_a_velocity_is_read_off_an_identity_that_holds_it():
    rng = np.random.default_rng(0)
    velocity = rng.uniform(0, 1.5, 300)
    identities = np.outer(velocity, [2.0, -1.0, 0.0]) + np.array([0.0, 3.0, 5.0])  # the last component is constant
    decode = ridge(identities, velocity)
    np.testing.assert_allclose(decode(identities.reshape(3, 100, 3)), velocity.reshape(3, 100), atol=1e-3)
    blind = ridge(rng.normal(size=(300, 3)), velocity)
    assert np.abs(blind(rng.normal(size=(300, 3))) - velocity.mean()).max() < 0.2


def test_the_posteriors_mean_velocity_is_read_off_its_mean_embedding():
    student = untrained_student(29)
    velocities = np.array([mdp["target_velocity"] for mdp in get_family("halfcheetah-velocity").train_mdps()])
    posterior = np.random.default_rng(0).dirichlet(np.ones(29), size=(4, 5))
    identities = posterior @ np.asarray(student.encoder.embeddings, float)
    np.testing.assert_allclose(posterior_mean(student, velocities)(identities), posterior @ velocities, atol=1e-3)


def test_every_ablation_changes_one_thing_and_no_name_stands_for_two(tmp_path):
    setting = setting_of("laptop", 0, tmp_path)
    for kind, base in bases(setting).items():
        found = ablated(base)
        assert found.pop("nothing") == base
        assert len(set(found.values())) == len(found) and base not in found.values()
        assert ("labels" in found) == (kind == "base")


def test_few_mdps_by_themselves_share_nothing_of_the_others(replay, tmp_path, monkeypatch):
    """Of three MDPs the first and the last: what is shared is taken from these two, and their learners are anew."""
    setting, seen = setting_of("smoke", 0, tmp_path), []

    def share(logs, teach, reward_model, seed):
        seen.append([log.size for log in logs.logs])
        return iter(logs.logs)

    monkeypatch.setattr(setting_module, "shared_episodes", share)
    monkeypatch.setattr(setting_module.pipeline, "learn", lambda *args: None)
    monkeypatch.setattr(setting_module, "load_learners", lambda path, teach: f"learners of {path.parent.name}")
    three = Replay((*replay.logs, replay.logs[0]))
    learners = Learners(None, {"weights": np.arange(3)}, {})
    lesson = Lesson(({}, {}, {}), three, three, learners, 0, tmp_path, {})
    found = by_themselves(setting, lesson, 2)
    assert seen == [[10, 10]] and found.learners == "learners of 2-by-themselves"
    assert by_themselves(setting, lesson, 3) is lesson
    own = replace(setting, teach=replace(setting.teach, logs="own"))
    assert by_themselves(own, lesson, 2).learners.states["weights"].tolist() == [0, 2] and len(seen) == 1


def test_held_out_velocities_lie_between_train_velocities_and_are_no_test_or_validation_velocities(tmp_path):
    setting = setting_of("laptop", 0, tmp_path)
    family, found = setting.family, [mdp["target_velocity"] for mdp in held_out(setting)]
    known = [*family.train_mdps(), *family.test_mdps(), *family.validation_mdps()]
    assert len(found) == 11 and not set(found) & {mdp["target_velocity"] for mdp in known}
    assert min(found) > 0.05 and max(found) < 1.45


# ---------------------------------------------------------------------- answers


def row(part, condition, value, seed=0, **more):
    """A row of a short student's return in one MDP."""
    about = {"part": part, "condition": condition, "method": "tiMe", "split": "test", "seed": seed, "variant": ""}
    return {**about, "mdp": {"target_velocity": 0.3}, "return_mean": value, **more}


def answer(rows, out):
    (line,) = (line for line in page(rows, out).splitlines() if line.startswith("**Answer.**"))
    return line


def test_the_answer_on_k_leaves_out_near_and_validation_velocities(tmp_path):
    rows = []
    for seed in range(3):
        for split, distance, gain in (("test", 0.05, -30), ("validation", 0.2, -30), ("held out", 0.2, 5 + seed)):
            for condition, value in (("nearest", -50), ("longer virtual", -50 + gain), ("base", -52), ("mean", -60)):
                rows.append(row("k", condition, value, seed, split=split, k=4, distance=distance))
    found = answer(rows, tmp_path)
    assert "K = 4: tiMe with virtual MDPs, longer is above on 3 of 3 seeds (6 [5, 7])" in found
    assert "tiMe is above on 0 of 3 seeds (−2 [−2, −2])" in found
    assert (tmp_path / "k.png").exists()


@pytest.mark.parametrize(
    ("returns", "errors", "seeds", "by_return", "by_error"),
    [
        (-60, 0.3, 3, "holds", "holds"),
        (-60, 0.1, 3, "holds", "does not hold"),
        (-40, 0.1, 3, "does not hold", "does not hold"),
        (-60, 0.3, 2, "too few seeds", "too few seeds"),
    ],
)
def test_the_answer_on_the_td_loss_follows_the_rows(returns, errors, seeds, by_return, by_error, tmp_path):
    rows = []
    for seed in range(seeds):
        rows.append(row("td", "distillation of Q_S", -50, seed, decoding=0.2))
        rows.append(row("td", "TD error of Q_S", returns + seed, seed, decoding=errors))
    found = answer(rows, tmp_path)
    assert f"By the return, **{by_return}**:" in found and f"decoded velocity, **{by_error}**:" in found


def test_the_answer_on_ablations_puts_the_largest_loss_first(tmp_path):
    rows = [row("ablations", name, value, kind="base") for name, value in (("nothing", -50), ("a", -55), ("b", -80))]
    assert "b: −30; a: −5 (too few seeds to tell them from chance)." in answer(rows, tmp_path)


# ---------------------------------------------------------------------- the whole study


def untrained_student(mdps, config=SMALL_STUDENT):
    """A student of HalfCheetah, by default with a posterior over some MDPs, as it starts."""
    statistics = Statistics(*(Normaliser.identity(n) for n in (17, 41, 1, 1)))
    sizes = {"mdps": mdps, "latent_dim": 12, "max_correction": 0.05}

    def make():
        return Student(jax.random.PRNGKey(0), Spec(17, 6), statistics, config, **sizes, predict_next=False)

    return reference.filled(make)


@pytest.fixture(scope="module")
def small():
    """The experiment with students of a few neurons."""

    def get(name, scale, seed):
        experiment = get_experiment(name, scale, seed)
        students = {
            variant: replace(config, student=replace(SMALL_STUDENT, pooling=config.student.pooling))
            for variant, config in experiment.distill.items()
        }
        return replace(experiment, distill=students)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setting_module, "get_experiment", get)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory, small):
    """The run that the study would make first, with noise for batches and untrained learners and students."""
    directory = tmp_path_factory.mktemp("runs")
    setting, rng = setting_of("smoke", 0, directory), np.random.default_rng(0)
    family = get_family("halfcheetah-velocity")
    for path, mdps in ((setting.directory, family.train_mdps()), (setting.scratch.directory, family.test_mdps())):
        for k, mdp in enumerate(mdps):
            truncations = np.arange(24) % 4 == 3
            write_batch(
                path / "batches" / f"mdp-{k:03d}",
                observations=rng.normal(size=(30, 17)),
                actions=rng.uniform(-1, 1, (24, 6)),
                rewards=rng.normal(size=24),
                terminations=np.zeros(24, bool),
                truncations=truncations,
                mdp=mdp,
                family=family.name,
                provenance={},
            )
    replay = stack(read_batches(setting.directory / "batches"))
    spec, sources = spec_of(replay), batch_sources(setting.directory)
    for name, config in setting.experiment.teach.items():
        template = teacher_template(config.algorithm, spec, 29)
        states = jax.tree.map(lambda x: rng.uniform(0.01, 0.02, x.shape).astype(x.dtype), template)
        taught = Taught(states, np.full(29, -1))
        save_learners(setting.directory / "teachers" / name, config, spec, taught, sources, setting.experiment.seed)
    targets = Targets(np.zeros((29, 24)), np.zeros((29, 24, 12)))
    for variant, config in setting.experiment.distill.items():
        student = untrained_student(29, config.student)
        sources = learner_sources(setting.directory, setting.experiment.learners(variant))
        save_student(
            setting.directory / "students" / variant,
            config,
            spec,
            targets,
            0.05,
            student,
            sources,
            setting.experiment.seed,
        )
    return directory


def test_the_smoke_study_ends_with_a_page_of_every_part(runs, tmp_path, monkeypatch):
    family = get_family("halfcheetah-velocity")
    monkeypatch.setitem(FAMILIES, family.name, replace(family, horizon=20))
    reproduce("identity", "smoke", "0", tmp_path, runs, "*")
    found = json.loads((tmp_path / "results.json").read_text())["units"]
    assert found.keys() == {unit.name for unit in units("smoke", [0], runs)}
    assert {row["part"] for unit in found.values() for row in unit["rows"]} == {x for names in SECTIONS for x in names}
    text = (tmp_path / "README.md").read_text()
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures and all(f"({name})" in text for name in pictures) and text.count(".png)") == len(pictures)
    assert text.count("**Answer.**") == 9
    for name in pictures:
        with Image.open(tmp_path / name) as image:
            image.load()
    alone = runs / "halfcheetah-velocity-0" / "identity" / "2-by-themselves" / "learners"
    assert load_learners(alone, setting_of("smoke", 0, runs).teach).states.normaliser.mean.shape[0] == 2
    reproduce("identity", "smoke", "0", tmp_path, runs, "*")  # nothing is done again
    assert json.loads((tmp_path / "results.json").read_text())["units"] == found
