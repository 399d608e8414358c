"""Tests of which environment variables litellm sends to a provider, against the requests that litellm makes."""

from __future__ import annotations

import os

import pytest
from litellm_requests import LOCAL, sent_variables

from enhancer.contracts import Context
from enhancer.errors import AuthenticationError, ConfigError
from enhancer_plugins.embedders.litellm import LiteLLM as Embedder
from enhancer_plugins.llm.litellm import LiteLLM
from enhancer_plugins.network import litellm_variables

USES = [
    *((name, "chat") for name in ("anthropic", "azure", "cohere", "fireworks_ai", "gemini", "huggingface")),
    *((name, "chat") for name in ("lambda_ai", "mistral", "openai", "perplexity", "together_ai")),
    *((name, "embedding") for name in ("azure", "azure_ai", "cohere", "fireworks_ai", "gemini", "hosted_vllm")),
    *((name, "embedding") for name in ("huggingface", "mistral", "volcengine", "voyage")),
]
TOKENS_OF_ENTRA = {"AZURE_AD_TOKEN", "AZURE_TENANT_ID"}
"""The library exchanges them for others."""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    """Hide the variables of the machine."""
    for name in list(os.environ):
        if name.endswith(("_KEY", "_TOKEN", "_SECRET", "_API_BASE", "_BASE_URL", "_ENDPOINT")):
            monkeypatch.delenv(name)


def test_the_library_sends_what_is_said():
    cases, expected = [], []
    for provider, use in USES:
        alternatives = litellm_variables.own_variables(provider, use)
        names = [name for one in alternatives if not TOKENS_OF_ENTRA & {*one} for name in one]
        for place in range(len(names) + 1):
            left = list(dict.fromkeys([*names[place:], "OPENAI_API_KEY"]))
            cases.append((provider, use, left))
            expected.append(litellm_variables.sent(provider, use, dict.fromkeys(left, "secret")))
    found = sent_variables(cases)
    assert {str(case): one for case, one in zip(cases, found, strict=True)} == {
        str(case): one for case, one in zip(cases, expected, strict=True)
    }


def made(kind, **options):
    return kind(kind.options_class(**options), Context())


@pytest.mark.parametrize(
    ("model", "environment", "variables", "destination"),
    [
        (
            "azure/mine",
            {"AZURE_API_KEY": "k", "AZURE_API_BASE": "https://mine.openai.azure.com"},
            ["AZURE_API_KEY"],
            "https://mine.openai.azure.com (AZURE_API_BASE)",
        ),
        ("gemini/gemini-embedding-001", {"GEMINI_API_KEY": "k"}, ["GEMINI_API_KEY"], "gemini"),
        (
            "gemini/gemini-embedding-001",
            {"GEMINI_API_KEY": "k", "GOOGLE_API_KEY": "k"},
            ["GOOGLE_API_KEY"],
            "gemini",
        ),
        ("huggingface/BAAI/bge-m3", {"HUGGINGFACE_API_KEY": "k"}, ["HUGGINGFACE_API_KEY"], "huggingface"),
        ("vertex_ai/text-embedding-005", {"VERTEXAI_CREDENTIALS": "k"}, ["VERTEXAI_CREDENTIALS"], "vertex_ai"),
        (
            "bedrock/amazon.titan-embed-text-v2:0",
            {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "k"},
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
            "bedrock",
        ),
        ("voyage/voyage-3", {}, [], "voyage"),
    ],
)
def test_variables_and_destination_are_named(monkeypatch, model, environment, variables, destination):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    embedder, llm = made(Embedder, model=model), made(LiteLLM)
    assert (embedder.sent_variables, embedder.destination) == (variables, destination)
    assert (llm.sent_variables(model), llm.destination(model)) == (variables, destination)


def test_hugging_face_has_another_name_for_chat(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "k")
    assert made(LiteLLM).sent_variables("huggingface/meta-llama/Llama-3.1-8B") == ["HF_TOKEN"]
    assert made(Embedder, model="huggingface/BAAI/bge-m3").sent_variables == []


@pytest.mark.parametrize("name", ["TOGETHER_API_KEY", "TOGETHERAI_API_KEY"])
def test_a_key_by_any_of_its_names_is_enough(monkeypatch, name):
    model = "together_ai/m2-bert"
    with pytest.raises(AuthenticationError, match=r"TOGETHER_API_KEY or TOGETHER_AI_API_KEY or .* is not set"):
        made(Embedder, model=model).check()
    monkeypatch.setenv(name, "k")
    made(Embedder, model=model).check()
    made(LiteLLM).check(model)


def test_the_key_of_openai_is_sent_to_no_other_provider(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    for check in (made(Embedder, model="lambda_ai/a").check, lambda: made(LiteLLM).check("lambda_ai/a")):
        with pytest.raises(AuthenticationError, match=r"LAMBDA_API_KEY is not set.*send OPENAI_API_KEY to lambda_ai"):
            check()
    assert made(LiteLLM).sent_variables("litellm_proxy/a") == ["OPENAI_API_KEY"]


PUBLIC = "http://models.example.com/v1"


def test_an_embedder_sends_no_key_over_plain_http(monkeypatch):
    monkeypatch.setenv("VOYAGE_API_KEY", "k")
    with pytest.raises(ConfigError, match=r"\[embedder\] api_base: a key would be sent .* over plain http") as caught:
        made(Embedder, model="voyage/voyage-3", api_base=PUBLIC).check()
    assert "[embedder] allow_insecure = true" in caught.value.hint
    made(Embedder, model="voyage/voyage-3", api_base=PUBLIC, allow_insecure=True).check()
    made(Embedder, model="hosted_vllm/a", api_base=PUBLIC).check()  # there is no key
    for base in ("https://models.example.com/v1", "http://10.0.0.7/v1", "http://gpu-box:8000/v1"):
        made(Embedder, model="voyage/voyage-3", api_base=base).check()


@pytest.mark.parametrize("kind", [Embedder, LiteLLM])
def test_an_address_of_the_environment_is_checked_too(monkeypatch, kind):
    monkeypatch.setenv("AZURE_API_KEY", "k")
    monkeypatch.setenv("AZURE_API_BASE", PUBLIC)
    one = made(kind, model="azure/mine") if kind is Embedder else made(kind)
    with pytest.raises(ConfigError, match=r"AZURE_API_BASE: a key would be sent to .* over plain http"):
        one.check() if kind is Embedder else one.check("azure/mine")


def test_a_local_server_gets_its_own_key_and_no_other(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    embedder = made(Embedder, model="hosted_vllm/a", api_base=LOCAL)
    assert embedder.sent_variables == []
    monkeypatch.setenv("HOSTED_VLLM_API_KEY", "k")
    assert embedder.sent_variables == ["HOSTED_VLLM_API_KEY"]
