"""Find out whether stored user profiles were made from training interactions only.

A record's input hash covers the prompt, and so the history in it. The prompts of the training split are rendered again
and hashed: an equal hash proves what the model was shown. A hash that a wider history gives proves a leak. An imported
profile proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from enhancer.contracts.record import PROFILE_ASPECT
from enhancer.features.stored_hash import ADOPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Entity
    from enhancer.features.kind_spec import KindSpec

_CHUNK = 4096
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Provenance:
    """Number of users with a stored profile, by what their profiles were made from."""

    users: int
    proven: int
    """Made from this split's training interactions only."""
    leaking: dict[str, int] = field(default_factory=dict)
    """Made from more interactions, by which, such as ``training and validation``."""
    adopted: int = 0
    """Imported."""
    unknown: int = 0
    """Made here from an input that this split does not give: another text, template, model or split."""
    examples: tuple[str, ...] = ()
    """Ids of users whose profiles are not proven, leaking ones first."""

    @property
    def unproven(self) -> int:
        """Number of users whose profile may show held-out interactions."""
        return self.users - self.proven


def trace(
    spec: KindSpec,
    store: FeatureStore,
    user_ids: Sequence[str],
    wider: Mapping[str, Callable[[], Mapping[str, Callable[[Entity], str]]]],
) -> Provenance:
    """Find out what the stored user profiles were made from.

    Args:
        spec: Specification of users under this split.
        store: The stored records.
        user_ids: Users of the training split.
        wider: Makes renderers (see :attr:`KindSpec.context`) that show more than training interactions, by what they
            show. Called only if a profile is not proven.
    """
    trained = set(user_ids)
    proven = adopted = 0
    imported: list[str] = []
    doubtful: dict[str, str] = {}
    for chunk in _chunks(_expected(spec, user_ids)):
        stamps = store.stamps([id_ for id_, _ in chunk], kind="user", aspect=PROFILE_ASPECT)
        for (id_, expected), stamp in zip(chunk, stamps, strict=True):
            if stamp is None or id_ not in trained:
                continue
            if stamp.input_hash == expected:
                proven += 1
            elif stamp.input_hash.startswith(ADOPTED):
                adopted += 1
                if len(imported) < _EXAMPLES:
                    imported.append(id_)
            else:
                doubtful[id_] = stamp.input_hash
    users = proven + adopted + len(doubtful)
    leaking: dict[str, int] = {}
    leaking_ids: list[str] = []
    for name, make in wider.items():
        if not doubtful:
            break
        found = _matching(replace(spec, context=make()), doubtful)
        if found:
            leaking[name] = len(found)
        leaking_ids += found[:_EXAMPLES]
        for id_ in found:
            del doubtful[id_]
    examples = tuple([*leaking_ids, *imported, *islice(doubtful, _EXAMPLES)][:_EXAMPLES])
    return Provenance(
        users=users, proven=proven, leaking=leaking, adopted=adopted, unknown=len(doubtful), examples=examples
    )


def _expected(spec: KindSpec, user_ids: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield every user's input hash under this split; None for a user of the split without a prompt."""
    known: set[str] = set()
    for id_, input_hash in spec.hashes():
        known.add(id_)
        yield id_, input_hash
    yield from ((id_, None) for id_ in user_ids if id_ not in known)


def _chunks(pairs: Iterator[tuple[str, str | None]]) -> Iterator[list[tuple[str, str | None]]]:
    while chunk := list(islice(pairs, _CHUNK)):
        yield chunk


def _matching(spec: KindSpec, hashes: Mapping[str, str]) -> list[str]:
    """Return the ids whose prompt has the stored hash."""
    return [id_ for id_, input_hash in spec.hashes(hashes) if input_hash == hashes[id_]]
