"""minikin: from a task, some data, a large model and a device budget to a small, proven language model.

The public sentences; each is imported when it is first used, so that `import minikin` stays light.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# OpenMP's idle threads spin by default. Beside any other work on the machine that made a training step five to
# ten times slower; sleeping at once costs small models half of what a second thread gains on an idle one (LOG.md).
# So they wait a moment only where a core is free. Must be set before torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if hasattr(os, "getloadavg") and os.getloadavg()[0] <= (os.cpu_count() or 1) - 1:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_HOMES = {
    "Answer": "minikin.base.types",
    "HandOver": "minikin.trust.handover",
    "Kin": "minikin.runtimes",
    "Recipe": "minikin.recipe.schema",
    "build": "minikin.pipeline",
    "distil": "minikin.sentences",
    "load": "minikin.runtimes.load",
    "measure": "minikin.sentences",
    "package": "minikin.sentences",
    "prune": "minikin.sentences",
    "quantize": "minikin.sentences",
    "read_data": "minikin.sentences",
    "student": "minikin.sentences",
    "teacher": "minikin.sentences",
}

__all__ = [
    "Answer",
    "HandOver",
    "Kin",
    "Recipe",
    "__version__",
    "build",
    "distil",
    "load",
    "measure",
    "package",
    "prune",
    "quantize",
    "read_data",
    "student",
    "teacher",
]

if TYPE_CHECKING:
    from minikin.base.types import Answer
    from minikin.pipeline import build
    from minikin.recipe.schema import Recipe
    from minikin.runtimes import Kin
    from minikin.runtimes.load import load
    from minikin.sentences import distil, measure, package, prune, quantize, read_data, student, teacher
    from minikin.trust.handover import HandOver


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'minikin' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Face(ModuleType):
    """Keeps `minikin.measure` and `minikin.package` the sentences, though stages' folders have these names too."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
