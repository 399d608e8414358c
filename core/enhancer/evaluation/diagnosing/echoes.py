"""What profiles look like as words: equal ones, nearly equal ones, and those that only echo the text they are of.

Words are compared without case. Writing that puts no space between words is compared by pairs of characters.
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
"""Words in a phrase; two profiles are compared by the phrases that they share."""
NEAR = 0.8
"""Share of phrases in common (Jaccard) from which two profiles are near-duplicates."""
ECHO = 0.8
"""Share of a profile's words that are in its own text from which it only echoes it."""
SAMPLE = 20_000
"""Profiles that are compared for near-duplicates; of more, that many are drawn."""
_BANDS, _ROWS = 20, 3
_PRIME = (1 << 31) - 1
_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_EXAMPLES = 5


class Written(NamedTuple):
    """A profile beside the text it was made of."""

    id: str
    words: str
    """Profile and tags."""
    text: str
    """The entity's raw text; empty where it has none of its own."""


@dataclass(frozen=True, slots=True)
class Wording:
    """What was found."""

    profiles: int
    duplicates: int
    """Profiles whose words are those of another."""
    near_duplicates: int
    """Of :attr:`compared`, profiles that share four fifths of their phrases with another, equal ones included."""
    compared: int
    """Profiles compared for near-duplicates."""
    with_text: int
    """Profiles that have a text beside them."""
    echoes: int
    """Of those, profiles that say little but what the text says."""
    echo: float | None
    """Of those, mean share of a profile's words that are in its text."""
    median_words: int
    """Words of the profile in the middle."""
    examples: list[list[str]] = field(default_factory=list)
    """Ids of profiles with equal words, the largest groups first."""


def words_of(text: str) -> list[str]:
    """Its words, in small letters.

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


def examine(written: Iterable[Written], *, seed: int = 0, sample: int = SAMPLE) -> Wording:
    """Read all profiles once.

    Kept of each are sixteen bytes and its length; of ``sample`` drawn ones the hashes of their phrases as well.

    Args:
        written: The profiles, as a stream.
        seed: Draws the sample.
        sample: Profiles that are compared for near-duplicates at most.
    """
    rng = np.random.default_rng(seed)
    groups: Counter[bytes] = Counter()
    firsts: dict[bytes, list[str]] = {}
    lengths: list[int] = []
    kept: list[NDArray[np.int64]] = []
    with_text = echoes = 0
    shared = 0.0
    for each in written:
        words = words_of(each.words)
        digest = hashlib.blake2b(" ".join(words).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        groups[digest] += 1
        if groups[digest] <= _EXAMPLES:
            firsts.setdefault(digest, []).append(each.id)
        lengths.append(len(words))
        if len(kept) < sample:
            kept.append(_phrases(words))
        elif (place := int(rng.integers(len(lengths)))) < sample:  # every profile is as likely to be kept
            kept[place] = _phrases(words)
        if each.text.strip() and words:
            share = _share_in(words, each.text)
            with_text, shared, echoes = with_text + 1, shared + share, echoes + (share >= ECHO)
    largest = [digest for digest, count in groups.most_common(_EXAMPLES) if count > 1]
    return Wording(
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
    """Share of the different words of a profile that its text has; words of one or two letters do not count."""
    telling = {word for word in words if len(word) > 2 or _UNSPACED.search(word)} or set(words)
    return len(telling & set(words_of(text))) / len(telling)


def _phrases(words: list[str]) -> NDArray[np.int64]:
    """Hashes of the phrases of a profile, each once, ascending; of a short one, of its words."""
    width = PHRASE if len(words) >= PHRASE else 1
    phrases = {" ".join(words[i : i + width]) for i in range(len(words) - width + 1)}
    hashed = [
        int.from_bytes(hashlib.blake2b(phrase.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big") % _PRIME
        for phrase in phrases
    ]
    return np.unique(np.array(hashed, np.int64))


def _near_duplicates(sets: list[NDArray[np.int64]], seed: int) -> int:
    """How many sets share most of their phrases with another one.

    Signatures by minimum hashes (Broder 1997) put alike sets next to each other; only those are compared, exactly. Two
    sets that share 80% of their phrases are missed with a probability below 10^-6.
    """
    rows = [row for row, phrases in enumerate(sets) if len(phrases)]
    if len(rows) < 2:
        return 0
    rng = np.random.default_rng([seed, 1])
    a = rng.integers(1, _PRIME, _BANDS * _ROWS)
    b = rng.integers(0, _PRIME, _BANDS * _ROWS)
    # 31-bit numbers: the product of two fits 62 bits.
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
