"""Conditions, loops and filters in templates, and what the sandbox refuses."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, strategies as st

from enhancer.data import Entity
from enhancer.errors import ConfigError
from enhancer.prompts import Template
from enhancer.prompts.filters import FILTERS, MAX_ELEMENTS
from enhancer.prompts.quoting import MAX_VALUE
from enhancer.prompts.user_text import MAX_RENDERED

COLUMNS = {
    "title": ["Heat"],
    "genres": ["Action|Crime|Crime| Drama "],
    "year": ["1995"],
    "tagline": [""],
    "release date": ["1995-12-15"],
    "imdb.rating": ["8.3"],
}
HISTORY = "- Alien (1979) — 5\n- Babe (1995) — 4\n- Fargo (1996) — 3"


def render(user: str, history: str = HISTORY, **columns: str) -> str:
    table = {**COLUMNS, **{name: [value] for name, value in columns.items()}}
    entity = Entity("item", "1", "title: Heat\nyear: 1995", table["title"][0], table, 0)
    template = Template("mine", {"system": "s", "user": user})
    rendered = template.render(entity, history=history)
    assert rendered.startswith("<data>\n")
    assert rendered.endswith("\n</data>")
    return rendered.removeprefix("<data>\n").removesuffix("\n</data>")


@pytest.mark.parametrize(
    ("user", "rendered"),
    [
        ("{{ title }}{% if fields.tagline %}: {{ fields.tagline }}{% endif %}", "Heat"),
        ("{% if fields.year | int > 1990 %}new{% elif title %}old{% else %}?{% endif %} {{ title }}", "new Heat"),
        ("{% if 'Crime' in fields.genres and not fields.tagline %}yes{% endif %}{{ id }}", "yes1"),
        ("{% if fields.year in ['1994', '1995'] %}mid{% endif %}{{ id }}", "mid1"),
        ("{% for g in fields.genres | split('|') | unique %}- {{ g }}\n{% endfor %}", "- Action\n- Crime\n- Drama\n"),
        ("{% for line in (history | lines)[:2] %}{{ line }};{% endfor %}", "- Alien (1979) — 5;- Babe (1995) — 4;"),
        ("{% for g in fields.tagline | split %}{{ g }}{% else %}no {{ title }}{% endfor %}", "no Heat"),
        ("{% for g in fields.genres | split('|') if g != 'Crime' %}{{ g }},{% endfor %}", "Action,Drama,"),
        ("{{ fields.genres | split('|') | sort | join(' + ') }}", "Action + Crime + Crime + Drama"),
        ("{{ fields.genres | split('|') }}", "Action, Crime, Crime, Drama"),
        ("{{ title | upper }} {{ 'a' ~ title | lower }} {{ title[:2] }} {{ title[-1:] }}", "HEAT aheat He t"),
        ("{{ text | truncate(8) }}/{{ fields.tagline | default('none') }}", "title:…/none"),
        ("{{ fields.tagline | default(title) }} {{ 'A' if title else 'B' }}", "Heat A"),
        ("{{ fields.year | replace('19', '20') }} {{ fields.year | float | round }}", "2095 1995"),
        ("{{ fields['release date'] }} {{ fields.release date }} {{ fields.imdb.rating | float }}", "1995-12-15 1995-12-15 8.3"),
        ("{{ fields.genres | split('|') | first }} {{ fields.genres | split('|') | length }}", "Action 4"),
        ("{# note #}{{ title | title | trim | capitalize }}{% raw %}{{ x }}{% endraw %}", "Heat{{ x }}"),
        ("{{ title }}{% if not title %}\nmissing{% endif %}\n{%- if title %}\nend{% endif %}", "Heat\nend"),
        ("{{ 3 }}{{ none }}{{ true }}{{ title }}{{ fields.tagline | split | last }}", "3TrueHeat"),
    ],
)  # fmt: skip
def test_conditions_loops_and_filters(user: str, rendered: str) -> None:
    assert render(user) == rendered


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("{{ text.upper() }}", "a call is not allowed"),
        ("{{ text.upper }}", ".upper is not allowed; the only attributes are fields.COLUMN"),
        ("{{ text.__class__ }}", ".__class__ is not allowed"),
        ("{{ fields.__class__ }}", "fields.__class__ is not allowed"),
        ("{{ fields.title.__class__.__mro__ }}", "fields.title.__class__.__mro__ is not allowed"),
        ("{{ fields.title.upper() }}", "a call is not allowed"),
        ("{{ fields }}", "'fields' needs the name of a column"),
        ("{{ fields[title] }}", "[…] is not allowed"),
        ("{{ text['__class__'] }}", "[…] is not allowed"),
        ("{{ text[0] }}", "[…] is not allowed"),
        ("{{ text[:fields.year] }}", "the bounds of a slice must be whole numbers"),
        ("{{ text | attr('upper') }}", "unknown filter 'attr'"),
        ("{{ text | map(attribute='x') }}", "unknown filter 'map'"),
        ("{{ text | format }}", "unknown filter 'format'"),
        ("{{ text | uper }}", "unknown filter 'uper'; did you mean 'upper'"),
        ("{{ text | join(', ', attribute='x') }}", "the filter 'join' takes a value and at most 1 plain arguments"),
        ("{{ text | join(*[1]) }}", "the filter 'join' takes"),
        ("{{ text | truncate }}", "the filter 'truncate' needs 1 arguments"),
        ("{{ text | replace(title, text) }}", "the arguments of the filter 'replace' must be constants"),
        ("{{ range(3) }}", "a call is not allowed"),
        ("{{ range }}", "unknown placeholder {{ range }}"),
        ("{{ self }}", "unknown placeholder {{ self }}"),
        ("{{ loop }}", "unknown placeholder {{ loop }}"),
        ("{{ cycler('a') }}", "a call is not allowed"),
        ("{{ lipsum }}", "unknown placeholder {{ lipsum }}"),
        ("{{ _value_0 }}", "unknown placeholder {{ _value_0 }}"),
        ("{{ text * 3 }}", "the operator '*' is not allowed"),
        ("{{ 2 ** 3 }}", "the operator '**' is not allowed"),
        ("{{ '%9d' % 1 }}", "the operator '%' is not allowed"),
        ("{{ text + title }}", "the operator '+' is not allowed"),
        ("{{ {'a': 1} }}", "dict in an expression is not allowed"),
        ("{{ text is defined }}", "the test 'is defined' is not allowed"),
        ("{{ {{ }}", "line 2 of 'user'"),
        ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "a loop must have the form"),
        ("{% for a, b in text %}{{ a }}{% endfor %}", "a loop must have the form"),
        ("{% for a in text | lines %}{% for b in text | lines %}{{ b }}{% endfor %}{% endfor %}", "loops cannot be nested"),
        ("{% for text in history | lines %}{{ text }}{% endfor %}", "a loop variable cannot be called 'text'"),
        ("{% for a in text | lines %}{{ loop.index }}{% endfor %}", ".index is not allowed"),
        ("{% for a in text | lines %}{% endfor %}{{ a }}", "unknown placeholder {{ a }}"),
        ("{% set x = text %}{{ x }}", "{% set %} is not allowed"),
        ("{% set x %}{{ text }}{% endset %}", "{% set %} is not allowed"),
        ("{% macro m() %}{{ text }}{% endmacro %}", "{% macro %} is not allowed"),
        ("{% include 'x' %}", "{% include %} is not allowed"),
        ("{% import 'x' as x %}", "{% import %} is not allowed"),
        ("{% from 'x' import y %}", "{% fromimport %} is not allowed"),
        ("{% extends 'x' %}", "{% extends %} is not allowed"),
        ("{% block b %}{{ text }}{% endblock %}", "{% block %} is not allowed"),
        ("{% filter upper %}{{ text }}{% endfilter %}", "{% filter %} is not allowed"),
        ("{% with x = text %}{{ x }}{% endwith %}", "{% with %} is not allowed"),
        ("{% do text %}", "unknown tag 'do'"),
        ("{% if text %}", "line 2 of 'user'"),
        ("<data>{% if text %}</data>{% endif %}{{ text }}", "only one branch of a condition opens or closes <data>"),
        ("{% for a in text | lines %}<data>{{ a }}{% endfor %}", "<data> must be closed in the loop that opens it"),
        ("<data></data>{% if text %}{{ text }}{% endif %}", "outside <data>"),
        ("{{ 'constant' }}", "holds no placeholder"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_when_the_template_is_loaded(expression: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        Template("mine", {"system": "s", "user": f"A film.\n{expression}"})
    assert "template 'mine'" in str(caught.value)


def test_the_line_is_named_in_the_text_as_it_is_written() -> None:
    for user in ("a\nb\n{{ text.x }}", "<data>\nb\n{{ text.x }}</data>"):
        with pytest.raises(ConfigError, match=r"template 'mine', line 3 of 'user': \.x is not allowed"):
            Template("mine", {"system": "s", "user": user})


def test_deep_nesting_is_an_error_in_words() -> None:
    for user in ("{{ " + "(" * 5000 + "text" + ")" * 5000 + " }}", "{{ " + "not " * 5000 + "text }}"):
        with pytest.raises(ConfigError, match="nested too deeply"):
            Template("mine", {"system": "s", "user": user})


@pytest.mark.parametrize(
    ("user", "problem"),
    [
        ("{% for c in text %}{{ c }}{% endfor %}", "a loop needs a list, not str"),
        ("{% if fields.year > 1990 %}{{ text }}{% endif %}", "not supported between instances of 'str' and 'int'"),
        ("{{ text | truncate('x') }}", "not supported"),
        ("{{ (fields.year | int)[:2] }}", "not subscriptable"),
    ],
)
def test_an_expression_that_fails_names_template_and_entity(user: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        render(user)
    assert "template 'mine': cannot render 'user' for item '1'" in str(caught.value)


hostile = st.lists(
    st.sampled_from(
        ["<", ">", "/", "</data>", "<data>", "da", "ta>", "entry", "x", " ", "\n", "{{ text }}", "{% if %}"]
    ),
    max_size=8,
).map("".join)


@given(hostile, hostile, hostile)
def test_values_close_no_quotation_together_or_after_a_filter(one: str, two: str, three: str) -> None:
    for user in (
        "{{ title }}{{ fields.tagline }} {{ fields.genres }}",
        "{% if title %}{{ title }}{% endif %}{{ fields.tagline }}{{ fields.genres }}",
        "{{ title | replace('x', '') }}{{ fields.tagline | lower }}{{ title ~ fields.genres }}{{ title }}",
        "{% for word in fields.genres | split %}{{ word }}{% endfor %}{{ title }}",
    ):
        inner = render(user, title=one, tagline=two, genres=three)
        assert not re.search(r"<[^\w<]{0,16}(data|entry)", inner, re.IGNORECASE)


def test_a_value_is_never_a_template() -> None:
    assert render("{{ title | trim }}", title="{{ text }}{% raw %}") == "{{ text }}{% raw %}"


def test_output_is_bounded() -> None:
    long = "x" * 10_000_000
    assert len(render("{{ title | upper }}", title=long)) <= MAX_VALUE
    assert len(
        render("{% for w in fields.genres | split %}{{ title }}{% endfor %}", title=long, genres="a " * 5000)
    ) <= (MAX_RENDERED)
    assert (
        render("{% for w in fields.genres | split %}.{% endfor %}{{ id }}", genres="a " * 5000).count(".")
        == MAX_ELEMENTS
    )
    assert len(render("{{ title | replace('x', 'yyyyyyyyyyyyyyyyyyyy') }}", title=long)) <= MAX_VALUE


@pytest.mark.parametrize("name", FILTERS)
@given(value=st.text(max_size=30) | st.integers() | st.floats() | st.lists(st.text(max_size=5), max_size=5))
def test_a_filter_fails_only_by_errors_that_are_reported(name: str, value: object) -> None:
    arguments = {"default": ("a",), "replace": ("a", "b"), "truncate": (5,)}.get(name, ())
    with contextlib.suppress(TypeError, ValueError, ArithmeticError):
        FILTERS[name].function(value, *arguments)


@pytest.mark.parametrize("user", ["{{ reviews | upper }}", "{{ reviews[:40] }}", '{{ reviews ~ "!" }}'])
def test_reviews_are_written_as_they_are(user: str) -> None:
    with pytest.raises(ConfigError, match="'reviews' can only be written as it is"):
        render(user)


def test_a_condition_on_a_value_makes_it_dispensable() -> None:
    plain = Template("mine", {"system": "s", "user": "<data>{{ text }} {{ reviews }} {{ recent }}</data>"})
    assert plain.context_names == ("recent", "reviews")
    assert not plain.can_do_without("reviews")
    user = "<data>{% if not (text and reviews) %}{{ text }}{% elif recent %}{{ recent }}{% endif %}</data>"
    tested = Template("mine", {"system": "s", "user": user})
    assert tested.can_do_without("reviews")
    assert tested.can_do_without("recent")
    assert tested.render(Entity(kind="item", id="1", text="a"), reviews="b", recent="c") == "<data>c</data>"
