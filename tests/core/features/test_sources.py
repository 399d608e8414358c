"""Test streams of entities and histories."""

from __future__ import annotations

from pathlib import Path

import pytest
from generation import HashingEmbedder, answer
from loopback import Behaviour, LoopbackServer, Script

from enhancer.config import Settings
from enhancer.contracts import Context
from enhancer.data import read_interactions, split_interactions
from enhancer.errors import ConfigError
from enhancer.features import Pipeline, Sources
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions
from enhancer_plugins.stores.sqlite import SQLiteStore

ITEMS = "item_id,title,genre\n" + "".join(f"i{n},film {n},drama\n" for n in range(8))
TOUCHES = "user_id,item_id,rating,timestamp\n" + "".join(
    f"u{u},i{(u + n) % 8},{n % 5 + 1},{1000 + n}\n" for u in range(3) for n in range(6)
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "touches.csv").write_text(TOUCHES)
    return Settings.model_validate(
        {
            "data": {"items": "items.csv", "interactions": "touches.csv"},
            "prompts": {"user": {"source": "llm", "max_history": 3}},
            "llm": {"use": "openai", "model": "m"},
        }
    )


def test_histories_come_from_training_alone_most_recent_first(
    settings: Settings, tmp_path: Path, llm_server: LoopbackServer
) -> None:
    llm_server.script = Script(default=Behaviour(answer=answer))
    columns = settings.data.columns
    touches = read_interactions(tmp_path / "touches.csv", columns, item_ids=[f"i{n}" for n in range(8)])
    split = split_interactions(touches, settings.evaluation, tmp_path, columns)
    sources = Sources.from_settings(settings, tmp_path, train=lambda: split.train)
    store = SQLiteStore(SQLiteStore.options_class(), Context(tmp_path))
    embedder = HashingEmbedder()
    pipeline = Pipeline(
        settings,
        tmp_path,
        store=store,
        provider=lambda: OpenAI(OpenAIOptions(api_base=llm_server.url), Context(tmp_path)),
        embedder=lambda: embedder,
        sources=sources,
    )
    report = pipeline.generate()
    assert (report.entities, report.generated) == (11, 11)
    assert len(list(store.scan(kind="user"))) == 3
    asked = [b["messages"][1]["content"] for b in llm_server.bodies if "History" in b["messages"][1]["content"]]
    assert len(asked) == 3
    for row, user in enumerate(touches.user_ids):
        train = split.train.take(split.train.users == row)
        order = sorted(range(len(train.items)), key=lambda n: -int(train.timestamps[n]))[:3]  # type: ignore[index]
        lines = [f"- film {train.item_ids[train.items[n]][1:]} — {train.ratings[n]:g}" for n in order]  # type: ignore[index]
        assert any("\n".join(["History, most recent first:", *lines, "</data>"]) in text for text in asked), user
    store.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {}}, r"\[data\] items is not set"),
        ({"prompts": {"user": {"source": "text"}}}, r"\[data\] users is not set"),
        ({}, r"\[data\] users and interactions"),
    ],
)
def test_what_is_missing_is_named(settings: Settings, tmp_path: Path, change: dict[str, object], message: str) -> None:
    changed = Settings.model_validate({**settings.model_dump(exclude_unset=True), **change})
    with pytest.raises(ConfigError, match=message):
        Sources.from_settings(changed, tmp_path)
