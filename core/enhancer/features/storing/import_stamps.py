"""Profiles made elsewhere: judged as a model's answers are, and stamped so that a run takes them as current."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.contracts.record import PROFILE_ASPECT
from enhancer.errors import DataError
from enhancer.features.reading.provenance import ADOPTED
from enhancer.harness.answers.parse import InvalidAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from enhancer.features.generating.survey import Work


class Adoption:
    """Judge and stamp the rows of ``enhancer store import``.

    See :func:`enhancer.features.storing.interchange.import_records`.

    Args:
        works: How each kind of entity is profiled in this project.
    """

    def __init__(self, works: Iterable[Work]) -> None:
        self._works = {work.kind: work for work in works if work.ask is not None}
        self._hashes: dict[str, dict[str, str]] = {}

    def validate(self, answer: Mapping[str, Any]) -> None:
        """Judge profile and tags against the template's schema.

        Raises:
            DataError: They are not valid; says why.
        """
        for work in self._works.values():
            assert work.ask is not None
            try:
                work.ask.validator.judge(answer, "")
            except InvalidAnswerError as error:
                raise DataError(f"not a valid profile: {error}") from None
            return

    def complete(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Stamp a row that says nothing of its origin with what this project would ask now.

        Without it the next run would find the row stale, and pay for a profile that is there. A user's profile is
        marked: the stamp must not prove that it was made from training interactions.
        """
        work = self._works.get(row.get("kind") or "item")
        if work is None or row.get("input_hash") or (row.get("aspect") or PROFILE_ASPECT) != PROFILE_ASPECT:
            return {}
        known = self._hashes.setdefault(work.kind, {})
        if not known:
            known.update(work.hashes())
        found = known.get(str(row.get("id")))
        if found is None:
            return {}
        return {"input_hash": found if work.kind == "item" else ADOPTED + found}
