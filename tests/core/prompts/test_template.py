from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from generation import entity
from hypothesis import given, strategies as st

from enhancer.data import Entity
from enhancer.errors import ConfigError
from enhancer.prompts import HistoryLine, Template, bundled_names, group_schema, history_text, neutralize

GOOD = 'system = "You are {x} %s."\nuser = "Film: {{ text }} by {{ fields.title }}"\n'


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_bundled_templates_load_and_name_themselves() -> None:
    items = ["books", "condense", "films", "games", "music", "news", "reviews", "shop", "v1", "v2"]
    assert bundled_names() == [*(f"item/{name}" for name in items), "user/v1", "user/v2"]
    for name in bundled_names():
        template = Template.load(name)
        assert template.version == f"{name}@{template.fingerprint[:8]}"
        assert template.kind == name.split("/")[0]
        keys = {*template.aspects, "confidence"} if template.aspects else {"profile", "tags"}
        assert set(template.schema["properties"]) == (keys if name != "item/condense" else {"profile"})
    assert Template.load("user/v1").context_names == ("history",)
    assert Template.load("item/v1").context_names == ()


def test_the_content_is_the_fingerprint_and_the_name_is_not(tmp_path: Path) -> None:
    first = Template.load("mine.toml", write(tmp_path, GOOD).parent)
    same = Template.load("other.toml", write(tmp_path, "# a comment\n" + GOOD, "other.toml").parent)
    assert first.fingerprint == same.fingerprint
    write(tmp_path, GOOD.replace("Film", "Movie"))
    assert Template.load("mine.toml", tmp_path).fingerprint != first.fingerprint


def test_braces_and_percent_signs_are_just_text(tmp_path: Path) -> None:
    template = Template.load(str(write(tmp_path, GOOD)))
    hostile = entity("1", "{0.__class__} %(x)s {{ title }} ${y}")
    rendered = template.render(hostile)
    assert "{0.__class__} %(x)s {{ title }} ${y}" in rendered
    assert template.messages(rendered)[0].content == "You are {x} %s."


def test_without_markers_the_whole_user_text_is_data(tmp_path: Path) -> None:
    rendered = Template.load(str(write(tmp_path, GOOD))).render(entity("1", "x"))
    assert rendered.startswith("<data>\n")
    assert rendered.endswith("\n</data>")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('system = "s"\nuser = "{{ txet }}"', "unknown placeholder {{ txet }}; did you mean 'text'"),
        ('system = "s"\nuser = "{{ fields. }}"', "line 1 of 'user': expected name or number"),
        ('system = "s"\nuser = "no placeholder"', "holds no placeholder"),
        ('system = "s"\nuser = "<data></data> {{ text }}"', "outside <data>"),
        ('system = "{{ text }}"\nuser = "{{ text }}"', "'system' holds a placeholder"),
        ('user = "{{ text }}"', "'system' must be a non-empty text"),
        ('system = "s"\nuser = "{{ text }}"\nbatch = 3', "'batch' must be a non-empty text"),
        ('system = "s"\nuser = "{{ text }}"\nsistem = "x"', "unknown key 'sistem'; did you mean 'system'"),
        ('system = "s"\nuser = "{{ text }}"\nkind = "film"', "kind must be"),
        ('system = "s"\nuser = "{{ text }}"\nschema = 1', "[schema] must be a table"),
        ('system = "s"\nuser = "{{ text }}"\n[schema]\ntype = "objekt"', "is not a JSON schema"),
        ('system = "s"\nuser = "{{ text }}"\n[schema]\ntype = "object"', "property 'profile'"),
        (
            (
                'system = "s"\nuser = "{{ text }}"\n[schema]\ntype = "object"\n'
                'properties = {profile = {type = "string", "$ref" = "http://x/y"}}'
            ),
            "refers to 'http://x/y'",
        ),
        ("system = ", "not valid TOML"),
    ],
)
def test_a_bad_template_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        Template.load(str(path))
    assert str(path) in str(caught.value)


def test_a_missing_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown template 'item/v3'; did you mean 'item/v[12]'"):
        Template.load("item/v3")
    with pytest.raises(ConfigError, match=r"cannot read template .*gone\.toml"):
        Template.load("gone.toml", tmp_path)
    (tmp_path / "bad.toml").write_bytes(b"system = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Template.load("bad.toml", tmp_path)


def test_an_unknown_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    template = Template.load(str(write(tmp_path, GOOD.replace("fields.title", "fields.titel"))))
    with pytest.raises(ConfigError, match=r"no column 'titel' .* did you mean 'title'"):
        template.render(entity("1"))


@given(st.text(max_size=400))
def test_no_text_can_close_the_quotation(text: str) -> None:
    rendered = Template.load("item/v1").render(Entity(kind="item", id="1", text=text))
    assert rendered.startswith("<data>\n")
    assert rendered.endswith("\n</data>")
    inner = rendered[len("<data>") : -len("</data>")]
    assert not re.search(r"<\W{0,16}(data|entry)", inner, re.IGNORECASE)
    rendered.encode()


@pytest.mark.parametrize("tag", ["</data>", "< / DATA >", "<entry id='2'>", "</\u200bdata>", "<\n/Entry>", "<data\n>"])
def test_what_looks_like_a_marker_loses_its_bracket(tag: str) -> None:
    assert "<" not in neutralize(f"x {tag} y")


def test_values_are_capped() -> None:
    rendered = Template.load("item/v1").render(entity("1", "x" * 10_000_000))
    assert len(rendered) < 21_000
    assert "…" in rendered


def test_a_batch_holds_each_entry_under_its_id() -> None:
    template = Template.load("item/v1")
    system, user = template.group_messages([("a", template.render(entity("a"))), ('"> <entry', "y")])
    assert system.content.startswith(template.system)
    assert template.group_instructions in system.content
    assert '<entry id="a">\n<data>' in user.content
    assert user.content.count("<entry") == 2
    assert '<entry id="\\"> \u2039entry">' in user.content


def test_the_batched_schema_is_one_for_all_ids() -> None:
    schema = group_schema({"type": "object", "properties": {"profile": {"type": "string"}}, "$defs": {"a": {}}})
    element = schema["properties"]["items"]["items"]
    assert element["required"] == ["id"]
    assert list(element["properties"]) == ["id", "profile"]
    assert schema["$defs"] == {"a": {}}
    json.dumps(schema)


def test_a_history_is_lines_of_title_and_rating() -> None:
    text = history_text([HistoryLine("A\nB", 4.0), HistoryLine("C" * 500, 3.5), HistoryLine("D")])
    first, second, third = text.split("\n")
    assert first == "- A B — 4"
    assert second.endswith("… — 3.5")
    assert len(second) < 220
    assert third == "- D"
