"""What holds for the project as a whole: what each part imports, what no part may do, what the locks say."""

import ast
import graphlib
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

import bmrl

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "bmrl"
LOCKS = ("requirements.lock", "requirements-dev.lock")

# Part of bmrl -> the parts that it may import: the way of the data.
STORAGE = {"errors", "types", "runs", "data"}
PHASE_1 = STORAGE | {"parallel", "networks", "batch_rl"}
PHASE_2 = PHASE_1 | {"distill"}
BASELINES = PHASE_2 | {"baselines"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "types": set(),
    "user_file": set(),
    "families": {"errors", "user_file"},
    "tabular": set(),
    "statistics": set(),
    "runs": {"errors", "types"},
    "data": {"errors", "types", "runs", "user_file"},
    "parallel": {"errors"},
    "networks": {"errors", "types"},
    "batch_rl": PHASE_1 - {"batch_rl"},
    "distill": PHASE_2 - {"distill"},
    "baselines": PHASE_2,
    "scaling": {"errors", "data", "families"},
    "minari_export": STORAGE | {"families", "scaling"},
    "controllers": {"families"},
    "collect": PHASE_1 | {"families", "controllers"},
    "evaluate": BASELINES | {"families"},
    "figures": STORAGE | {"families", "statistics", "tabular"},
    "experiments": PHASE_2 | {"families", "collect"},
    "config": PHASE_1,
    "sources": STORAGE | {"config"},
    "learned": PHASE_2 | {"config"},
    "pipeline": PHASE_2 | {"families", "collect", "experiments", "config", "sources", "learned", "scaling"},
    "engine": PHASE_2 | {"families", "config", "learned", "pipeline", "sources"},
    "report": PHASE_2 | {"families", "evaluate", "figures", "learned", "pipeline", "scaling"},
    "runtime": {"errors", "runs"},
    "policy": PHASE_2 | {"evaluate", "learned", "pipeline", "runtime", "scaling"},
    "judge": PHASE_2 | {"config", "evaluate", "figures", "learned", "pipeline", "scaling"},
    "reproduce": BASELINES
    | {"families", "controllers", "statistics", "tabular", "collect", "experiments", "config", "evaluate", "figures"}
    | {"learned", "pipeline", "report", "sources", "judge"},
    "workflow": {"runs", "parallel", "engine", "evaluate", "experiments", "learned", "pipeline", "report"},
    "cli": {"errors", "runs", "data", "minari_export", "parallel", "experiments", "pipeline", "report", "workflow"}
    | {"engine", "judge", "policy", "reproduce"},
    "registration": set(),
    # Every part imports it, but it imports these when a name of theirs is asked for (test_import_is_light).
    "__init__": {
        "registration",
        "errors",
        "types",
        "data",
        "engine",
        "families",
        "batch_rl",
        "evaluate",
        "experiments",
        "policy",
        "workflow",
    },
    "__main__": {"cli"},
}

