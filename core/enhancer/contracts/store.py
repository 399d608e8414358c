"""Feature stores: keep records between generation and training."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

from enhancer.contracts.options import Context, Options
from enhancer.contracts.record import PROFILE_ASPECT, Key, Kind, Record, Stamp
from enhancer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts.operations.journal import JournalDatabase


@dataclass(frozen=True)
class Fault:
    """A defect found by ``verify``."""

    where: str
    """Record (``kind/id/aspect``) or file."""
    what: str
    """Description."""


@dataclass(frozen=True)
class StoreStats:
    """Contents of a store in numbers."""

    records: int
    by_kind: dict[str, int] = field(default_factory=dict)
    """Number of records by ``kind`` or ``kind/aspect``."""
    dims: dict[int, int] = field(default_factory=dict)
    """Number of records by dimension of the vector."""
    embedders: dict[str, int] = field(default_factory=dict)
    """Number of records by fingerprint of the embedder."""
    bytes_on_disk: int | None = None


@dataclass(frozen=True)
class Repair:
    """Result of :meth:`FeatureStore.repair`."""

    kept: int
    """Number of records in the repaired store; each was read and is valid."""
    lost: tuple[Fault, ...] = ()
    """Records that could not be kept, or a description of the damage where their names are lost."""
    backup: Path | None = None
    """New path of the damaged file; None if it was repaired in place or had no damage."""


class StoreOptions(Options):
    """Base class of the options of all stores: options that every store has."""

    path: Path = Path("features")
    """Local folder for the journal of paid completions and for the files of the store."""


class Revision(NamedTuple):
    """State of a store: equal revisions mean equal records."""

    token: str
    """Changes with every write, and with every other change of the files."""
    number: int
    """Number of write transactions since the store was created."""


class FeatureStore(ABC):
    """Keyed records with vectors. Calls take many records, are atomic, and are durable when they return.

    Look-ups take ids of one ``kind`` and ``aspect`` and return results in the order of the ids. A store may be used by
    several threads and, if its technology allows it, by several processes. Each call is one transaction.
    """

    options_class: ClassVar[type[Options]] = StoreOptions
    """Subclass of :class:`StoreOptions`."""

    @abstractmethod
    def __init__(self, options: Options, context: Context) -> None:
        """Open the store; create it if it does not exist.

        Raises:
            StoreCorruptError: The store is damaged or has an unknown format.
            StoreError: The store cannot be opened.
        """

    @property
    @abstractmethod
    def directory(self) -> Path:
        """Local folder of the option ``path``, which also holds the journal of paid completions."""

    @abstractmethod
    def put(self, records: Sequence[Record]) -> None:
        """Write records atomically and durably, replacing records with equal keys.

        Raises:
            StoreError: A vector is NaN, infinite, zero or not one-dimensional, or the disk is full. Nothing is written.
        """

    @abstractmethod
    def get(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Record | None]:
        """Return the records of ``ids`` in their order; None for ids without a record."""

    @abstractmethod
    def stamps(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Stamp | None]:
        """Return the stamps of ``ids`` in their order, without reading profiles and vectors; None without a record."""

    @abstractmethod
    def vectors(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> NDArray[np.float32]:
        """Return the vectors of ``ids``.

        Returns:
            float32 ``[len(ids), dim]``, C-contiguous and newly allocated. Rows of ids without a record are NaN.

        Raises:
            StoreMismatchError: The vectors differ in dimension.
            StoreCorruptError: The checksum of a record is wrong.
        """

    @abstractmethod
    def scan(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Record]:
        """Stream all records, or those of one kind or aspect, in a stable order."""

    @abstractmethod
    def delete(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> int:
        """Remove records and return their number. Ids without a record are ignored."""

    @abstractmethod
    def stats(self) -> StoreStats:
        """Return the numbers of records by kind, dimension and embedder."""

    @abstractmethod
    def verify(self) -> list[Fault]:
        """Read the whole store and return all defects; an empty list means that there is no damage."""

    # --- with a default implementation ----------------------------------------------------------------------------

    @classmethod
    def exists(cls, options: Options, context: Context) -> bool:
        """Return whether the store exists, without opening or creating it.

        A project that only reads does not create a missing store; the first write does. The default returns True, for
        stores that cannot know, or whose constructor creates nothing.
        """
        del options, context
        return True

    @classmethod
    def open_journal_database(cls, options: Options, context: Context) -> JournalDatabase | None:
        """Open the database of the journal of paid completions, without creating store or journal.

        The default returns None: the journal is a file in ``directory``.

        Args:
            options: As for the constructor.
            context: As for the constructor.
        """
        del options, context
        return None

    def journal_database(self) -> JournalDatabase | None:
        """Open the database of the journal, as :meth:`open_journal_database` does with the options of this store.

        Whoever calls it closes the database. The default returns None.
        """
        return None

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[FeatureStore]:
        """Open a read-only view of the current state, unaffected by later writes of this or other processes.

        Writing to the snapshot, or using it after the block, raises a ``StoreError``. Keep it open no longer than
        needed, since the store may have to keep replaced data. Threads of one process may share a snapshot.

        The default, for stores without snapshots, yields the store itself, whose calls each see the latest state.
        """
        yield self

    def keys(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Key]:
        """Stream the keys of all records, or those of one kind or aspect, in a stable order.

        The default reads whole records; stores should override it if they can read keys alone.
        """
        for record in self.scan(kind=kind, aspect=aspect):
            yield record.key

    def count(self) -> int | None:
        """Return the number of records; None (the default) if that would require reading them."""
        return None

    def revision(self) -> Revision | None:
        """Return the present revision; None (the default) for a store that cannot tell.

        With it, ``refresh`` recognises rows that have not changed since the records were last compared with them.
        """
        return None

    @property
    def own_writes(self) -> int:
        """Number of write transactions of this object, of those that :meth:`revision` counts."""
        return 0

    @classmethod
    def repair(cls, options: Options, context: Context) -> Repair:
        """Repair a damaged store, keeping all valid records. The store must not be open anywhere.

        The next ``generate`` creates lost records again; paid completions are taken from the journal.

        Args:
            options: As for the constructor.
            context: As for the constructor.

        Returns:
            Number of records kept, and the records lost.

        Raises:
            StoreError: The store does not support repair (the default), or is in use.
        """
        del options, context
        raise StoreError(f"{cls.__name__} cannot repair itself", hint="restore it from a backup")

    def close(self) -> None:
        """Release files. A closed store must not be used again; closing it twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
