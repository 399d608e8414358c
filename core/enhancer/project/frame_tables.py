"""Set up a project whose tables are data frames."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enhancer.config import Settings, load_settings
from enhancer.config.load import settings_of
from enhancer.data.readers.frames import Frame, frame_of, register_frame
from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from os import PathLike

_NUMBERS = itertools.count(1)
_OF_EVALUATION = ("validation", "test")


def with_frames(
    settings: Settings | Mapping[str, Any] | str | PathLike[str] | None,
    root: str | PathLike[str] | None,
    frames: Mapping[str, object],
) -> tuple[Settings, Path, list[Frame]]:
    """Return settings whose tables are data frames; see :meth:`enhancer.Project.from_frames`.

    Args:
        settings: The settings, their tables as a mapping, or a configuration file.
        root: Folder of the store, runs and artifact; by default that of the file, or the working folder.
        frames: Data frame of each table, by its name.

    Returns:
        The settings, the folder, and the tables. The paths in the settings stand for the tables as long as these are
        referred to.

    Raises:
        ConfigError: A key or value of the settings is wrong, or something is no data frame.
    """
    folder = Path.cwd()
    if isinstance(settings, Settings):
        made = settings
    elif settings is None or isinstance(settings, Mapping):
        made = settings_of(settings or {})
    else:
        made, folder = load_settings(Path(settings))
    folder = folder if root is None else Path(root)
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}", hint="root is where the store, runs and artifact go")
    held: list[Frame] = []
    paths: dict[str, Path] = {}
    for table, given in frames.items():
        frame = frame_of(given, table)
        paths[table] = Path(f"{table} {next(_NUMBERS)} (data frame)")
        register_frame(folder / paths[table], frame)
        held.append(frame)
    of_evaluation = {table: paths.pop(table) for table in _OF_EVALUATION if table in paths}
    update = {
        "data": made.data.model_copy(update=paths),
        "evaluation": made.evaluation.model_copy(update=of_evaluation),
    }
    return made.model_copy(update=update), folder, held
