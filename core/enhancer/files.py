"""Check output paths and replace files atomically.

Commands write only into folders that exist, so that a typing error in a path creates no folders. Folders that enhancer
owns (store, artifact, runs) are created with their parents.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def check_output_path(path: Path, source: str = "") -> None:
    """Raise an error if a file cannot be written at ``path``. For use before any work is done.

    Args:
        path: The file.
        source: Setting or flag that names the file, such as ``"--summary"``, for the message.

    Raises:
        ConfigError: The parent folder does not exist, or ``path`` is a folder.
    """
    prefix = f"{source}: " if source else ""
    if not path.parent.is_dir():
        raise ConfigError(f"{prefix}there is no folder {path.parent}", hint="create it, or choose another")
    if path.is_dir():
        raise ConfigError(f"{prefix}{path} is a folder", hint="name a file in it")


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading, and nothing else: opening a named pipe would wait for a writer.

    Raises:
        OSError: There is no file, or ``path`` is a folder, a pipe, a socket or a device.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


@contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Write a file atomically: readers see the old content or the new content, never a part of it.

    The draft is synced to disk before it replaces the file. If the block raises, the draft is removed and the old file
    is unchanged; a killed process may leave a hidden draft beside the file. The file mode of the old file is kept.

    Args:
        path: The file, in an existing folder. If it is a symbolic link, its target is replaced.

    Yields:
        Path of the draft to write to: a new name in the same folder, with the same suffix.

    Raises:
        OSError: The file cannot be written.
    """
    path = path.resolve()
    draft = path.with_name(f".{path.stem}-{secrets.token_hex(6)}{path.suffix}")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        with suppress(OSError):  # no old file
            draft.chmod(stat.S_IMODE(path.stat().st_mode))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
