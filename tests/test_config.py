"""Configurations as JSON and back."""

import json

import pytest

from bmrl.config import difference, from_json, to_json
from bmrl.errors import BmrlError
from bmrl.experiments import EXPERIMENTS, Experiment, get_experiment


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_preset_survives_json(name: str, scale: str) -> None:
    experiment = get_experiment(name, scale, seed=3)
    assert from_json(json.loads(json.dumps(to_json(experiment))), Experiment, "here") == experiment


def test_logs_are_shared_only_where_transitions_are_the_same() -> None:
    for name in EXPERIMENTS:
        experiment = get_experiment(name, "laptop", seed=0)
        shared = {name for name, config in experiment.teach.items() if config.logs != "own"}
        assert shared == ({"default"} if name in ("halfcheetah-velocity", "hopper-velocity") else set()), name
        assert not any(experiment.distill[name].reward_model.next_observations for name in shared)


@pytest.mark.parametrize("value", ["false", 0, None])
def test_what_is_neither_true_nor_false_is_refused(value: object) -> None:
    config = to_json(get_experiment("point-goal", "smoke", seed=0))
    config["distill"]["default"]["decay"] = value
    with pytest.raises(BmrlError, match=r"here: .*expected bool.*decay"):
        from_json(config, Experiment, "here")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"seed": 1.5}, r"expected int @ \$\.seed"),
        ({"seed": "1"}, r"expected int @ \$\.seed"),
        ({"seed": True}, r"expected int @ \$\.seed"),
        ({"family": 3}, r"expected str @ \$\.family"),
        ({"checkpoint_seconds": "60"}, r"expected float @ \$\.checkpoint_seconds"),
        ({"checkpoint_seconds": 10**400}, "checkpoint_seconds"),
        ({"collect": 3}, "collect"),
        ({"teach": {"default": "x"}}, r"teach\['default'\]"),
        ({"a\nb": 3}, "a b"),
    ],
)
def test_a_value_of_another_type_is_refused_not_converted(changed: dict[str, object], says: str) -> None:
    config = {**to_json(get_experiment("point-goal", "smoke", seed=0)), **changed}
    with pytest.raises(BmrlError, match=rf"^here: .*{says}") as caught:
        from_json(config, Experiment, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["ab", "", {"1": 2}, {}, 3, None])
def test_what_is_no_array_is_not_taken_apart(value: object) -> None:
    config = to_json(get_experiment("point-goal", "smoke", seed=0))
    config["teach"]["default"]["algorithm"]["hidden"] = value
    says = r"^config\.json: .*expected tuple @ \$\.teach\['default'\]\.algorithm\.hidden$"
    with pytest.raises(BmrlError, match=says):
        from_json(config, Experiment, "config.json")
    with pytest.raises(BmrlError, match=r"^machines\.json: invalid value @ \$$"):
        from_json(value, list[str], "machines.json")


@pytest.mark.parametrize("value", [[], "x", None, 3])
def test_what_is_no_object_is_no_configuration(value: object) -> None:
    with pytest.raises(BmrlError, match=r"^here: "):
        from_json(value, Experiment, "here")


def test_a_whole_number_will_do_for_a_real_one() -> None:
    config = {**to_json(get_experiment("point-goal", "smoke", seed=0)), "checkpoint_seconds": 60}
    assert type(from_json(config, Experiment, "here").checkpoint_seconds) is float


def test_how_often_a_run_is_saved_tells_no_run_from_another() -> None:
    config = to_json(get_experiment("point-goal", "laptop", seed=0))
    assert config["checkpoint_seconds"] == 60
    assert difference({"unit": config | {"checkpoint_seconds": 120.0}}, {"unit": config}) == []
    assert difference(config | {"seed": 1}, config) == ["seed: 1 -> 0"]


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    message = str(BmrlError("config.json: unknown field 'a\nb\u2028c\x1b[2J'; 20 °C"))
    assert message == "config.json: unknown field 'a b c\\x1b[2J'; 20 °C"
