"""Repair functions that the bundled stores share: drop damaged records, and replace a damaged file by a new one."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enhancer.contracts.store import Fault, Repair
from enhancer.errors import StoreCorruptError, StoreError
from enhancer.storekit import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from enhancer.storekit.keyed import KeyedStore

REMEDY: Final = (
    "`enhancer store repair` keeps all valid records; lost ones are created again from the journal, without LLM calls"
)
"""Hint for a damaged store."""
CHECK_PATH: Final = (
    "check [store] path; if it is right, `enhancer store repair` keeps all valid records; "
    "it does not change a file that is not a store"
)
"""Hint for a file that may not be a store."""
_CHUNK: Final = 2000


def creation_time(key: bytes, value: codec.Value) -> str | None:
    """Return the creation time of a record; None if the record is damaged."""
    try:
        record = codec.decode(key, value)
        codec.check_vector(record.vector, "")
    except StoreError:
        return None
    return record.generated_at


def drop_damaged(store: KeyedStore) -> Repair:
    """Remove the damaged records of a store whose file has a valid structure."""
    kept = 0
    lost: dict[bytes, Fault] = {}
    for key, value in store.pairs():
        try:
            record = codec.decode(key, value)
            codec.check_vector(record.vector, codec.describe_key(key))
            kept += 1
        except StoreError as error:
            lost[key] = Fault(codec.describe_key(key), error.message)
    keys = deque(lost)
    while keys:
        store.remove_keys([keys.popleft() for _ in range(min(_CHUNK, len(keys)))])
    return Repair(kept, tuple(lost.values()))


def no_records_found(path: Path) -> StoreCorruptError:
    """Return the error for a file without any trace of a store, which may belong to another program."""
    return StoreCorruptError(
        f"{path} contains no records of a feature store",
        hint="if [store] path is right, move the file away and run `enhancer generate`, which creates all records "
        "again; paid answers are taken from the journal",
    )


@dataclass(frozen=True)
class Replacement:
    """A new file that replaces a damaged one."""

    path: Path
    """The file to replace."""
    file: Path
    """The new file."""
    kept: int
    """Number of records in the new file."""

    def swap(self) -> Path:
        """Replace the old file atomically and return the new path of the old file."""
        path = self.path
        places = (path.with_name(f"{path.name}.damaged{number or ''}") for number in itertools.count())
        backup = next(place for place in places if not place.exists())
        try:
            os.link(path, backup)
        except OSError:  # the file system has no hard links
            path.replace(backup)
        self.file.replace(path)
        with contextlib.suppress(OSError):
            handle = os.open(path.parent, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        return backup


@contextlib.contextmanager
def rebuilt(
    path: Path, make: Callable[[Path], KeyedStore], pairs: Iterable[tuple[bytes, bytes]]
) -> Iterator[Replacement]:
    """Write ``pairs`` to a new store beside ``path``, which is removed unless :meth:`Replacement.swap` is called.

    Args:
        path: The file to replace.
        make: Creates a store in a folder.
        pairs: Keys and values of the records. The last of several values of a key is kept.
    """
    # Absolute, because ``make`` uses the folder both as the root and as the path in it.
    with tempfile.TemporaryDirectory(prefix=".repair-", dir=path.parent.absolute()) as folder:
        with make(Path(folder)) as store:
            for chunk in _chunks(pairs):
                store.write_pairs(chunk)
            # Counted afterwards, since keys may occur several times in ``pairs``.
            kept = sum(1 for _ in store.pairs())
        yield Replacement(path, Path(folder) / path.name, kept)


def _chunks(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    stream = iter(pairs)
    while chunk := dict(itertools.islice(stream, _CHUNK)):
        yield list(chunk.items())
