"""What stored profiles of users were made from: only training interactions, or more?

A record's input hash covers the prompt, and so the history in it. The prompts that this split's training part gives are
rendered again and hashed: an equal hash proves what the model was shown. A hash that a wider history gives proves a
leak. A profile that came from elsewhere proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from enhancer.contracts.record import PROFILE_ASPECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Entity
    from enhancer.features.generating.survey import Work

ADOPTED = "adopted:"
"""Before the input hash of a profile of a user that was made elsewhere: current, but nobody knows from what."""
_CHUNK = 4096
_EXAMPLES = 5


def is_current(stored: str, wanted: str) -> bool:
    """Whether a record with this input hash answers the prompt with that one."""
    return stored == wanted or stored == ADOPTED + wanted


@dataclass(frozen=True, slots=True)
class Provenance:
    """Users with a stored profile, by what is known of it."""

    users: int
    proven: int
    """Made from this split's training interactions alone."""
    leaking: dict[str, int] = field(default_factory=dict)
    """Made from more, by what: ``training and validation``, say."""
    adopted: int = 0
    """Made elsewhere."""
    unknown: int = 0
    """Made here from an input that this split does not give: another text, template, model or split."""
    examples: tuple[str, ...] = ()
    """Ids of users whose profiles are not proven, leaking ones first."""

    @property
    def unproven(self) -> int:
        """Users whose profile may show what is held out."""
        return self.users - self.proven


def trace(
    work: Work,
    store: FeatureStore,
    user_ids: Sequence[str],
    wider: Mapping[str, Callable[[], Callable[[Entity], str] | None]],
) -> Provenance:
    """Find out what the stored profiles of users were made from.

    Args:
        work: How users are asked about under this split.
        store: The records.
        user_ids: Users that are trained on.
        wider: Histories that hold more than training, by what they hold; made only if some profile is not proven.
    """
    trained = set(user_ids)
    proven = adopted = 0
    foreign: list[str] = []
    doubtful: dict[str, str] = {}
    for chunk in _chunks(_expected(work, user_ids)):
        stamps = store.stamps([id_ for id_, _ in chunk], kind="user", aspect=PROFILE_ASPECT)
        for (id_, expected), stamp in zip(chunk, stamps, strict=True):
            if stamp is None or id_ not in trained:
                continue
            if stamp.input_hash == expected:
                proven += 1
            elif stamp.input_hash.startswith(ADOPTED):
                adopted += 1
                if len(foreign) < _EXAMPLES:
                    foreign.append(id_)
            else:
                doubtful[id_] = stamp.input_hash
    users = proven + adopted + len(doubtful)
    leaking: dict[str, int] = {}
    caught: list[str] = []
    for name, make in wider.items():
        if not doubtful:
            break
        found = _matching(replace(work, history=make()), doubtful)
        if found:
            leaking[name] = len(found)
        caught += found[:_EXAMPLES]
        for id_ in found:
            del doubtful[id_]
    examples = tuple([*caught, *foreign, *islice(doubtful, _EXAMPLES)][:_EXAMPLES])
    return Provenance(
        users=users, proven=proven, leaking=leaking, adopted=adopted, unknown=len(doubtful), examples=examples
    )


def _expected(work: Work, user_ids: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Every user's hash under this split; None for one that no prompt would be made for."""
    known: set[str] = set()
    for id_, input_hash in work.hashes():
        known.add(id_)
        yield id_, input_hash
    yield from ((id_, None) for id_ in user_ids if id_ not in known)


def _chunks(pairs: Iterator[tuple[str, str | None]]) -> Iterator[list[tuple[str, str | None]]]:
    while chunk := list(islice(pairs, _CHUNK)):
        yield chunk


def _matching(work: Work, hashes: Mapping[str, str]) -> list[str]:
    """Ids whose prompt under this work has the hash that is stored."""
    return [id_ for id_, input_hash in work.hashes(hashes) if input_hash == hashes[id_]]
