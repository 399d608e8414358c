"""Find what the notes of one aspect share across entities: frames of sentences that are filled in again and again.

Words that are rare over all notes are replaced by gaps, so that "A comedy of errors for fans of farce." and "A drama of
guilt for fans of Dostoyevsky." have a frame in common: "a … of … for fans of …". Which words are frequent is counted,
so no list of a language's words is needed.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from enhancer.evaluation.diagnosing.wording import words_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIN_NOTES = 20
"""Fewer notes are not examined."""
_FREQUENT = 40
"""Number of words that count as frequent."""
_LENGTH = 5
"""Elements of a part of a sentence: words and gaps."""
_MIN_WORDS = 3
"""Words of a frame beside its gaps."""
_GAP, _START = "…", "^"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f\u0964])")

Frame = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SharedFrames:
    """The frames that most notes share."""

    notes: int
    part: str
    """The part of a sentence in most notes, such as ``… are likely to …``; empty if there is none."""
    part_share: float
    """Share of the notes with it."""
    sentence: str
    """The frame of a whole sentence in most notes; empty if there is none."""
    sentence_share: float
    """Share of the notes with it."""

    @property
    def share(self) -> float:
        """The larger share."""
        return max(self.part_share, self.sentence_share)

    @property
    def frame(self) -> str:
        """The frame in more notes."""
        return self.part if self.part_share >= self.sentence_share else self.sentence


def shared_frames(notes: Sequence[str]) -> SharedFrames | None:
    """Find the frames that most notes of one aspect share.

    A part of a sentence has five elements and needs three words, of which three, or two pairs, stand side by side:
    lone function words ("of … and … the") are grammar, not a frame.

    Args:
        notes: The notes, one of each entity.

    Returns:
        None if there are fewer than :data:`MIN_NOTES` notes.
    """
    if len(notes) < MIN_NOTES:
        return None
    sentences = [[words_of(sentence) for sentence in _SENTENCE_END.split(note)] for note in notes]
    counts = Counter(word for note in sentences for word in {word for words in note for word in words})
    frequent = {word for word, count in counts.most_common(_FREQUENT) if count >= _MIN_WORDS}
    parts: Counter[Frame] = Counter()
    wholes: Counter[Frame] = Counter()
    for note in sentences:
        frames = [_frame(words, frequent) for words in note if words]
        parts.update({part for frame in frames for part in _parts(frame)})
        wholes.update({frame for frame in frames if sum(word != _GAP for word in frame) >= _MIN_WORDS})
    part, in_part = _most_common(parts)
    whole, in_whole = _most_common(wholes)
    return SharedFrames(len(notes), _shown(part), in_part / len(notes), _shown(whole), in_whole / len(notes))


def _frame(words: Sequence[str], frequent: set[str]) -> Frame:
    """Replace rare words by gaps, several in a row by one."""
    with_gaps = (word if word in frequent else _GAP for word in words)
    return tuple(element for word, same in groupby(with_gaps) for element in ([word] if word == _GAP else same))


def _parts(frame: Frame) -> Iterator[Frame]:
    elements = (_START, *frame)
    for start in range(len(elements) - _LENGTH + 1):
        part = elements[start : start + _LENGTH]
        runs = [len(list(run)) for is_word, run in groupby(part, key=lambda e: e not in (_GAP, _START)) if is_word]
        if sum(runs) >= _MIN_WORDS and (max(runs) >= 3 or sum(run >= 2 for run in runs) >= 2):
            yield part


def _most_common(frames: Counter[Frame]) -> tuple[Frame, int]:
    # Of frames in as many notes, the first in the alphabet, whatever the order of the notes.
    return min(frames.items(), key=lambda one: (-one[1], one[0]), default=((), 0))


def _shown(frame: Frame) -> str:
    return " ".join(word for word in frame if word != _START)
