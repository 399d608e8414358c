"""Open the parts of a project (plugins, tables, split, store, vectors) when each is first needed."""

from __future__ import annotations

import contextlib
import logging
from functools import cached_property
from typing import TYPE_CHECKING

from enhancer.contracts.options import Context
from enhancer.errors import ConfigError, EnhancerError
from enhancer.features.reading.pinned_store import PinnedStore
from enhancer.plugin_host import Events, PluginManager, load_plugins
from enhancer.project.chosen_plugins import ChosenPlugins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.config import Settings
    from enhancer.config.inputs import Input
    from enhancer.contracts.backbone import Backbone
    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.features import Sides
    from enhancer.contracts.fuser import Fuser
    from enhancer.contracts.llm import LLMProvider
    from enhancer.contracts.options import Options
    from enhancer.contracts.record import Kind
    from enhancer.contracts.runner import Runner
    from enhancer.contracts.store import FeatureStore
    from enhancer.contracts.training import SemanticVectors
    from enhancer.data import Interactions, ReadFeatures, Split
    from enhancer.data.readers.frames import Frame
    from enhancer.data.reviews.index import ReviewIndex
    from enhancer.evaluation import Arm
    from enhancer.features import Pipeline, Semantics, Sources
    from enhancer.project.backbone_choice import AutoBackbone

    Vectors = NDArray[np.float32]

_log = logging.getLogger(__name__)


