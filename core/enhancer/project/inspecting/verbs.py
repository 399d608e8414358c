"""Look at items: why one is recommended, and which ones are near to one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from enhancer.config.inputs import TEXT, all_texts
from enhancer.project.inspecting.nearest_items import nearest_items
from enhancer.project.inspecting.reasons import reasons
from enhancer.project.inspecting.titles import item_called
from enhancer.serving.results import Recommendations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.project.inspecting.reasons import Reason
    from enhancer.project.parts import ProjectParts
    from enhancer.project.results import Similar
    from enhancer.serving import Ranker


def recommend(parts: ProjectParts, user_ids: Sequence[str], k: int, ranker: Ranker, explained: bool) -> Recommendations:
    """Recommend items with their titles; see :meth:`enhancer.Project.recommend`."""
    found = Recommendations()
    for one in ranker.recommend(user_ids, k=k):
        ids = [item for item, _ in one.items]
        titles = [ranker.title(item) for item in ids]
        near = explain(parts, one.user_id, ids, ranker) if explained else []
        words = ["" if each is None else f"{each.title or each.item_id} by {each.by}" for each in near]
        found.append(replace(one, titles=titles if any(titles) else [], reasons=words))
    return found


def explain(parts: ProjectParts, user_id: str, item_ids: Sequence[str], ranker: Ranker) -> list[Reason | None]:
    """Name the item of the user's history that is nearest to each item; see :meth:`enhancer.Project.explain`."""
    settings = parts.settings
    return reasons(
        parts.store,
        item_ids,
        ranker.seen(user_id),
        all_texts(settings.item_inputs(settings.inputs)),
        ranker.title,
        catalogue=ranker.item_table()[0],
        samples=settings.prompts.item.samples,
    )


def similar(parts: ProjectParts, item: str, k: int, by: str | None) -> Similar:
    """Return the items nearest to one item; see :meth:`enhancer.Project.similar`."""
    settings, prompt, titles = parts.settings, parts.settings.prompts.item, parts.titles
    return nearest_items(
        parts.store,
        item_called(item, titles),
        settings.item_inputs(settings.inputs) if by is None else [by],
        k,
        titles,
        samples=prompt.samples,
        known=() if by is None else (TEXT, *prompt.notes, *prompt.closed_notes),
    )
