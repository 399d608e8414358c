"""Plugin for enhancer: the embedder ``fastembed``, which runs ONNX models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer import hookimpl

if TYPE_CHECKING:
    from enhancer.hookspecs import Register


@hookimpl
def register_embedders(register: Register) -> None:
    """Register the embedder. Neither it nor fastembed is imported before it is used."""
    register("fastembed", "enhancer_fastembed.embedder:FastEmbed", requires=("fastembed",))
