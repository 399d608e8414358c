"""Plugin for enhancer: the embedder ``model2vec``, whose vectors of tokens are static."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer import hookimpl

if TYPE_CHECKING:
    from enhancer.hookspecs import Register


@hookimpl
def register_embedders(register: Register) -> None:
    """Register the embedder. Neither it nor model2vec is imported before it is used."""
    register("model2vec", "enhancer_model2vec.embedder:Model2Vec", requires=("model2vec",))
