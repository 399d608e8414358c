"""Feature stores: where records live between the pipeline and the backbone."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from enhancer.contracts.options import Context, Options
from enhancer.contracts.record import PROFILE_ASPECT, Key, Kind, Record, Stamp
from enhancer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Fault:
    """One thing that ``verify`` found wrong."""

    where: str
    """Record (``kind/id/aspect``) or file."""
    what: str


@dataclass(frozen=True)
class StoreStats:
    """What a store holds."""

    records: int
    by_kind: dict[str, int] = field(default_factory=dict)
    """Records by ``kind`` or ``kind/aspect``."""
    dims: dict[int, int] = field(default_factory=dict)
    """Records by vector length."""
    embedders: dict[str, int] = field(default_factory=dict)
    """Records by embedder fingerprint."""
    bytes_on_disk: int | None = None


@dataclass(frozen=True)
class Repair:
    """What :meth:`FeatureStore.repair` did."""

    kept: int
    """Records that are in the store now; each was read whole."""
    lost: tuple[Fault, ...] = ()
    """What could not be kept: records by name where the damage left one, else the damage."""
    backup: Path | None = None
    """Where the damaged file was moved to; None where it was mended in place, or was sound."""


class StoreOptions(Options):
    """Base of every store's options: what each of them knows, so that one line swaps one for another."""

    path: Path = Path("features")
    """Local folder: of the journal of paid completions, and of what the store itself keeps in files."""


class FeatureStore(ABC):
    """Keyed records with vectors. Many at a time; atomic per call; durable when the call returns.

    Look-ups take ids of one ``kind`` and ``aspect`` and answer in the order of the ids. A store may be used
    from several threads and, where its technology allows, several processes; each call is one transaction.
    """

    options_class: ClassVar[type[Options]] = StoreOptions
    """Derived from :class:`StoreOptions`."""

    @abstractmethod
    def __init__(self, options: Options, context: Context) -> None:
        """Open the store, creating it where there is none.

        Raises:
            StoreCorruptError: What is there is damaged or of an unknown format.
            StoreError: It cannot be opened.
        """

    @property
    @abstractmethod
    def directory(self) -> Path:
        """The local folder that ``path`` names; the journal of paid completions is kept in it."""

    @abstractmethod
    def put(self, records: Sequence[Record]) -> None:
        """Write the records, replacing those of equal key: all of them or none; on disk when it returns.

        Raises:
            StoreError: A vector is NaN, infinite, zero or not one-dimensional (nothing of the call is written),
                or the disk is full.
        """

    @abstractmethod
    def get(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Record | None]:
        """The records of ``ids``, in their order; None where there is none."""

    @abstractmethod
    def stamps(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Stamp | None]:
        """The freshness fields of ``ids``, in their order, without reading profiles and vectors."""

    @abstractmethod
    def vectors(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> NDArray[np.float32]:
        """The vectors of ``ids``: float32 ``[len(ids), dim]``, C-contiguous, freshly allocated.

        Rows of ids that have no record are NaN, so that a caller cannot mistake them for data.

        Raises:
            StoreMismatchError: The vectors are not all of one length.
            StoreCorruptError: A record's checksum does not hold.
        """

    @abstractmethod
    def scan(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Record]:
        """All records, or those of one kind or aspect, in a stable order, as a stream."""

    @abstractmethod
    def delete(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> int:
        """Remove records; ids without one are ignored. Returns how many were removed."""

    @abstractmethod
    def stats(self) -> StoreStats:
        """Count what is there."""

    @abstractmethod
    def verify(self) -> list[Fault]:
        """Read everything and list every fault; an empty list is a sound store."""

    # --- with a default, which a store may better ---------------------------------------------------------------

    @classmethod
    def exists(cls, options: Options, context: Context) -> bool:
        """Whether there is a store to open, told without opening it or making one.

        Where there is none, whoever only looks makes none: it is made when something is first written. The default
        says that there is one always, and is for stores that cannot tell, or whose constructor makes nothing.
        """
        del options, context
        return True

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[FeatureStore]:
        """The store as it is now, for reading: what is written meanwhile, by whomever, does not show in it.

        Writing to it is a ``StoreError``, and so is using it after the block. Hold it no longer than needed: a store
        may have to keep what is replaced meanwhile. It is for one process; threads may share it.

        The default is for stores that have no snapshots: it gives the store itself, each call of which sees the
        state of its own moment.
        """
        yield self

    def keys(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Key]:
        """The keys of all records, or those of one kind or aspect, in a stable order, as a stream.

        The default reads whole records; a store that can do with less should.
        """
        for record in self.scan(kind=kind, aspect=aspect):
            yield record.key

    def count(self) -> int | None:
        """How many records there are, where the store knows without reading them (the default: it does not)."""
        return None

    @classmethod
    def repair(cls, options: Options, context: Context) -> Repair:
        """Keep all that is sound of a damaged store, and say what was lost. Nobody may have it open meanwhile.

        What could not be kept is made again by the next ``generate``, from the journal where it was paid for.

        Args:
            options: As for the constructor, which a damaged store refuses.
            context: Likewise.

        Raises:
            StoreError: This store cannot be repaired (the default), or somebody uses it.
        """
        del options, context
        raise StoreError(f"{cls.__name__} cannot repair itself", hint="restore it from a backup")

    def close(self) -> None:
        """Release files; a closed store is not used again. Closing twice is fine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
