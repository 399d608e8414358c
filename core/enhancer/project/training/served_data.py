"""Everything that is known when a model is served: all interactions, and all items that a user has."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from enhancer.data import TableOptions, joined, read_interactions
from enhancer.evaluation import training_data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import TrainingData
    from enhancer.data import Interactions
    from enhancer.project.parts import ProjectParts

Pairs = tuple["NDArray[np.int32]", "NDArray[np.int32]"]


def all_interactions(parts: ProjectParts) -> Interactions:
    """Return the interactions of all parts of the split, in the order of their files."""
    if parts.settings.evaluation.split != "files":
        return parts.interactions
    split = parts.split
    return joined(joined(split.train, split.validation), split.test)


def refit_data(parts: ProjectParts, everything: Interactions, data: TrainingData) -> TrainingData:
    """Return the training data of a refit.

    Args:
        parts: The project's parts.
        everything: All interactions.
        data: Training data of the run that was tested; its vectors of items, views and side features are used again.
    """
    users = data.user_vectors
    if data.item_vectors is not None and users is not None:
        semantics = replace(parts.semantics, train=everything)
        users = (
            semantics.pool(data.item_vectors)
            if semantics.pools_users
            else semantics.tables(parts.settings.inputs).users
        )
    made = training_data(
        replace(parts.split, train=everything),
        users,
        data.item_vectors,
        data.views,
        item_spread=data.item_spread,
        labelled=data.labels is not None,
    )
    return replace(made, user_features=data.user_features, item_features=data.item_features)


def pairs_seen(parts: ProjectParts, everything: Interactions) -> Pairs:
    """Return user and item rows of all pairs in the files, those that ``[evaluation]`` leaves out among them.

    A user who rated an item below ``min_rating`` has it.
    """
    settings = parts.settings
    evaluation = settings.evaluation
    if evaluation.min_rating is None and not evaluation.k_core:
        return everything.users, everything.items
    files = [settings.data.interactions]
    if evaluation.split == "files":
        files += [evaluation.validation, evaluation.test]
    options = TableOptions.of(settings.data, "interactions")
    read = [
        read_interactions(
            parts.root / file,
            settings.data.columns,
            item_ids=everything.item_ids,
            user_ids=everything.user_ids,
            options=options,
        )
        for file in files
        if file is not None
    ]
    return np.concatenate([each.users for each in read]), np.concatenate([each.items for each in read])


@dataclass(frozen=True)
class Aliases:
    """Spellings of ids in the interactions that are not those of the tables, and the id that each was taken for."""

    users: Mapping[str, str]
    items: Mapping[str, str]


def aliases_of(parts: ProjectParts) -> Aliases:
    """Return the other spellings that the files of the interactions have."""
    split = parts.split
    files = [split.train, split.validation, split.test]
    reports = [part.report for part in (files if parts.settings.evaluation.split == "files" else [parts.interactions])]
    users = {alias: id_ for report in reports for alias, id_ in report.respelt_users.known.items()}
    items = {alias: id_ for report in reports for alias, id_ in report.respelt_items.known.items()}
    return Aliases(users, items)


def digest_of(
    everything: Interactions, seen: Pairs, titles: list[str] | None, aliases: Aliases, *, refits: bool
) -> str:
    """Return a hash of what an artifact holds besides the run that was tested."""
    spelt = [f"{alias}\0{id_}" for known in (aliases.users, aliases.items) for alias, id_ in sorted(known.items())]
    told = "\0".join([str(refits), *(titles or ()), *spelt])
    digest = hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16)
    for column in (*seen, everything.users, everything.items, everything.ratings, everything.timestamps):
        digest.update(b"-" if column is None else np.ascontiguousarray(column).data)
    return digest.hexdigest()
