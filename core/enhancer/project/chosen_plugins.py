"""Validate the options of the configured plugins, each set once, and create the plugins."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from enhancer.errors import ConfigError, PluginError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enhancer.config import Settings
    from enhancer.config.schema import AutoConfig
    from enhancer.contracts.backbone import Backbone
    from enhancer.contracts.fuser import Fuser
    from enhancer.contracts.options import Context, Options
    from enhancer.evaluation import Arm
    from enhancer.plugin_host import PluginManager

_KINDS = ("llm", "embedder", "store", "backbone", "fuser", "runner")


class ChosenPlugins:
    """The plugins that one configuration names.

    Options are validated when they are first needed and kept, so that a backbone that is created for every run of an
    ablation is validated once.

    Args:
        settings: The configuration.
        plugins: The plugin host.
        context: Passed to each plugin.
    """

    def __init__(self, settings: Settings, plugins: PluginManager, context: Context) -> None:
        self._settings = settings
        self._plugins = plugins
        self._context = context
        self._validated: dict[tuple[str, ...], Options] = {}

    def check_options(self) -> None:
        """Validate the options of every chosen plugin that is installed.

        A missing plugin is reported by the command that creates it; other commands do without.

        Raises:
            ConfigError: An unknown option (with the nearest known one) or a value of the wrong type.
        """
        for kind in _KINDS:
            if kind == "backbone" and self.auto is not None:
                continue  # core's own table, which this has validated
            try:
                target = self._plugins.get(kind, self._table(kind).use, complete=False)
            except PluginError:
                continue
            self._options(kind, target)

    @property
    def auto(self) -> AutoConfig | None:
        """The options of ``[backbone] use = "auto"``; None if a backbone is named.

        Raises:
            ConfigError: An unknown option or a value of the wrong type.
        """
        from enhancer.config.schema import AUTO, AutoConfig
        from enhancer.contracts.options import build_options

        table = self._settings.backbone
        if table.use != AUTO:
            return None
        try:
            return build_options(AutoConfig, table.options, where="[backbone]")
        except ConfigError as error:
            if unknown := set(table.options) - set(AutoConfig.model_fields):
                named = f"options of one backbone, such as {min(unknown)}, need its name in [backbone] use"
                error.hint = f"{error.hint}; {named}"
            raise

    def find(self, kind: str, *, complete: bool = True) -> tuple[type[Any], Options]:
        """Return the class and the options of the chosen plugin of a kind, without creating it.

        Args:
            kind: ``llm``, ``embedder``, ``store``, ``backbone``, ``fuser`` or ``runner``.
            complete: Raise an error if a library that the plugin requires is missing.

        Raises:
            PluginError: The plugin is missing or broken.
            ConfigError: An unknown option or a value of the wrong type.
        """
        target = self._plugins.get(kind, self._table(kind).use, complete=complete)
        return target, self._options(kind, target)

    def create(self, kind: str, *, complete: bool = True) -> Any:
        """Create the chosen plugin of a kind; see :meth:`find`."""
        _, options = self.find(kind, complete=complete)
        return self._plugins.create(kind, self._table(kind).use, options, self._context, complete=complete)

    def check_arm(self, arm: Arm) -> None:
        """Validate the options of an arm without creating its plugins.

        Raises:
            PluginError: The class of its fuser or backbone cannot be imported.
            ConfigError: An unknown option (with the nearest known one), a value of the wrong type, or an option without
                effect.
        """
        self._fuser_options(arm, complete=False)
        if not arm.backbone_options:
            return
        if self.auto is None:
            self._changed_backbone_options(arm, complete=False)
            return
        known = {name for cls in self.backbone_classes() for name in cls.model_fields}
        for name in arm.backbone_options if known else ():
            if name not in known:
                raise ConfigError(
                    f"[evaluation.arm.{arm.name}] backbone: no candidate has an option {name!r}",
                    hint=did_you_mean(name, known),
                )

    def backbone_classes(self) -> list[type[Options]]:
        """Return the options classes of the backbones that may be trained: one, or with ``auto`` all candidates.

        Those whose class cannot be imported are left out.
        """
        auto, named = self.auto, [self._settings.backbone.use]
        if auto is not None:
            named = self._plugins.names("backbone") if auto.candidates is None else auto.candidates
        found: list[type[Options]] = []
        for use in named:
            with contextlib.suppress(PluginError):
                found.append(self._plugins.get("backbone", use, complete=False).options_class)
        return found

    def backbone(self, arm: Arm) -> Backbone:
        """Create the backbone of an arm: the one chosen for it, or that of ``[backbone]`` with changed options."""
        if arm.backbone is not None:
            return self.backbone_of(arm.backbone, arm.backbone_options, where=f"[evaluation.arm.{arm.name}] backbone:")
        if not arm.backbone_options:
            unchanged: Backbone = self.create("backbone")
            return unchanged
        options = self._changed_backbone_options(arm)
        changed: Backbone = self._plugins.create("backbone", self._settings.backbone.use, options, self._context)
        return changed

    def _changed_backbone_options(self, arm: Arm, *, complete: bool = True) -> Options:
        from enhancer.contracts.options import build_options, overlaid

        table = self._settings.backbone
        cls: type[Any] = self._plugins.get("backbone", table.use, complete=complete).options_class

        def validate() -> Options:
            merged = overlaid(cls, table.options, arm.backbone_options)
            made: Options = build_options(cls, merged, where=f"[evaluation.arm.{arm.name}] backbone:")
            return made

        return self._once(("backbone", arm.name, _key(arm.backbone_options)), validate)

    def backbone_of(self, use: str, options: Mapping[str, Any], *, where: str = "[backbone]") -> Backbone:
        """Create a backbone by the name of its plugin.

        Args:
            use: Name of the plugin.
            options: All its options.
            where: Name of the place for messages.
        """
        from enhancer.contracts.options import build_options

        cls: type[Any] = self._plugins.get("backbone", use).options_class

        def validate() -> Options:
            made: Options = build_options(cls, options, where=where)
            return made

        checked = self._once(("backbone", "", use, _key(options)), validate)
        made: Backbone = self._plugins.create("backbone", use, checked, self._context)
        return made

    def fuser(self, arm: Arm) -> Fuser:
        """Create the fuser of an arm. Options from ``[evaluation.arm.NAME]`` override those of ``[fuser]``."""
        made: Fuser = self._plugins.create("fuser", arm.fuser, self._fuser_options(arm), self._context)
        return made

    def _fuser_options(self, arm: Arm, *, complete: bool = True) -> Options:
        from enhancer.contracts.options import build_options, overlaid

        table = self._settings.evaluation.arm.get(arm.name)
        own = (
            {} if table is None else {key: arm.fuser_options[key] for key in table.options if key in arm.fuser_options}
        )
        chosen = self._settings.fuser
        if not own and (arm.fuser, dict(arm.fuser_options)) == (chosen.use, chosen.options):
            return self.find("fuser", complete=complete)[1]
        cls: type[Any] = self._plugins.get("fuser", arm.fuser, complete=complete).options_class

        def validate() -> Options:
            where = f"[evaluation.arm.{arm.name}] options:" if own else "[fuser]"
            merged = overlaid(cls, arm.fuser_options, own) if own else arm.fuser_options
            made: Options = build_options(cls, merged, where=where)
            return made

        return self._once(("fuser", arm.name if own else "", arm.fuser, _key(arm.fuser_options)), validate)

    def _table(self, kind: str) -> Any:
        """Return the table that names the plugin of a kind."""
        return getattr(self._settings, kind)

    def _options(self, kind: str, target: type[Any]) -> Options:
        from enhancer.contracts.options import build_options

        table = self._table(kind)
        # Core's own keys stand in the same table: an unknown key may be a misspelt one of them.
        core = [name for name in type(table).model_fields if name not in ("use", "options")]

        def validate() -> Options:
            made: Options = build_options(target.options_class, table.options, where=f"[{kind}]", also_known=core)
            return made

        return self._once((kind,), validate)

    def _once(self, key: tuple[str, ...], validate: Callable[[], Options]) -> Options:
        if key not in self._validated:
            self._validated[key] = validate()
        return self._validated[key]


def _key(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True, default=repr)