class ProjectParts:
    """The plugins and data of one configuration. Tables, split and store are opened once, when first needed.

    Args:
        settings: The configuration.
        root: Folder that relative paths are resolved against.
        plugins: The plugin host; by default one that loads all installed plugins.
    """

    def __init__(self, settings: Settings, root: Path, plugins: PluginManager | None = None) -> None:
        self.settings = settings
        self.root = root
        self.plugins = load_plugins() if plugins is None else plugins
        self.context = Context(root=root)
        self.chosen = ChosenPlugins(settings, self.plugins, self.context)
        self.frames: list[Frame] = []
        """Tables in memory that paths in the settings stand for."""
        self.warned: set[str] = set()
        """Warnings of pipelines that were given, and are not repeated."""
        self._pinned_store = PinnedStore(lambda: self.store)

    @property
    def opens_elsewhere(self) -> bool:
        """Whether another process can open the same project: its plugins are installed, and its tables are files."""
        return self.plugins.only_installed and not self.frames

    # --- plugins -------------------------------------------------------------------------------------------------

    @cached_property
    def events(self) -> Events:
        """Sender of events to the observers. They are imported and constructed at the first event."""
        return self.plugins.events(self.settings.observers, self.context)

    @cached_property
    def store(self) -> FeatureStore:
        """The feature store, opened. A store that does not exist yet is created by the first write to it."""
        from enhancer.contracts.store import StoreOptions
        from enhancer.features.storing.lazy_store import LazyStore

        target, options = self.store_class_and_options()
        if isinstance(options, StoreOptions) and not target.exists(options, self.context):
            return LazyStore(
                self.root / options.path,
                lambda: target.exists(options, self.context),
                lambda: self.chosen.create("store"),
                lambda: target.open_journal_database(options, self.context),
            )
        made: FeatureStore = self.chosen.create("store")
        return made

    def store_class_and_options(self) -> tuple[type[FeatureStore], Options]:
        """Return the class and options of the chosen store, to look for or repair a store without opening it."""
        return self.chosen.find("store")

    def pinned(self) -> AbstractContextManager[None]:
        """Read from one snapshot of the store within the context, unaffected by writes. May be nested."""
        return self._pinned_store.pinned()

    @property
    def read_store(self) -> FeatureStore:
        """The store to read from: a snapshot within :meth:`pinned`, else :attr:`store`."""
        return self._pinned_store.store

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder. Its model is loaded when it first embeds."""
        made: Embedder = self.chosen.create("embedder")
        return made

    def provider(self, *, complete: bool = True) -> LLMProvider:
        """Create an LLM provider. A provider belongs to one event loop.

        Args:
            complete: Raise an error if the provider's libraries are missing; planning does without them.
        """
        made: LLMProvider = self.chosen.create("llm", complete=complete)
        return made

    @cached_property
    def auto(self) -> AutoBackbone | None:
        """Chooses the backbone for ``[backbone] use = "auto"``; None if a backbone is named."""
        config = self.chosen.auto
        if config is None:
            return None
        from enhancer.project.backbone_choice import AutoBackbone

        return AutoBackbone(
            self.settings,
            config,
            self.plugins,
            self.chosen,
            split=lambda: self.split,
            sides=lambda: self.sides,
            folder=self.root / "runs",
        )

    def backbone(self, arm: Arm | None = None) -> Backbone:
        """Create the backbone of ``[backbone]``, with an arm's changes to its options.

        With ``use = "auto"``, that of an arm is the one chosen for it; without an arm, it is the best candidate.
        """
        if arm is not None:
            return self.chosen.backbone(arm)
        if self.auto is not None:
            return self.auto.choice().winner.make()
        made: Backbone = self.chosen.create("backbone")
        return made

    def fuser(self, arm: Arm | None = None) -> Fuser:
        """Create the fuser of ``[fuser]``, or that of an arm."""
        if arm is not None:
            return self.chosen.fuser(arm)
        made: Fuser = self.chosen.create("fuser")
        return made

    @cached_property
    def runner(self) -> Runner:
        """The runner that training runs go through. Nothing is connected yet."""
        made: Runner = self.chosen.create("runner")
        return made

    # --- tables --------------------------------------------------------------------------------------------------

    @cached_property
    def interactions(self) -> Interactions:
        """The interactions. Item rows follow the items table, or else the items of all files of the split.

        Raises:
            ConfigError: ``[data] interactions`` is not set, or its file or a column is missing.
            DataError: A row cannot be used.
        """
        from enhancer.data import TableOptions, read_interactions

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
            options=TableOptions.of(self.settings.data, "interactions"),
        )
        for line in found.report.lines(asked_for=False):  # such as rows that were dropped for an unknown item id
            _log.warning("%s: %s", path, line)
        self._warn_of_respelt_users(found.user_ids)
        return found

    def _warn_of_respelt_users(self, user_ids: Sequence[str]) -> None:
        """Warn if the users table spells ids otherwise than the interactions, so that profiles would not be found."""
        from enhancer.data import TableOptions
        from enhancer.data.alike_ids import respelt_of
        from enhancer.data.entities import id_column_of
        from enhancer.data.readers import open_table

        data = self.settings.data
        if data.users is None or self.settings.prompts.user.source not in ("llm", "text"):
            return
        with contextlib.suppress(EnhancerError):  # whoever needs the table tells what is wrong with it
            table = open_table(self.root / data.users, TableOptions.of(data, "users"))
            _, (ids,) = next(table.blocks([id_column_of(table, "user", data.columns)]), ((), ([],)))
            respelt = respelt_of(map(str.strip, ids), user_ids)
            if respelt.ids:
                _log.warning("%s: %s", table.path, respelt.words("of the first users", "the interactions"))

    @cached_property
    def split(self) -> Split:
        """Training, validation and test interactions, split once by ``[evaluation]``."""
        from enhancer.data import TableOptions, split_interactions

        config, columns = self.settings.evaluation, self.settings.data.columns
        options = TableOptions.of(self.settings.data, "interactions")
        split = split_interactions(self.interactions, config, self.root, columns, options=options)
        for note in (*split.notes, *split.unseen_notes):
            _log.warning("%s", note)
        return split

    @cached_property
    def side_features(self) -> dict[Kind, ReadFeatures]:
        """Columns named by ``[data.features]``, by kind of entity; empty if none are named.

        Raises:
            ConfigError: A table or column is missing, or a category has too many values.
            DataError: A column is empty.
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
        """Side features in the form that backbones take; None if there are none."""
        from enhancer.data import sides_of

        return sides_of(self.side_features)

    @cached_property
    def item_ids(self) -> list[str] | None:
        """Ids of the items table, in its order; None without a table."""
        return None if self.settings.data.items is None else list(self.titles)

    @cached_property
    def titles(self) -> dict[str, str | None]:
        """Title of each item of the items table; None for an item without one."""
        from enhancer.data import TableOptions, read_entities

        if self.settings.data.items is None:
            return {}
        data = self.settings.data
        path = self._path(data.items, "items")
        options = TableOptions.of(data, "items")
        items = read_entities(path, "item", data.columns, data.max_text, html=data.html, options=options)
        return {entity.id: entity.title for entity in items}

    @cached_property
    def reviews(self) -> ReviewIndex:
        """Reviews of items, with the part of the split that each belongs to.

        Raises:
            ConfigError: ``[data] reviews`` is not set, or its file or a column is missing; or it names no users, and
                leaks are not allowed.
            DataError: A row cannot be used.
        """
        from enhancer.data import TableOptions
        from enhancer.data.reviews.index import ReviewIndex

        data, allowed = self.settings.data, self.settings.evaluation.allow_leaks
        path = self._path(data.reviews, "reviews")
        options = TableOptions.of(data, "reviews")
        found = ReviewIndex(path, data.columns, self.split, allow_leaks=allowed, html=data.html, options=options)
        for line in found.report.lines():
            _log.warning("%s", line)
        return found

    # --- vectors -------------------------------------------------------------------------------------------------

    @cached_property
    def sources(self) -> Sources:
        """The entities to profile, and what their prompts show from other tables."""
        from enhancer.features import Sources

        return Sources.from_settings(
            self.settings,
            self.root,
            train=lambda: self.split.train,
            titles=lambda: self.titles,
            reviews=lambda: self.reviews,
        )

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline from entities to stored vectors."""
        from enhancer.features import Pipeline, inputs_wanted

        return Pipeline(
            self.settings,
            self.root,
            store=self.store,
            provider=self.provider,
            planner=lambda: self.provider(complete=False),
            embedder=lambda: self.embedder,
            sources=self.sources,
            inputs=inputs_wanted(self.settings),
            on_record=self.events.profile_stored,
            batch_providers=self._batch_providers,
            warned=self.warned,
        )

    @property
    def semantics(self) -> Semantics:
        """Reader of the semantic vectors that training takes."""
        from enhancer.features import Semantics

        return Semantics(self.settings, self.read_store, self.embedder.fingerprint, self.split.train)

    def features(self, inputs: Sequence[Input]) -> SemanticVectors:
        """Return semantic vectors of users and items; see :meth:`enhancer.features.Semantics.tables`."""
        return self.semantics.tables(inputs)

    @property
    def spread(self) -> Callable[[Sequence[Input]], Vectors] | None:
        """Function that returns how much the samples of each item's notes differ; None if notes have one sample."""
        prompt = self.settings.prompts.item
        sampled = prompt.source == "llm" and prompt.samples > 1
        return self._item_spread if sampled else None

    def _item_spread(self, inputs: Sequence[Input]) -> Vectors:
        return self.semantics.item_spread(inputs)  # opened at the first call, like the vectors

    @property
    def pooling(self) -> Callable[[Vectors], Vectors] | None:
        """Function that makes user vectors from item vectors; None if users are not pooled."""
        return self._pooled if self.settings.prompts.user.source == "pool" else None

    def _pooled(self, items: Vectors) -> Vectors:
        # Not a bound method of `semantics`: that would open store and embedder for arms without vectors too.
        return self.semantics.pool(items)

    def close(self) -> None:
        """Close the store and the runner, if they were opened."""
        if "runner" in self.__dict__:
            self.__dict__.pop("runner").close()
        if "store" in self.__dict__:
            self.store.close()
            del self.__dict__["store"]
            self.__dict__.pop("pipeline", None)  # it holds the closed store

    def _batch_providers(self) -> list[str]:
        """Return the names of installed LLM providers that offer batch jobs."""
        able = []
        for line in self.plugins.listing():
            with contextlib.suppress(EnhancerError):
                if line.kind == "llm" and hasattr(self.plugins.get("llm", line.name), "batches"):
                    able.append(line.name)
        return able

    def _path(self, path: Path | None, key: str) -> Path:
        if path is None:
            raise ConfigError(f"[data] {key} is not set", hint=f'name the file: {key} = "{key}.csv"')
        return self.root / path