PICKLES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
IMPORTERS = {"__import__", "import_module", "exec_module", "load_module", "run_path", "run_module"}
RUNS_A_USERS_FILE = "user_file.py"  # by a person's explicit word alone
IMPORT_NAMES = {"pillow": "PIL"}  # distribution -> module, where they differ


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """Absolute names of the modules that a module of `package` imports, at its top or within a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *([node.module] if node.module else [])))
            # `from bmrl import data` imports bmrl.data.
            yield from (f"bmrl.{alias.name}" for alias in node.names) if base == "bmrl" else [base]


def imported_parts(path: Path, source: str) -> set[str]:
    """The other parts of bmrl that a module imports."""
    package = ("bmrl", *path.relative_to(SOURCE).parent.parts)
    names = (name.split(".") for name in imports(ast.parse(source), package))
    return {name[1] for name in names if name[0] == "bmrl" and len(name) > 1} - {part_of(path), "__version__"}


def forbidden(source: str) -> Iterator[str]:
    """What in a module could run code that came with data, or import what this test would not see."""
    tree = ast.parse(source)
    for name in imports(tree, ("bmrl",)):
        if name.split(".")[0] in PICKLES:
            yield f"import {name}"
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in IMPORTERS:
                yield f"{name}()"
            case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
                yield f"{name}()"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="yaml"), attr=name)) if name != "safe_load":
                yield f"yaml.{name}()"
            case ast.keyword(arg="allow_pickle", value=value):
                if not (isinstance(value, ast.Constant) and value.value is False):
                    yield "allow_pickle"


def modules() -> list[Path]:
    found = sorted(SOURCE.rglob("*.py"))
    assert found
    return found


def requirements(lock: str) -> list[str]:
    """The requirements of a lock, each with its continued lines."""
    return re.split(r"(?<!\\)\n", (ROOT / lock).read_text().rstrip("\n"))


def test_allowed_imports_go_one_way() -> None:
    graphlib.TopologicalSorter(ALLOWED).prepare()  # raises CycleError


@pytest.mark.parametrize("part", ["data", "networks", "parallel", "batch_rl", "distill", "baselines"])
def test_training_sees_batches_only(part: str) -> None:
    reached, new = set(), {part}
    while new:
        reached |= new
        new = set().union(*(ALLOWED[name] for name in new)) - reached
    assert not reached & {"families", "collect", "evaluate", "figures", "experiments", "cli"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_imports_only_what_its_part_may(path: Path) -> None:
    part = part_of(path)
    assert part in ALLOWED, f"bmrl.{part} is new: say in ALLOWED what it may import"
    assert imported_parts(path, path.read_text()) - ALLOWED[part] == set()


@pytest.mark.parametrize(
    "source",
    [
        "import bmrl.families.velocity",
        "from bmrl import families",
        "from bmrl.families import FAMILIES",
        "from .. import families",
        "from ..families.velocity import HopperVelocity",
        "def late():\n    from bmrl.families import FAMILIES",
    ],
)
def test_imports_are_seen_however_written(source: str) -> None:
    assert imported_parts(SOURCE / "distill" / "losses.py", source) == {"families"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_has_nothing_forbidden(path: Path) -> None:
    expected = ["exec_module()"] if path.relative_to(SOURCE).as_posix() == RUNS_A_USERS_FILE else []
    assert list(forbidden(path.read_text())) == expected


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import cloudpickle as cp",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "yaml.load(text)",
        "eval(text)",
        "exec(text)",
        "importlib.import_module(name)",
        "spec.loader.exec_module(module)",
    ],
)
def test_forbidden_is_seen(source: str) -> None:
    assert len(list(forbidden(source))) == 1


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    declared = {re.split(r"[^\w.-]", line)[0] for line in (*project["dependencies"], *chain(*extras))}
    known = {IMPORT_NAMES.get(name, name) for name in declared} | sys.stdlib_module_names | {"bmrl"}
    for path in modules():
        package = ("bmrl", *path.relative_to(SOURCE).parent.parts)
        used = {name.split(".")[0] for name in imports(ast.parse(path.read_text()), package)}
        assert used - known == set(), path


def heavy_packages_after(code: str) -> str:
    """Which of the packages that take long to import a fresh interpreter holds after `code`."""
    report = (
        "import atexit, sys\n"
        "heavy = {'jax', 'equinox', 'optax', 'mujoco', 'matplotlib', 'scipy', 'numpy', 'gymnasium',\n"
        "         'pyarrow', 'h5py', 'minari', 'ray'}\n"
        "atexit.register(lambda: print(*sorted(heavy & sys.modules.keys()), file=sys.stderr))\n"
    )
    done = subprocess.run([sys.executable, "-c", report + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.strip()


def test_import_is_light() -> None:
    assert heavy_packages_after("import bmrl") == ""
    assert heavy_packages_after("from bmrl import BmrlError") == ""
    assert heavy_packages_after("from bmrl import Batch, get_family, read_batches, write_batch") == "numpy"


def test_import_is_quick() -> None:
    code = "import time; begun = time.perf_counter(); import bmrl; print(time.perf_counter() - begun)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]
    assert min(seconds) < 0.1


def test_public_names_are_those_of_the_type_checker() -> None:
    """`bmrl.__getattr__` knows exactly the names that are imported for the type checker, from the same modules."""
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    declared = {alias.name: node.module for node in block.body for alias in node.names}
    assert sorted(declared) == bmrl.__all__
    for name, module in declared.items():
        assert getattr(bmrl, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = bmrl.nonsense


def test_help_is_light() -> None:
    help_ = "sys.argv = ['bmrl', '--help']; from bmrl.cli import main; main()"
    assert heavy_packages_after(help_) == ""


def test_heavy_packages_are_seen() -> None:
    assert heavy_packages_after("import scipy") == "numpy scipy"


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_and_hashes_every_package(lock: str) -> None:
    pinned = re.compile(r"[a-z0-9-]+==[\w.+!]+( ; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+")
    for requirement in requirements(lock):
        assert pinned.fullmatch(requirement), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_host_and_no_path(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"https?:|file:|--(extra-)?index|--find-links|/", text)


def test_locks_agree() -> None:
    runtime, development = ({re.split(r"[ \n]", line)[0] for line in requirements(lock)} for lock in LOCKS)
    assert runtime < development
