"""Plugin for enhancer: the embedder ``hashing``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer import hookimpl

if TYPE_CHECKING:
    from enhancer.hookspecs import Register


@hookimpl
def register_embedders(register: Register) -> None:
    """Register the embedder. The target is a string, so that its module is imported only when the embedder is used."""
    register("hashing", "enhancer_example.hashing:Hashing")
