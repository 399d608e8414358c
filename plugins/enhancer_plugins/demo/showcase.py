"""Select example users and films for display, by fixed rules and not by their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer import Project, Ranker
    from enhancer.data import Split
    from enhancer.results import Similar

LISTED = 5
NOTES = ("plot", "mood", "audience", "making")
"""Aspects of the notes on films."""


@dataclass(frozen=True)
class UserCase:
    """Favourite films of a user in training, and recommendations."""

    user_id: str
    seen: int
    liked: list[tuple[str, float]]
    """Title and rating of the highest rated films; among equal ratings the most recent first."""
    recommended: list[tuple[str, bool]]
    """Title, and whether the film is in the user's test ratings."""


@dataclass(frozen=True)
class ColdCase:
    """A film held out of training, placed by its text and notes."""

    title: str
    notes: dict[str, str]
    """Notes of the model on it, by aspect."""
    neighbours: list[str]
    """Nearest trained films in serving space."""
    held_out: int
    """Number of held-out films."""
    rank_for_watchers: float
    """Median rank among the held-out films for users who rated the film; 1 is best."""
    rank_for_others: float
    """The same for users who did not rate it."""
    watchers: int
    """Number of users who rated the film."""


@dataclass(frozen=True)
class Showcase:
    """All examples."""

    users: list[UserCase]
    similar: Similar
    cold: ColdCase

    def to_json(self) -> dict[str, Any]:
        """Return the examples for ``--json``."""
        return {
            "users": [vars(case) for case in self.users],
            "similar": self.similar.to_json(),
            "cold": vars(self.cold),
        }


def make_showcase(project: Project) -> Showcase:
    """Select the examples, from the artifact and the store."""
    ranker, split = project.ranker(), project.parts.split
    titles = {item: title or item for item, title in project.titles.items()}
    users = [_user_case(row, ranker, split, titles) for row in _choose_users(split)]
    first = split.train.item_ids[int(np.argmax(np.bincount(split.train.items)))]
    return Showcase(users=users, similar=project.similar(first, k=LISTED), cold=_cold_case(project, ranker, titles))


def _choose_users(split: Split) -> list[int]:
    """Return the tested users at the lower quartile and at the median of history length."""
    length = np.bincount(split.train.users, minlength=len(split.train.user_ids))
    tested = np.unique(split.test.users)
    tested = tested[length[tested] > 0]
    by_length = tested[np.argsort(length[tested], kind="stable")]
    return [int(by_length[len(by_length) // 4]), int(by_length[len(by_length) // 2])]


def _user_case(row: int, ranker: Ranker, split: Split, titles: dict[str, str]) -> UserCase:
    train = split.train
    own = np.flatnonzero(train.users == row)
    ratings = np.zeros(len(own)) if train.ratings is None else train.ratings[own]
    times = own if train.timestamps is None else train.timestamps[own]
    best = np.lexsort((-times, -ratings))[:LISTED]
    user = train.user_ids[row]
    later = {train.item_ids[item] for item in split.test.items[split.test.users == row]}
    warm = [train.item_ids[item] for item in np.unique(train.items)]
    (recommended,) = ranker.recommend([user], k=LISTED, candidates=warm)
    return UserCase(
        user_id=user,
        seen=len(own),
        liked=[(titles[train.item_ids[train.items[own[i]]]], float(ratings[i])) for i in best],
        recommended=[(titles[item], item in later) for item, _ in recommended.items],
    )


def _cold_case(project: Project, ranker: Ranker, titles: dict[str, str]) -> ColdCase:
    """Return the held-out film with most ratings, which readers most likely know."""
    split = project.parts.split
    cold = [split.train.item_ids[row] for row in split.cold_items]
    watched = np.bincount(split.test.items, minlength=len(split.train.item_ids))
    row = int(split.cold_items[int(np.argmax(watched[split.cold_items]))])
    item = split.train.item_ids[row]
    trained = {split.train.item_ids[i] for i in np.unique(split.train.items)}
    near = [other for other, _ in ranker.similar(item, k=len(titles) - 1).items if other in trained][:LISTED]
    users = [split.train.user_ids[u] for u in np.unique(split.train.users)]
    watchers = {split.train.user_ids[u] for u in split.test.users[split.test.items == row]} & set(users)
    rank = _ranks(ranker, users, cold, item)
    return ColdCase(
        title=titles[item],
        notes={aspect: _text(project, item, aspect) for aspect in NOTES},
        neighbours=[titles[other] for other in near],
        held_out=len(cold),
        rank_for_watchers=float(np.median([rank[user] for user in watchers])),
        rank_for_others=float(np.median([rank[user] for user in users if user not in watchers])),
        watchers=len(watchers),
    )


def _text(project: Project, item: str, aspect: str) -> str:
    (record,) = project.store.get([item], aspect=aspect)
    return "" if record is None else record.profile


def _ranks(ranker: Ranker, users: Sequence[str], cold: Sequence[str], item: str) -> dict[str, int]:
    """Return the rank of ``item`` among the held-out films, by user."""
    ranks = {}
    for ranked in ranker.recommend(users, k=len(cold), candidates=cold):
        order = [other for other, _ in ranked.items]
        ranks[ranked.user_id] = order.index(item) + 1
    return ranks
