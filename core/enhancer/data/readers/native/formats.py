"""Define a native format, and the beginning of a file by which it is recognised."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

from enhancer.data.readers.native.objects.records import keys_of
from enhancer.data.readers.native.text_rows import first_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from enhancer.data.readers.table_reader import Role, TableReader

Setting = str | bool | list[str]
"""Value of a key of ``[data.columns]``."""

_COMPRESSED = (".gz", ".zst")


@dataclass(frozen=True)
class FileHead:
    """Name and first lines of a file.

    Attributes:
        name: Name in lower case, without the ending of a compression.
        lines: First lines that are not blank, without their ends.
    """

    name: str
    lines: Sequence[str]

    @classmethod
    def of(cls, path: Path) -> FileHead:
        """Read the beginning of a file.

        Raises:
            OSError: The file cannot be read.
            DataError: It is compressed and damaged.
        """
        return cls(bare_name(path), first_lines(path))

    @cached_property
    def keys(self) -> frozenset[str]:
        """Keys of the objects in the lines; none if a line holds no object."""
        return keys_of(self.lines)

    def all(self, test: Callable[[str], object]) -> bool:
        """Return whether there are lines, and all of them pass a test."""
        return bool(self.lines) and all(map(test, self.lines))


@dataclass(frozen=True, kw_only=True)
class NativeFormat:
    """One kind of file of a public data set.

    Attributes:
        name: Name of the data set's format: what ``[data] items_format`` and the like take.
        role: Table that the file is.
        recognise: Return whether a file has this format, by its name and its first lines.
        open: Open a file that has it.
        columns: Keys of ``[data.columns]`` for the file, where they differ from the defaults. Columns of ``item_text``
            and ``user_text`` that a file lacks are to be left out.
        remarks: Remark on a key of ``columns``, for whoever reads the configuration.
        holds_items: Whether the same file is a table of items, too, with the format of this name for items.
        has_text: Whether a file of items or users holds more of them than ids.
        test: Names of files beside this one that hold the test interactions.
        automatic: Whether ``"auto"`` reads files in this format. Otherwise they are read by their ending, as the same
            file always was, and the format has to be named.
    """

    name: str
    role: Role
    recognise: Callable[[FileHead], bool]
    open: Callable[[Path], TableReader]
    columns: Mapping[str, Setting] = field(default_factory=lambda: MappingProxyType({}))
    remarks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    holds_items: bool = False
    has_text: bool = True
    test: tuple[str, ...] = ()
    automatic: bool = True


def bare_name(path: Path) -> str:
    """Return the name of a file in lower case, without the ending of a compression."""
    name = path.name.lower()
    return next((name.removesuffix(ending) for ending in _COMPRESSED if name.endswith(ending)), name)
