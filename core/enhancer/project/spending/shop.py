"""Price, buy and read the profiles of chosen items."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from enhancer.config.inputs import TEXT
from enhancer.errors import ConfigError, FutileRunError
from enhancer.features import Pipeline
from enhancer.features.generating.connections import model_price
from enhancer.features.reading.table import input_vectors
from enhancer.harness.answers.first_answers import KEEP_GOING
from enhancer.harness.calls.thought_room import ThoughtRoom
from enhancer.harness.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.data import Entity
    from enhancer.features import GenerationReport
    from enhancer.progress import Listener
    from enhancer.project.parts import ProjectParts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class UnitCost:
    """Estimated cost of one item."""

    usd: float
    largest_call_usd: float
    """Upper bound of the cost of one call."""


class Shop:
    """The profiles of a project's items, one by one.

    Args:
        parts: The project.
    """

    def __init__(self, parts: ProjectParts) -> None:
        self._parts = parts
        self._entities: dict[str, Entity] = {}

    @property
    def folder(self) -> Path:
        """Folder of the store."""
        return self._parts.store.directory

    def templates(self, aspects: tuple[Input, ...]) -> list[str]:
        """Return the versions of the templates of aspects."""
        spec = self._pipeline(self._all, aspects).spec("item")
        return sorted({one.note.template.version for one in spec.notes}) if spec is not None else []

    # -- what was paid ----------------------------------------------------------------------------------------------

    def last_completion(self) -> int:
        """Return the number of the last paid completion; 0 without any."""
        return self._journal(lambda journal: journal.spending_after(0).last, 0)

    def spent(self, watermark: int, largest_call_usd: float) -> float:
        """Return what was paid after a completion, in USD. An answer of unknown cost counts as the largest call."""

        def read(journal: Journal) -> float:
            spending = journal.spending_after(watermark)
            return spending.cost_usd + spending.unknown * largest_call_usd

        return self._journal(read, 0.0)

    def _journal(self, read: Callable[[Journal], T], nothing: T) -> T:
        if (found := Journal.find(self._parts.store)) is None:
            return nothing
        with found as journal:
            return read(journal)

    # -- prices -----------------------------------------------------------------------------------------------------

    def examples(self, ids: Collection[str]) -> None:
        """Read entities whose prompts stand for those of others in estimates."""
        wanted = set(ids)
        self._entities = {entity.id: entity for entity in self._all() if entity.id in wanted}

    def unit_cost(self, ids: Sequence[str], aspects: tuple[Input, ...]) -> UnitCost:
        """Estimate the mean cost of an item that has not been bought, by some examples; 0 if all have been.

        Args:
            ids: Ids of the examples.
            aspects: Inputs to buy together.

        Raises:
            ConfigError: The price is unknown.
        """
        some = [self._entities[id_] for id_ in ids if id_ in self._entities]
        plan = self._pipeline(lambda: iter(some), aspects).plan()
        if not plan.requests:
            return UnitCost(0.0, 0.0)
        settings = self._parts.settings
        llm, provider = settings.llm, self._parts.provider(complete=False)
        price = model_price(provider, llm)
        if plan.cost_usd is None or price is None:
            raise ConfigError(
                f"a budget needs a price, and that of model {llm.model!r} is unknown",
                hint="set [llm.price] input and output in USD per million tokens",
            )
        # A text may be as long as is allowed, a token for each character, and an answer that was cut off is asked for
        # again with four times the tokens, beside the room for thought.
        prompt = plan.prompt_tokens / plan.requests + llm.items_per_request * settings.data.max_text
        answer = 4 * llm.max_tokens * llm.items_per_request * len(aspects) * settings.prompts.item.samples
        observed = self._journal(lambda journal: journal.observed_usage(llm.model), None)
        answer += ThoughtRoom.of(provider, llm, observed).tokens()
        # Of items that lack a note: those that have been bought cost nothing, and say nothing of the others.
        return UnitCost(plan.cost_usd / max(plan.to_generate, 1), price.cost(math.ceil(prompt), answer))

    # -- buying -----------------------------------------------------------------------------------------------------

    def buy(
        self, ids: Collection[str], aspects: tuple[Input, ...], max_cost: float, listener: Listener
    ) -> GenerationReport:
        """Generate, embed and store the profiles of some items.

        Args:
            ids: Their ids.
            aspects: Inputs to buy.
            max_cost: Limit in USD.
            listener: Called with progress events.

        Raises:
            BudgetError: The next call could pass the limit. What was paid for is kept.
            FutileRunError: Most of the first answers are not valid.
        """
        wanted = frozenset(ids)
        chosen = self._pipeline(lambda: (one for one in self._all() if one.id in wanted), aspects, max_cost)
        try:
            return chosen.generate(listener)
        except FutileRunError as error:  # a campaign has no option to overrule it
            error.hint = (error.hint or "").removesuffix(KEEP_GOING)
            raise

    def embed_texts(self, listener: Listener) -> None:
        """Embed the raw text of all items, without an LLM."""
        self._pipeline(self._all, (TEXT,)).generate(listener)

    def _pipeline(
        self, entities: Callable[[], Iterator[Entity]], inputs: tuple[Input, ...], max_cost: float | None = None
    ) -> Pipeline:
        parts = self._parts
        settings = parts.settings
        notes = [name for name in inputs if name in settings.prompts.item.aspects]
        item = settings.prompts.item.model_copy(update={"aspects": notes})
        changed = {
            "llm": settings.llm.model_copy(update={"max_cost": max_cost}),
            "prompts": settings.prompts.model_copy(update={"item": item}),
        }
        return Pipeline(
            settings.model_copy(update=changed),
            parts.root,
            store=parts.store,
            provider=parts.provider,
            planner=lambda: parts.provider(complete=False),
            embedder=lambda: parts.embedder,
            sources=replace(parts.sources, items=entities, users=None),
            inputs=inputs,
            on_record=parts.events.profile_stored,
            warned=parts.warned,
        )

    def _all(self) -> Iterator[Entity]:
        return self._parts.pipeline.entities("item")

    # -- reading ----------------------------------------------------------------------------------------------------

    def vectors(self, name: Input) -> NDArray[np.float32]:
        """Return the stored vectors of one input by item row, zero where there is none; ``[n, 0]`` if no item has."""
        parts = self._parts
        ids, samples = parts.split.train.item_ids, parts.settings.prompts.item.samples
        return input_vectors(parts.store, ids, "item", name, parts.embedder.fingerprint, samples=samples)
