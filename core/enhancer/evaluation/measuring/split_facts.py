"""Count what a split holds, and tell splits apart, for reports."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.evaluation.measuring.views import labels_of

if TYPE_CHECKING:
    from enhancer.evaluation.measuring.views import SplitLike, Views


def split_facts(views: Views) -> dict[str, Any]:
    """Return the sizes of the split, and the number of test pairs that are not scored."""
    split = views.split
    return {
        "users": views.n_users,
        "items": views.n_items,
        "train": len(split.train.users),
        "validation": len(split.validation.users),
        "test": len(split.test.users),
        "test_warm": len(views.warm_test.users),
        "test_cold_items": len(views.cold_test.users),
        "warm_items": len(views.warm_items),
        "cold_items": len(split.cold_items),
        "cold_users": len(split.cold_users),
        "new_items": getattr(split, "new_items", 0),
        **_positives(views),
        "test_unreachable": views.unscored_item_pairs,
        "test_strangers": views.unscored_user_pairs,
        "test_unknown_users": getattr(split, "unknown_users", 0),
        "split": split_fingerprint(split),
    }


def split_fingerprint(split: SplitLike) -> str:
    """Return a hash of the ids, pairs and labels of all parts: runs on equal splits can be compared pair by pair."""
    digest = hashlib.blake2b(digest_size=8)
    ids = "\0".join([*split.train.user_ids, "", *split.train.item_ids])
    digest.update(ids.encode("utf-8", "surrogatepass"))
    for part in (split.train, split.validation, split.test):
        digest.update(f"{len(part.users)}".encode())
        for rows in (part.users, part.items):
            digest.update(np.ascontiguousarray(rows, np.int64).data)
        if (labels := labels_of(part)) is not None:
            digest.update(np.ascontiguousarray(labels, np.float32).data)
    for rows in (split.cold_items, split.cold_users):
        digest.update(f"cold {len(rows)}".encode() + np.ascontiguousarray(rows, np.int64).tobytes())
    return digest.hexdigest()


def _positives(views: Views) -> dict[str, Any]:
    """Return the number of positive interactions in each part; empty without labels."""
    parts = {"train": views.split.train, "validation": views.split.validation, "test": views.split.test}
    return {
        f"{name}_good": int(labels.sum()) for name, part in parts.items() if (labels := labels_of(part)) is not None
    }
