"""List prices: read from litellm's file without importing litellm, with a snapshot for installations without it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from enhancer.contracts import Price
from enhancer_plugins.network import prices
from enhancer_plugins.network.prices import list_price


@pytest.fixture
def price_file(tmp_path, monkeypatch):
    """Return a function that replaces the price map."""

    def write(content: str) -> None:
        path = tmp_path / "model_prices.json"
        path.write_text(content)
        monkeypatch.setattr(prices, "_map_files", lambda: iter([path]))
        prices._price_map.cache_clear()

    yield write
    prices._price_map.cache_clear()


def test_the_map_of_the_installed_library_agrees_with_the_snapshot():
    pytest.importorskip("litellm")
    listed = prices._price_map()
    assert len(listed) > 1000
    for model in prices._SNAPSHOT:
        assert list_price(model) is not None, model
    assert list_price("openai/gpt-4o-mini") == Price(0.15, 0.6, 0.075)


def test_reading_the_map_does_not_import_the_library():
    code = (
        "import sys\nfrom enhancer_plugins.network.prices import list_price, _price_map\n"
        "assert _price_map.cache_info().currsize == 0, 'read before it is needed'\n"
        "assert list_price('openai/gpt-4o-mini') and list_price('openai/none-such') is None\n"
        "assert 'litellm' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_names_are_found_with_and_without_their_provider(price_file):
    cost = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    price_file(
        json.dumps(
            {
                "small": {**cost, "litellm_provider": "bedrock_converse"},
                "groq/large": {**cost, "litellm_provider": "groq"},
                "free": {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "litellm_provider": "ollama"},
                "half": {"input_cost_per_token": 1e-6, "litellm_provider": "ollama"},
                "odd": {"input_cost_per_token": "1e-6", "output_cost_per_token": True, "litellm_provider": "ollama"},
            }
        )
    )
    assert list_price("bedrock/small") == list_price("small") == list_price("groq/large") == Price(1.0, 2.0)
    assert list_price("bedrock/small-2026-01-31") == Price(1.0, 2.0)
    for unknown in ("azure/small", "large", "ollama/free", "ollama/half", "ollama/odd", "", "/", "bedrock/"):
        assert list_price(unknown) is None, unknown


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 3}', "3", '{"a": {}}', "[" * 100_000])
def test_a_damaged_map_leaves_the_snapshot(price_file, content):
    price_file(content)
    assert list_price("openai/gpt-4o-mini-2024-07-18") == Price(0.15, 0.6, 0.075)
    assert list_price("openai/none-such") is None


def test_without_the_library_the_snapshot_serves(monkeypatch):
    monkeypatch.setattr(prices, "_map_files", lambda: iter(()))
    prices._price_map.cache_clear()
    try:
        assert list_price("anthropic/claude-haiku-4-5") == Price(1.0, 5.0, 0.1)
        assert list_price("groq/llama") is None
    finally:
        prices._price_map.cache_clear()
