"""Test that reviews reach prompts, and that more than fit are condensed by calls that are paid for once."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from generation import GenerationProject, entities
from loopback import Behaviour, LoopbackServer, Script, fails, returns
from reviewed import BUDGET, LONG, Said, index_of, is_note, write

from enhancer.errors import BudgetError, CircuitOpenError, ConfigError, RequestError
from enhancer.harness.journal.journal import Journal


@pytest.fixture
def said() -> Said:
    return {item: list(texts) for item, texts in LONG.items()}


@pytest.fixture
def bench(tmp_path: Path, llm_server: LoopbackServer, said: Said) -> GenerationProject:
    """Three films: one with more reviews than fit, one with two, one with none. All interactions are for training."""
    llm_server.script = Script(default=Behaviour(answer=write))
    made = GenerationProject(tmp_path, llm_server.url, entities(3))
    made.prompts = {"item": {"template": "item/reviews", **BUDGET}}
    made.reviews = index_of(said, tmp_path)
    return made


def prompts(server: LoopbackServer, *, notes: bool) -> list[str]:
    return [body["messages"][1]["content"] for body in server.bodies if is_note(body) == notes]


def test_reviews_that_fit_are_shown_and_the_others_are_condensed_step_by_step(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    plan = bench.plan()
    report = bench.generate()
    notes = prompts(llm_server, notes=True)
    assert (report.generated, report.quarantined) == (3, 0)
    assert report.requests == plan.requests == len(notes) + 3
    assert report.review_notes == plan.review_notes == len(notes)
    assert len(notes) > 8
    assert all(len(prompt) <= 2000 + len("<data>\n\n</data>") for prompt in notes)
    about = [line for prompt in notes for line in prompt.splitlines() if "viewer" in line and "condensed" not in line]
    assert sorted(line[2:].strip() for line in about) == sorted(text.strip() for text in LONG[0])
    assert any("condensed[condensed[" in json.dumps(body["messages"]) for body in llm_server.bodies)
    shown = {re.search(r"film (\d)", prompt)[1]: prompt for prompt in prompts(llm_server, notes=False)}  # type: ignore[index]
    assert "What people wrote:\n- a bore\n- a gem\n" in shown["1"]
    assert "What people wrote:\n- condensed[condensed[" in shown["0"]
    assert "What people wrote:\n\n</data>" in shown["2"]
    assert report.reviews is not None
    assert report.to_json()["reviews"]["training"] == 42


def test_notes_are_paid_for_once_and_a_new_review_condenses_its_own_chunk(
    bench: GenerationProject, llm_server: LoopbackServer, said: Said
) -> None:
    first = bench.generate().review_notes
    assert bench.plan().requests == 0
    assert bench.generate().requests == 0
    said[0].append("viewer 99 saw it again and would see it a third time")
    plan, again = bench.plan(), bench.generate()
    assert again.requests == plan.requests == again.review_notes + 1
    assert again.review_notes <= 4 < first
    assert again.generated == 1
    with Journal(bench.store.directory) as journal:
        calls = {line.group.partition("@")[0]: line.calls for line in journal.costs("template")}
    assert calls == {"item/condense": first + again.review_notes, "item/reviews": 4}


def test_prompts_are_read_again_as_the_model_was_shown_them(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    def read() -> list[str]:
        pipeline = bench.pipeline()
        spec = pipeline.spec("item")
        assert spec is not None
        return pipeline.prompts(spec, bench.rows)

    assert "[notes on reviews" in read()[0]
    bench.generate()
    assert sorted(read()) == sorted(prompts(llm_server, notes=False))


def test_records_bear_what_the_notes_in_their_prompts_cost(bench: GenerationProject) -> None:
    bench.llm["price"] = {"input": 1.0, "output": 2.0}
    report = bench.generate()
    records = bench.stored()
    assert sum(record.cost_usd for record in records.values()) == pytest.approx(report.cost_usd)
    assert sum(record.prompt_tokens for record in records.values()) == report.prompt_tokens
    assert records["0"].cost_usd > 5 * records["1"].cost_usd


def test_an_edited_prompt_uses_the_notes_that_are_there(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    notes = bench.generate().review_notes
    (bench.folder / "mine.toml").write_text('system = "Be brief."\nuser = "{{ title }}: {{ reviews }}"\n')
    bench.prompts["item"]["template"] = "mine.toml"
    report = bench.generate()
    assert (report.requests, report.review_notes) == (3, 0)
    assert len(prompts(llm_server, notes=True)) == notes


def test_a_note_that_the_model_refuses_is_left_out_with_a_warning(
    bench: GenerationProject, llm_server: LoopbackServer, caplog: pytest.LogCaptureFixture
) -> None:
    def choose(number: int, body: Mapping[str, Any]) -> Behaviour:
        refused = is_note(body) and "viewer 3 " in body["messages"][1]["content"]
        return Behaviour(answer=write, finish_reason="content_filter") if refused else Behaviour(answer=write)

    llm_server.script = Script(choose=choose)
    with caplog.at_level(logging.WARNING):
        report = bench.generate()
    assert (report.generated, report.quarantined) == (3, 0)
    assert "1 notes on reviews could not be written" in caplog.text
    assert bench.generate().requests == 0


def only_profiles(then: Callable[[], Behaviour]) -> Callable[[int, Mapping[str, Any]], Behaviour]:
    """Answer requests for profiles, and let those for notes fail."""
    return lambda number, body: then() if is_note(body) else Behaviour(answer=write)


def test_an_item_without_any_note_is_quarantined_and_can_be_tried_again(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    llm_server.script = Script(choose=only_profiles(lambda: returns("no JSON at all")))
    report = bench.generate(keep_going=True)  # all notes on these reviews are invalid
    assert (report.generated, report.quarantined) == (2, 1)
    with Journal(bench.store.directory) as journal:
        (entry,) = journal.all_quarantined()
    assert entry.id == "0"
    assert entry.reason.startswith("its reviews could not be condensed: ")
    asked = llm_server.count
    assert bench.generate().quarantined == 1
    assert llm_server.count == asked
    llm_server.script = Script(default=Behaviour(answer=write))
    again = bench.generate(retry_quarantined=True)
    assert (again.generated, again.quarantined) == (1, 0)


def test_a_note_without_an_answer_defers_its_item_to_the_next_run(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.llm["max_attempts"] = 1
    bench.llm["concurrency"] = 1
    failing = iter([False, True])

    def choose(number: int, body: Mapping[str, Any]) -> Behaviour:
        return fails(503) if is_note(body) and next(failing, False) else Behaviour(answer=write)

    llm_server.script = Script(choose=choose)
    report = bench.generate()
    assert (report.generated, report.quarantined) == (2, 1)
    again = bench.generate()
    assert (again.generated, again.quarantined) == (1, 0)
    assert again.review_notes < report.review_notes


@pytest.mark.parametrize(("status", "error"), [(503, CircuitOpenError), (400, RequestError)])
def test_a_provider_that_answers_nothing_stops_the_run(
    bench: GenerationProject, llm_server: LoopbackServer, status: int, error: type[Exception]
) -> None:
    """The generator holds failures back until the first answer, and the run waits for these very calls."""
    bench.llm["max_attempts"] = 1
    bench.rows = bench.rows[:1]
    bench.prompts["item"] |= {"reviews_budget": 8000}
    llm_server.script = Script(default=fails(status))
    with pytest.raises(error):
        bench.generate()
    llm_server.script = Script(default=Behaviour(answer=write))
    assert bench.generate().generated == 1


def test_a_budget_stops_between_notes_and_what_is_paid_stays_paid(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.llm |= {"price": {"input": 1.0, "output": 1.0}, "concurrency": 1}
    whole = bench.plan()
    bench.llm["max_cost"] = whole.cost_usd / 2
    with pytest.raises(BudgetError):
        bench.generate()
    asked = llm_server.count
    assert 0 < asked < whole.requests
    del bench.llm["max_cost"]
    assert bench.generate().generated == 3
    assert llm_server.count == whole.requests


def test_a_limit_condenses_for_no_more_items_than_it_asks_about(
    bench: GenerationProject, llm_server: LoopbackServer, said: Said
) -> None:
    said[1], said[2] = ([f"{item} {text}" for text in LONG[0]] for item in (1, 2))
    whole = bench.plan()
    report = bench.generate(limit=1)
    assert (report.generated, len(bench.stored())) == (1, 1)
    assert report.review_notes <= whole.review_notes / 3 + 1
    assert bench.generate().generated == 2
    assert llm_server.count == whole.requests


def test_all_aspects_of_an_item_share_its_notes(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    notes = bench.plan().review_notes
    bench.prompts["item"] |= {"aspects": ["reception", "crowd"], "templates": dict.fromkeys(("reception", "crowd"))}
    bench.prompts["item"]["templates"] = {"reception": "item/reviews", "crowd": "crowd.toml"}
    (bench.folder / "crowd.toml").write_text('system = "Who watches it?"\nuser = "{{ title }}: {{ reviews }}"\n')
    bench.inputs = ["reception", "crowd"]
    report = bench.generate()
    assert (report.generated, report.notes, report.review_notes) == (3, 6, notes)
    records = [record for record in bench.store.scan() if record.id == "0"]
    costs = [record.prompt_tokens for record in records]
    assert len(costs) == 2
    assert min(costs) > 0.4 * sum(costs)  # they share what the notes cost
    assert len(prompts(llm_server, notes=False)) == 6


def test_an_aspect_without_reviews_does_not_wait_for_them(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    templates = {"reception": "item/reviews", "summary": "item/v1"}
    bench.prompts["item"] |= {"aspects": ["reception", "summary"], "templates": templates}
    bench.inputs = ["reception", "summary"]
    llm_server.script = Script(choose=only_profiles(lambda: returns("no JSON at all")))
    assert bench.generate(keep_going=True).quarantined == 1
    assert sorted(record.aspect for record in bench.store.scan() if record.id == "0") == ["summary"]
    assert sorted(record.aspect for record in bench.store.scan() if record.id == "1") == ["reception", "summary"]


def test_a_template_without_a_table_of_reviews_is_refused_before_any_call(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.reviews = None
    with pytest.raises(ConfigError, match=r"\[data\] reviews is not set"):
        bench.plan()
    bench.prompts["item"]["template"] = "mine.toml"
    user = "{{ title }}{% if reviews %}: {{ reviews }}{% endif %}"
    (bench.folder / "mine.toml").write_text(f'system = "Be brief."\nuser = "{user}"\n')
    assert bench.plan().requests == 3


def test_reviews_that_no_prompt_shows_are_worth_one_warning(
    bench: GenerationProject, caplog: pytest.LogCaptureFixture
) -> None:
    bench.prompts["item"]["template"] = "item/v1"
    pipeline = bench.pipeline()
    pipeline.plan()
    report = pipeline.generate()
    assert caplog.text.count("no template of [prompts.item] shows {{ reviews }}") == 1
    assert (report.reviews, report.review_notes) == (None, None)


def test_a_template_of_notes_can_show_reviews_alone(bench: GenerationProject) -> None:
    bench.prompts["item"]["condense"] = "item/v1"
    with pytest.raises(ConfigError, match=r"template 'item/v1' must show \{\{ reviews \}\} alone"):
        bench.plan()


def test_two_runs_at_once_pay_for_each_note_once(
    bench: GenerationProject, llm_server: LoopbackServer, said: Said
) -> None:
    whole = bench.plan().requests
    other = GenerationProject(bench.folder, bench.url, bench.rows)
    (bench.folder / "other").mkdir()
    other.prompts, other.reviews = bench.prompts, index_of(said, bench.folder / "other")
    llm_server.script = Script(default=Behaviour(answer=write, latency=0.02))
    errors: list[BaseException] = []

    def run(project: GenerationProject) -> None:
        try:
            project.generate()
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread of the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(project,)) for project in (bench, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert llm_server.count == whole
    assert len(bench.stored()) == 3
    other.store.close()
