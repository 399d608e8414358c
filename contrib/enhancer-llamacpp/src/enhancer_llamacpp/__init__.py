"""Plugin for enhancer: the LLM provider ``llamacpp``, which runs a GGUF model in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer import hookimpl

if TYPE_CHECKING:
    from enhancer.hookspecs import Register


@hookimpl
def register_llm_providers(register: Register) -> None:
    """Register the provider. Neither it nor llama.cpp is imported before it is used."""
    register("llamacpp", "enhancer_llamacpp.provider:LlamaCpp", requires=("xllamacpp",))
