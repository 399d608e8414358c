"""The parts of a project: settings, plugins, tables, split, store and vectors, each opened when first needed."""

from __future__ import annotations

import contextlib
import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from enhancer.config import Settings, load_settings
from enhancer.contracts.options import Context
from enhancer.errors import ConfigError, EnhancerError, PluginError
from enhancer.features.reading.pinned_store import Moment
from enhancer.plugin_host import PluginManager, load_plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.config.schema import Input
    from enhancer.contracts.backbone import Backbone
    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.features import Sides
    from enhancer.contracts.fuser import Fuser
    from enhancer.contracts.llm import LLMProvider
    from enhancer.contracts.options import Options
    from enhancer.contracts.record import Kind
    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Interactions, ReadFeatures, Split
    from enhancer.evaluation import Arm
    from enhancer.features import Pipeline, Semantics

    Table = NDArray[np.float32]

_log = logging.getLogger(__name__)
_KINDS = ("llm", "embedder", "store", "backbone", "fuser")


class Parts:
    """One configuration and its folder. Tables, split and store are opened when first needed, and once."""

    def __init__(self, settings: Settings, root: Path, plugins: PluginManager | None = None) -> None:
        """Take settings as they are; :meth:`load` reads them from a file.

        Args:
            settings: What ``enhancer.toml`` says.
            root: The folder that relative paths are relative to.
            plugins: The plugin host; by default one that loads whatever is installed.
        """
        self.settings = settings
        self.root = root
        self.plugins = load_plugins() if plugins is None else plugins
        self.context = Context(root=root)
        self.moment = Moment(lambda: self.store)

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        overrides: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        plugins: PluginManager | None = None,
    ) -> Self:
        """Read ``enhancer.toml`` or ``pyproject.toml``; see :func:`enhancer.config.load_settings`.

        Raises:
            ConfigError: The file is missing, or says something that it cannot say.
        """
        settings, root = load_settings(None if path is None else Path(path), overrides=overrides, environ=environ)
        project = cls(settings, root, plugins)
        project.check_options()
        return project

    def check_options(self) -> None:
        """Refuse unknown and impossible options of the chosen plugins, whatever is to be done with the project.

        A plugin that is not there is no concern of those who do not need it: whoever makes it is told.

        Raises:
            ConfigError: An unknown option (with the nearest known one) or a value of a wrong type.
        """
        from enhancer.contracts.options import build_options

        for kind in _KINDS:
            chosen, own = self._chosen(kind)
            try:
                target = self.plugins.get(kind, chosen.use, complete=False)
            except PluginError:
                continue
            build_options(target.options_class, chosen.options, where=f"[{kind}]", also_known=own)

    @cached_property
    def store(self) -> FeatureStore:
        """The feature store, opened; where there is none, it is made when something is first written to it."""
        from enhancer.contracts.store import StoreOptions
        from enhancer.features.storing.lazy_store import UnmadeStore

        target, options = self.store_class_and_options()
        if isinstance(options, StoreOptions) and not target.exists(options, self.context):
            return UnmadeStore(
                self.root / options.path, lambda: target.exists(options, self.context), lambda: self._create("store")
            )
        made: FeatureStore = self._create("store")
        return made

    def store_class_and_options(self) -> tuple[type[FeatureStore], Options]:
        """What can be asked of the chosen store without opening it: whether it is there, or to repair it."""
        from enhancer.contracts.options import build_options

        chosen, own = self._chosen("store")
        target: type[FeatureStore] = self.plugins.get("store", chosen.use)
        return target, build_options(target.options_class, chosen.options, where="[store]", also_known=own)

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder; its model is loaded when it first embeds."""
        made: Embedder = self._create("embedder")
        return made

    def provider(self, *, complete: bool = True) -> LLMProvider:
        """A new LLM provider: each event loop has its own.

        Args:
            complete: Refuse one whose libraries are missing; a plan does without.
        """
        made: LLMProvider = self._create("llm", complete=complete)
        return made

    def backbone(self, arm: Arm | None = None) -> Backbone:
        """A new backbone: that of ``[backbone]``, with what an arm changes of its options."""
        if arm is None or not arm.backbone_options:
            made: Backbone = self._create("backbone")
            return made
        from enhancer.contracts.options import overlaid

        chosen = self.settings.backbone
        target = self.plugins.get("backbone", chosen.use)
        options = overlaid(target.options_class, chosen.options, arm.backbone_options)
        where = f"[evaluation.arm.{arm.name}] backbone:"
        arm_made: Backbone = self.plugins.create("backbone", chosen.use, options, self.context, where=where)
        return arm_made

    def fuser(self, arm: Arm | None = None) -> Fuser:
        """A new fuser: that of ``[fuser]``, or that of an arm, with what the arm says over its options."""
        if arm is None:
            made: Fuser = self._create("fuser")
            return made
        own = self.settings.evaluation.arm.get(arm.name)
        said = {} if own is None else {key: value for key, value in arm.fuser_options.items() if key in own.options}
        options, where = arm.fuser_options, None
        if said:
            from enhancer.contracts.options import overlaid

            options = overlaid(self.plugins.get("fuser", arm.fuser).options_class, options, said)
            where = f"[evaluation.arm.{arm.name}] options:"
        arm_made: Fuser = self.plugins.create("fuser", arm.fuser, options, self.context, where=where)
        return arm_made

    @cached_property
    def interactions(self) -> Interactions:
        """The interactions, over the vocabulary of the items table where there is one.

        Where there is none, the items of all files of the split make it.

        Raises:
            ConfigError: ``[data] interactions`` is not set, or its file or a column is missing.
            DataError: The file holds something that cannot be used.
        """
        from enhancer.data import read_interactions

        evaluation = self.settings.evaluation
        path = self._path(self.settings.data.interactions, "interactions")
        files = (evaluation.test, evaluation.validation) if evaluation.split == "files" else ()
        found = read_interactions(
            path,
            self.settings.data.columns,
            item_ids=self.item_ids,
            min_rating=evaluation.min_rating,
            k_core=evaluation.k_core,
            also=[self.root / file for file in files if file is not None],
        )
        for line in found.report.lines(asked_for=False):  # ids that do not match are lost without a word otherwise
            _log.warning("%s: %s", path, line)
        return found

    @cached_property
    def split(self) -> Split:
        """Train, validation and test, cut once by ``[evaluation]``."""
        from enhancer.data import split_interactions

        config, columns = self.settings.evaluation, self.settings.data.columns
        split = split_interactions(self.interactions, config, self.root, columns)
        for note in (*split.notes, *split.unseen_notes):
            _log.warning("%s", note)
        return split

    @cached_property
    def side_features(self) -> dict[Kind, ReadFeatures]:
        """What ``[data.features]`` names, read from the tables; by kind, empty without.

        Raises:
            ConfigError: A table or column is missing, or a category has too many values.
            DataError: A column holds nothing.
        """
        from enhancer.data import read_sides

        data = self.settings.data
        if not data.features.item and not data.features.user:
            return {}
        train = self.split.train
        found = read_sides(data, self.root, train.user_ids, train.item_ids)
        for kind, read in found.items():
            path = data.items if kind == "item" else data.users
            _log.info("side features of %ss: %s", kind, ", ".join(map(str, read.columns)))
            for line in read.lines(self.root / path, kind) if path is not None else ():
                _log.warning("%s", line)
        return found

    @property
    def sides(self) -> Sides | None:
        """Side features as a backbone takes them; None without."""
        from enhancer.data import sides_of

        return sides_of(self.side_features)

    @cached_property
    def item_ids(self) -> list[str] | None:
        """Ids of the items table, in its order; None without one."""
        return None if self.settings.data.items is None else list(self.titles)

    @cached_property
    def titles(self) -> dict[str, str | None]:
        """What people call each item of the items table; None where it has no name."""
        from enhancer.data import read_entities

        if self.settings.data.items is None:
            return {}
        data = self.settings.data
        path = self._path(data.items, "items")
        return {entity.id: entity.title for entity in read_entities(path, "item", data.columns, data.max_text)}

    @property
    def semantics(self) -> Semantics:
        """The vectors that training takes."""
        from enhancer.features import Semantics

        return Semantics(self.settings, self.moment.store, self.embedder.fingerprint, self.split.train)

    @cached_property
    def pipeline(self) -> Pipeline:
        """The way from entities to stored vectors."""
        from enhancer.features import Pipeline, Sources, inputs_wanted

        return Pipeline(
            self.settings,
            self.root,
            store=self.store,
            provider=self.provider,
            planner=lambda: self.provider(complete=False),
            embedder=lambda: self.embedder,
            sources=Sources.from_settings(
                self.settings, self.root, train=lambda: self.split.train, titles=lambda: self.titles
            ),
            inputs=inputs_wanted(self.settings),
            on_record=lambda record: self.plugins.hook.profile_stored(record=record),
            batch_providers=self._batch_providers,
        )

    def features(self, inputs: Sequence[Input]) -> tuple[Table | None, Table]:
        """The semantic vectors, rows as in :attr:`interactions`; see :meth:`~enhancer.features.Semantics.tables`."""
        return self.semantics.tables(inputs)

    @property
    def pooling(self) -> Callable[[Table], Table] | None:
        """How users get vectors from those of items; None where they do not."""
        return self._pooled if self.settings.prompts.user.source == "pool" else None

    def _pooled(self, items: Table) -> Table:
        # Not the method of semantics itself: that opens store and embedder, which arms without vectors do without.
        return self.semantics.pool(items)

    def close(self) -> None:
        """Close the store, if it was opened."""
        if "store" in self.__dict__:
            self.store.close()
            del self.__dict__["store"]

    # --- within --------------------------------------------------------------------------------------------------

    def _create(self, kind: str, *, complete: bool = True) -> Any:
        chosen, own = self._chosen(kind)
        return self.plugins.create(kind, chosen.use, chosen.options, self.context, also_known=own, complete=complete)

    def _batch_providers(self) -> list[str]:
        """Names of installed LLM providers that have offline batches."""
        able = []
        for line in self.plugins.listing():
            with contextlib.suppress(EnhancerError):
                if line.kind == "llm" and hasattr(self.plugins.get("llm", line.name), "batches"):
                    able.append(line.name)
        return able

    def _chosen(self, kind: str) -> tuple[Any, list[str]]:
        """The table that chooses a plugin, and core's own keys in it."""
        chosen = getattr(self.settings, kind)
        return chosen, [name for name in type(chosen).model_fields if name not in ("use", "options")]

    def _path(self, path: Path | None, key: str) -> Path:
        if path is None:
            raise ConfigError(f"[data] {key} is not set", hint=f'name the file: {key} = "{key}.csv"')
        return self.root / path
