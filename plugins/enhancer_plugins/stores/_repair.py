"""What repairs of the bundled stores share: dropping damaged records, and setting a new file in an old one's place."""

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
    "`enhancer store repair` keeps what is sound; what is lost is made again from the journal, without a call"
)
"""What to do about a damaged store."""
DOUBT: Final = (
    "is [store] path right? If it is: `enhancer store repair` keeps what is sound; "
    "what never was a store is left as it is"
)
"""What to do about a file that may be none."""
_BATCH: Final = 2000


def made_at(key: bytes, value: codec.Value) -> str | None:
    """When a record was made; None for what is no sound record."""
    try:
        record = codec.decode(key, value)
        codec.check_vector(record.vector, "")
    except StoreError:
        return None
    return record.generated_at


def drop_damaged(store: KeyedStore) -> Repair:
    """Remove the damaged records of a store whose file is sound."""
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
        store.remove_keys([keys.popleft() for _ in range(min(_BATCH, len(keys)))])
    return Repair(kept, tuple(lost.values()))


def nothing_left(path: Path) -> StoreCorruptError:
    """Of a file in which there is no trace of a store: it may be somebody else's, so that it is not replaced."""
    return StoreCorruptError(
        f"{path} holds nothing of a feature store",
        hint="if [store] path is right, move that file away and run `enhancer generate`: it makes every record "
        "again, and the answers that were paid for are kept in the journal",
    )


@dataclass(frozen=True)
class Draft:
    """A new file that is to replace another."""

    path: Path
    """The file to be replaced."""
    file: Path
    kept: int
    """Records in it."""

    def swap(self) -> Path:
        """Set it in the other's place; there is a file of that name all the time. Gives where the other is now."""
        path = self.path
        places = (path.with_name(f"{path.name}.damaged{number or ''}") for number in itertools.count())
        backup = next(place for place in places if not place.exists())
        try:
            os.link(path, backup)
        except OSError:  # a file system without hard links
            path.replace(backup)
        self.file.replace(path)
        with contextlib.suppress(OSError):
            handle = os.open(path.parent, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        return backup


@contextlib.contextmanager
def rebuilt(path: Path, make: Callable[[Path], KeyedStore], pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[Draft]:
    """Write ``pairs`` to a new store beside ``path``; what is not set in its place is removed again.

    Args:
        path: The file to be replaced.
        make: Makes a store in a folder.
        pairs: Its records; of equal keys the last one counts.
    """
    # Absolute: ``make`` takes it for the root and the path in it at once, and a project's own root may be ".".
    with tempfile.TemporaryDirectory(prefix=".repair-", dir=path.parent.absolute()) as folder:
        with make(Path(folder)) as store:
            for batch in _batches(pairs):
                store.write_pairs(batch)
            # As many as there are, not as were written: keys may have come twice.
            kept = sum(1 for _ in store.pairs())
        yield Draft(path, Path(folder) / path.name, kept)


def _batches(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    stream = iter(pairs)
    while batch := dict(itertools.islice(stream, _BATCH)):
        yield list(batch.items())
