"""Where a file may be written, and how it is replaced.

What commands are told to write goes into a folder that is there, so that a slip of the pen makes no tree of folders; a
folder that is enhancer's own (of the store, of an artifact, of runs) is made with what leads to it.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all: whoever looks finds the old one or the new one, never half of one.

    What is written to the draft is on disk before it takes the file's place. When the block fails, the draft is removed
    and the old file is left as it was; after a kill, a hidden draft may be left beside it. Rights are those of the old
    file.

    Args:
        path: The file, in a folder that is there; a link stays, and what it leads to is replaced.

    Yields:
        The path of the draft, for the block to write to: beside the file, with the same ending, and nobody else's.

    Raises:
        OSError: It cannot be written.
    """
    path = path.resolve()
    draft = path.with_name(f".{path.stem}-{secrets.token_hex(6)}{path.suffix}")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        with suppress(OSError):  # there is no old file
            draft.chmod(stat.S_IMODE(path.stat().st_mode))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
