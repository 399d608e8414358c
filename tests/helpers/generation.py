"""A small project for tests of profile generation: a SQLite store, the OpenAI provider, and a hashing embedder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enhancer.config import Settings
from enhancer.contracts import Context, Embedder, FeatureStore, Options
from enhancer.data import Entity
from enhancer.data.reviews.index import ReviewIndex
from enhancer.features import Pipeline, Sources
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions
from enhancer_plugins.stores.sqlite import SQLiteStore

PROFILE = "A warm and curious story about {}, told with wit. Those who like gentle wonder would love it."


class HashingEmbedder(Embedder):
    """Embedder that hashes words to signed buckets; records the texts it embeds in ``texts``."""

    def __init__(
        self, options: Options | None = None, context: Context | None = None, *, name: str = "hashing"
    ) -> None:
        self.name = name
        self.texts: list[str] = []
        self.fail: Exception | None = None

    @property
    def fingerprint(self) -> str:
        return f"{self.name}/16"

    @property
    def dim(self) -> int:
        return 16

    def encode(self, texts: Iterable[str]) -> NDArray[np.float32]:
        if self.fail is not None:
            raise self.fail
        texts = list(texts)
        self.texts += texts
        rows = np.full((len(texts), 16), 1e-3, np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                digest = hashlib.blake2b((self.name + word).encode(), digest_size=2).digest()
                row[digest[0] % 16] += 1 if digest[1] % 2 else -1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def entity(id_: str, text: str = "", kind: str = "item") -> Entity:
    text = text or f"title: film {id_}"
    return Entity(kind=kind, id=id_, text=text, title=f"film {id_}", columns={"title": [f"film {id_}"]})


def entities(n: int) -> list[Entity]:
    return [entity(str(i)) for i in range(n)]


def profile_of(subject: str) -> dict[str, Any]:
    return {"profile": PROFILE.format(subject), "tags": ["warm", "witty", "gentle", "wonder"]}


def asked_ids(body: Mapping[str, Any]) -> list[str]:
    """Return the ids of a request for several entities."""
    text = body["messages"][1]["content"]
    return [json.loads(quoted) for quoted in re.findall(r'^<entry id=(".*")>$', text, re.MULTILINE)]


def answer(body: Mapping[str, Any]) -> str:
    """Return a valid answer that names its entity or entities."""
    ids = asked_ids(body)
    if ids:
        return json.dumps({"items": [{"id": id_, **profile_of(f"number {id_}")} for id_ in ids]})
    about = re.search(r"film (\S+)", body["messages"][1]["content"])
    return json.dumps(profile_of(f"number {about.group(1)}" if about else "nothing"))


class GenerationProject:
    """A project folder. Each call of ``pipeline()`` starts afresh, as a new process would."""

    def __init__(self, folder: Path, url: str, rows: Iterable[Entity] = (), **llm: Any) -> None:
        self.folder = folder
        self.url = url
        self.rows: list[Entity] = list(rows)
        self.users: list[Entity] | None = None
        self.history: Callable[[Entity], str] | None = None
        self.item_context: Mapping[str, Callable[[Entity], str]] = {}
        self.reviews: Callable[[], ReviewIndex] | None = None
        self.llm: dict[str, Any] = {"use": "openai", "model": "loopback-model", "concurrency": 8, "timeout": 5.0, **llm}
        self.prompts: dict[str, Any] = {}
        self.inputs: list[str] = ["profile"]
        self.embedder: Any = HashingEmbedder()
        self.embedding: dict[str, Any] = {}
        self.store: FeatureStore = self.open_store()
        self.seen: list[Any] = []

    def open_store(self) -> FeatureStore:
        return SQLiteStore(SQLiteStore.options_class(path=Path("features.sqlite")), Context(self.folder))

    def provider(self) -> OpenAI:
        return OpenAI(OpenAIOptions(api_base=self.url), Context(self.folder))

    def settings(self) -> Settings:
        return Settings.model_validate(
            {"llm": self.llm, "prompts": self.prompts, "embedder": {"input": self.inputs, **self.embedding}}
        )

    def pipeline(self, **more: Any) -> Pipeline:
        context = {"user": {} if self.history is None else {"history": self.history}, "item": self.item_context}
        users = None if self.users is None else (lambda: self.users)
        sources = Sources(lambda: self.rows, users, context, self.reviews)
        options = {
            "provider": self.provider,
            "embedder": lambda: self.embedder,
            "sources": sources,
            "on_record": self.seen.append,
            **more,
        }
        return Pipeline(self.settings(), self.folder, store=self.store, **options)

    def generate(self, *args: Any, **more: Any) -> Any:
        return self.pipeline().generate(*args, **more)

    def plan(self, **more: Any) -> Any:
        return self.pipeline().plan(**more)

    def stored(self) -> dict[str, Any]:
        return {record.id: record for record in self.store.scan(kind="item", aspect="")}
