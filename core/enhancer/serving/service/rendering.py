"""Write lists of items as JSON.

What is written of an item, but for its score, is the same in every list. It is kept for each ranker, so that a list
takes a third of the time of writing it anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from enhancer.serving.service.answers import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.serving.ranker import Ranker
    from enhancer.serving.results import Scored

_KEPT_AT_MOST: Final = 100_000
"""Items of which something is kept; beyond that all is written anew."""
_Parts = dict[str, tuple[bytes, bytes]]
"""JSON before and after the score, by item."""
_kept: WeakKeyDictionary[Ranker, _Parts] = WeakKeyDictionary()


def render(kind: str, ranker: Ranker, id_: str, items: Sequence[Scored]) -> bytes:
    """Return a list of items with their scores, and the titles of those that have one.

    Args:
        kind: Key of the id: ``user_id`` or ``item_id``.
        ranker: Ranker that knows the titles.
        id_: The user, or the item, that the list is for.
        items: Item ids and scores.
    """
    kept = _kept.get(ranker)
    if kept is None:
        kept = _kept.setdefault(ranker, {})
    parts = [kept.get(item) or _parts(ranker, item, kept) for item, _ in items]
    scores = to_json([score for _, score in items])[1:-1].split(b",")
    written = b",".join([before + score + after for (before, after), score in zip(parts, scores, strict=False)])
    return b'{"%b":%b,"items":[%b]}' % (kind.encode(), to_json(id_), written)


def _parts(ranker: Ranker, item: str, kept: _Parts) -> tuple[bytes, bytes]:
    title = ranker.title(item)
    parts = b'{"item_id":%b,"score":' % to_json(item), b',"title":%b}' % to_json(title) if title else b"}"
    if len(kept) < _KEPT_AT_MOST:
        kept[item] = parts
    return parts
