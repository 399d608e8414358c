"""``enhancer doctor``: check the setup and suggest fixes."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import itertools
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enhancer.cli.formatting import counted
from enhancer.cli.layout import prose
from enhancer.cli.live_checks import live_checks, server_checks
from enhancer.cli.session import JsonFlag, Session, YesFlag, print_json, sends, with_session
from enhancer.cli.setup_check import SetupCheck, guarded
from enhancer.errors import ConfigError, EnhancerError
from enhancer.guessing.tables import read_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enhancer.config import Settings
    from enhancer.contracts import LLMProvider
    from enhancer.contracts.record import Kind
    from enhancer.data import TableOptions
    from enhancer.data.readers.table_reader import Table
    from enhancer.plugin_host import PluginManager
    from enhancer.project.backbone_choice import AutoBackbone
    from enhancer.project.inspecting.long_texts import LongTexts
    from enhancer.project.parts import ProjectParts

_LIBRARIES = ("numpy", "pydantic", "safetensors", "jinja2", "jsonschema", "lmdb", "tenacity")
_OLDEST = (3, 11)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(with_session(doctor))


def doctor(
    session: Session,
    live: Annotated[
        bool, typer.Option("--live", help="Also make one real call to the LLM, and embed two texts.")
    ] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Check the setup and suggest fixes.

    Checks libraries, plugins, configuration, data files, API key, store and observers, and asks a vLLM or SGLang
    server on this machine or network about itself. Calls no LLM, except with --live: then it reports what one call
    takes, costs and returns. Exits with code 1 if a check fails.
    """
    checks = []
    found = _Found()
    for check in _checks(session, found):
        checks.append(check)
        if not as_json:
            _show(check)
    if found.parts is not None:
        further = live_checks(found.parts, yes=yes) if live else ()
        for check in itertools.chain(server_checks(found.parts, public=live), further):
            checks.append(check)
            if not as_json:
                _show(check)
    if as_json:
        print_json([check.to_json() for check in checks])
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def _show(check: SetupCheck) -> None:
    typer.echo(prose(f"{check.name}: {check.detail}", f"{check.status:<4}  "))
    if check.mend and check.status != "ok":
        typer.echo(prose(check.mend, " " * 6))


@dataclass
class _Found:
    """The project, once its configuration is known to be valid."""

    parts: ProjectParts | None = None


def _checks(session: Session, found: _Found) -> Iterator[SetupCheck]:
    yield _python()
    yield _libraries()
    yield from _plugins(session.plugins)
    yield _cache()
    from enhancer.config import load_settings
    from enhancer.project.parts import ProjectParts

    try:
        settings, root = load_settings(session.config, overrides=session.overrides)
    except ConfigError as error:
        exists = session.config is not None or Path("enhancer.toml").exists()
        yield SetupCheck("configuration", "fail" if exists else "warn", error.message, error.hint)
        return
    yield SetupCheck("configuration", "ok", f"valid, in {root.resolve()}")
    yield from _data(settings, root)
    yield from _columns(settings, root)
    found.parts = ProjectParts(settings, root, session.plugins)
    told = set()
    for check in _parts(found.parts):
        told.add(check.detail)
        yield check
    for check in _keys(found.parts):
        if check.status == "ok" or check.detail not in told:  # a misspelt fuser is a misspelt arm, too
            yield check


def _python() -> SetupCheck:
    where = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _OLDEST:
        return SetupCheck("python", "fail", where, "enhancer needs Python 3.11 or newer")
    return SetupCheck("python", "ok", where)


def _libraries() -> SetupCheck:
    versions, missing = [], []
    for name in _LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return SetupCheck("libraries", "fail", f"missing: {', '.join(missing)}", "pip install --upgrade enhancer")
    return SetupCheck("libraries", "ok", ", ".join(versions))


def _plugins(manager: PluginManager) -> Iterator[SetupCheck]:
    lines = manager.listing()
    available = sum(line.status == "ok" for line in lines)
    yield SetupCheck("plugins", "ok", f"{available} of {len(lines)} are available; `enhancer plugins` lists them")
    for line in lines:
        if line.status != "ok":
            name = f"plugin {line.name} ({line.kind or 'unknown kind'} of {line.distribution})"
            yield SetupCheck(name, "warn", f"{line.status}: {line.reason}")


