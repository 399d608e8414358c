"""Validate imported profiles like generated ones, and give them the input hash that makes them current."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.contracts.record import PROFILE_ASPECT
from enhancer.errors import DataError
from enhancer.features.stored_hash import ADOPTED
from enhancer.harness.answers.parse import InvalidAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from enhancer.features.kind_spec import KindSpec


class ImportRules:
    """Rules for the rows that :func:`~enhancer.features.storing.interchange.import_records` reads.

    Args:
        specs: Specifications of the kinds of entities in this project.
    """

    def __init__(self, specs: Iterable[KindSpec]) -> None:
        self._specs = {spec.kind: spec for spec in specs if spec.ask is not None}
        self._hashes: dict[str, dict[str, str]] = {}

    def validate(self, answer: Mapping[str, Any]) -> None:
        """Validate profile and tags against the template's schema.

        Raises:
            DataError: They are not valid.
        """
        for spec in self._specs.values():
            assert spec.ask is not None
            try:
                spec.ask.validator.validate(answer, "")
            except InvalidAnswerError as error:
                raise DataError(f"not a valid profile: {error}") from None
            return

    def complete(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the input hash that this project gives the entity, for a profile without one.

        Otherwise the next run would take the profile for outdated and pay for another. The hash of a user's profile
        gets a prefix, because it does not prove that the profile was made from training interactions.
        """
        spec = self._specs.get(row.get("kind") or "item")
        if spec is None or row.get("input_hash") or (row.get("aspect") or PROFILE_ASPECT) != PROFILE_ASPECT:
            return {}
        known = self._hashes.setdefault(spec.kind, {})
        if not known:
            known.update(spec.hashes())
        found = known.get(str(row.get("id")))
        if found is None:
            return {}
        return {"input_hash": found if spec.kind == "item" else ADOPTED + found}
