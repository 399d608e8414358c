"""Validate JSON values against schemas, with exact decimals."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend
from referencing import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def schema_validator(schema: Mapping[str, Any]) -> Any:
    """Return the validator of a schema, with the methods of ``jsonschema``'s validators.

    ``multipleOf`` compares the decimals as written: 0.3 is a multiple of 0.1. A reference to another document is an
    error instead of a download.

    >>> schema_validator({"multipleOf": 0.1}).is_valid(0.3)
    True
    """
    return _Validator(dict(schema), registry=Registry())


def _multiple_of(
    validator: Draft202012Validator, divisor: float, value: object, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    del schema
    if not validator.is_type(value, "number"):
        return
    # The shortest decimal that reads as the same float is what was written.
    if (Fraction(repr(value)) / Fraction(repr(divisor))).denominator != 1:
        yield ValidationError(f"{value!r} is not a multiple of {divisor}")


_Validator: Any = extend(Draft202012Validator, {"multipleOf": _multiple_of})  # type: ignore[no-untyped-call]
