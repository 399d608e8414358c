"""Show the reviews of an item in its prompt, or notes on them if there are more than fit.

Notes are written by an LLM step by step: reviews in chunks are condensed to a note each, and notes to further notes
until few enough are left::

    reviews by time ──> chunks ──> notes ──┬──> {{ reviews }}
                                  ^        │ too many
                                  └────────┘ notes of notes

Which calls that takes follows from the reviews alone: the input hash of the note on a chunk covers its text, and that
of a note on notes covers their input hashes. A prompt is therefore rendered with a stand-in that holds the hash of its
notes, so that whether a profile is current is known without asking, and the notes are put in before the call.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from enhancer.data.reviews.index import MAX_REVIEW
from enhancer.features.context.chunking import divide, most_chunks
from enhancer.prompts import neutralize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from enhancer.config.schema import PromptConfig
    from enhancer.data import Entity
    from enhancer.data.reviews.index import Part, Review, ReviewIndex
    from enhancer.data.reviews.report import ReviewReport
    from enhancer.harness.answers.entity_task import PromptSpec

MAX_NOTE = 900
"""Largest number of characters of a note that the next prompt shows."""
_STAND_IN = "[notes on reviews "
_BULLET = "- "
_LINE = len(_BULLET) + 1
"""Characters that a line adds to its text."""
NOTES_ASPECT = "reviews"
"""Aspect of the tasks that write notes on reviews. They are kept in the journal and not in the store."""


class NoteNode(NamedTuple):
    """A note to be written: on a chunk of reviews, or on notes of the level before."""

    input_hash: str
    reviews: str
    """Lines of the reviews; empty for a note on notes."""
    children: tuple[str, ...]
    """Input hashes of the notes that it is written from."""


@dataclass(frozen=True, slots=True)
class NoteTree:
    """The notes that an item's reviews are condensed to."""

    levels: tuple[tuple[NoteNode, ...], ...]
    """Notes on chunks, notes on these, and so on. The prompt shows those of the last level."""

    @property
    def stand_in(self) -> str:
        """Text that stands for the notes in a prompt. It follows from what they are written from."""
        joined = "\n".join(node.input_hash for node in self.levels[-1])
        return f"{_STAND_IN}{hashlib.blake2b(joined.encode(), digest_size=16).hexdigest()}]"

    def __iter__(self) -> Iterator[NoteNode]:
        return (node for level in self.levels for node in level)

    def fill(self, prompt: str, notes: Mapping[str, str]) -> str:
        """Put the notes of the last level into a prompt.

        Args:
            prompt: A prompt with the stand-in.
            notes: Notes by input hash. One that is missing is left out.
        """
        shown = neutralize(lines_of(notes[node.input_hash] for node in self.levels[-1] if node.input_hash in notes))
        # A bracket at the end of a note could form a marker with the text after it.
        return prompt.replace(self.stand_in, shown.replace("<", "\u2039"))


@dataclass(frozen=True, slots=True)
class ReviewNotes:
    """The reviews that prompts show, and how notes on them are asked for."""

    context: ReviewContext
    ask: PromptSpec

    def trees(self, prompts: Iterable[tuple[str, str]]) -> dict[str, NoteTree]:
        """Return the notes that prompts show instead of reviews, by the id of the item.

        Args:
            prompts: Pairs of id and prompt.
        """
        ids = dict.fromkeys(id_ for id_, prompt in prompts if _STAND_IN in prompt)
        return {id_: tree for id_ in ids if (tree := self.context.tree(id_)) is not None}


class ReviewContext:
    """Shows the reviews of items, or notes on them.

    Args:
        index: Returns the reviews; called when the first are shown.
        config: ``[prompts.item]``.
        render: Renders the user text of a request for a note, from the lines that it is about.
        hash_of: Returns the input hash of such a user text.
        parts: Parts of the split whose reviews may be shown.
    """

    def __init__(
        self,
        index: Callable[[], ReviewIndex],
        config: PromptConfig,
        *,
        render: Callable[[str], str],
        hash_of: Callable[[str], str],
        parts: Sequence[Part] = ("train",),
    ) -> None:
        self._index = index
        self._config = config
        self._render = render
        self._hash_of = hash_of
        self._parts = parts
        self._longest = min(MAX_REVIEW, config.reviews_budget // 2)
        self._fan = config.reviews_budget // (MAX_NOTE + _LINE)
        chunks = most_chunks(config.condense_calls, self._fan)
        least = config.reviews_budget - self._longest
        self._least = least
        self._total = max(config.reviews_budget, chunks * least) if chunks > 1 else config.reviews_budget

    def widened(self, parts: Sequence[Part]) -> ReviewContext:
        """Return the same with reviews of other parts of the split."""
        return ReviewContext(self._index, self._config, render=self._render, hash_of=self._hash_of, parts=parts)

    @property
    def report(self) -> ReviewReport:
        """Counts of the reviews, by whether prompts may show them."""
        return self._index().report

    def show(self, entity: Entity) -> str:
        """Return the reviews of an item, the most helpful first, or the stand-in for notes on them."""
        reviews = self._chosen(entity.id)
        if sum(len(review.text) + _LINE for review in reviews) <= self._config.reviews_budget:
            return lines_of(review.text for review in reviews)
        return self._tree(reviews).stand_in

    def tree(self, item_id: str) -> NoteTree | None:
        """Return the notes that an item's prompt shows; None if it shows the reviews themselves."""
        reviews = self._chosen(item_id)
        if sum(len(review.text) + _LINE for review in reviews) <= self._config.reviews_budget:
            return None
        return self._tree(reviews)

    def prompt(self, node: NoteNode, notes: Mapping[str, str]) -> str:
        """Return the user text of the request for a note; empty if none of the notes that it is about is there."""
        if node.reviews:
            return self._render(node.reviews)
        below = [notes[child] for child in node.children if child in notes]
        return self._render(lines_of(below)) if below else ""

    def _chosen(self, item_id: str) -> list[Review]:
        """Return the reviews that count: the most helpful ones within the budget of an item."""
        chosen, left = [], self._total
        for review in self._index().best(item_id, self._config.max_reviews, self._parts):
            cut = review._replace(text=review.text[: self._longest - _LINE])
            left -= len(cut.text) + _LINE
            if left < 0:
                break
            chosen.append(cut)
        return chosen

    def _tree(self, reviews: Sequence[Review]) -> NoteTree:
        # By time, so that a new review changes the last chunk alone.
        ordered = sorted(reviews, key=lambda review: (review.time, review.fraction, review.digest))
        sizes = [len(review.text) + _LINE for review in ordered]
        digests = [review.digest for review in ordered]
        chunks = divide(sizes, digests, self._config.reviews_budget, self._least)
        texts = [lines_of(review.text for review in ordered[chunk]) for chunk in chunks]
        levels = [tuple(NoteNode(self._hash_of(self._render(text)), text, ()) for text in texts)]
        while len(levels[-1]) > self._fan:
            below = [node.input_hash for node in levels[-1]]
            groups = [tuple(below[start : start + self._fan]) for start in range(0, len(below), self._fan)]
            levels.append(tuple(NoteNode(self._hash_of("\0".join(("notes", *group))), "", group) for group in groups))
        return NoteTree(tuple(levels))


def one_note(text: str) -> str:
    """Return a note as prompts show it: on one line, and cut off."""
    return " ".join(text.split())[:MAX_NOTE]


def lines_of(texts: Iterator[str] | Sequence[str]) -> str:
    """Return a list of texts, one on each line."""
    return "\n".join(f"{_BULLET}{text}" for text in texts)
