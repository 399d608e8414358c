"""The request about one entity or several: one place makes it, for direct calls and for offline batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.contracts.llm import Request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.config.schema import LLMConfig
    from enhancer.harness.answers.entity_task import EntityTask


def request_about(cases: Sequence[EntityTask], llm: LLMConfig) -> Request:
    """Ask about one entity (again, where it was answered badly before), or about several of one kind together."""
    if len(cases) == 1:
        case = cases[0]
        return Request(
            messages=case.messages(),
            schema=case.ask.template.schema,
            subjects=(case.key,),
            max_tokens=llm.max_tokens * (2 if case.raise_max_tokens else 1),
            **_sampling(llm),
        )
    template = cases[0].ask.template
    return Request(
        messages=template.group_messages([(case.key.id, case.prompt) for case in cases]),
        schema=template.group_schema,
        schema_name="profiles",
        subjects=tuple(case.key for case in cases),
        grouped=True,
        max_tokens=llm.max_tokens * len(cases),
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
