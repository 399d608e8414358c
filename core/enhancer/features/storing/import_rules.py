"""Validate imported notes like generated ones, and give them the input hash that makes them current."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.contracts.record import PROFILE_ASPECT
from enhancer.errors import DataError
from enhancer.features.stored_hash import ADOPTED, LOW
from enhancer.harness.answers.parse import InvalidAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from enhancer.features.kind_spec import KindSpec
    from enhancer.harness.answers.entity_task import PromptSpec


class ImportRules:
    """Rules for the rows that :func:`~enhancer.features.storing.interchange.import_records` reads.

    Args:
        specs: Specifications of the kinds of entities in this project.
    """

    def __init__(self, specs: Iterable[KindSpec]) -> None:
        self._specs = {spec.kind: spec for spec in specs if spec.notes}
        self._hashes: dict[tuple[str, str], dict[str, str]] = {}

    def validate(self, row: Mapping[str, Any]) -> None:
        """Validate a note as an answer is validated.

        Args:
            row: ``kind``, ``aspect``, ``profile`` and ``tags`` of a record. Notes that this project does not ask for
                are validated as profiles.

        Raises:
            DataError: They are not valid.
        """
        asked = self._asked(row)
        for spec in self._specs.values():
            chosen = asked or spec.notes[0]
            answer = {chosen.note.field: row["profile"]}
            if not chosen.note.template.aspects:
                answer["tags"] = row["tags"]
            try:
                chosen.validator.validate(answer, "")
            except InvalidAnswerError as error:
                raise DataError(f"not a valid profile: {error}") from None
            return

    def complete(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the input hash that this project gives the note, for one without.

        Otherwise the next run would take the note for outdated and pay for another. The hash of a note gets
        a prefix if its prompt shows users' interactions or reviews, because it does not prove that the note was made
        from those of the training part.
        """
        asked = self._asked(row)
        if asked is None or row.get("input_hash"):
            return {}
        spec = self._specs[row.get("kind") or "item"]
        known = self._hashes.setdefault((spec.kind, asked.note.aspect), {})
        if not known:
            known.update(spec.hashes(spec=asked))
        found = known.get(str(row.get("id")))
        if found is None:
            return {}
        if spec.kind == "user" or "reviews" in asked.note.template.context_names:
            return {"input_hash": ADOPTED + found}
        doubtful = asked.note.knowledge == "open" and row.get("confidence") == "low"
        return {"input_hash": LOW + found if doubtful else found}

    def _asked(self, row: Mapping[str, Any]) -> PromptSpec | None:
        """Return how this project asks for the note; None if it does not."""
        spec = self._specs.get(row.get("kind") or "item")
        aspect = row.get("aspect") or PROFILE_ASPECT
        return None if spec is None else next((one for one in spec.notes if one.note.aspect == aspect), None)
