"""Build the wheel and use it as a stranger would: the whole package is in it, its own command line answers.

The wheel goes into a throw-away environment that sees the running one's packages, but not the source tree; and into one
that sees NumPy alone, where an exported policy has to act.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_JAX = """
try:
    import jax
except ModuleNotFoundError as error:
    print(repr(error))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside the source tree; its output, or the end of this program."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"check_wheel: {' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def installed(wheel: Path, environment: Path, packages: Path) -> Path:
    """Python of a fresh environment that has the wheel, and beside it what lies in the directory ``packages``."""
    venv.create(environment)
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=wheel.parent)
    # The named directory is searched, but the path files in it (bmrl's editable install) are not read.
    purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=wheel.parent).strip()
    Path(purelib, "dependencies.pth").write_text(f"{packages}\n")
    origin = run(python, "-c", "import bmrl; print(bmrl.__file__)", cwd=wheel.parent).strip()
    if not Path(origin).is_relative_to(environment):
        sys.exit(f"check_wheel: bmrl was imported from {origin}, not from the wheel")
    return python


def act(wheel: Path, scratch: Path, packages: Path) -> None:
    """A policy has to act as it does here where the wheel has nothing beside it but NumPy."""
    alone = scratch / "numpy-alone"
    alone.mkdir()
    for name in ("numpy", "numpy.libs"):
        if (packages / name).exists():
            (alone / name).symlink_to(packages / name)
    policy = scratch / "policy"
    run(
        sys.executable,
        "-c",
        f"from pathlib import Path; from torture.policies import write_policy; write_policy(Path({str(policy)!r}))",
        cwd=ROOT,
    )
    python = installed(wheel, scratch / "venv-numpy", alone)
    code = f"from bmrl.runtime import Policy; print(Policy.load({str(policy)!r}).predict([0.5, 0.0, -0.5])[0].tolist())"
    found, expected = (run(each, "-c", code, cwd=scratch) for each in (python, sys.executable))
    if found != expected:
        sys.exit(f"check_wheel: with NumPy alone a policy chooses {found.strip()}, here {expected.strip()}")
    if "ModuleNotFoundError" not in run(python, "-c", WITHOUT_JAX, cwd=scratch):
        sys.exit("check_wheel: the environment with NumPy alone has JAX")


def main() -> None:
    """Check the wheel; exit with 1 and the reason if it is not whole."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name).resolve()
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", scratch, ROOT, cwd=scratch)
        (wheel,) = scratch.glob("bmrl-*.whl")

        packed = {entry for entry in zipfile.ZipFile(wheel).namelist() if entry.startswith("bmrl/")}
        source = {
            str(path.relative_to(ROOT / "src"))
            for path in (ROOT / "src" / "bmrl").rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        if packed != source:
            sys.exit(f"check_wheel: the wheel and src/bmrl differ in {sorted(packed ^ source)}")

        packages = Path(sysconfig.get_path("purelib"))
        environment = scratch / "venv"
        installed(wheel, environment, packages)
        if "usage: bmrl" not in run(environment / "bin" / "bmrl", "--help", cwd=scratch):
            sys.exit("check_wheel: `bmrl --help` does not print its usage")
        act(wheel, scratch, packages)
        print(f"{wheel.name}: whole, its command line answers, and a policy acts with NumPy alone")


if __name__ == "__main__":
    main()
