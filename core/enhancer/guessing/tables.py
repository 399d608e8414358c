"""Read the beginnings of the tables in a folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from enhancer.errors import DataError, EnhancerError
from enhancer.guessing.names import words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from enhancer.data.readers import TableOptions
    from enhancer.data.readers.native import NativeFormat

_MAX_FILES = 500
_MAX_TOLD = 10


@dataclass(frozen=True, eq=False)
class TableHead:
    """The columns of a file, and its first rows as text."""

    path: Path
    columns: list[str]
    sample: Mapping[str, list[str]] = field(default_factory=dict)
    """Values of the first rows, by column."""
    damage: DataError | None = None
    """The error that stopped reading rows, if any; ``sample`` is empty then."""
    native: NativeFormat | None = None
    """Form of a public data set that the file has, which tells its role and keys of ``[data.columns]``."""
    options: TableOptions | None = None
    """Options of reading the file."""

    @cached_property
    def rows(self) -> int:
        """Number of rows in the sample."""
        return max(map(len, self.sample.values()), default=0)

    def values(self, column: str) -> list[str]:
        """Return the sampled values of a column that are not empty, without white space around them."""
        return [bare for value in self.sample.get(column, ()) if (bare := value.strip())]

    def first(self, names: Iterable[str]) -> str | None:
        """Return the column with the first of ``names`` that exists, ignoring case and punctuation."""
        return next((self._plain[name] for name in names if name in self._plain), None)

    @cached_property
    def _plain(self) -> dict[str, str]:
        return {"".join(words_of(column)): column for column in reversed(self.columns)}

    def like(self, column: str) -> str | None:
        """Return the column of this name, else one whose name has the same words: ``movieId`` for ``movie_id``."""
        return column if column in self.columns else self.first(["".join(words_of(column))])

    def numeric(self, column: str) -> bool:
        """Return whether a column has values and all sampled ones are numbers."""
        try:
            return bool([float(value) for value in self.values(column)])
        except ValueError:
            return False

    def holds_times(self, column: str) -> bool:
        """Return whether a column has values and all sampled ones are times that can be read."""
        from enhancer.data.time_values import parse_times

        values = self.values(column)
        try:
            return bool(values) and bool(parse_times(values, lambda _n, problem, _hint: DataError(problem)))
        except DataError:
            return False

    def distinct(self, column: str) -> bool:
        """Return whether no two sampled values of a column are equal."""
        values = self.values(column)
        return len({*values}) == len(values)


def read_head(path: Path, wanted: Iterable[str] = (), options: TableOptions | None = None) -> TableHead:
    """Read the beginning of a table, with the same reader as all other commands.

    Args:
        path: The table.
        wanted: Columns to look for in the whole file if they are not at its beginning.
        options: How the file is read; by default in the form of a public data set that it has, if it has one.

    Raises:
        ConfigError: The file does not exist or has an unknown format, or a library is missing.
        DataError: The file is empty, or its header is damaged.
    """
    from enhancer.data.readers import AUTO, TableOptions, guess_encoding, open_table
    from enhancer.data.readers.native import native_format
    from enhancer.data.readers.text_files import table_ending

    if options is None and (found := _native(path)) is not None:
        options = TableOptions(format=found.name, table=found.role)
    if options is None and path.is_file() and table_ending(path) != ".parquet":
        options = TableOptions(encoding=guess_encoding(path))
    table = open_table(path, options)
    named = options is not None and options.format != AUTO
    native = native_format(options.format, options.role, path) if options and named else _native(path)
    sample: dict[str, list[str]] = {}
    damage = None
    try:
        if not set(wanted) <= set(table.columns):
            table.scan_columns()
        if (block := next(table.blocks(table.columns), None)) is not None:
            sample = dict(zip(table.columns, block[1], strict=True)) if block[0] else {}
    except DataError as error:
        damage = error
    except OSError as error:
        damage = DataError(f"cannot read {path}: {error.strerror or error}")
    return TableHead(path, table.columns, sample, damage, native, options)


def _native(path: Path) -> NativeFormat | None:
    """Return the form of a public data set that a file has, or None."""
    from enhancer.data.readers.native import recognise

    try:
        return recognise(path)
    except (OSError, EnhancerError):
        return None


@dataclass(frozen=True)
class FoundTables:
    """The tables of a folder."""

    tables: list[TableHead]
    notes: list[str]
    """Files that are no tables, and why."""


def find_tables(folder: Path) -> FoundTables:
    """Read the beginnings of the tables in a folder and its direct subfolders."""
    from enhancer.data.readers import is_table

    found = [
        *folder.iterdir(),
        *(inner for sub in sorted(folder.iterdir()) if _searched(sub) for inner in sub.iterdir()),
    ]
    paths = sorted(path for path in found if _may_be_table(path))
    tables, notes = [], []
    for path in paths[:_MAX_FILES]:
        if not is_table(path) and _native(path) is None:
            continue
        try:
            table = read_head(path)
        except EnhancerError as error:
            notes.append(_unread(path, error))
            continue
        if len(table.columns) > 1:
            tables.append(table)
        elif table.columns:
            notes.append(f"{path} is passed over: it has one column alone, {table.columns[0]!r}")
    if len(notes) > _MAX_TOLD:
        notes = [*notes[:_MAX_TOLD], f"{len(notes) - _MAX_TOLD:,} further files are passed over"]
    if len(paths) > _MAX_FILES:
        notes.append(f"{folder} has {len(paths):,} files; the first {_MAX_FILES} were looked at")
    return FoundTables(tables, notes)


def _unread(path: Path, error: EnhancerError) -> str:
    told = error.message if str(path) in error.message else f"{path}: {error.message}"
    return f"not a table: {told}" + (f" ({error.hint})" if error.hint else "")


def _may_be_table(path: Path) -> bool:
    """Return whether a path is a file, or a folder of Parquet files by its name."""
    return (path.is_file() or path.suffix.lower() == ".parquet") and not path.name.startswith(".")


def _searched(path: Path) -> bool:
    return (
        path.is_dir()
        and path.suffix.lower() != ".parquet"
        and not path.is_symlink()
        and not path.name.startswith((".", "_"))
    )
