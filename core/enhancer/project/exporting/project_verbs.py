"""The verb of a project that writes to other systems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.project.exporting.verb import ExportReport
    from enhancer.project.parts import ProjectParts


class ExportingVerbs:
    """Verbs of :class:`enhancer.Project` that write to other systems."""

    parts: ProjectParts

    def export(
        self,
        exporter: str,
        target: str | Path,
        *,
        table: str | None = None,
        name: str | None = None,
        options: Mapping[str, Any] | None = None,
        replace: bool = False,
        payload: bool = True,
        artifact: str | Path | None = None,
        k: int = 10,
        sample: int = 200,
    ) -> ExportReport:
        """Write factors of the artifact, or stored vectors, to another system, and check what it finds.

        The target holds the whole table or nothing of it. Scores are inner products.

        Args:
            exporter: Name of the exporter, such as ``qdrant``; ``enhancer plugins`` lists them.
            target: File, folder, URL or repository.
            table: ``items``, ``users`` (factors), ``item-vectors`` or ``user-vectors`` (stored vectors); by default the
                first that the exporter takes.
            name: Name of the table or collection in the target; by default that of the table.
            options: Options of the exporter.
            replace: Whether to replace an earlier export.
            payload: Whether rows carry titles, profiles and tags.
            artifact: Folder of the artifact; by default that of the project.
            k: Rows that each query of the check asks for.
            sample: Largest number of queries of the check; 0 for no check.

        Raises:
            ConfigError: The target cannot be used, or holds an export already.
            ArtifactError: There is no artifact.
            StoreError: The store has no such vectors.
            ExportError: The target failed.
        """
        from enhancer.project.exporting.verb import export

        folder = self.parts.root / self.parts.settings.artifact if artifact is None else Path(artifact)
        return export(
            self.parts,
            exporter,
            str(target),
            table=table,
            name=name,
            artifact=folder,
            options=options or {},
            replace=replace,
            payload=payload,
            k=k,
            sample=sample,
        )
