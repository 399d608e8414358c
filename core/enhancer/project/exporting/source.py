"""What a project has to export: the factors of its artifact, and the vectors of its store."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from enhancer.config.inputs import TEXT
from enhancer.errors import ConfigError, EnhancerError, StoreError, did_you_mean
from enhancer.project.exporting.factor_table import FactorTable
from enhancer.project.exporting.stored_vectors import StoredVectors
from enhancer.serving.artifact import open_artifact, own_version
from enhancer.serving.ids import IdTable, ItemIds, StringTable
from enhancer.serving.ranker import Ranker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.contracts.operations.exporter import VectorTable
    from enhancer.contracts.record import Kind
    from enhancer.project.parts import ProjectParts
    from enhancer.serving.artifact import Artifact

_PAIRS: Final = 1 << 20
"""Interactions streamed at once, about."""


class ProjectSource:
    """Tables of one project; see :class:`enhancer.contracts.ExportSource`.

    Args:
        parts: The project. The store is read from a snapshot if the caller has pinned one.
        folder: Folder of the artifact.
        payload: Whether rows carry titles, profiles and tags.
    """

    def __init__(self, parts: ProjectParts, folder: Path, *, payload: bool = True) -> None:
        self._parts, self._folder, self._with_payload = parts, folder, payload

    @cached_property
    def artifact(self) -> Artifact:
        """The serving artifact, mapped into memory."""
        return open_artifact(self._folder)

    def table(self, name: str) -> VectorTable:
        """Return a table; see :class:`enhancer.contracts.ExportSource`."""
        match name:
            case "items":
                return self._factors("items", "item")
            case "users":
                return self._factors("users", "user")
            case "item-vectors":
                return self._stored("item-vectors", "item")
            case "user-vectors":
                return self._stored("user-vectors", "user")
        known = ("items", "users", "item-vectors", "user-vectors")
        raise ConfigError(f"there is no table {name!r} to export", hint=did_you_mean(name, known))

    def interactions(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Stream the pairs of user and item rows that the artifact keeps, users in the order of their rows."""
        starts, items = self.artifact.tensors["seen.starts"], self.artifact.tensors["seen.items"]
        first = 0
        while first < len(starts) - 1:
            last = int(np.searchsorted(starts, starts[first] + _PAIRS, side="right")) - 1
            last = min(max(last, first + 1), len(starts) - 1)
            counts = np.diff(starts[first : last + 1])
            yield np.repeat(np.arange(first, last), counts), items[starts[first] : starts[last]].astype(np.int64)
            first = last

    def _factors(self, name: str, kind: Kind) -> FactorTable:
        artifact = self.artifact
        ids = IdTable(f"{kind}_ids", artifact.tensors)
        new = Ranker(artifact).new_items.mask(len(ids)) if kind == "item" else None
        source = {
            "table": name,
            "artifact": artifact.manifest["tensors"]["sha256"],
            "created_at": artifact.manifest.get("created_at"),
            "enhancer": own_version(),
        }
        return FactorTable(
            name=name,
            kind=kind,
            ids=ItemIds(ids, ()),
            matrix=artifact.tensors[name],
            source=source,
            payloads=self._payloads,
            new=new,
        )

    def _stored(self, name: str, kind: Kind) -> StoredVectors:
        settings = self._parts.settings
        prompt = settings.prompts.item if kind == "item" else settings.prompts.user
        if prompt.source in ("none", "pool"):
            raise StoreError(
                f"the store has no vectors of {kind}s: [prompts.{kind}] source is {prompt.source!r}",
                hint='with source = "llm" or "text" they get vectors of their own',
            )
        inputs = settings.item_inputs(settings.inputs) if kind == "item" else settings.inputs
        if kind == "user" and prompt.source == "text":
            inputs = (TEXT,)
        return StoredVectors(
            name=name,
            kind=kind,
            store=self._parts.read_store,
            inputs=inputs,
            samples=prompt.samples,
            source={"table": name, "inputs": list(inputs), "enhancer": own_version()},
            payloads=self._payloads,
        )

    # --- what is known about rows ---------------------------------------------------------------------------------

    def _payloads(self, ids: Sequence[str], kind: Kind) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [{} for _ in ids]
        if not self._with_payload:
            return found
        if kind == "item":
            for payload, id_ in zip(found, ids, strict=True):
                if title := self._title(id_):
                    payload["title"] = title
        if not self._has_store:
            return found
        for payload, record in zip(found, self._parts.read_store.get(ids, kind=kind), strict=True):
            if record is not None:
                payload["profile"] = record.profile
                if record.tags:
                    payload["tags"] = list(record.tags)
                payload["generated_at"] = record.generated_at
        return found

    @cached_property
    def _has_store(self) -> bool:
        """Whether there is a store: an artifact may be exported where nothing else of the project is."""
        try:
            self._parts.read_store.get([], kind="item")
        except EnhancerError:
            return False
        return True

    def _title(self, id_: str) -> str | None:
        if self._titled is None:
            return None
        ids, titles = self._titled
        row = ids.row(id_)
        return titles[row] if row is not None else None

    @cached_property
    def _titled(self) -> tuple[IdTable, StringTable] | None:
        """Ids and titles of the artifact; None without an artifact, or for one without titles."""
        try:
            tensors = self.artifact.tensors
        except EnhancerError:
            return None
        if "titles.offsets" not in tensors:
            return None
        return IdTable("item_ids", tensors), StringTable("titles", tensors)
