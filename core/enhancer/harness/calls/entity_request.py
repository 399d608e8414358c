"""Build the request about an entity or a group of entities, for direct calls and batch jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.contracts.llm import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.config.schema import LLMConfig
    from enhancer.harness.answers.entity_task import EntityTask


def entity_request(tasks: Sequence[EntityTask], llm: LLMConfig) -> Request:
    """Build the request about one entity (a re-ask after an invalid answer) or about a group of one kind."""
    if len(tasks) == 1:
        task = tasks[0]
        return Request(
            messages=task.messages(),
            schema=task.spec.template.schema,
            subjects=(task.key,),
            max_tokens=llm.max_tokens * (2 if task.raise_max_tokens else 1),
            **_sampling(llm),
        )
    template = tasks[0].spec.template
    return Request(
        messages=template.group_messages([(task.key.id, task.prompt) for task in tasks]),
        schema=template.group_schema,
        schema_name="profiles",
        subjects=tuple(task.key for task in tasks),
        grouped=True,
        max_tokens=llm.max_tokens * len(tasks),
        **_sampling(llm),
    )


def _sampling(llm: LLMConfig) -> dict[str, Any]:
    return {
        "model": llm.model,
        "temperature": llm.temperature,
        "top_p": llm.top_p,
        "seed": llm.seed,
        "timeout": llm.timeout,
    }
