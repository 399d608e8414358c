"""Plugins for enhancer: the backbone ``svd`` and the fuser ``retrofit``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer import hookimpl

if TYPE_CHECKING:
    from enhancer.hookspecs import Register


@hookimpl
def register_backbones(register: Register) -> None:
    """Register the backbone. The target is a string, so that it is imported only when it is used."""
    register("svd", "enhancer_svd.backbone:SVD", requires=("scipy",))


@hookimpl
def register_fusers(register: Register) -> None:
    """Register the fuser."""
    register("retrofit", "enhancer_svd.fuser:Retrofit")
