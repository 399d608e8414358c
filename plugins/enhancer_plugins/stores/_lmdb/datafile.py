"""Check, create and extend LMDB files without liblmdb, which crashes on damaged files."""

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
from enhancer_plugins.stores._lmdb.pages import PageTree, read_meta_pages
from enhancer_plugins.stores._repair import CHECK_PATH, REMEDY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAGIC: Final = 0xBEEFC0DE
_HEADER_OF_FORMAT: Final = {16: 1, 24: 3}
"""Data format by bytes of a page header: format 1 (LMDB 0.9) has 16, format 3 (LMDB 1.0) has 24."""
_META = struct.Struct("=II16xI92xQQ")
"""Magic, format, page size, last page and transaction of a meta page; other fields are skipped."""


_LOCK_FILE_BYTES: Final = 1 << 16
"""Size of a lock file for about a thousand readers."""


@dataclass(frozen=True)
class FileInfo:
    """Contents of the meta pages, and the size of the file."""

    format: int
    header: int
    """Bytes of a page header."""
    page_size: int
    needed: int
    """Size in bytes that the file needs to contain all pages of the newest transaction."""
    size: int
    """Size of the file in bytes."""


def supports_both_formats() -> bool:
    """Return whether the installed py-lmdb supports the formats of LMDB 0.9 and 1.0, as versions since 3.0 do."""
    return int(lmdb.__version__.split(".")[0]) >= 3


def creation_options() -> dict[str, Any]:
    """Return options for new files: the data format of LMDB 0.9, which all versions of py-lmdb and LMDB tools read."""
    return {"lib_version": 0} if supports_both_formats() else {}


def read_info(path: Path) -> FileInfo:
    """Read the two meta pages.

    Raises:
        StoreCorruptError: The file is empty, too short for its meta pages, or not an LMDB file.
        StoreError: The file cannot be read, or has a format that the installed py-lmdb does not support.
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
                raise StoreCorruptError(f"{path} is not an LMDB file, or its beginning is damaged", hint=CHECK_PATH)
            metas = [_META.unpack_from(head, start)]
            page_size = metas[0][2]
            if not 256 <= page_size <= 1 << 16:
                raise StoreCorruptError(
                    f"{path} is damaged: its first meta page has a page size of {page_size}", hint=REMEDY
                )
            file.seek(page_size)
            second = file.read(160)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None
    if not _magic_at(second, start):
        raise StoreCorruptError(f"{path} is damaged: its second meta page is missing or damaged", hint=REMEDY)
    metas.append(_META.unpack_from(second, start))
    newest = max(metas, key=lambda meta: meta[4])
    info = FileInfo(newest[1], start, page_size, (newest[3] + 1) * page_size, size)
    known = set(_HEADER_OF_FORMAT.values()) if supports_both_formats() else {1}
    if info.format not in known:
        raise StoreError(
            f"{path} has LMDB data format {info.format}, which lmdb {lmdb.__version__} does not support",
            hint="pip install --upgrade lmdb",
        )
    return info


def _magic_at(page: bytes, at: int) -> bool:
    return len(page) >= at + _META.size and int.from_bytes(page[at : at + 4], "little") == _MAGIC


def check_length(path: Path) -> None:
    """Raise an error for a truncated file: reading a missing page would kill the process (SIGBUS).

    A valid file can be too short, because pages that a transaction allocates and frees are never written. It is then
    extended to its full length.

    Raises:
        StoreCorruptError: Pages are missing.
    """
    info = read_info(path)
    if info.size >= info.needed:
        return
    if not structural_faults(path):
        extend(path, info.needed)
        return
    raise StoreCorruptError(
        f"{path} is truncated: it has {info.size:,} of the {info.needed:,} bytes of its last transaction",
        hint=REMEDY,
    )


def extend(path: Path, length: int) -> None:
    """Extend a file to at least this length. Never truncates, even if another process writes to it meanwhile."""
    if not hasattr(os, "posix_fallocate"):
        return
    with contextlib.suppress(OSError), path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), length - 1, 1)


def structural_faults(path: Path) -> list[str]:
    """Check all pages without liblmdb, including free pages and large values, and return descriptions of all faults.

    Raises:
        StoreCorruptError: The meta pages are damaged.
    """
    info = read_info(path)
    try:
        with path.open("rb") as file:

            def read(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            metas = read_meta_pages(read, info.page_size, info.header)
            numbers = [meta.transaction for meta in metas]
            if len(metas) < 2 or not _are_consecutive(*numbers):
                return [f"the meta pages contradict each other: they belong to the transactions {numbers}"]
            newest = max(metas, key=lambda meta: meta.transaction)
            newest = replace(newest, pages=min(newest.pages, info.size // info.page_size))
            faults = PageTree(read, info.page_size, info.header, newest).faults(leaves=True, values=True, free=True)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None
    return faults or _library_faults(path)


def _are_consecutive(even: int, odd: int) -> bool:
    """Return whether these can be the transactions of the two meta pages, which are written alternately."""
    return even == odd == 0 or (even % 2 == 0 and abs(even - odd) == 1)


def _library_faults(path: Path) -> list[str]:
    """Return the faults found by the checker of py-lmdb 3.0 and later, which also checks the list of free pages."""
    try:
        verifier = importlib.import_module("lmdb.verify")
    except ImportError:
        return []
    try:
        return [str(fault) for fault in verifier.verify(str(path), subdir=False)]
    except (verifier.VerifyError, OSError) as error:
        return [str(error)]


def create(path: Path, map_size: int, fill: Callable[[lmdb.Environment], None]) -> None:
    """Create a new file atomically, unless another process creates it first.

    LMDB itself would first create an empty file. A process killed at that point would leave a file that looks like a
    truncated store.

    Args:
        path: The file.
        map_size: Initial size of the memory map in bytes.
        fill: Writes the initial content.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder, translate_errors(path):
            draft = Path(folder) / path.name
            # No other process uses the draft, so it needs no lock file.
            environment = lmdb.open(str(draft), subdir=False, map_size=map_size, lock=False, **creation_options())
            try:
                fill(environment)
            finally:
                environment.close()
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            except OSError:  # the file system has no hard links
                if not path.exists():
                    draft.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"cannot create {path}: {error.strerror}", hint="choose another [store] path") from None


