"""Build the wheel and use it as a stranger would: the whole package is in it, its own command line answers.

The wheel goes into a throw-away environment that sees the running one's packages, but not the source tree.
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


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command outside the source tree; its output, or the end of this program."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"check_wheel: {' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


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

        environment = scratch / "venv"
        venv.create(environment)
        python = environment / "bin" / "python"
        pip = (sys.executable, "-m", "pip", "--python", python)
        run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=scratch)
        # The named directory is searched, but the path files in it (bmrl's editable install) are not read.
        purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=scratch).strip()
        Path(purelib, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

        origin = run(python, "-c", "import bmrl; print(bmrl.__file__)", cwd=scratch).strip()
        if not Path(origin).is_relative_to(environment):
            sys.exit(f"check_wheel: bmrl was imported from {origin}, not from the wheel")
        if "usage: bmrl" not in run(environment / "bin" / "bmrl", "--help", cwd=scratch):
            sys.exit("check_wheel: `bmrl --help` does not print its usage")
        print(f"{wheel.name}: whole, and its command line answers")


if __name__ == "__main__":
    main()
