"""The ladder: which sets of texts, for which share of the catalogue, are weighed against each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enhancer.config.inputs import PROFILE, TEXT, all_texts, stored_inputs
from enhancer.evaluation.frontier.shares import CatalogueShare, generated

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from enhancer.config.inputs import Input
    from enhancer.evaluation.frontier.shares import Order

NOTHING = "nothing"
"""Name of the rung without vectors."""
SHARES: tuple[float, ...] = (0.1, 0.25, 0.5)
"""Shares of the catalogue, beside all of it."""
ORDERS: tuple[Order, ...] = ("rarest", "commonest", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A set of texts of a share of the catalogue."""

    name: str
    inputs: tuple[Input, ...] = ()
    """Inputs of the vectors; empty for none."""
    kept: CatalogueShare | None = None
    """Items that have the generated texts; None for all."""

    @property
    def generated(self) -> tuple[str, ...]:
        """The texts that an LLM wrote."""
        return generated(self.inputs)

    @property
    def share(self) -> float:
        """Share of the catalogue that has the generated texts."""
        return 1.0 if self.kept is None else self.kept.share


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Rungs, from nothing up, and what was left out."""

    rungs: list[Rung]
    left_out: dict[str, str]
    """Why, by name of the rung."""

    @property
    def richest(self) -> Rung:
        """The rung with the most texts for the whole catalogue."""
        return max((rung for rung in self.rungs if rung.kept is None), key=lambda rung: len(all_texts(rung.inputs)))


def make_ladder(
    available: Collection[Input],
    notes: Sequence[str],
    *,
    configured: tuple[Input, ...] = (),
    shares: Sequence[float] = SHARES,
    orders: Sequence[Order] = ORDERS,
) -> Ladder:
    """Return the rungs that can be measured on what is stored.

    ``nothing``; ``text``, the raw text; the profile and each note alone; one note more at a time, in their order; all
    notes as one text, if that has been embedded; everything; the configured inputs, if they are none of these; and
    shares of the catalogue with all notes. The raw text stands beside the notes wherever there is any, because it costs
    nothing.

    Args:
        available: Inputs with vectors in the store.
        notes: What an LLM writes of each item, ``profile`` or names of aspects, in the order in which they are added.
        configured: The configured inputs.
        shares: Shares of the catalogue, between 0 and 1.
        orders: Which items come first.
    """
    free: tuple[Input, ...] = (TEXT,) if TEXT in available else ()
    there = [note for note in notes if note in available and note != PROFILE]
    others = [PROFILE] if PROFILE in available else []
    rungs = [Rung(name=NOTHING), *(Rung(name=TEXT, inputs=free) for _ in free)]
    rungs += [Rung(name=note, inputs=(*free, note)) for note in (*others, *there)]
    rungs += [Rung(name=f"{count} notes", inputs=(*free, *there[:count])) for count in range(2, len(there) + 1)]
    for name in available:
        if len(generated([name])) > 1 and {*generated([name])} == {*there}:
            rungs.append(Rung(name="as one text", inputs=(name,) if TEXT in all_texts([name]) else (*free, name)))
    if others and there:
        rungs.append(Rung(name="everything", inputs=(*free, *others, *there)))
    if (
        configured
        and {*stored_inputs(configured)} <= {*available}
        and not any(_same(rung.inputs, configured) for rung in rungs)
    ):
        rungs.append(Rung(name="configured", inputs=configured))
    whole = there or others
    all_notes = next((rung for rung in rungs if whole and _same(rung.inputs, (*free, *whole))), None)
    if all_notes is not None:
        rungs += [
            replace(all_notes, name=f"{all_notes.name}, {order} {share:.0%}", kept=CatalogueShare(order, share))
            for order in orders
            for share in sorted(set(shares))
            if 0 < share < 1
        ]
    missing = "the store has no vectors of it: run `enhancer generate`"
    left_out = {note: missing for note in notes if note not in available}
    if not free:
        left_out[TEXT] = f"{missing}, with 'text' in [embedder] input"
    return Ladder(rungs=rungs, left_out=left_out)


def _same(one: Sequence[Input], two: Sequence[Input]) -> bool:
    return {*one} == {*two}