def can_map(size: int) -> bool:
    """Return whether this process can map ``size`` bytes. liblmdb unmaps its map before it requests a larger one."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return True
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ).close()
    except (OSError, OverflowError, ValueError):
        return False
    return True


def reserve_lock_file(path: Path) -> None:
    """Allocate the blocks of the lock file. LMDB writes to it through a memory map, which on a full disk is a SIGBUS.

    Must not be called while this process has the environment open, because closing a file releases its locks.

    Raises:
        OSError: The disk is full, or the folder is not writable.
    """
    with path.with_name(path.name + "-lock").open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, _LOCK_FILE_BYTES)


def detach(path: Path) -> bool:
    """Replace each inherited memory map of a file by a private copy, in a forked process.

    Changes of this process then do not affect its parent. Does nothing if the system does not list the maps.

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
        # Example: 7f0c-7f0d rw-s 00000000 fd:00 1234 /shop/features/store.lmdb-lock
        span, mode, offset, _, number, *_ = line.split()
        if int(number) != inode or not mode.endswith("s"):
            continue
        start, end = (int(side, 16) for side in span.split("-"))
        handle = os.open(path, os.O_RDONLY)
        try:
            # 0x10 is MAP_FIXED on Linux: map at exactly this address.
            flags, access = mmap.MAP_PRIVATE | 0x10, mmap.PROT_READ | mmap.PROT_WRITE
            if system.mmap(start, end - start, access, flags, handle, int(offset, 16)) != start:
                return False
        finally:
            os.close(handle)
    return True


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that a new file name in it is durable, if the platform supports it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise errors of LMDB as :class:`~enhancer.errors.StoreError`."""
    try:
        yield
    except (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.PanicError) as error:
        raise StoreCorruptError(f"{path} is damaged: {error}", hint=REMEDY) from error
    except lmdb.VersionMismatchError as error:
        raise StoreError(f"{path} has another LMDB version: {error}", hint="pip install --upgrade lmdb") from error
    except (lmdb.Error, OSError) as error:
        code = error_code(error)
        # LMDB reports an incomplete write, the last one before the disk is full, as an I/O error.
        if code in (errno.ENOSPC, errno.EDQUOT) or (code == errno.EIO and is_full(path)):
            raise StoreError(
                f"disk full: {path} could not be written", hint="nothing of this call was written"
            ) from error
        if code == errno.EFBIG or (code == errno.EIO and at_size_limit(path)):
            raise StoreError(
                f"{path} cannot grow: the limit on file size (ulimit -f) is reached",
                hint="this call wrote nothing",
            ) from error
        raise StoreError(f"{path}: {error}") from error


def error_code(error: Exception) -> int | None:
    """Return the error number of the system, if there is one. Older versions of py-lmdb only give its text."""
    code = getattr(error, "code", None) or getattr(error, "errno", None)
    if isinstance(code, int):
        return code
    known = (
        *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG),
        *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EAGAIN),
    )
    return next((number for number in known if str(error).endswith(os.strerror(number))), None)
