"""What can be known of an LMDB file without handing it to liblmdb, which dies on a damaged one instead of saying so."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import mmap
import os
import struct
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import lmdb

from enhancer.errors import StoreCorruptError, StoreError
from enhancer_plugins.stores._limits import at_size_limit, is_full
from enhancer_plugins.stores._lmdb.pages import Tree, read_states
from enhancer_plugins.stores._repair import DOUBT, REMEDY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAGIC: Final = 0xBEEFC0DE
_HEADER_OF_FORMAT: Final = {16: 1, 24: 3}
"""Bytes before a meta record: 16 in the data format of LMDB 0.9 (1), 24 in that of LMDB 1.0 (3)."""
_META = struct.Struct("=II16xI92xQQ")
"""Magic, format, page size, last page, transaction; between them what is not needed here."""


_LOCK_FILE_BYTES: Final = 1 << 16
"""Room for about a thousand readers."""


@dataclass(frozen=True)
class FileFacts:
    """What the meta pages say."""

    format: int
    header: int
    """Bytes of a page's header."""
    page_size: int
    needed: int
    """Bytes that the file must have for every page of the newest transaction to be there."""
    size: int
    """Bytes that it has."""


def supports_both_formats() -> bool:
    """Whether this py-lmdb (3.0 and later) carries the engines of LMDB 0.9 and of 1.0."""
    return int(lmdb.__version__.split(".")[0]) >= 3


def creation_options() -> dict[str, Any]:
    """New files get the data format of LMDB 0.9, which every py-lmdb and every liblmdb tool reads."""
    return {"lib_version": 0} if supports_both_formats() else {}


def read_facts(path: Path) -> FileFacts:
    """Read the two meta pages.

    Raises:
        StoreCorruptError: The file is empty, too short for its meta pages, or no LMDB file.
        StoreError: It cannot be read, or is of a format that the installed py-lmdb does not know.
    """
    try:
        with path.open("rb") as file:
            head = file.read(160)
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise StoreCorruptError(
                    f"{path} is empty: it has been truncated to 0 bytes",
                    hint=REMEDY,
                )
            start = next((at for at in _HEADER_OF_FORMAT if _magic_at(head, at)), None)
            if start is None:
                raise StoreCorruptError(f"{path} is not an LMDB file, or its beginning is damaged", hint=DOUBT)
            metas = [_META.unpack_from(head, start)]
            page_size = metas[0][2]
            if not 256 <= page_size <= 1 << 16:
                raise StoreCorruptError(
                    f"{path} is damaged: its first meta page names a page size of {page_size}", hint=REMEDY
                )
            file.seek(page_size)
            second = file.read(160)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None
    if not _magic_at(second, start):
        raise StoreCorruptError(f"{path} is damaged: its second meta page is missing or not one", hint=REMEDY)
    metas.append(_META.unpack_from(second, start))
    newest = max(metas, key=lambda meta: meta[4])
    facts = FileFacts(newest[1], start, page_size, (newest[3] + 1) * page_size, size)
    known = set(_HEADER_OF_FORMAT.values()) if supports_both_formats() else {1}
    if facts.format not in known:
        raise StoreError(
            f"{path} is of LMDB data format {facts.format}, which lmdb {lmdb.__version__} does not read",
            hint="pip install --upgrade lmdb",
        )
    return facts


def _magic_at(page: bytes, at: int) -> bool:
    return len(page) >= at + _META.size and int.from_bytes(page[at : at + 4], "little") == _MAGIC


def check_length(path: Path) -> None:
    """Refuse a truncated file: to read a page that is not there kills the interpreter (SIGBUS).

    A file may be short and sound: pages that a transaction took and gave back are never written. Such a file is
    stretched to its full length.

    Raises:
        StoreCorruptError: Pages are missing.
    """
    facts = read_facts(path)
    if facts.size >= facts.needed:
        return
    if not structural_faults(path):
        stretch(path, facts.needed)
        return
    raise StoreCorruptError(
        f"{path} is truncated: it has {facts.size:,} bytes of the {facts.needed:,} that its last transaction wrote",
        hint=REMEDY,
    )


def stretch(path: Path, length: int) -> None:
    """Make a file at least this long; never makes it shorter, whoever else writes to it meanwhile."""
    if not hasattr(os, "posix_fallocate"):
        return
    with contextlib.suppress(OSError), path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), length - 1, 1)


