"""Test which changes cost calls, and that plan, costs and budget are right about them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from generation import GenerationProject, answer, entities, entity
from loopback import Behaviour, LoopbackServer, Script
from real_tokens import prompt_tokens, tokenizer

from enhancer.errors import BudgetError
from enhancer.harness import Journal
from enhancer.prompts import Template

GOOD = Behaviour(answer=answer)
N = 12


@pytest.fixture
def bench(tmp_path: Path, llm_server: LoopbackServer) -> Iterator[GenerationProject]:
    llm_server.script = Script(default=GOOD)
    made = GenerationProject(tmp_path, llm_server.url, entities(N))
    yield made
    made.store.close()


# -- what changes an answer, and what does not --------------------------------------------------------------------

MINE = """
system = "Write a profile."
user = "{{ text }}"
[schema]
type = "object"
required = ["profile"]
[schema.properties.profile]
type = "string"
maxLength = 900
[schema.properties.tags]
type = "array"
items.type = "string"
"""


def _template(old: str, new: str) -> Callable[[GenerationProject], None]:
    def change(bench: GenerationProject) -> None:
        path = bench.folder / "mine.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def _llm(**values: Any) -> Callable[[GenerationProject], None]:
    return lambda bench: bench.llm.update(values)


def _other_endpoint(bench: GenerationProject) -> None:
    bench.url = bench.url.replace("127.0.0.1", "localhost")


CHANGES_ALL: dict[str, Callable[[GenerationProject], None]] = {
    "the template's instructions": _template("Write a profile.", "Write a short profile."),
    "the template's user text": _template('"{{ text }}"', '"About: {{ text }}"'),
    "the schema": _template("maxLength = 900", "maxLength = 901"),
    "a property of the schema": _template(
        "[schema.properties.tags]", '[schema.properties.mood]\ntype="string"\n[schema.properties.tags]'
    ),
    "the model": _llm(model="another-model"),
    "the endpoint": _other_endpoint,
    "temperature": _llm(temperature=0.7),
    "top_p": _llm(top_p=0.9),
    "seed": _llm(seed=7),
    "max_tokens": _llm(max_tokens=401),
}
CHANGES_NOTHING: dict[str, Callable[[GenerationProject], None]] = {
    "concurrency": _llm(concurrency=2),
    "timeout": _llm(timeout=9.0),
    "items_per_request": _llm(items_per_request=4),
    "max_attempts": _llm(max_attempts=2),
    "requests_per_minute": _llm(requests_per_minute=6000),
    "tokens_per_minute": _llm(tokens_per_minute=10_000_000),
    "price and max_cost": _llm(price={"input": 1.0, "output": 1.0}, max_cost=5.0),
    "the template's file name": lambda bench: (
        shutil.copy(bench.folder / "mine.toml", bench.folder / "yours.toml"),
        bench.prompts["item"].update(template="yours.toml"),
    )[1],
    "the order of the rows": lambda bench: bench.rows.reverse(),
}


def paid_for(bench: GenerationProject) -> None:
    (bench.folder / "mine.toml").write_text(MINE)
    bench.prompts = {"item": {"template": "mine.toml"}}
    assert bench.generate().generated == N


@pytest.mark.parametrize("name", CHANGES_ALL)
def test_a_change_that_may_change_answers_costs_every_call(
    bench: GenerationProject, llm_server: LoopbackServer, name: str
) -> None:
    paid_for(bench)
    CHANGES_ALL[name](bench)
    assert bench.plan().requests == N
    assert bench.generate().requests == N
    assert llm_server.count == 2 * N


@pytest.mark.parametrize("name", CHANGES_NOTHING)
def test_a_change_that_cannot_change_answers_costs_no_call(
    bench: GenerationProject, llm_server: LoopbackServer, name: str
) -> None:
    paid_for(bench)
    CHANGES_NOTHING[name](bench)
    assert bench.plan().requests == 0
    report = bench.generate()
    assert (report.cached, report.requests, llm_server.count) == (N, 0, N)


def test_going_back_costs_nothing_either(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.generate()
    before = bench.stored()["3"].profile
    bench.llm["temperature"] = 0.7
    bench.generate()
    bench.llm["temperature"] = 0.0
    report = bench.generate()
    assert (report.requests, llm_server.count) == (0, 2 * N)
    assert bench.stored()["3"].profile == before


@pytest.mark.parametrize("place", [0, 6, N])
@pytest.mark.parametrize("group_size", [1, 4])
def test_one_row_more_costs_one_call(
    bench: GenerationProject, llm_server: LoopbackServer, place: int, group_size: int
) -> None:
    bench.llm["items_per_request"] = group_size
    bench.generate()
    before = llm_server.count
    bench.rows.insert(place, entity("new"))
    assert bench.plan().requests == 1
    assert bench.generate().generated == 1
    assert llm_server.count == before + 1


def test_an_answer_is_on_disk_before_anything_looks_at_it(
    bench: GenerationProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    from enhancer.harness.answers.entity_task import EntityTask

    seen: list[tuple[int, int | None]] = []
    receive = EntityTask.receive

    def look(self: EntityTask, paid: Any) -> Any:
        with Journal(bench.store.directory) as journal:
            (row,) = journal.paid_answers([self.input_hash])[self.input_hash]
        assert row.text == paid.text
        seen.append((row.completion, row.prompt_tokens))
        return receive(self, paid)

    monkeypatch.setattr(EntityTask, "receive", look)
    bench.generate()
    assert len(seen) == N
    assert all(tokens for _, tokens in seen)


# -- plan and costs ----------------------------------------------------------------------------------------------


def counting(body: dict[str, Any]) -> dict[str, int]:
    """Return the usage that a server charges: real tokens, and three tokens a message for the chat format."""
    return {"prompt_tokens": prompt_tokens(body), "completion_tokens": tokenizer()(answer(body))}


PLOTS = {
    "english": (
        "{n}: A washed-up detective from {n} returns to the harbour town he once fled, where a drowned violinist and a"
        " ledger full of false names force him to choose between an old friend and the truth. Slow, rainy, tender."
    ),
    "cyrillic": "{n}: Старый сыщик возвращается в портовый город, откуда когда-то бежал, и узнаёт правду о друге детства.",  # noqa: RUF001
    "chinese": "{n}:一位退休的侦探回到他曾经逃离的港口小镇,在雨中追查一名溺水小提琴家的秘密,并面对旧日的朋友。",
    "arabic": "{n}: محقق متقاعد يعود إلى مدينة الميناء التي هرب منها ذات يوم ليبحث عن سر عازف كمان غريق وصديق قديم.",
    "numbers": "{n}; 1995-10-30; 8.3/10; 112,450 votes; $373,554,033; PG-13; 1h 21m; tt0114709; 35 mm; 1.85:1",
}


@pytest.mark.parametrize("group_size", [1, 5])
@pytest.mark.parametrize("script", PLOTS)
def test_plan_and_ledger_agree_within_a_tenth(
    bench: GenerationProject, llm_server: LoopbackServer, script: str, group_size: int
) -> None:
    """For English from the first run; for other scripts after some calls, which correct the estimate."""
    llm_server.script.default = Behaviour(answer=answer, usage_override=counting)
    bench.llm.update(items_per_request=group_size, price={"input": 1.0, "output": 1.0})
    rows = [entity(str(n), f"title: film {n}\nplot: {PLOTS[script].format(n=n)}") for n in range(160)]
    bench.rows = rows[:100]
    if script == "english":
        plan, report = bench.plan(), bench.generate()
        assert plan.prompt_tokens == pytest.approx(report.prompt_tokens, rel=0.1)
    else:
        bench.generate()
    bench.rows = rows
    plan, report = bench.plan(), bench.generate()
    assert report.generated == 60
    assert plan.requests == report.requests
    assert plan.prompt_tokens == pytest.approx(report.prompt_tokens, rel=0.1)
    with Journal(bench.store.directory) as journal:
        (line,) = journal.costs("model")
    assert line.calls == llm_server.count
    assert line.prompt_tokens == sum(counting(body)["prompt_tokens"] for body in llm_server.bodies)


def test_each_template_learns_from_its_own_calls(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    """Tokens are counted differently for items in one script and users in another."""
    llm_server.script.default = Behaviour(answer=answer, usage_override=counting)
    bench.prompts = {"user": {"source": "llm"}}
    bench.rows = [entity(str(n), f"plot: {PLOTS['english'].format(n=n) * 6}") for n in range(30)]
    bench.users = [entity(f"u{n}", f"bio: {PLOTS['cyrillic'].format(n=n) * 4}", kind="user") for n in range(30)]
    bench.generate()
    bench.rows = []
    bench.users = [entity(f"v{n}", f"bio: {PLOTS['cyrillic'].format(n=n) * 4}", kind="user") for n in range(30, 50)]
    plan, report = bench.plan(), bench.generate()
    assert plan.prompt_tokens == pytest.approx(report.prompt_tokens, rel=0.1)


# -- the budget ------------------------------------------------------------------------------------------------------

USAGES: dict[str, Behaviour] = {
    "honest": Behaviour(answer=answer, latency=0.01),
    "not reported": Behaviour(answer=answer, latency=0.01, usage=False),
    "zeros": Behaviour(answer=answer, latency=0.01, usage_override={"prompt_tokens": 0, "completion_tokens": 0}),
    "negative": Behaviour(answer=answer, latency=0.01, usage_override={"prompt_tokens": -5, "completion_tokens": -7}),
    "words": Behaviour(answer=answer, latency=0.01, usage_override={"prompt_tokens": "12", "completion_tokens": None}),
    "beyond reason": Behaviour(
        answer=answer, latency=0.01, usage_override={"prompt_tokens": 10**30, "completion_tokens": 1}
    ),
    "costs below nothing": Behaviour(answer=answer, latency=0.01, usage=False, usage_override={"cost": -3.0}),
    "costs nan": Behaviour(answer=answer, latency=0.01, usage=False, usage_override={"cost": float("nan")}),
    "broken body": Behaviour(answer=answer, latency=0.01, fault="truncated_json"),
}


@pytest.mark.parametrize("name", USAGES)
def test_the_budget_holds_for_any_reported_usage(
    bench: GenerationProject, llm_server: LoopbackServer, name: str
) -> None:
    """The largest possible cost of all calls that were sent, calls in flight included, is within the budget."""
    bench.rows = entities(60)
    bench.llm.update(
        max_cost=0.1, price={"input": 10.0, "output": 10.0}, max_tokens=100, concurrency=16, max_attempts=2
    )
    llm_server.script.default = USAGES[name]
    with pytest.raises(BudgetError, match="max_cost") as caught:
        bench.generate()
    assert 0 < llm_server.count < 60
    charged = sum(real_cost(body) for body in llm_server.bodies)
    assert charged <= 0.1
    report = caught.value.report
    assert report.cost_usd is None or 0 < report.cost_usd <= 0.1 or name == "broken body"
    if name not in ("honest", "broken body"):
        assert report.cost_usd is None, "unknown is never 0"


def real_cost(body: dict[str, Any]) -> float:
    """Return the cost by the server's count, four bytes a token, at the configured price."""
    texts = [message["content"] for message in body["messages"]] + [answer(body)]
    return sum(len(text.encode()) / 4 for text in texts) * 10.0 / 1e6


def test_an_unknown_price_is_never_nothing(bench: GenerationProject) -> None:
    plan, report = bench.plan(), bench.generate()
    assert plan.cost_usd is None
    assert report.cost_usd is None
    assert {record.cost_usd for record in bench.stored().values()} == {None}
    with Journal(bench.store.directory) as journal:
        (line,) = journal.costs()
    assert (line.cost_usd, line.calls_of_unknown_cost) == (None, N)
    assert json.loads(json.dumps(plan.to_json()))["cost_usd"] is None


def test_the_bundled_templates_are_estimated_well() -> None:
    from enhancer.harness.calls.token_estimate import estimate_tokens
    from enhancer.prompts.template import bundled_names

    for name in bundled_names():
        text = Template.load(name).system
        assert estimate_tokens(text) == pytest.approx(tokenizer()(text), rel=0.1), name
