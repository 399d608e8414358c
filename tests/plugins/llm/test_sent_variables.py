"""Tests of which environment variables are sent where, and of keys over plain http."""

from __future__ import annotations

import pytest
from command_line import hashing, invoke, project_file  # noqa: F401 - fixtures
from generation import answer
from loopback import Script, returns

from enhancer.contracts import Context
from enhancer.errors import ConfigError
from enhancer_plugins.embedders.openai import OpenAI as Embedder
from enhancer_plugins.llm.litellm import LiteLLM
from enhancer_plugins.llm.openai import OpenAI

PUBLIC = "http://models.example.com/v1"


def made(kind, tmp_path, **options):
    return kind(kind.options_class(**options), Context(root=tmp_path))


def check(one):
    return one.check() if isinstance(one, Embedder) else one.check("openai/m")


@pytest.mark.parametrize("kind", [OpenAI, LiteLLM, Embedder])
def test_a_key_over_plain_http(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    with pytest.raises(ConfigError, match="over plain http") as caught:
        check(made(kind, tmp_path, api_base=PUBLIC))
    assert "allow_insecure" in caught.value.hint
    check(made(kind, tmp_path, api_base=PUBLIC, allow_insecure=True))
    for base in ("https://models.example.com/v1", "http://10.0.0.7/v1", "http://gpu-box:8000/v1"):
        check(made(kind, tmp_path, api_base=base))


@pytest.mark.parametrize("kind", [OpenAI, Embedder])
def test_a_header_over_plain_http(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("GATEWAY", "a-secret-0123456789")
    headers = {"X-Gateway-Key": "${GATEWAY}"}
    with pytest.raises(ConfigError, match="over plain http"):
        check(made(kind, tmp_path, api_base=PUBLIC, headers=headers))


def test_doctor_and_generate_name_variable_and_server(invoke, tmp_path, hashing, llm_server, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOME_SECRET", "a-secret-0123456789")
    (tmp_path / "movies.csv").write_text("movieId,title\n1,Heat\n")
    (tmp_path / "ratings.csv").write_text("userId,movieId\n1,1\n")
    (tmp_path / "enhancer.toml").write_text(project_file(llm_server.url, llm='api_key_env = "SOME_SECRET"'))
    told = f"sends SOME_SECRET to {llm_server.url}"
    assert told in " ".join(invoke("doctor").out.split())
    llm_server.script = Script(default=returns(answer))
    assert told in invoke("generate", "--yes").err
    assert told not in invoke("generate", "--yes").err, "nothing is left to send"