def _cache() -> SetupCheck:
    import platformdirs

    folder = platformdirs.user_cache_path("enhancer")
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(nearest, os.W_OK):
        return SetupCheck("cache", "ok", f"{folder} is writable")
    return SetupCheck("cache", "warn", f"{folder} is not writable", "make this folder writable")


def _data(settings: Settings, root: Path) -> Iterator[SetupCheck]:
    from enhancer.data import TableOptions

    columns, features = settings.data.columns, settings.data.features
    wanted: dict[Table, tuple[Path | None, list[str | None]]] = {
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
            [columns.user_id, columns.item_id, columns.rating or None, columns.timestamp or None],
        ),
        "reviews": (
            settings.data.reviews,
            [
                columns.review_item or columns.item_id,
                columns.review_user or (None if settings.evaluation.allow_leaks else columns.user_id),
                *(columns.review_text, columns.review_time, columns.review_helpful),
            ],
        ),
    }
    for name, (path, needed) in wanted.items():
        if path is None:
            if name not in ("users", "reviews"):
                yield SetupCheck(f"data.{name}", "warn", "not set", f'set [data] {name} = "FILE"')
            continue
        options = TableOptions.of(settings.data, name)
        yield _table(f"data.{name}", root / path, [column for column in needed if column], options)


def _bare(names: list[str]) -> list[str]:
    """Return the columns of side features without their types."""
    return [re.sub(r":(number|category|tags)$", "", name) for name in names]


def _table(name: str, path: Path, needed: list[str], options: TableOptions) -> SetupCheck:
    if not path.is_file():
        return SetupCheck(
            name, "fail", f"there is no file {path}", f"create it, or correct [data] {name.partition('.')[2]}"
        )
    try:
        # As in every other command, keys of JSON lines may first appear late in items and users, not in interactions.
        table = read_head(path, needed if name != "data.interactions" else (), options)
    except EnhancerError as error:
        return SetupCheck(name, "fail", error.message, error.hint)
    if table.damage is not None:
        return SetupCheck(name, "fail", table.damage.message, table.damage.hint)
    if absent := [column for column in needed if column not in table.columns]:
        present = ", ".join(table.columns) or "none, since the file is empty"
        return SetupCheck(
            name, "fail", f"{path} has no column {', '.join(absent)}; its columns: {present}", "correct [data.columns]"
        )
    if not table.rows:
        return SetupCheck(name, "fail", f"{path} has a header and no rows", "add at least one row")
    return SetupCheck(name, "ok", f"{path}: {', '.join(table.columns)}")


def _columns(settings: Settings, root: Path) -> Iterator[SetupCheck]:
    """Warn of columns that leak the popularity of items or make every profile stale."""
    from enhancer.guessing.harm import harmful_columns

    for key, columns in harmful_columns(settings, root):
        told = "; ".join(f"{each.column} ({each.reason})" for each in columns)
        mend = (
            f"leave them out of {key}: aggregates of interactions know the test period and change all the time, and a"
            " new row shifts all row numbers after it"
        )
        yield SetupCheck("columns", "warn", f"{key} takes {told}", mend)


def _parts(parts: ProjectParts) -> Iterator[SetupCheck]:
    """Check the plugins that the configuration selects."""
    from enhancer.features import wants_profiles

    if wants_profiles(parts.settings):
        yield _unless_nothing_is_asked(guarded("llm", lambda: _llm(parts)), parts)
    yield guarded("embedder", lambda: _embedder(parts))
    yield guarded("store", lambda: _store(parts))
    yield guarded("backbone and fuser", lambda: _pair(parts))
    for name in parts.settings.observers:
        yield guarded(f"observers.{name}", functools.partial(_observer, parts, name))


def _keys(parts: ProjectParts) -> Iterator[SetupCheck]:
    """Check the keys that no plugin reads: metrics, arms and searches, and the place of the artifact."""
    from enhancer.project.settings_check import check_arms, check_artifact, check_metrics

    settings = parts.settings
    for name, check, shown in (
        ("metrics", check_metrics, ", ".join(settings.evaluation.metrics)),
        ("arms", check_arms, ", ".join(settings.listed_arms)),
        ("artifact", check_artifact, str(parts.root / settings.artifact)),
    ):
        yield guarded(name, functools.partial(_sound, name, check, parts, shown))


