"""Check whether a module is installed, without importing it or its parents."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder


def is_installed(module: str) -> bool:
    """Return whether ``import module`` would find the module. Runs none of its code.

    ``importlib.util.find_spec("a.b")`` imports ``a``; this function searches package by package instead.

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
    except (ImportError, ValueError, AttributeError):  # raised by the finders for a damaged package
        return False
    return spec is not None
