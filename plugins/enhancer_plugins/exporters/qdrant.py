"""Exporter ``qdrant``: a collection of a Qdrant server, or of a folder in local mode."""

from __future__ import annotations

import contextlib
import os
import uuid
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pydantic import Field

from enhancer.contracts import Exported, Exporter, Options
from enhancer.errors import ConfigError, ExportError
from enhancer_plugins.exporters._targets import check_name, check_parent, clean_batches, reason, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts import ExportOrder, ExportSource, VectorTable

KEY_VARIABLE: Final = "QDRANT_API_KEY"
_NAMESPACE: Final = uuid.UUID("6f0d1f3e-6d0b-5c64-9d5e-1f4f1b0a7c11")
_MARK: Final = ".enhancer-"
"""Stands in the names of collections between the alias and a random part."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class QdrantOptions(Options):
    """Options of the exporter ``qdrant``."""

    batch: int = Field(512, ge=1, le=10_000)
    """Points sent at once."""
    timeout: int = Field(60, ge=1)
    """Time limit for a request in seconds."""


class QdrantExporter(Exporter):
    """Writes a collection of its own, and then turns the alias ``NAME`` to it in one step.

    Queries by the alias see the earlier export until then. Points are named by UUIDs that follow from the ids; the
    payload has the id. The distance is Dot.
    """

    options_class = QdrantOptions
    options: QdrantOptions

    def place(self, target: str) -> str:
        """Return scheme, host and port of a URL, or the folder."""
        if "://" not in target:
            return target
        parts = urlsplit(target)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"

    def write(self, source: ExportSource, order: ExportOrder) -> Exported:
        """See :meth:`enhancer.contracts.Exporter.write`."""
        from qdrant_client import models

        check_name(order.name)
        table, place = source.table(order.what), self.place(order.target)
        client = self._client(order.target)
        with _failing(client, place):
            aliases = {one.alias_name: one.collection_name for one in client.get_aliases().aliases}
            before = aliases.get(order.name)
            if before is not None or client.collection_exists(order.name):
                ours = before is not None and before.startswith(order.name + _MARK)
                refuse(f"the collection {order.name} of {place}", order, ours=ours)
            mine = f"{order.name}{_MARK}{uuid.uuid4().hex[:12]}"
            vectors = models.VectorParams(size=table.width, distance=models.Distance.DOT)
            client.create_collection(mine, vectors_config=vectors)
            try:
                self._fill(client, mine, table)
                rows = _count(client, mine, table, place)
                drop = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=order.name))
                alias = models.CreateAlias(collection_name=mine, alias_name=order.name)
                turn = models.CreateAliasOperation(create_alias=alias)
                client.update_collection_aliases([turn] if before is None else [drop, turn])
            except BaseException:
                with contextlib.suppress(Exception):
                    client.delete_collection(mine)
                raise
            if before is not None:
                client.delete_collection(before)

        def search(queries: NDArray[np.float32], k: int) -> list[list[str]]:
            requests = [models.QueryRequest(query=one, limit=k, with_payload=["id"]) for one in queries.tolist()]
            with _failing(client, place):
                answers = client.query_batch_points(order.name, requests)
            return [[(point.payload or {})["id"] for point in answer.points] for answer in answers]

        return Exported(rows=rows, width=table.width, search=search, close=client.close)

    def _client(self, target: str) -> Any:
        from qdrant_client import QdrantClient

        if "://" not in target:
            check_parent(Path(target))
            try:
                return QdrantClient(path=target)
            except Exception as error:  # noqa: BLE001 - of several libraries
                raise ConfigError(f"Qdrant cannot open the folder {target}: {reason(error)}") from None
        parts, key = urlsplit(target), os.environ.get(KEY_VARIABLE)
        if parts.username or parts.password or parts.query:
            raise ConfigError(
                "the URL of Qdrant holds a key or a query",
                hint=f"set the key in {KEY_VARIABLE}, and leave it out of the URL",
            )
        if key and parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise ConfigError(
                f"{KEY_VARIABLE} would be sent to {parts.hostname} unencrypted", hint="use an https:// URL"
            )
        with warnings.catch_warnings():  # the library warns of a key that goes to this machine over http
            warnings.simplefilter("ignore")
            return QdrantClient(url=target, api_key=key, timeout=self.options.timeout, check_compatibility=False)

    def _fill(self, client: Any, name: str, table: VectorTable) -> None:
        from qdrant_client import models

        for batch in clean_batches(table):
            for start in range(0, len(batch.ids), self.options.batch):
                part = slice(start, start + self.options.batch)
                ids = batch.ids[part]
                points = models.Batch(
                    ids=[str(uuid.uuid5(_NAMESPACE, f"{table.kind}\n{id_}")) for id_ in ids],
                    vectors=batch.vectors[part].tolist(),
                    payloads=[{"id": id_, **one} for id_, one in zip(ids, batch.payloads[part], strict=True)],
                )
                client.upsert(name, points=points, wait=True)


def _count(client: Any, name: str, table: VectorTable, place: str) -> int:
    rows: int = client.count(name, exact=True).count
    if rows != table.rows:
        raise ExportError(f"{place} holds {rows:,} of {table.rows:,} points")
    return rows


@contextlib.contextmanager
def _failing(client: Any, place: str) -> Iterator[None]:
    """Name the server in exceptions of the library, and close the client on any."""
    from qdrant_client.http.exceptions import ApiException

    try:
        yield
    except (ApiException, OSError) as error:
        client.close()
        raise ExportError(
            f"Qdrant at {place} failed: {reason(error)}", hint=f"check the URL, and the key in {KEY_VARIABLE}"
        ) from None
    except BaseException:
        client.close()
        raise
