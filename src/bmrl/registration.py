"""Gymnasium's registry has the environments of bmrl as soon as both are imported, in whichever order.

`gymnasium.make("bmrl:bmrl/...")` imports bmrl and expects to find them. bmrl in turn does not wait for Gymnasium, which
neither training nor acting needs: where it is not imported yet, a finder waits until it is.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

ENVIRONMENTS = (  # id, family, horizon; by name only, so that no family is imported
    ("bmrl/PointGoal-v0", "point-goal", 20),
    ("bmrl/HalfCheetahVelocity-v0", "halfcheetah-velocity", 200),
    ("bmrl/HopperVelocity-v0", "hopper-velocity", 1000),
    ("bmrl/HalfCheetahDynamics-v0", "halfcheetah-dynamics", 200),
    ("bmrl/HalfCheetahVelocityDynamics-v0", "halfcheetah-velocity-dynamics", 200),
    ("bmrl/Thermostat-v0", "thermostat", 672),
)


def announce() -> None:
    """Register the environments, now or when Gymnasium is imported."""
    if "gymnasium" in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, _Waiting())


def register() -> None:
    """Put the environments into Gymnasium's registry."""
    import gymnasium

    for env_id, family, horizon in ENVIRONMENTS:
        gymnasium.register(
            id=env_id,
            entry_point="bmrl.families.env:FamilyEnv",
            max_episode_steps=horizon,
            kwargs={"family": family},
        )


class _Waiting:
    """Finds Gymnasium as it would be found without, and registers the environments once it is imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "gymnasium":
            return None
        others = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in others if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            sys.meta_path.remove(self)
            register()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
