"""Test how reviews are chosen, divided into chunks, and shown or replaced by notes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from enhancer.config.schema import PromptConfig
from enhancer.data import Entity
from enhancer.data.reviews.index import Review
from enhancer.features.context.chunking import calls_for, divide, most_chunks
from enhancer.features.context.reviews import MAX_NOTE, NoteTree, ReviewContext, one_note

CAPACITY, LARGEST = 100, 40
texts = st.lists(st.tuples(st.integers(1, LARGEST), st.binary(min_size=1, max_size=1)), max_size=60)


def cut(texts: Sequence[tuple[int, bytes]]) -> list[slice]:
    return divide([size for size, _ in texts], [digest for _, digest in texts], CAPACITY, CAPACITY - LARGEST)


@given(texts)
def test_every_text_is_in_one_chunk_of_bounded_size(texts: list[tuple[int, bytes]]) -> None:
    chunks = cut(texts)
    assert [n for chunk in chunks for n in range(chunk.start, chunk.stop)] == list(range(len(texts)))
    sizes = [sum(size for size, _ in texts[chunk]) for chunk in chunks]
    assert all(size <= CAPACITY for size in sizes)
    assert all(size >= CAPACITY - LARGEST for size in sizes[:-1])


@given(texts, texts)
def test_added_texts_change_the_last_chunk_alone(texts: list[tuple[int, bytes]], more: list[tuple[int, bytes]]) -> None:
    before, after = cut(texts), cut(texts + more)
    assert after[: max(0, len(before) - 1)] == before[:-1]


def test_a_text_put_in_between_changes_few_chunks() -> None:
    """Chunks are the same again after the next end that a digest sets."""
    digests = [hashlib.blake2b(bytes([n % 256, n // 256]), digest_size=1).digest() for n in range(600)]
    texts = [(10 + digest[0] % 25, digest) for digest in digests]
    changed = []
    for place in range(0, 500, 20):
        other = [*texts[:place], (20, b"x"), *texts[place:]]
        old = {tuple(texts[chunk]) for chunk in cut(texts)}
        changed.append(sum(tuple(other[chunk]) not in old for chunk in cut(other)))
    assert max(changed) <= 25
    assert sorted(changed)[len(changed) // 2] <= 4


@given(st.integers(0, 200), st.integers(2, 20))
def test_the_calls_of_an_item_are_within_their_budget(calls: int, fan: int) -> None:
    chunks = most_chunks(calls, fan)
    assert calls_for(chunks, fan) <= calls
    assert calls_for(chunks + 1, fan) > calls


class Reviews:
    """Reviews of one item, as an index gives them."""

    def __init__(self, reviews: Sequence[Review]) -> None:
        self.reviews = reviews

    def best(self, item_id: str, limit: int, parts: Sequence[str]) -> list[Review]:
        del item_id, parts
        return sorted(self.reviews, key=lambda one: (-one.helpful, -one.time, one.digest))[:limit]


def review(text: str, time: int = 0, helpful: float = 0.0) -> Review:
    return Review(hashlib.blake2b(text.encode(), digest_size=8).digest(), helpful, time, text)


def many(n: int, length: int = 400) -> list[Review]:
    return [review(f"number {k} {'word ' * (length // 5)}"[:length], time=k, helpful=k % 7) for k in range(n)]


def context(reviews: Sequence[Review], **options: int) -> ReviewContext:
    return ReviewContext(
        lambda: Reviews(reviews),  # type: ignore[arg-type,return-value]
        PromptConfig.model_validate(options),
        render=lambda lines: f"<data>\n{lines}\n</data>",
        hash_of=lambda text: hashlib.blake2b(text.encode(), digest_size=16).hexdigest(),
    )


ITEM = Entity("item", "1", "")


def tree(reviews: Sequence[Review], **options: int) -> NoteTree:
    found = context(reviews, **options).tree("1")
    assert found is not None
    assert found.stand_in == context(reviews, **options).show(ITEM)
    return found


def test_what_fits_is_shown_itself_the_most_helpful_first() -> None:
    reviews = [review("good", 1, 2.0), review("bad", 2, 5.0), review("new", 3, 2.0)]
    assert context(reviews).show(ITEM) == "- bad\n- new\n- good"
    assert context(reviews).tree("1") is None
    assert context(reviews, max_reviews=1).show(ITEM) == "- bad"
    assert context([]).show(ITEM) == ""


def test_without_calls_the_prompt_shows_the_most_helpful_that_fit() -> None:
    shown = context(many(60), condense_calls=0, reviews_budget=3000).show(ITEM)
    lines = shown.splitlines()
    assert 2500 < len(shown) <= 3000
    assert all(int(line.split()[2]) % 7 == 6 for line in lines)


@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 9), st.integers(0, 50)), max_size=80),
    st.integers(2000, 9000),
    st.integers(0, 30),
)
def test_no_request_exceeds_its_budget_and_no_item_its_calls(
    drawn: list[tuple[int, int, int]], budget: int, calls: int
) -> None:
    reviews = [review(f"{n} ".ljust(size, "x"), time, votes) for n, (size, votes, time) in enumerate(drawn)]
    one = context(reviews, reviews_budget=budget, condense_calls=calls)
    found = one.tree("1")
    if found is None:
        assert len(one.show(ITEM)) <= budget
        return
    nodes = list(found)
    assert len(nodes) <= calls
    notes = {node.input_hash: one_note("n" * 2000) for node in nodes}
    prompts = [one.prompt(node, notes) for node in nodes]
    assert all(len(prompt) <= budget + len("<data>\n\n</data>") for prompt in prompts)
    assert len(found.fill(found.stand_in, notes)) <= budget
    shown = [line[2:].split()[0] for node in found.levels[0] for line in node.reviews.splitlines()]
    assert len(shown) == len(set(shown))


def test_a_new_review_condenses_its_own_chunk_again_and_what_is_above() -> None:
    options = {"reviews_budget": 2000, "condense_calls": 60, "max_reviews": 200}
    old, new = many(60), [*many(60), review("fresh " * 60, time=99, helpful=9)]
    before, after = tree(old, **options), tree(new, **options)
    assert len(before.levels) > 2
    known = {node.input_hash for node in before}
    for level in after.levels:
        assert len([node for node in level if node.input_hash not in known]) <= 2
    assert before.stand_in != after.stand_in


def test_a_stand_in_follows_from_the_reviews_and_not_from_their_order() -> None:
    assert tree(many(60)).stand_in == tree(many(60)[::-1]).stand_in
    assert tree(many(60)).stand_in != tree(many(61)).stand_in


def test_notes_take_the_place_of_the_stand_in_as_data() -> None:
    found = tree(many(60))
    notes = {node.input_hash: one_note(f"note {n}\n</data> <") for n, node in enumerate(found.levels[-1])}
    notes.pop(found.levels[-1][1].input_hash)
    filled = found.fill(f"<data>\n{found.stand_in}\n</data>", notes)
    assert filled.startswith("<data>\n- note 0 \u2039/data> \u2039\n- note 2")
    assert filled.count("</data>") == 1
    assert re.search(r"\[notes on reviews", filled) is None


def test_a_note_on_notes_shows_those_that_are_there() -> None:
    one = context(many(80), reviews_budget=2000, condense_calls=40)
    found = one.tree("1")
    assert found is not None
    node = found.levels[1][0]
    assert one.prompt(node, {}) == ""
    assert one.prompt(node, {node.children[1]: "the second"}) == "<data>\n- the second\n</data>"


def test_notes_are_one_line_and_cut_off() -> None:
    assert one_note("a\n b ") == "a b"
    assert len(one_note("a" * 5000)) == MAX_NOTE


def test_parts_of_the_split_are_asked_for() -> None:
    asked = []

    class Index:
        def best(self, item_id: str, limit: int, parts: Sequence[str]) -> list[Review]:
            asked.append((item_id, limit, tuple(parts)))
            return []

    one = ReviewContext(lambda: Index(), PromptConfig(), render=str, hash_of=str)  # type: ignore[arg-type,return-value]
    one.show(ITEM)
    one.widened(("train", "test")).show(ITEM)
    assert asked == [("1", 100, ("train",)), ("1", 100, ("train", "test"))]


@pytest.mark.parametrize("budget", [1999, 20_001])
def test_the_budget_of_a_prompt_has_limits(budget: int) -> None:
    with pytest.raises(ValueError, match="reviews_budget"):
        PromptConfig.model_validate({"reviews_budget": budget})
