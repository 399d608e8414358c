"""``docs/reference/dialects.md`` says what the clients do."""

from __future__ import annotations

import warnings

import pytest
from provider_dialects import DIALECTS, PAGE, block, environment, schema_in, tables


@pytest.fixture(scope="module")
def made():
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, key in environment().items():
            patch.setenv(name, key)
        return tables()


@pytest.mark.parametrize("name", ["requests", "replies"])
def test_the_tables_are_what_the_clients_do(made, name):
    page = PAGE.read_text()
    if block(page, "versions") != made["versions"]:
        pytest.skip(f"the page was made with {block(page, 'versions')}, and this is {made['versions']}")
    # One line at a time, so that a difference shows which dialect has changed.
    assert block(page, name).splitlines() == made[name].splitlines(), (
        "run `python tests/helpers/provider_dialects.py`, and check the words below the table"
    )


def test_each_dialect_has_a_row_in_both_tables(made):
    for dialect in DIALECTS:
        assert f"| {dialect.name}: `{dialect.model}` |" in made["requests"]
        assert f"| {dialect.name} |" in made["replies"]


def test_a_schema_is_found_wherever_it_is():
    schema = {"type": "object", "properties": {"profile": {}}}
    assert schema_in({"a": [{"b": schema}]})[0] == "`a[0].b`"
    assert schema_in({"a": f"Use {schema}"})[0] == "text in `a`"
    assert schema_in({"a": "write a profile"}) == ("nowhere", None)
