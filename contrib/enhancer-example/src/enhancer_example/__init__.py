"""A plugin for enhancer: the embedder ``hashing``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer import hookimpl

if TYPE_CHECKING:
    from enhancer.hookspecs import Register


@hookimpl
def register_embedders(register: Register) -> None:
    """Offer the embedder. The target is a string: nothing of it is imported until somebody uses it."""
    register("hashing", "enhancer_example.hashing:Hashing")
