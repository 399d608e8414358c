"""Whether a module is installed, found out without importing it or its parents."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder


def is_installed(module: str) -> bool:
    """Look for a module the way ``import`` would, but run none of its code.

    ``importlib.util.find_spec("a.b")`` imports ``a``; this walks from package to package instead.

    >>> is_installed("json"), is_installed("json.decoder"), is_installed("json.nothing"), is_installed("no_such_module")
    (True, True, False, False)
    """
    if module in sys.modules:
        return True
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        name = top
        for part in rest:
            if spec is None or spec.submodule_search_locations is None:
                return False
            name = f"{name}.{part}"
            spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    except (ImportError, ValueError, AttributeError):  # what a damaged package makes the finders raise
        return False
    return spec is not None
