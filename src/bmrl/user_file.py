"""The one place that runs code which is not bmrl's: a Python file of the user's.

Only a person's own word on the command line, or in Python, gets here. What a run directory, a data set or a manifest
names is never loaded.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def run_file(path: Path) -> ModuleType:
    """The module that the .py file at ``path`` makes; raises whatever the file raises."""
    name = f"bmrl_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # a .py file has both
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look themselves up there
    try:
        spec.loader.exec_module(module)
    except SystemExit as error:
        raise RuntimeError(f"it ends Python ({error!r}): what is to run as a program belongs below __main__") from error
    return module
