"""The ladder: which sets of texts, for which share of the catalogue, are weighed against each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enhancer.config.inputs import (
    PROFILE,
    TEXT,
    all_texts,
    closed_version,
    is_closed_version,
    note_of,
    renamed,
    stored_inputs,
    texts_of,
)
from enhancer.evaluation.frontier.shares import CatalogueShare, generated

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from enhancer.config.inputs import Input
    from enhancer.evaluation.frontier.shares import Order

NOTHING = "nothing"
"""Name of the rung without vectors."""
ONE_TEXT = "as one text"
"""Name of the rung with all notes as one long text."""
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
    reviews: bool = False
    """Whether its generated texts are made from reviews."""

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
    reviews: Collection[Input] = (),
    shares: Sequence[float] = SHARES,
    orders: Sequence[Order] = ORDERS,
) -> Ladder:
    """Return the rungs that can be measured on what is stored.

    ``nothing``; ``text``, the raw text; the profile and each note alone, those that the store holds from other
    configurations included; one note more at a time, in their order; those made from reviews, which are not among these
    if others are there; notes as one long text, if that has been embedded; everything; all notes in their closed
    versions; the configured inputs, if they are none of these; and shares of the catalogue with all notes. The raw text
    stands beside the notes wherever there is any, because it costs nothing.

    Args:
        available: Inputs with vectors in the store.
        notes: What an LLM writes of each item, ``profile`` or names of aspects, in the order in which they are added.
        configured: The configured inputs.
        reviews: Notes that are made from reviews.
        shares: Shares of the catalogue, between 0 and 1.
        orders: Which items come first.
    """
    free: tuple[Input, ...] = (TEXT,) if TEXT in available else ()
    there = [note for note in notes if note in available and note != PROFILE]
    others = [PROFILE] if PROFILE in available else []
    unlisted = [
        name
        for name in available
        if name not in (TEXT, PROFILE, *there) and len(texts_of(name)) == 1 and not is_closed_version(name)
    ]
    reviewed = [note for note in there if note in reviews]
    own = [note for note in there if note not in reviews] or there
    rungs = [Rung(name=NOTHING), *(Rung(name=TEXT, inputs=free) for _ in free)]
    rungs += [
        Rung(name=f"{note} (reviews)", inputs=(*free, note), reviews=True)
        if note in reviews
        else Rung(name=note, inputs=(*free, note))
        for note in (*others, *there, *unlisted)
    ]
    rungs += [Rung(name=f"{count} notes", inputs=(*free, *own[:count])) for count in range(2, len(own) + 1)]
    if len(reviewed) > 1 and len(own) < len(there):
        rungs.append(Rung(name="reviews", inputs=(*free, *reviewed), reviews=True))
    rungs += _as_one_text(available, there, free)
    if len(own) < len(there) or (others and there):
        rungs.append(Rung(name="everything", inputs=(*free, *others, *there)))
    rungs += _closed(rungs, available, there or others)
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
    if len(there) > 1 and not any(rung.name == ONE_TEXT for rung in rungs):
        left_out[ONE_TEXT] = f"{missing}, which asks no LLM, with '{'+'.join(there)}' among the inputs of an arm"
    return Ladder(rungs=rungs, left_out=left_out)


def _as_one_text(available: Collection[Input], notes: Sequence[str], free: tuple[Input, ...]) -> list[Rung]:
    """Return the rungs of several notes as one long text."""
    rungs = []
    for name in available:
        texts = generated([name])
        if len(texts) > 1 and not any(map(is_closed_version, texts)):
            label = ONE_TEXT if {*texts} == {*notes} else f"{' + '.join(texts)}, {ONE_TEXT}"
            inputs = (name,) if TEXT in all_texts([name]) else (*free, name)
            rungs.append(Rung(name=label, inputs=inputs))
    return rungs


def _closed(rungs: Sequence[Rung], available: Collection[Input], notes: Sequence[str]) -> list[Rung]:
    """Return the rungs with all notes, in the versions that are written from the given text alone."""
    versions = {note: closed_version(note) for note in notes}
    found = []
    for rung in rungs:
        inputs = tuple(renamed(name, versions) for name in rung.inputs)
        if {*map(note_of, generated(inputs))} == {*notes} and notes and {*inputs} <= {*available}:
            found.append(Rung(name=f"{rung.name}, closed", inputs=inputs))
    return found


def _same(one: Sequence[Input], two: Sequence[Input]) -> bool:
    return {*one} == {*two}
