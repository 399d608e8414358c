"""Count duplicate and near-duplicate profiles, and profiles that only repeat their entity's text.

Words are compared without case. Scripts without spaces between words are compared by pairs of characters.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

PHRASE = 3
"""Words per phrase; near-duplicates are found by shared phrases."""
NEAR = 0.8
"""Jaccard similarity of phrases from which two profiles are near-duplicates."""
ECHO = 0.8
"""Share of a profile's words that are in its text from which the profile is an echo."""
SAMPLE = 20_000
"""Maximum number of profiles compared for near-duplicates; of more, a sample is drawn."""
_BANDS, _ROWS = 20, 3
_PRIME = (1 << 31) - 1
_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_EXAMPLES = 5


class ProfileAndText(NamedTuple):
    """A profile and the text that it describes."""

    id: str
    profile: str
    """Profile and tags."""
    text: str
    """Raw text of the entity; empty if it has none."""


@dataclass(frozen=True, slots=True)
class WordingStats:
    """Counts of duplicates, near-duplicates and echoes."""

    profiles: int
    duplicates: int
    """Profiles with the same words as another."""
    near_duplicates: int
    """Of :attr:`compared`, profiles that share at least :data:`NEAR` of their phrases with another; with duplicates."""
    compared: int
    """Profiles compared for near-duplicates."""
    with_text: int
    """Profiles whose entity has a text."""
    echoes: int
    """Of :attr:`with_text`, profiles that share at least :data:`ECHO` of their words with the text."""
    echo: float | None
    """Over :attr:`with_text`, mean share of a profile's words that are in its text."""
    median_words: int
    """Median number of words."""
    examples: list[list[str]] = field(default_factory=list)
    """Ids of duplicates, largest groups first."""


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words.

    >>> words_of("A warm, funny story.")
    ['a', 'warm', 'funny', 'story']
    """
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        if _UNSPACED.search(word):
            found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        else:
            found.append(word)
    return found


def wording_stats(profiles: Iterable[ProfileAndText], *, seed: int = 0, sample: int = SAMPLE) -> WordingStats:
    """Compute the counts in one pass.

    Memory: sixteen bytes and the length of each profile, and the hashed phrases of at most ``sample`` profiles.

    Args:
        profiles: The profiles.
        seed: Seed of the sample.
        sample: Maximum number of profiles compared for near-duplicates.
    """
    rng = np.random.default_rng(seed)
    groups: Counter[bytes] = Counter()
    firsts: dict[bytes, list[str]] = {}
    lengths: list[int] = []
    kept: list[NDArray[np.int64]] = []
    with_text = echoes = 0
    shared = 0.0
    for each in profiles:
        words = words_of(each.profile)
        digest = hashlib.blake2b(" ".join(words).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        groups[digest] += 1
        if groups[digest] <= _EXAMPLES:
            firsts.setdefault(digest, []).append(each.id)
        lengths.append(len(words))
        if len(kept) < sample:
            kept.append(_phrases(words))
        elif (place := int(rng.integers(len(lengths)))) < sample:  # reservoir sampling
            kept[place] = _phrases(words)
        if each.text.strip() and words:
            share = _share_in(words, each.text)
            with_text, shared, echoes = with_text + 1, shared + share, echoes + (share >= ECHO)
    largest = [digest for digest, count in groups.most_common(_EXAMPLES) if count > 1]
    return WordingStats(
        profiles=len(lengths),
        duplicates=sum(count for count in groups.values() if count > 1),
        near_duplicates=_near_duplicates(kept, seed),
        compared=len(kept),
        with_text=with_text,
        echoes=echoes,
        echo=shared / with_text if with_text else None,
        median_words=int(np.median(lengths)) if lengths else 0,
        examples=[firsts[digest] for digest in largest],
    )


def _share_in(words: list[str], text: str) -> float:
    """Return the share of a profile's distinct words that are in its text, without words of one or two letters."""
    content_words = {word for word in words if len(word) > 2 or _UNSPACED.search(word)} or set(words)
    return len(content_words & set(words_of(text))) / len(content_words)


def _phrases(words: list[str]) -> NDArray[np.int64]:
    """Return the sorted distinct hashes of a profile's phrases; of its words if it is shorter than a phrase."""
    width = PHRASE if len(words) >= PHRASE else 1
    phrases = {" ".join(words[i : i + width]) for i in range(len(words) - width + 1)}
    hashed = [
        int.from_bytes(hashlib.blake2b(phrase.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big") % _PRIME
        for phrase in phrases
    ]
    return np.unique(np.array(hashed, np.int64))


def _near_duplicates(sets: list[NDArray[np.int64]], seed: int) -> int:
    """Count the sets that share at least :data:`NEAR` of their phrases with another.

    MinHash signatures (Broder 1997) select candidate pairs, which are then compared exactly. Two sets that share 80% of
    their phrases are missed with a probability below 10^-6.
    """
    rows = [row for row, phrases in enumerate(sets) if len(phrases)]
    if len(rows) < 2:
        return 0
    rng = np.random.default_rng([seed, 1])
    a = rng.integers(1, _PRIME, _BANDS * _ROWS)
    b = rng.integers(0, _PRIME, _BANDS * _ROWS)
    # Products of two 31-bit numbers fit into 64 bits.
    signatures = np.stack([((sets[row][:, None] * a + b) % _PRIME).min(axis=0) for row in rows])
    near: set[int] = set()
    for band in range(_BANDS):
        part = signatures[:, band * _ROWS : (band + 1) * _ROWS]
        order = np.lexsort(part.T)
        alike = np.flatnonzero((part[order[1:]] == part[order[:-1]]).all(axis=1))
        for place in alike.tolist():
            one, other = rows[order[place]], rows[order[place + 1]]
            if not (one in near and other in near) and _jaccard(sets[one], sets[other]) >= NEAR:
                near |= {one, other}
    return len(near)


def _jaccard(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)