def _sound(name: str, check: Callable[[ProjectParts], None], parts: ProjectParts, shown: str) -> SetupCheck:
    check(parts)
    return SetupCheck(name, "ok", shown)


def _unless_nothing_is_asked(check: SetupCheck, parts: ProjectParts) -> SetupCheck:
    """Return a failed check of the LLM as a warning if all profiles are there, so that it would not be called."""
    if check.status != "fail":
        return check
    try:
        plan = parts.pipeline.plan()
    except Exception:  # noqa: BLE001  the other checks report what is wrong with tables and store
        return check
    finally:
        parts.close()
    if plan.to_generate or plan.pending:
        return check
    return SetupCheck(
        check.name, "warn", f"{check.detail}. No profile is to be written, so it is not needed", check.mend
    )


def _llm(parts: ProjectParts) -> SetupCheck:
    from enhancer.features.generating.connections import check_price, model_price

    llm, provider = parts.settings.llm, parts.provider()
    provider.check(llm.model)
    price = model_price(provider, llm)
    sent = sends(provider.sent_variables(llm.model), provider.destination(llm.model))
    told = f"{llm.use}, {provider.describe(llm.model)}{f' ({sent})' if sent else ''}"
    check_price(price, llm)
    if price is None:
        mend = "set input and output in [llm.price], or price = 'free'; max_cost requires a known price"
        return SetupCheck("llm", "warn", f"{told}: the price is not known", mend)
    if not (price.input or price.output):
        cost = "calls cost nothing"
    else:
        cost = f"${price.input:g} per million input tokens, ${price.output:g} per million output tokens"
    return SetupCheck("llm", "ok", f"{told}: {cost}{_unenforced(parts, provider)}")


def _unenforced(parts: ProjectParts, provider: LLMProvider) -> str:
    """Return words on keywords of the schemas that the provider does not enforce; empty if there are none."""
    kinds: tuple[Kind, ...] = ("item", "user")
    try:
        specs = [spec for kind in kinds if (spec := parts.pipeline.spec(kind)) is not None]
    except EnhancerError:  # of tables or templates: nothing to say about the LLM
        return ""
    finally:
        parts.close()
    schemas = [each.note.schema for spec in specs for each in spec.notes]
    found = dict.fromkeys(keyword for schema in schemas for keyword in provider.unenforced(schema))
    if not found:
        return ""
    return f"; not enforced while the model writes, only checked afterwards: {', '.join(found)}"


def _embedder(parts: ProjectParts) -> SetupCheck:
    from enhancer.harness.embedding.connections import check_embedder

    chosen = parts.settings.embedder
    check_embedder(parts.embedder, chosen, parts.settings.llm.max_cost)
    settings = parts.settings
    stored = dict.fromkeys(settings.item_inputs(settings.joined_inputs(None)))  # raw text may stand for profiles
    *others, last = stored
    named = f"{', '.join(others)} and {last}" if others else last
    shown = f"{chosen.use}, input {named}{_embedding_price(parts)}"
    try:
        found = [f"{one.kind}s, {one.name}: {one.words}" for one in _long_texts(parts) if one.longer]
    finally:
        parts.close()
    if found:
        hint = "give the embedder a larger maximum length if the model has one, or embed profiles instead of raw text"
        return SetupCheck("embedder", "warn", "; ".join([shown, *found]), hint)
    return SetupCheck("embedder", "ok", shown)


def _long_texts(parts: ProjectParts) -> Iterator[LongTexts]:
    """Yield counts of texts that are longer than the embedder reads, if tables and store can be read."""
    from enhancer.project.inspecting.long_texts import long_texts

    with contextlib.suppress(Exception):  # other checks report what is wrong with tables and store
        target, options = parts.store_class_and_options()
        stored = target.exists(options, parts.context)  # a check must not create it
        yield from long_texts(parts, stored=stored, draw=False)


def _embedding_price(parts: ProjectParts) -> str:
    """Return where a remote embedder is and what it charges; nothing for another one."""
    from enhancer.contracts import RemoteEmbedder
    from enhancer.harness.embedding.connections import embedding_price

    embedder = parts.embedder
    if not isinstance(embedder, RemoteEmbedder):
        return ""
    price = embedding_price(embedder, parts.settings.embedder)
    known = "the price is not known" if price is None else f"${price:g} per million tokens"
    sent = sends(embedder.sent_variables, embedder.destination)
    return f"; {embedder.model} at {embedder.endpoint}: {known}{f'; {sent}' if sent else ''}"


