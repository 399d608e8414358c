"""The verbs of a project that look at single items and users."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.contracts.record import Kind
    from enhancer.project.inspecting.entity_view import EntityView
    from enhancer.project.inspecting.reasons import Reason
    from enhancer.project.parts import ProjectParts
    from enhancer.project.results import Similar
    from enhancer.serving import Ranker


class InspectingVerbs(ABC):
    """Verbs of :class:`enhancer.Project` about single items and users."""

    parts: ProjectParts

    @abstractmethod
    def ranker(self) -> Ranker:
        """Load the artifact."""

    def explain(self, user_id: str, item_ids: Sequence[str], *, ranker: Ranker | None = None) -> list[Reason | None]:
        """Return for each item the item of the user's history that is nearest to it, and by which note.

        The history is that of the artifact, and the vectors are those of the store. They say what the item has in
        common with the history, not how the model came to its score.

        Args:
            user_id: A user of the artifact.
            item_ids: Items, such as those recommended to the user.
            ranker: The artifact, if it is loaded already.

        Raises:
            DataError: The artifact does not know the user.
            StoreError: The store has no vectors of these items.
        """
        from enhancer.project.inspecting.verbs import explain

        return explain(self.parts, user_id, item_ids, self.ranker() if ranker is None else ranker)

    def show(self, entity: str, *, kind: Kind = "item", neighbours: int = 5) -> EntityView:
        """Return everything that is known about an item or user: texts, notes, prompt, answers, cost and neighbours.

        Args:
            entity: Id; for an item also its title.
            kind: Kind of the entity.
            neighbours: Number of neighbours by meaning, and of those by behaviour.

        Raises:
            DataError: Neither the tables nor the store have it, or several items have the title.
        """
        from enhancer.project.inspecting.entity_view import view_entity

        return view_entity(self.parts, entity, kind, neighbours=neighbours)

    def similar(self, item: str, k: int = 10, *, by: str | None = None) -> Similar:
        """Return the ``k`` items whose stored vectors are nearest to that of an item by cosine.

        Args:
            item: Id or title of the item.
            k: Number of items to return.
            by: Name of a note, such as ``mood``, or another input; by default all of ``[embedder] input``.

        Raises:
            StoreError: The store has no vectors of items.
            DataError: The store has no vector for this item, or several items have the title, or none has.
        """
        from enhancer.project.inspecting.verbs import similar

        return similar(self.parts, item, k, by)
