"""``enhancer doctor``: is everything there that a run needs, and what mends what is not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from enhancer.cli.guess import read_head
from enhancer.cli.session import JsonFlag, Session, print_json, with_session
from enhancer.cli.tables import counted
from enhancer.errors import ConfigError, EnhancerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enhancer.config import Settings
    from enhancer.contracts import Context, Embedder
    from enhancer.plugins import PluginManager

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

    try:
        settings, root = load_settings(session.config, overrides=session.overrides)
    except ConfigError as error:
        there = session.config is not None or Path("enhancer.toml").exists()
        yield Check("configuration", "fail" if there else "warn", error.message, error.hint)
        return
    yield Check("configuration", "ok", f"valid, in {root.resolve()}")
    yield from _data(settings, root)
    yield from _parts(session.plugins, settings, root)


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


def _parts(manager: PluginManager, settings: Settings, root: Path) -> Iterator[Check]:
    """Each plugin that the configuration chooses."""
    from enhancer.contracts import Context

    context = Context(root=root)
    sources = (settings.prompts.item.source, settings.prompts.user.source)
    if "llm" in sources:
        yield _guarded("llm", lambda: _llm(manager, settings, context))
    embedder: list[Embedder] = []
    yield _guarded("embedder", lambda: _embedder(manager, settings, context, embedder))
    yield _guarded("store", lambda: _store(manager, settings, context, embedder))
    yield _guarded("backbone and fuser", lambda: _pair(manager, settings, context))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except EnhancerError as error:
        return Check(name, "fail", error.message, error.hint)
    except Exception as error:  # noqa: BLE001  a plugin can raise anything, and the other checks go on
        return Check(name, "fail", f"{type(error).__name__}: {error}")


def _llm(manager: PluginManager, settings: Settings, context: Context) -> Check:
    llm = settings.llm
    provider = manager.create("llm", llm.use, llm.options, context, also_known=type(llm).model_fields)
    provider.check(llm.model)
    price = llm.price or provider.price(llm.model)
    if price is None:
        mend = "give it one with [llm.price] input and output; max_cost is refused without"
        return Check("llm", "warn", f"{llm.use}, {provider.describe(llm.model)}: its price is not known", mend)
    cost = f"${price.input:g} and ${price.output:g} per million tokens in and out"
    return Check("llm", "ok", f"{llm.use}, {provider.describe(llm.model)}: {cost}")


def _embedder(manager: PluginManager, settings: Settings, context: Context, made: list[Embedder]) -> Check:
    chosen = settings.embedder
    made.append(manager.create("embedder", chosen.use, chosen.options, context, also_known=type(chosen).model_fields))
    return Check("embedder", "ok", f"{chosen.use}, input {' and '.join(chosen.input)}")


def _store(manager: PluginManager, settings: Settings, context: Context, embedder: list[Embedder]) -> Check:
    """Open the store if there is one; making one is not for a doctor."""
    chosen = settings.store
    target = manager.get("store", chosen.use)
    from enhancer.contracts.options import build_options

    options = build_options(target.options_class, chosen.options, where="[store]", also_known=type(chosen).model_fields)
    if not target.exists(options, context):
        place = context.root / getattr(options, "path", "")
        return Check("store", "ok", f"{chosen.use}: {place} will be made by the first generate")
    with manager.create("store", chosen.use, chosen.options, context) as store:
        stats = store.stats()
    held = f"{chosen.use}: {counted(stats.records, 'record')}"
    if embedder and stats.embedders and embedder[0].fingerprint not in stats.embedders:
        return Check(
            "store",
            "warn",
            f"{held}, all with vectors of another embedder ({', '.join(stats.embedders)})",
            "`enhancer generate` embeds them anew, without calling the LLM",
        )
    return Check("store", "ok", held)


def _pair(manager: PluginManager, settings: Settings, context: Context) -> Check:
    backbone, fuser = settings.backbone, settings.fuser
    model = manager.create("backbone", backbone.use, backbone.options, context, also_known=type(backbone).model_fields)
    fusion = manager.create("fuser", fuser.use, fuser.options, context, also_known=type(fuser).model_fields)
    fusion.check(model, fuser.use, backbone.use)
    if (settings.data.features.item or settings.data.features.user) and "features" not in model.takes:
        what = f"{backbone.use} takes no side features, and [data.features] names some"
        return Check("backbone and fuser", "fail", what, "set [backbone] use = 'fm', or leave [data.features] out")
    if "labels" in model.takes and settings.data.columns.label is None:
        what = f"{backbone.use} as configured learns from labels, and there are none"
        return Check("backbone and fuser", "fail", what, "set [data.columns] label")
    return Check("backbone and fuser", "ok", f"{backbone.use} with {fuser.use}")