def _store(parts: ProjectParts) -> SetupCheck:
    """Check the store if it exists; a check must not create it."""
    use = parts.settings.store.use
    target, options = parts.store_class_and_options()
    if not target.exists(options, parts.context):
        place = parts.root / getattr(options, "path", "")
        return SetupCheck("store", "ok", f"{use}: {place} will be created by the first `enhancer generate`")
    try:
        stats = parts.store.stats()
    finally:
        parts.close()
    held = f"{use}: {counted(stats.records, 'record')}"
    embedder = None
    with contextlib.suppress(Exception):  # reported by the check of the embedder
        embedder = parts.embedder
    if embedder and stats.embedders and embedder.fingerprint not in stats.embedders:
        return SetupCheck(
            "store",
            "warn",
            f"{held}, all with vectors of another embedder ({', '.join(stats.embedders)})",
            "`enhancer generate` embeds them again, without calling the LLM",
        )
    return SetupCheck("store", "ok", held)


def _pair(parts: ProjectParts) -> SetupCheck:
    from enhancer.evaluation.running.preconditions import check_labelled, check_probabilities
    from enhancer.project.run_setup import naming_fusers

    data, use = parts.settings.data, parts.settings.backbone.use
    features, labelled = _bare([*data.features.item, *data.features.user]), data.columns.label is not None
    check_labelled(parts.settings.evaluation.metrics, labelled=labelled)
    fuser = parts.fuser()
    if parts.auto is not None:
        return _auto_pair(parts, parts.auto, features=features, labelled=labelled)
    backbone = parts.backbone()
    with naming_fusers(parts):
        fuser.check(backbone, parts.settings.fuser.use, use)
    backbone.check_material(features=features, labelled=labelled, name=use)
    check_probabilities(backbone, parts.settings.evaluation.metrics, use)
    return SetupCheck("backbone and fuser", "ok", f"{use} with {parts.settings.fuser.use}")


def _auto_pair(parts: ProjectParts, auto: AutoBackbone, *, features: list[str], labelled: bool) -> SetupCheck:
    """Check which candidates can be tried, and which of them accept the fuser. Nothing is trained."""
    from enhancer.evaluation.running.preconditions import check_probabilities
    from enhancer.project.run_setup import fusers_for

    fuser, use = parts.fuser(), parts.settings.fuser.use
    tried, accepting, left_out = [], [], []
    offered: list[frozenset[str]] = []
    for candidate in auto.candidates:
        try:
            if candidate.unavailable is not None:
                raise ConfigError(candidate.unavailable)
            backbone = candidate.make(candidate.options)
            backbone.check_material(features=features, labelled=labelled, name=candidate.backbone)
            check_probabilities(backbone, parts.settings.evaluation.metrics, candidate.backbone)
        except EnhancerError as error:
            left_out.append(f"{candidate.label} ({error.message})")
            continue
        tried.append(candidate.label)
        offered.append(backbone.accepts)
        with contextlib.suppress(EnhancerError):
            fuser.check(backbone, use, candidate.backbone)
            accepting.append(candidate.label)
    without = f"; not {', '.join(left_out)}" if left_out else ""
    if not tried:
        return SetupCheck(
            "backbone and fuser", "fail", f"auto can try no backbone{without}", "name one: [backbone] use"
        )
    detail = f"auto tries {', '.join(tried)}{without}"
    if not accepting:
        fitting = " and ".join(f'"{name}"' for name in fusers_for(parts, offered))
        mend = f"change [fuser] use; fusers that fit: {fitting}" if fitting else "change [fuser] use"
        return SetupCheck("backbone and fuser", "fail", f"{detail}; none of them works with the fuser {use}", mend)
    return SetupCheck("backbone and fuser", "ok", f"{detail}; {use} works with {', '.join(accepting)}")


def _observer(parts: ProjectParts, name: str) -> SetupCheck:
    """Check a table ``[observers.NAME]``. The observer is not constructed, since that may contact its server."""
    table = parts.settings.observers[name]
    use = table.use or name
    if not table.enabled:  # its plugin need not be installed
        return SetupCheck(f"observers.{name}", "ok", f"{use}, not enabled")
    parts.plugins.find_observer(use, table.options, where=f"[observers.{name}]")
    return SetupCheck(f"observers.{name}", "ok", use)
