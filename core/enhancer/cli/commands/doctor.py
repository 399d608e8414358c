"""``enhancer doctor``: is everything there that a run needs, and what mends what is not."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from enhancer.cli.commands.guess_tables import read_head
from enhancer.cli.session import JsonFlag, Session, print_json, with_session
from enhancer.cli.tables import counted
from enhancer.errors import ConfigError, EnhancerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enhancer.config import Settings
    from enhancer.plugin_host import PluginManager
    from enhancer.project.parts import ProjectParts

_LIBRARIES = ("numpy", "pydantic", "safetensors", "jinja2", "jsonschema", "lmdb", "tenacity")
_OLDEST = (3, 11)


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str | None = None


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(with_session(doctor))


def doctor(session: Session, as_json: JsonFlag = False) -> None:
    """Check the setup, and say what mends it.

    Libraries, plugins, configuration, data files, key and store. Calls no LLM. Exit code 1 if something fails.
    """
    checks = list(_all(session))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            typer.echo(f"{check.status:<4}  {check.name}: {check.detail}")
            if check.mend and check.status != "ok":
                typer.echo(f"      {check.mend}")
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def _all(session: Session) -> Iterator[Check]:
    yield _python()
    yield _libraries()
    yield from _plugins(session.plugins)
    yield _cache()
    from enhancer.config import load_settings
    from enhancer.project.parts import ProjectParts

    try:
        settings, root = load_settings(session.config, overrides=session.overrides)
    except ConfigError as error:
        there = session.config is not None or Path("enhancer.toml").exists()
        yield Check("configuration", "fail" if there else "warn", error.message, error.hint)
        return
    yield Check("configuration", "ok", f"valid, in {root.resolve()}")
    yield from _data(settings, root)
    yield from _parts(ProjectParts(settings, root, session.plugins))


def _python() -> Check:
    where = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _OLDEST:
        return Check("python", "fail", where, "enhancer needs Python 3.11 or newer")
    return Check("python", "ok", where)


def _libraries() -> Check:
    versions, missing = [], []
    for name in _LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("libraries", "fail", f"missing: {', '.join(missing)}", "pip install --upgrade enhancer")
    return Check("libraries", "ok", ", ".join(versions))


def _plugins(manager: PluginManager) -> Iterator[Check]:
    lines = manager.listing()
    works = sum(line.status == "ok" for line in lines)
    yield Check("plugins", "ok", f"{works} of {len(lines)} work; `enhancer plugins` lists them")
    for line in lines:
        if line.status != "ok":
            name = f"plugin {line.name} ({line.kind or 'unknown kind'} of {line.distribution})"
            yield Check(name, "warn", f"{line.status}: {line.reason}")


def _cache() -> Check:
    import platformdirs

    folder = platformdirs.user_cache_path("enhancer")
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(nearest, os.W_OK):
        return Check("cache", "ok", f"{folder} is writable")
    return Check("cache", "warn", f"{folder} is not writable", "set XDG_CACHE_HOME to a folder that is")


def _data(settings: Settings, root: Path) -> Iterator[Check]:
    columns, features = settings.data.columns, settings.data.features
    wanted: dict[str, tuple[Path | None, list[str | None]]] = {
        "items": (
            settings.data.items,
            [columns.items_id or columns.item_id, columns.title, *(columns.item_text or []), *_bare(features.item)],
        ),
        "users": (
            settings.data.users,
            [columns.users_id or columns.user_id, *(columns.user_text or []), *_bare(features.user)],
        ),
        "interactions": (
            settings.data.interactions,
            [columns.user_id, columns.item_id, columns.rating, columns.timestamp],
        ),
    }
    for name, (path, needed) in wanted.items():
        if path is None:
            if name != "users":
                yield Check(f"data.{name}", "warn", "not set", f'write [data] {name} = "FILE"')
            continue
        yield _table(f"data.{name}", root / path, [column for column in needed if column])


def _bare(names: list[str]) -> list[str]:
    """Columns of side features without what they are said to be."""
    return [re.sub(r":(number|category|tags)$", "", name) for name in names]


def _table(name: str, path: Path, needed: list[str]) -> Check:
    if not path.is_file():
        return Check(name, "fail", f"no file {path}", f"put it there, or correct [data] {name.partition('.')[2]}")
    try:
        # A key that is in no early line of JSON is found in items and users, and not in interactions.
        table = read_head(path, needed if name != "data.interactions" else ())
    except EnhancerError as error:
        return Check(name, "fail", error.message, error.hint)
    if table.damage is not None:
        return Check(name, "fail", table.damage.message, table.damage.hint)
    if missing := [column for column in needed if column not in table.columns]:
        there = ", ".join(table.columns) or "none: the file is empty"
        return Check(
            name, "fail", f"{path} has no column {', '.join(missing)}; its columns: {there}", "correct [data.columns]"
        )
    if not table.rows:
        return Check(name, "fail", f"{path} has a header and no rows", "it must hold at least one")
    return Check(name, "ok", f"{path}: {', '.join(table.columns)}")


def _parts(parts: ProjectParts) -> Iterator[Check]:
    """Each plugin that the configuration chooses."""
    prompts = parts.settings.prompts
    if "llm" in (prompts.item.source, prompts.user.source):
        yield _guarded("llm", lambda: _llm(parts))
    yield _guarded("embedder", lambda: _embedder(parts))
    yield _guarded("store", lambda: _store(parts))
    yield _guarded("backbone and fuser", lambda: _pair(parts))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except EnhancerError as error:
        return Check(name, "fail", error.message, error.hint)
    except Exception as error:  # noqa: BLE001  a plugin can raise anything, and the other checks go on
        return Check(name, "fail", f"{type(error).__name__}: {error}")


def _llm(parts: ProjectParts) -> Check:
    llm, provider = parts.settings.llm, parts.provider()
    provider.check(llm.model)
    price = llm.price or provider.price(llm.model)
    if price is None:
        mend = "give it one with [llm.price] input and output; max_cost is refused without"
        return Check("llm", "warn", f"{llm.use}, {provider.describe(llm.model)}: its price is not known", mend)
    cost = f"${price.input:g} and ${price.output:g} per million tokens in and out"
    return Check("llm", "ok", f"{llm.use}, {provider.describe(llm.model)}: {cost}")


def _embedder(parts: ProjectParts) -> Check:
    _ = parts.embedder  # is made here, if it can be
    chosen = parts.settings.embedder
    return Check("embedder", "ok", f"{chosen.use}, input {' and '.join(chosen.input)}")


def _store(parts: ProjectParts) -> Check:
    """Open the store if there is one; making one is not for a doctor."""
    use = parts.settings.store.use
    target, options = parts.store_class_and_options()
    if not target.exists(options, parts.context):
        place = parts.root / getattr(options, "path", "")
        return Check("store", "ok", f"{use}: {place} will be made by the first generate")
    try:
        stats = parts.store.stats()
    finally:
        parts.close()
    held = f"{use}: {counted(stats.records, 'record')}"
    embedder = None
    with contextlib.suppress(Exception):  # what is wrong with it is told under its own name
        embedder = parts.embedder
    if embedder and stats.embedders and embedder.fingerprint not in stats.embedders:
        return Check(
            "store",
            "warn",
            f"{held}, all with vectors of another embedder ({', '.join(stats.embedders)})",
            "`enhancer generate` embeds them anew, without calling the LLM",
        )
    return Check("store", "ok", held)


def _pair(parts: ProjectParts) -> Check:
    data, use = parts.settings.data, parts.settings.backbone.use
    backbone, fuser = parts.backbone(), parts.fuser()
    fuser.check(backbone, parts.settings.fuser.use, use)
    features = _bare([*data.features.item, *data.features.user])
    backbone.check_material(features=features, labelled=data.columns.label is not None, name=use)
    return Check("backbone and fuser", "ok", f"{use} with {parts.settings.fuser.use}")
