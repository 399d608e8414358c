"""Recognise inference servers by what they tell about themselves: vLLM and SGLang.

Both list their models under ``/v1/models`` and name themselves as the owner. The rest stands beside ``/v1``: the
version, the configuration, and counters in Prometheus' format. Written from vLLM 0.33.0 and SGLang 0.5.23.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeGuard

from enhancer.contracts import ServerFacts
from enhancer_plugins.network import wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Get = Callable[[str], Awaitable[bytes | None]]
    """Returns the body of a URL; None if the server has no such page."""

_SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\S+)?$")
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)"')
_MOST = 10**12
"""Counts that are larger are no counts."""


class Samples:
    r"""Metrics in Prometheus' text format.

    >>> samples = Samples('# TYPE hits counter\nhits_total{engine="0"} 3.0\nhits_total{engine="1"} 4.0\n')
    >>> samples.total("hits_total"), samples.total("other")
    (7.0, None)
    """

    def __init__(self, text: str) -> None:
        self._values: dict[str, list[tuple[str, float]]] = {}
        for line in text.splitlines():
            found = None if line.startswith("#") else _SAMPLE.match(line.strip())
            if found is None:
                continue
            try:
                value = float(found[3])
            except ValueError:
                continue
            if abs(value) < _MOST:  # false for NaN
                self._values.setdefault(found[1], []).append((found[2] or "", value))

    def total(self, *names: str) -> float | None:
        """Return the sum over all labels of the first of some metrics that is there; None if none is."""
        for name in names:
            if name in self._values:
                return sum(value for _, value in self._values[name])
        return None

    def label(self, name: str, label: str) -> str | None:
        """Return a label of the first sample of a metric; None if there is none."""
        for labels, _ in self._values.get(name, ()):
            for key, value in _LABEL.findall(labels):
                if key == label:
                    return str(value)
        return None


async def server_facts(base: str, model: str, get: Get) -> ServerFacts | None:
    """Return what a server tells about itself; None if it is neither vLLM nor SGLang.

    Args:
        base: Base URL of the protocol, usually with ``/v1`` at its end.
        model: Model that is going to be asked for.
        get: Fetches a page.

    Raises:
        ProviderError: The list of models cannot be fetched.
    """
    listed = [each for each in _entries(_object(await get(f"{base}/models")).get("data")) if _is_text(each.get("id"))]
    owners = [entry.get("owned_by") for entry in listed]
    names = tuple(entry["id"] for entry in listed)
    lengths = {entry["id"]: wire.tokens(entry.get("max_model_len")) for entry in listed}
    context = lengths.get(model) or next((length for length in lengths.values() if length), None)
    root = base.removesuffix("/v1")
    if "vllm" in owners:
        return await _vllm(root, names, context, get)
    if "sglang" in owners:
        return await _sglang(root, names, context, get)
    return None


async def _vllm(root: str, models: tuple[str, ...], context: int | None, get: Get) -> ServerFacts:
    version = _object(await get(f"{root}/version")).get("version")
    samples = Samples(_text(await get(f"{root}/metrics")))
    blocks, size = (_count(samples.label("vllm:cache_config_info", name)) for name in ("num_gpu_blocks", "block_size"))
    hits = samples.total("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total")
    queries = samples.total("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total")
    caching = samples.label("vllm:cache_config_info", "enable_prefix_caching")
    return ServerFacts(
        engine="vLLM",
        version=version if _is_text(version) else None,
        models=models,
        context=context,
        cache_tokens=blocks * size if blocks and size else None,
        running=_count(samples.total("vllm:num_requests_running")),
        waiting=_count(samples.total("vllm:num_requests_waiting")),
        keeps_prefixes={"True": True, "False": False}.get(caching or ""),
        prefix_hits=_share(hits, queries),
        remedies={
            "context": "--max-model-len",
            "prefix": "leave out --no-enable-prefix-caching",
            "metrics": "leave out --disable-log-stats",
        },
    )


async def _sglang(root: str, models: tuple[str, ...], context: int | None, get: Get) -> ServerFacts:
    # The older page warns in the server's log in later versions, so it is the second one to be asked. Of the many
    # entries, an API key and the command line among them, only those named here are read.
    told = _object(await get(f"{root}/server_info")) or _object(await get(f"{root}/get_server_info"))
    states = _entries(told.get("internal_states"))
    at_once = [_count(state.get("effective_max_running_requests_per_dp")) for state in states]
    samples = Samples(_text(await get(f"{root}/metrics")))
    off = told.get("disable_radix_cache")
    version = told.get("version")
    return ServerFacts(
        engine="SGLang",
        version=version if _is_text(version) else None,
        models=models,
        refuses_unknown_models=False,
        context=context,
        cache_tokens=_count(told.get("max_total_num_tokens")),
        most_calls=sum(each for each in at_once if each) or _count(told.get("max_running_requests")),
        running=_count(samples.total("sglang:num_running_reqs")),
        waiting=_count(samples.total("sglang:num_queue_reqs")),
        keeps_prefixes=None if not isinstance(off, bool) else not off,
        prefix_hits=_share(
            samples.total("sglang:cached_tokens_total") or 0.0, samples.total("sglang:prompt_tokens_total")
        ),
        remedies={
            "context": "--context-length",
            "prefix": "leave out --disable-radix-cache",
            "metrics": "--enable-metrics",
        },
    )


def _share(part: float | None, whole: float | None) -> float | None:
    """Return a share; None if a count is missing, or nothing was counted."""
    return None if part is None or not whole else min(max(part / whole, 0.0), 1.0)


def _object(body: bytes | None) -> Mapping[str, Any]:
    """Return the JSON object in a body; an empty one if there is none."""
    try:
        found = json.loads(_text(body))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _entries(found: object) -> list[Mapping[str, Any]]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str)


def _text(body: bytes | None) -> str:
    return (body or b"").decode("utf-8", "replace")


def _count(value: object) -> int | None:
    """Return a count that a server tells as a number or as text; None for anything else."""
    try:
        count = int(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1
    except (ValueError, OverflowError):
        return None
    return count if 0 <= count < _MOST else None
