"""Test streams of entities and histories."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from generation import HashingEmbedder, answer
from hypothesis import given, strategies as st
from loopback import Behaviour, LoopbackServer, Script

from enhancer.config import Settings
from enhancer.contracts import Context
from enhancer.data import Interactions, Touch, read_interactions, split_interactions
from enhancer.errors import ConfigError
from enhancer.features import Pipeline, Sources
from enhancer.features.context.histories import divide_history
from enhancer.features.kind_spec import KindSpec
from enhancer.harness import AnswerValidator, KeyMaker, PromptSpec
from enhancer.prompts import Note, Template
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


def prompts_of_users(settings: Settings, root: Path, user: str) -> tuple[list[str], Interactions]:
    """Return the prompt of each user by a template with this user text, and the training interactions."""
    (root / "tastes.toml").write_text(f'kind = "user"\nsystem = "Be brief."\nuser = """{user}"""\n')
    columns = settings.data.columns
    touches = read_interactions(root / "touches.csv", columns, item_ids=[f"i{n}" for n in range(8)])
    split = split_interactions(touches, settings.evaluation, root, columns)
    sources = Sources.from_settings(settings, root, train=lambda: split.train)
    template = Template.load("tastes.toml", root)
    assert sources.users is not None
    note = PromptSpec(Note(template), AnswerValidator.of(Note(template)), KeyMaker(template, settings.llm, endpoint=""))
    spec = KindSpec("user", sources.users, (note,), embeds_text=False, context=sources.shown_by)
    return spec.prompts(list(sources.users()))[0], split.train


def test_recent_and_lasting_parts_show_training_interactions_once_each(settings: Settings, tmp_path: Path) -> None:
    prompts, train = prompts_of_users(settings, tmp_path, "{{ recent }}|{{ lasting }}")
    assert train.timestamps is not None
    for row, prompt in enumerate(prompts):
        own = np.flatnonzero(train.users == row)
        newest_first = [train.item_ids[train.items[n]][1:] for n in own[np.argsort(-train.timestamps[own])]]
        recent, lasting = (re.findall(r"film (\d)", part) for part in prompt.split("|"))
        assert recent == newest_first[:1]  # a third of max_history = 3
        assert lasting == [newest_first[1], newest_first[-1]]


def test_without_times_parts_by_time_are_refused_or_left_to_the_history(settings: Settings, tmp_path: Path) -> None:
    rows = [line.rsplit(",", 1)[0] for line in TOUCHES.splitlines()]
    (tmp_path / "touches.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(ConfigError, match="no timestamp column") as error:
        prompts_of_users(settings, tmp_path, "{{ recent }}")
    assert error.value.hint is not None
    assert "[data.columns] timestamp" in error.value.hint
    prompts, _ = prompts_of_users(
        settings, tmp_path, "{% if recent and lasting %}{{ recent }}{% else %}All: {{ history }}{% endif %}"
    )
    assert all(prompt.startswith("<data>\nAll: - film") for prompt in prompts)


def test_a_template_of_items_cannot_show_histories(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('system = "Be brief."\nuser = "{{ text }} {{ history }}"\n')
    template = Template.load("mine.toml", tmp_path)
    sources = Sources.from_settings(settings, tmp_path, train=lambda: pytest.fail("not needed"))
    with pytest.raises(ConfigError, match=r"shows \{\{ history \}\}, which items do not have"):
        sources.shown_by(template)


@given(length=st.integers(0, 60), limit=st.integers(1, 40))
def test_a_divided_history_keeps_order_and_both_ends(length: int, limit: int) -> None:
    recent, lasting = divide_history([Touch(n, None, -n) for n in range(length)], limit)
    shown = [touch.item for touch in recent + lasting]
    assert shown == sorted(set(shown))
    assert len(shown) == min(length, limit)
    assert shown[:1] == list(range(length))[:1]
    assert limit < 3 or length < 3 or shown[-1] == length - 1 or len(lasting) == 1
