"""Prompts begin with what all entities share, so that servers compute that part once."""

from __future__ import annotations

from itertools import takewhile

import pytest

from enhancer.data import Entity
from enhancer.prompts import Template, bundled_names

TEXTS = ("Heat. A thief and a detective in Los Angeles.", "Alien. A crew meets a creature far from home.")


def shared(first, second):
    """Return the number of characters with which both begin."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def prompts(template):
    context = [{name: f"{name} of {text}" for name in ("history", "recent", "lasting", "reviews")} for text in TEXTS]
    for number, text in enumerate(TEXTS):
        entity = Entity(kind=template.kind, id=str(number), text=text)
        messages = template.messages(template.render(entity, **context[number]))
        yield "".join(message.content for message in messages)


@pytest.mark.parametrize("name", bundled_names())
def test_the_instructions_come_before_what_is_told_of_the_entity(name):
    template = Template.load(name)
    first, second = prompts(template)
    assert shared(first, second) >= len(template.request().system)
    assert shared(first[::-1], second[::-1]) < 30, "what follows the text of the entity is computed for each anew"


@pytest.mark.parametrize("name", bundled_names())
def test_the_instructions_for_groups_come_first_too(name):
    template = Template.load(name)
    groups = [[("1", text), ("2", text)] for text in TEXTS]
    first, second = ("".join(message.content for message in template.group_messages(group)) for group in groups)
    assert shared(first, second) >= len(template.request().group_system)