def structural_faults(path: Path) -> list[str]:
    """Walk the pages without liblmdb, those of free pages and of values too.

    Raises:
        StoreCorruptError: No meta page says where to begin.
    """
    facts = read_facts(path)
    try:
        with path.open("rb") as file:

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            states = read_states(read, facts.page_size, facts.header)
            numbers = [state.transaction for state in states]
            if len(states) < 2 or not _take_turns(*numbers):
                return [f"the meta pages contradict each other: they are of the transactions {numbers}"]
            state = max(states, key=lambda one: one.transaction)
            state = replace(state, pages=min(state.pages, facts.size // facts.page_size))
            faults = Tree(read, facts.page_size, facts.header, state).faults(leaves=True, values=True, free=True)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None
    return faults or _theirs(path)


def _take_turns(even: int, odd: int) -> bool:
    """Whether these can be the transactions of the first and of the second meta page: written by turns."""
    return even == odd == 0 or (even % 2 == 0 and abs(even - odd) == 1)


def _theirs(path: Path) -> list[str]:
    """What py-lmdb's own walker finds, from 3.0 on: it also knows whether free pages are free."""
    try:
        verifier = importlib.import_module("lmdb.verify")
    except ImportError:
        return []
    try:
        return [str(fault) for fault in verifier.verify(str(path), subdir=False)]
    except (verifier.VerifyError, OSError) as error:
        return [str(error)]


def create(path: Path, map_size: int, fill: Callable[[lmdb.Environment], None]) -> None:
    """Make a new file, whole or not at all, unless somebody else does so first.

    LMDB by itself makes an empty file first, so that a process killed there would leave what a truncated store
    looks like.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder, translated(path):
            draft = Path(folder) / path.name
            # Nobody else knows of the draft: it needs no lock file.
            environment = lmdb.open(str(draft), subdir=False, map_size=map_size, lock=False, **creation_options())
            try:
                fill(environment)
            finally:
                environment.close()
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                if not path.exists():
                    draft.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"cannot create {path}: {error.strerror}", hint="choose another [store] path") from None


def has_addresses(size: int) -> bool:
    """Whether this process may map so much: liblmdb takes its map away before it asks for a larger one."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return True
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ).close()
    except (OSError, OverflowError, ValueError):
        return False
    return True


def reserve_lock_file(path: Path) -> None:
    """Give the lock file its blocks on disk: LMDB maps it and writes to it, which on a full disk is a SIGBUS.

    Must not be called while this process has the environment open: closing a file drops the process's locks on it.

    Raises:
        OSError: There is no room, or the folder cannot be written to.
    """
    with path.with_name(path.name + "-lock").open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, _LOCK_FILE_BYTES)


def detach(path: Path) -> bool:
    """Put a private copy of a file in the place of each map of it that a forked process has inherited.

    What this process then does there does not reach its parent. Where the system does not tell which maps there are,
    nothing is done.

    Returns:
        Whether no map of the file is shared any more.
    """
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        inode = path.stat().st_ino
        system = ctypes.CDLL(None, use_errno=True)
        system.mmap.restype = ctypes.c_void_p
        system.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    except (OSError, AttributeError):
        return False
    for line in maps:
        # Such as: 7f0c-7f0d rw-s 00000000 fd:00 1234 /shop/features/store.lmdb-lock
        span, mode, offset, _, number, *_ = line.split()
        if int(number) != inode or not mode.endswith("s"):
            continue
        start, end = (int(side, 16) for side in span.split("-"))
        handle = os.open(path, os.O_RDONLY)
        try:
            # Fixed, at the very place: 0x10 on every Linux.
            flags, access = mmap.MAP_PRIVATE | 0x10, mmap.PROT_READ | mmap.PROT_WRITE
            if system.mmap(start, end - start, access, flags, handle, int(offset, 16)) != start:
                return False
        finally:
            os.close(handle)
    return True


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder durable, where the platform can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what LMDB raises into the project's errors."""
    try:
        yield
    except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.PanicError) as error:
        raise StoreCorruptError(f"{path} is damaged: {error}", hint=REMEDY) from error
    except lmdb.VersionMismatchError as error:
        raise StoreError(f"{path} is of another LMDB version: {error}", hint="pip install --upgrade lmdb") from error
    except (lmdb.Error, OSError) as error:
        code = error_code(error)
        # LMDB calls a write that was cut short an I/O error; that is what the last write before a full disk is.
        if code in (errno.ENOSPC, errno.EDQUOT) or (code == errno.EIO and is_full(path)):
            raise StoreError(f"disk full: {path} could not be written", hint="nothing of this call was kept") from error
        if code == errno.EFBIG or (code == errno.EIO and at_size_limit(path)):
            raise StoreError(
                f"{path} may not grow: the limit on file size (ulimit -f) is reached",
                hint="nothing of this call was kept",
            ) from error
        raise StoreError(f"{path}: {error}") from error


def error_code(error: Exception) -> int | None:
    """The system's error number, if that is what it is; older versions of py-lmdb tell it in words alone."""
    code = getattr(error, "code", None) or getattr(error, "errno", None)
    if isinstance(code, int):
        return code
    known = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
    return next((number for number in known if str(error).endswith(os.strerror(number))), None)
