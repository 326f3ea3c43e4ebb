"""Configurations as JSON and back: typed dataclasses are the only configuration language."""

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_origin

from cattrs import Converter, transform_error
from cattrs.cols import homogenous_tuple_structure_factory, is_sequence, list_structure_factory
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_unstructure_fn, override
from cattrs.v import format_exception

from bmrl.batch_rl import BCQ, SAC, SVG, TD3BC, Algorithm, Cloning
from bmrl.batch_rl.base import check_algorithm
from bmrl.errors import BmrlError
from bmrl.types import ABLATION

ALGORITHMS: dict[str, type] = {kind.__name__: kind for kind in (SAC, BCQ, TD3BC, SVG, Cloning)}
"""The algorithms that a file can name. Users' own come from Python alone: no file's word loads code."""

CHANGES_NO_RESULT = {"checkpoint_seconds"}
"""Fields that tell no run from another."""

_converter = Converter(forbid_extra_keys=True)


@_converter.register_unstructure_hook_factory(is_dataclass)
def _unstructure_dataclass(kind: Any) -> Any:
    rare: dict[str, Any] = {
        field.name: override(omit_if_default=True) for field in fields(kind) if field.metadata == ABLATION
    }
    return make_dict_unstructure_fn(kind, _converter, **rare)


def _unstructure_algorithm(algorithm: Any) -> dict[str, Any]:
    """Its hyperparameters, and the name of its class as ``algorithm``."""
    kind = type(algorithm)
    check_algorithm(algorithm)
    if ALGORITHMS.get(kind.__name__, kind) is not kind:
        raise BmrlError(f"an algorithm of bmrl is called {kind.__name__}: give your own class another name")
    return {**_converter.unstructure(algorithm, kind), "algorithm": kind.__name__}


def _structure_algorithm(data: Any, _: Any) -> Any:
    hyperparameters = dict(data)
    name = hyperparameters.pop("algorithm")
    if name not in ALGORITHMS:
        raise BmrlError(
            f"{name!r} is none of {', '.join(ALGORITHMS)}: a run with an algorithm of your own goes on from Python, "
            "with bmrl.run"
        )
    return _converter.structure(hyperparameters, ALGORITHMS[name])


_converter.register_unstructure_hook_func(lambda kind: kind is Algorithm, _unstructure_algorithm)
_converter.register_structure_hook_func(lambda kind: kind is Algorithm, _structure_algorithm)


def _plain(*accepted: type) -> Callable[[Any, type], Any]:
    """Takes values of these types alone, where cattrs would convert: bool("false") is True, int(1.5) is 1."""

    def structure(value: Any, kind: type) -> Any:
        if type(value) not in accepted:
            raise ValueError(value)
        return kind(value)

    return structure


for _kind, _accepted in ((bool, (bool,)), (int, (int,)), (float, (int, float)), (str, (str,))):
    _converter.register_structure_hook(_kind, _plain(*_accepted))


@_converter.register_structure_hook_factory(is_sequence)
def _array(kind: Any, converter: Converter) -> Callable[[Any, Any], Any]:
    """Takes arrays alone, where cattrs would take the letters of a string or the names in an object."""
    factory = list_structure_factory if get_origin(kind) is list else homogenous_tuple_structure_factory
    structure_elements = factory(kind, converter)

    def structure(value: Any, kind: Any) -> Any:
        if type(value) not in (list, tuple):
            raise ValueError(value)
        return structure_elements(value, kind)

    return structure


def to_json(config: Any, kind: Any = None) -> Any:
    """A dataclass as plain JSON values; ``kind`` is its declared type where that is a union."""
    return _converter.unstructure(config, kind)


def from_json(data: Any, kind: Any, where: str) -> Any:
    """A dataclass of type ``kind``. Raises BmrlError naming ``where`` and the field that does not fit."""
    try:
        return _converter.structure(data, kind)
    except (BaseValidationError, TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        text = "; ".join(transform_error(error, format_exception=_explain))
        raise BmrlError(f"{where}: {' '.join(text.split())}") from error  # names in the data may break lines


def _explain(error: BaseException, kind: type | None) -> str:
    return str(error) if isinstance(error, BmrlError) else format_exception(error, kind)


def difference(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, a line each: ``collect.transitions: 5000 -> 60000``; see `CHANGES_NO_RESULT`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys(key for key in (*old, *new) if key not in CHANGES_NO_RESULT)
        return [line for k in keys for line in difference(old.get(k), new.get(k), f"{path}.{k}" if path else str(k))]
    return [] if old == new else [f"{path}: {old} -> {new}"]


def check_config(path: Path, found: Any, config: Any) -> None:
    """Raises BmrlError if what is at ``path`` is of another configuration; both are JSON values."""
    if lines := difference(found, json.loads(json.dumps(config))):
        raise BmrlError(f"{path} holds a run with another configuration: {'; '.join(lines)}; choose another directory")
