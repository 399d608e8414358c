"""Check every key of a configuration before anything is generated or trained.

Names of plugins are looked up in the registry, and options are validated where the plugin's class can be imported. A
plugin that is installed without its extra is therefore no mistake: a command that needs it says so when it creates it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from enhancer.errors import ConfigError, PluginError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from enhancer.config.evaluation import DimensionConfig
    from enhancer.contracts.options import Options
    from enhancer.data.readers.table_reader import Table
    from enhancer.evaluation import Arm
    from enhancer.project.parts import ProjectParts

_CHOSEN = ("llm", "embedder", "store", "backbone", "fuser", "runner")
_TABLES: tuple[Table, ...] = ("items", "users", "interactions", "reviews")
_OF_ARMS = frozenset({"arms", "arm", "aspects", "baseline", "search"})
"""Keys of ``[evaluation]`` that name arms. Without any of them the arms are the default ones."""


def check_settings(parts: ProjectParts, *, complete: bool = False) -> None:
    """Check the names of plugins, metrics and arms, the options of arms and searches, and the places of results.

    Args:
        parts: The project's parts. No table is read, and no plugin is created.
        complete: Whether to refuse plugins of training whose libraries are missing, and a fuser that does not fit the
            backbone, for a command that trains later.

    Raises:
        ConfigError: A key is wrong; the message names it, and the hint the nearest known name.
        PluginError: A plugin is unknown, claimed by several distributions, or, with ``complete``, unavailable.
        FusionError: With ``complete``, the fuser does not fit the backbone.
    """
    check_plugins(parts)
    check_formats(parts)
    parts.chosen.check_options()
    check_metrics(parts)
    check_arms(parts)
    check_store(parts)
    check_artifact(parts)
    if complete:
        _check_libraries(parts)


def check_plugins(parts: ProjectParts) -> None:
    """Check the names of plugins that the configuration sets, and the options of observers.

    The LLM provider counts only if an LLM is to write anything.

    Raises:
        PluginError: A name is unknown, or claimed by several distributions.
        ConfigError: An observer has an unknown option or one of the wrong type.
    """
    from enhancer.contracts.options import build_options
    from enhancer.features.reading.semantics import wants_profiles

    settings, plugins = parts.settings, parts.plugins
    for kind in _CHOSEN:
        table = getattr(settings, kind)
        if kind not in settings.model_fields_set or "use" not in table.model_fields_set:
            continue
        if kind == "llm" and not wants_profiles(settings):
            continue
        if kind == "backbone" and parts.chosen.auto is not None:
            if parts.chosen.auto.candidates is not None and parts.auto is not None:
                parts.auto.candidates  # noqa: B018 - raises for an unknown name
            continue
        plugins.check_name(kind, table.use)
    for name, observer in settings.observers.items():
        if not observer.enabled:
            continue
        use = observer.use or name
        plugins.check_name("observer", use)
        with contextlib.suppress(PluginError):  # its libraries are missing, which the first event reports
            cls: type[Options] = plugins.get("observer", use, complete=False).options_class
            build_options(cls, observer.options, where=f"[observers.{name}]", also_known=("use", "enabled"))


def check_formats(parts: ProjectParts) -> None:
    """Check the names of the formats of tables.

    Raises:
        ConfigError: A name is unknown, or its data set has no such table.
    """
    from enhancer.data.readers import TableOptions, check_format

    for table in _TABLES:
        check_format(TableOptions.of(parts.settings.data, table))


def check_metrics(parts: ProjectParts) -> None:
    """Check the names of metrics.

    Raises:
        ConfigError: A metric is unknown, or needs labels that no column is said to hold.
    """
    from enhancer.evaluation.measuring.metrics import parse_metric

    settings = parts.settings
    if not [metric for metric in settings.evaluation.metrics if parse_metric(metric).uses_labels]:
        return
    labelled = settings.data.columns.label is not None
    if not labelled and parts.chosen.auto is None:
        with contextlib.suppress(PluginError):  # a backbone that learns from labels is the better reason to set them
            features = [*settings.data.features.item, *settings.data.features.user]
            parts.backbone().check_material(features=features, labelled=False, name=settings.backbone.use)
    from enhancer.evaluation.running.preconditions import check_labelled

    check_labelled(settings.evaluation.metrics, labelled=labelled)


def check_arms(parts: ProjectParts) -> None:
    """Check the arms, the baseline, and the options that arms and ``[evaluation.search]`` name.

    Raises:
        ConfigError: An arm, a fuser or an option is unknown, or an option has a wrong type or no effect.
    """
    settings = parts.settings
    if _OF_ARMS.isdisjoint(settings.evaluation.model_fields_set):
        return
    for arm in _arms(parts):
        with contextlib.suppress(PluginError):  # a library is missing, which the command that trains reports
            parts.chosen.check_arm(arm)
    if settings.evaluation.search is not None:
        _check_search(parts)


def _arms(parts: ProjectParts, *, listed: bool = False) -> list[Arm]:
    """Return the arms that are listed and, unless ``listed``, those that are defined beside them.

    Returns none if the class of a fuser cannot be imported, so that nobody knows what the fuser needs.
    """
    from enhancer.evaluation.running.arms import resolve_arms, resolve_baseline

    settings, fusers = parts.settings, parts.plugins.names("fuser")
    lacking: list[PluginError] = []

    def uses_semantics(name: str) -> bool:
        parts.plugins.check_name("fuser", name)
        try:
            return bool(parts.plugins.get("fuser", name, complete=False).uses_semantics)
        except PluginError as error:
            lacking.append(error)
            return True

    found = resolve_arms(settings, uses_semantics=uses_semantics, fusers=fusers)
    if lacking:
        return []
    if parts.chosen.auto is None:  # with it, arms are added that are named by what is chosen
        resolve_baseline(settings, found)
    evaluation = settings.evaluation
    others = [name for name in evaluation.arm if name not in settings.listed_arms]
    if listed or not others:
        return found
    widened = evaluation.model_copy(update={"arms": [*settings.listed_arms, *others]})
    every = settings.model_copy(update={"evaluation": widened})
    return resolve_arms(every, uses_semantics=uses_semantics, fusers=fusers)


def _check_search(parts: ProjectParts) -> None:
    """Check that the options of ``[evaluation.search]`` exist and take the values that are searched."""
    search = parts.settings.evaluation.search
    if search is None:
        return
    if search.backbone:
        backbones = parts.chosen.backbone_classes()
        _check_dimensions(search.backbone, backbones, "[evaluation.search.backbone]", parts.settings.backbone.use)
    arms = _arms(parts, listed=True)
    if not arms:
        return
    fusers = {arm.fuser: arm.fuser for arm in arms} | {arm.name: arm.fuser for arm in arms}
    # With auto, arms are added that are named by a fuser and the backbone that is chosen.
    prefixes = tuple(f"{fuser}-" for fuser in parts.plugins.names("fuser"))
    for name, dimensions in search.fuser.items():
        where = f"[evaluation.search.fuser.{name}]"
        if name not in fusers:
            if parts.chosen.auto is not None and name.startswith(prefixes):
                continue
            raise ConfigError(
                f"{where} {name!r} is neither an arm nor the fuser of one", hint=did_you_mean(name, fusers)
            )
        with contextlib.suppress(PluginError):
            cls = parts.plugins.get("fuser", fusers[name], complete=False).options_class
            _check_dimensions(dimensions, [cls], where, fusers[name])


def _check_dimensions(
    dimensions: Mapping[str, DimensionConfig], classes: Iterable[type[Options]], where: str, use: str
) -> None:
    """Check that each option belongs to one of the classes, which takes the ends or choices of its range."""
    classes = list(classes)
    known = {name for cls in classes for name in cls.model_fields}
    for name, dimension in dimensions.items() if known else ():
        if name not in known:
            raise ConfigError(f"{where} {use!r} has no option {name!r}", hint=did_you_mean(name, known))
        values = [dimension.low, dimension.high] if dimension.choices is None else dimension.choices
        for value in values:
            faults = [_fault(cls, name, value) for cls in classes if name in cls.model_fields]
            if all(faults):
                raise ConfigError(f"{where} {name}: {faults[0]}, not {value!r}")


def _fault(cls: type[Options], name: str, value: Any) -> str | None:
    """Return what is wrong with a value of an option by itself; None if nothing is."""
    from pydantic import ValidationError

    try:
        cls.model_validate({name: value})
    except ValidationError as error:
        for each in error.errors(include_url=False):
            if each["loc"][:1] == (name,):
                return f"{each['msg'][0].lower()}{each['msg'][1:]}"
    return None


def check_store(parts: ProjectParts) -> None:
    """Check that the store's path can be a folder.

    Raises:
        ConfigError: It is a file, or leads through one.
    """
    if (path := _store_path(parts)) is not None:
        _check_folder(parts.root / path, "[store] path", path)


def check_artifact(parts: ProjectParts) -> None:
    """Check that the artifact's path can be a folder of its own.

    Raises:
        ConfigError: It is a file, leads through one, or is the folder of the store.
    """
    path, store = parts.settings.artifact, _store_path(parts)
    _check_folder(parts.root / path, "artifact", path)
    if store is not None and (parts.root / store).resolve() == (parts.root / path).resolve():
        raise ConfigError(f"artifact and [store] path are one folder, {path}", hint="give each its own")


def _store_path(parts: ProjectParts) -> Path | None:
    """Return the path of the store; None for one without, or whose class cannot be imported."""
    from enhancer.contracts.store import StoreOptions

    with contextlib.suppress(PluginError):  # the command that opens the store reports it
        options = parts.chosen.find("store", complete=False)[1]
        return options.path if isinstance(options, StoreOptions) else None
    return None


def _check_folder(folder: Path, key: str, shown: Path) -> None:
    """Refuse a path at which, or above which, a file stands."""
    for path in (folder, *folder.parents):
        if path.is_dir():
            return
        if path.exists() or path.is_symlink():
            what = "a file" if path.exists() else "a link to nothing"
            words = f"{what}, not a folder" if path == folder else f"no folder, because {path} is {what}"
            raise ConfigError(f'{key} = "{shown}" is {words}', hint="name a folder, or a new place")


def _check_libraries(parts: ProjectParts) -> None:
    """Refuse what training and ablation could not create, because libraries are missing, and pairs that do not fit."""
    from enhancer.project.run_setup import naming_fusers

    settings = parts.settings
    if parts.chosen.auto is None:
        parts.plugins.get("backbone", settings.backbone.use)
        with naming_fusers(parts):
            parts.fuser().check(parts.backbone(), settings.fuser.use, settings.backbone.use)
    arms = _arms(parts, listed=True)
    for fuser in dict.fromkeys([settings.fuser.use, *(arm.fuser for arm in arms)]):
        parts.plugins.get("fuser", fuser)
    for arm in arms if parts.chosen.auto is None else ():
        with naming_fusers(parts):
            parts.fuser(arm).check(parts.backbone(arm), arm.fuser, settings.backbone.use)
    if settings.evaluation.search is not None:
        from enhancer.evaluation.running.search import require_optuna

        require_optuna()
