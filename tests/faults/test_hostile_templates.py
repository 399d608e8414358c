"""Tests of templates that no parser or validator survives: configuration errors, before anything is paid for."""

from __future__ import annotations

import pytest

from enhancer.errors import ConfigError
from enhancer.prompts.template import Template

HEAD = """kind = "item"
system = "s"
user = "about {{ text }}"
[schema]
type = "object"
required = ["profile"]
[schema.properties.profile]
type = "string"
"""
X = "[schema.properties.x]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + X + "enum = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        (HEAD + "[schema.properties." + ".properties.".join("a" * 600) + "]\ntype = 'string'\n", "nested too deeply"),
        (HEAD + X + "maxLength = " + "9" * 5000, "integer of thousands of digits"),
        (HEAD + X + "maxLength = " + "9" * 400, "schema.properties.x.maxLength is an integer of more than 64 bits"),
        (HEAD + X + '"$ref" = "#/properties/x"', "refers to itself without end"),
        (HEAD.replace('"object"', '"object"\nallOf = [{"$ref" = "#"}]'), "refers to itself without end"),
        (HEAD + X + '"$ref" = "#/$defs/a"\n["schema"."$defs".a]\nanyOf = [{"$ref" = "#/$defs/a"}]', "without end"),
        (HEAD + X + '"$ref" = "#/$defs/none"', "refers to '#/\\$defs/none', which it does not have"),
    ],
    ids=["deep list", "deep keys", "huge integer", "large integer", "itself", "whole", "definition", "nowhere"],
)
def test_it_is_a_configuration_error(tmp_path, text, message):
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        Template.load("t.toml", tmp_path)
    assert caught.value.exit_code == 2
    assert "t.toml" in caught.value.message


@pytest.mark.parametrize(
    "more",
    [
        X + '"$ref" = "#"',
        X + '"$ref" = "#/$defs/a~1b"\n[schema."$defs"."a/b"]\ntype = "array"\nitems = {"$ref" = "#/$defs/a~1b"}',
        X + 'const = {"$ref" = "#/nowhere"}',
    ],
    ids=["below a property", "below items", "data"],
)
def test_trees_and_data_are_fine(tmp_path, more):
    (tmp_path / "t.toml").write_text(HEAD + more)
    Template.load("t.toml", tmp_path)
