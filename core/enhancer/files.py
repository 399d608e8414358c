"""One rule for what commands write where they are told to.

A file goes into a folder that is there, so that a slip of the pen makes no tree of folders; a folder that is enhancer's
own (of the store, of an artifact, of runs) is made with what leads to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def require_place(path: Path, what: str = "") -> None:
    """Refuse, before any work is done, to write a file where none can be.

    Args:
        path: The file.
        what: What names it, such as ``"--summary"``.

    Raises:
        ConfigError: Its folder is not there, or it is a folder itself.
    """
    named = f"{what}: " if what else ""
    if not path.parent.is_dir():
        raise ConfigError(f"{named}there is no folder {path.parent}", hint="make it, or choose another")
    if path.is_dir():
        raise ConfigError(f"{named}{path} is a folder", hint="name a file in it")
