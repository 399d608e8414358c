"""Tests of what ``enhancer doctor`` says of a vLLM or SGLang server, and of runs against one."""

from __future__ import annotations

import pytest
from command_line import project_file
from loopback import LoopbackServer
from loopback_engines import Flags, LoopbackEngine

MODEL = Flags().model
ENGINES = ("vllm", "sglang")
PLAIN = "concurrency = 200\n[llm.extra_body]\nchat_template_kwargs = { enable_thinking = false }"
NAMES = {"vllm": "vLLM 0.33.0", "sglang": "SGLang 0.5.23"}


@pytest.fixture
def project(tables, hashing):
    def write(engine, *, model=MODEL, llm='concurrency = 200\nprice = "free"'):
        (tables / "enhancer.toml").write_text(project_file(engine.url, model=model, llm=llm))
        return tables

    return write


def server_check(done):
    return {check["name"]: check for check in done.json()}.get("llm server")


@pytest.mark.parametrize("dialect", ENGINES)
def test_an_engine_is_recognised_and_called_by_nobody(invoke, project, dialect):
    with LoopbackEngine(dialect) as engine:
        project(engine)
        done = invoke("doctor", "--json")
        found = server_check(done)
        assert not engine.calls
    assert (done.code, found["status"]) == (0, "ok"), found
    for told in (NAMES[dialect], MODEL, "context of 32,768 tokens", "KV cache of 400,000 tokens", "prefix cache on"):
        assert told in found["detail"]
    assert found["measured"]["engine"] == NAMES[dialect].split()[0]


@pytest.mark.parametrize("dialect", ENGINES)
def test_most_of_the_prompts_of_a_run_come_from_the_prefix_cache(invoke, project, dialect):
    with LoopbackEngine(dialect, Flags(report_cached=True)) as engine:
        project(engine)
        done = invoke("generate", "--yes", "--json")
        assert (done.code, done.json()["generated"]) == (0, 6), done.err
        found = server_check(invoke("doctor", "--json"))
        share = engine.prefix_hits
    # The first of six prompts fills the cache, and a block is lost at the end of each beginning.
    assert share > 0.6
    assert found["measured"]["prefix_hits"] == pytest.approx(share, abs=1e-3)
    assert f"{share:.0%} of prompt tokens" in found["detail"]


@pytest.mark.parametrize(
    ("flags", "llm", "status", "detail", "mend"),
    [
        (Flags(caching=False), "concurrency = 200", "warn", "beginning of all prompts anew", "leave out --"),
        (Flags(context=8192), "concurrency = 200", "warn", "8,192 of them for thought", "[llm] thought_tokens"),
        (Flags(context=256), PLAIN, "warn", "a call may take", "[llm] max_tokens"),
        (Flags(), "concurrency = 4", "warn", "faster with more calls in flight", "concurrency = 256"),
        (Flags(cache_tokens=4000), "concurrency = 200", "warn", "wait in its queue", "[llm] concurrency = "),
        (Flags(cache_tokens=0, metrics=False), "concurrency = 4", "ok", "no metrics", None),
    ],
)
def test_what_does_not_suit_the_project_is_told_with_its_remedy(invoke, project, flags, llm, status, detail, mend):
    with LoopbackEngine("vllm", flags) as engine:
        project(engine, llm=llm)
        done = invoke("doctor", "--json")
    found = server_check(done)
    assert (done.code, found["status"]) == (0, status), found
    assert detail in found["detail"]
    assert mend is None or mend in found["mend"]


@pytest.mark.parametrize(("dialect", "status", "code"), [("vllm", "fail", 1), ("sglang", "warn", 0)])
def test_a_model_that_is_not_served_is_told(invoke, project, dialect, status, code):
    with LoopbackEngine(dialect) as engine:
        project(engine, model="Qwen/Qwen3-4B")
        done = invoke("doctor", "--json")
    found = server_check(done)
    assert (done.code, found["status"]) == (code, status)
    assert "does not serve 'Qwen/Qwen3-4B'" in found["detail"]
    assert found["mend"] == f'set [llm] model = "{MODEL}"'


def test_a_server_that_is_not_there_is_a_warning(invoke, project):
    with LoopbackServer() as server:
        project(server)
    done = invoke("doctor", "--json")
    found = server_check(done)
    assert (done.code, found["status"]) == (0, "warn")
    assert "start the server" in found["mend"]


def test_a_wrong_key_fails(invoke, project, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-0123456789abcdef")
    with LoopbackEngine("vllm", Flags(api_key="sk-right-0123456789abcdef")) as engine:
        project(engine)
        done = invoke("doctor", "--json")
    assert (done.code, server_check(done)["status"]) == (1, "fail")
    assert "0123456789abcdef" not in done.out


def test_another_server_is_not_mentioned(invoke, project, llm_server):
    project(llm_server)
    done = invoke("doctor", "--json")
    assert (done.code, server_check(done)) == (0, None)
    assert llm_server.count == 0


@pytest.mark.parametrize("dialect", ENGINES)
def test_the_words_fit_a_narrow_terminal(invoke, project, monkeypatch, dialect):
    with LoopbackEngine(dialect) as engine:
        project(engine)
        monkeypatch.setenv("COLUMNS", "60")
        done = invoke("doctor")
    start = next(line for line in done.out.splitlines() if "llm server:" in line)
    assert start.startswith("ok ")
