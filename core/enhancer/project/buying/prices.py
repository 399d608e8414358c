"""Costs of the records of a project, or the price of its model for them."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING

from enhancer.errors import EnhancerError
from enhancer.evaluation.frontier.prices import RecordPrices
from enhancer.features.generating.connections import configured_price
from enhancer.harness.calls.token_estimate import TOKENS_PER_MESSAGE, estimate_tokens

if TYPE_CHECKING:
    from enhancer.contracts.llm import Price
    from enhancer.contracts.record import Kind, Record
    from enhancer.project.parts import ProjectParts
    from enhancer.prompts.notes import Note

_log = logging.getLogger(__name__)
_PROMPTS = 200
"""Prompts of which the mean length is taken."""
_FRAME = 12
"""Tokens that the JSON of an answer adds to each text."""


def record_prices(parts: ProjectParts) -> RecordPrices:
    """Return the prices of the project's records: recorded, or by ``[llm.price]`` or the price table of its model.

    Tokens that were not recorded, such as those of imported texts, are estimated from the text itself and from the
    project's prompts; a call that asks for several notes is divided among them.
    """
    means: dict[tuple[Kind, str], float | None] = {}

    def estimate(record: Record) -> tuple[float, float] | None:
        key = record.kind, record.aspect
        if key not in means:
            means[key] = _mean_prompt(parts, *key)
        prompt = means[key]
        return None if prompt is None else (prompt, float(estimate_tokens(record.profile) + _FRAME))

    return RecordPrices(_price(parts), estimate)


def _price(parts: ProjectParts) -> Price | None:
    """Return the price of the project's model; None if unknown.

    A provider's own price of zero is that of replayed answers: what others cost, such as imported ones, is unknown.
    """
    llm = parts.settings.llm
    configured = configured_price(llm)
    if configured is not None:
        return configured
    try:
        found = parts.provider(complete=False).price(llm.model)
    except EnhancerError:  # the provider, or the library with its prices, is not installed
        return None
    return found if found is not None and (found.input or found.output) else None


def _mean_prompt(parts: ProjectParts, kind: Kind, aspect: str) -> float | None:
    """Return the mean prompt tokens of one note; None if the project has no prompt for the kind.

    A note that the configuration does not ask for is priced like the first that it does, asked for alone.
    """
    try:
        spec = parts.pipeline.spec(kind)
    except EnhancerError as error:  # the texts may have been imported, and the prompts be for others
        _log.warning("tokens of %ss that were not recorded are unknown: %s", kind, error)
        return None
    if spec is None:
        return None
    own = next((each for each in spec.notes if each.note.aspect == aspect), None)
    asked = own or spec.notes[0]
    note = asked.note
    together = (
        [note] if own is None or note.alone else [each.note for each in spec.notes if _shares_call(note, each.note)]
    )
    rendered = spec.prompts(list(islice(parts.pipeline.entities(kind), _PROMPTS)), asked)[0]
    if not rendered:
        return None
    request = note.template.request(*(each.field for each in together), knowledge=note.knowledge)
    system = estimate_tokens(request.system) + 2 * TOKENS_PER_MESSAGE
    return (system + sum(map(estimate_tokens, rendered)) / len(rendered)) / len(together)


def _shares_call(one: Note, two: Note) -> bool:
    """Return whether one call asks for both notes."""
    same = (one.template, one.knowledge, one.sample) == (two.template, two.knowledge, two.sample)
    return same and not two.alone
