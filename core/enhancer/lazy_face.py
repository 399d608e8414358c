"""Build package faces whose names are imported on first use."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def lazy_face(
    package: str, homes: Mapping[str, str], *, computed: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make ``__getattr__``, ``__dir__`` and ``__all__`` of a package whose names live in other modules.

    A package imports the same names under ``TYPE_CHECKING``, as ``from module import Name as Name``, for type checkers
    and documentation. A test holds the two lists to each other.

    Args:
        package: ``__name__`` of the package.
        homes: Names by the module that defines them, separated by spaces.
        computed: Further public names, which the package's own ``__getattr__`` answers.

    Returns:
        The three objects, to be assigned at the module's top level.
    """
    home_of = {name: module for module, names in homes.items() for name in names.split()}
    exported = sorted({*home_of, *computed})

    def __getattr__(name: str) -> Any:  # noqa: N807 - it is the package's
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(home_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:  # noqa: N807
        return list(exported)

    return __getattr__, __dir__, exported
