"""The clients that ``throughput.py`` compares, each run in a process of its own::

    python tests/benchmarks/peers.py openai --url http://127.0.0.1:8000/v1 --calls 3000 --in-flight 64

prints one line of JSON: seconds, CPU seconds (user and system, children included) and peak resident memory. Imports and
the making of the input are outside of the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODEL = "loopback-model"
SYSTEM = (
    "You write profiles of catalogue items for a recommender. From the data alone, say in two or three sentences what it"
    " is like and who would love it, and give a few short tags. Answer with one JSON object and nothing else."
)


def cpu_seconds() -> float:
    """User and system time of this process and of its ended children."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def peak_mib() -> float:
    """Peak resident memory of this process in MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rows(n: int) -> Iterable[tuple[str, str, str, str]]:
    """A made-up catalogue: id, title, genres and some forty words of plot."""
    for number in range(n):
        yield (
            f"i{number}",
            f"Film number {number} ({1930 + number % 95})",
            ("Drama", "Comedy|Romance", "Sci-Fi|Thriller", "Animation|Children's")[number % 4],
            (
                f"In case {number} a clerk in a port town finds a letter that was never meant for her, and follows it across"
                " three borders to a house where everybody claims to have been expecting somebody else. What she brings back"
                " is not what she went for."
            ),
        )


def chats(n: int) -> list[list[dict[str, str]]]:
    """The same work as plain messages, for the clients that know no tables."""
    return [
        [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"<data>\ntitle: {title}\ngenres: {genres}\nplot: {plot}\n</data>"},
        ]
        for _, title, genres, plot in rows(n)
    ]


def schema() -> dict[str, Any]:
    """Structured output is asked for by everyone alike."""
    return {
        "type": "json_schema",
        "json_schema": {
            "name": "profile",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {"profile": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
                "required": ["profile", "tags"],
                "additionalProperties": False,
            },
        },
    }


def bare(url: str, calls: int, in_flight: int) -> Callable[[], int]:
    """aiohttp alone: so many workers, each posts and reads JSON; nothing is kept. The limit to reach."""
    import aiohttp

    work = chats(calls)
    form = schema()

    async def main() -> int:
        done = 0
        todo = iter(work)
        headers = {"Authorization": "Bearer sk-benchmark"}

        async def worker(session: aiohttp.ClientSession) -> None:
            nonlocal done
            for messages in todo:
                body = {
                    "model": MODEL,
                    "messages": messages,
                    "temperature": 0.0,
                    "max_tokens": 400,
                    "response_format": form,
                }
                async with session.post(f"{url}/chat/completions", json=body, headers=headers) as response:
                    answer = await response.json()
                    done += bool(answer["choices"][0]["message"]["content"])

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(worker(session) for _ in range(in_flight)))
        return done

    return lambda: asyncio.run(main())


def pipeline(use: str, url: str, calls: int, in_flight: int) -> Callable[[], int]:
    """enhancer itself, from the rows of a CSV file to records in a store; the embedder is trivial."""
    import numpy as np

    from enhancer.config import Settings
    from enhancer.contracts import Context, Embedder
    from enhancer.features import Pipeline
    from enhancer_plugins.stores.lmdb import LMDBStore

    class Constant(Embedder):
        fingerprint = "constant"
        dim = 8

        def __init__(self) -> None:
            pass

        def encode(self, texts: Any) -> Any:
            return np.full((len(list(texts)), 8), 8**-0.5, np.float32)

    folder = Path(tempfile.mkdtemp(prefix="enhancer-bench-"))
    with (folder / "items.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("item_id", "title", "genres", "plot"))
        out.writerows(rows(calls))
    model = MODEL if use == "openai" else f"openai/{MODEL}"
    # Calls that cost something would wait for the first answers, which show that the model can answer.
    llm = {
        "use": use,
        "model": model,
        "concurrency": in_flight,
        "timeout": 60.0,
        "max_tokens": 400,
        "price": "free",
    }
    settings = Settings.model_validate(
        {"data": {"items": "items.csv"}, "llm": llm, "prompts": {"user": {"source": "none"}}}
    )
    if use == "openai":
        import aiohttp  # noqa: F401 - not on the clock

        import enhancer.features.generating.direct_run  # noqa: F401 - neither is this
        from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions

        provider: Any = lambda: OpenAI(OpenAIOptions(api_base=url), Context(folder))  # noqa: E731
    else:
        from enhancer_plugins.llm.litellm import LiteLLM, LiteLLMOptions
        from enhancer_plugins.network import litellm_library

        litellm_library.imported()
        provider = lambda: LiteLLM(LiteLLMOptions(api_base=url), Context(folder))  # noqa: E731
    store = LMDBStore(LMDBStore.options_class(path=Path("features")), Context(folder))

    def run() -> int:
        made = Pipeline(settings, folder, store=store, provider=provider, embedder=Constant).generate()
        return made.generated

    return run


def litellm_itself(url: str, calls: int, in_flight: int) -> Callable[[], int]:
    """litellm's acompletion under a semaphore; nothing is kept. (Its router's ``abatch_completion`` asks
    several models the same.)"""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    work = chats(calls)
    form = schema()

    async def main() -> int:
        gate = asyncio.Semaphore(in_flight)

        async def one(messages: list[dict[str, str]]) -> bool:
            async with gate:
                answer = await litellm.acompletion(
                    model=f"openai/{MODEL}",
                    messages=messages,
                    api_base=url,
                    api_key="sk-benchmark",
                    temperature=0.0,
                    max_tokens=400,
                    response_format=form,
                    max_retries=0,
                    timeout=60,
                )
                return bool(answer.choices[0].message.content)

        return sum(await asyncio.gather(*map(one, work)))

    return lambda: asyncio.run(main())


PEERS: dict[str, Callable[[str, int, int], Callable[[], int]]] = {
    "aiohttp": bare,
    "openai": lambda *given: pipeline("openai", *given),
    "litellm": lambda *given: pipeline("litellm", *given),
    "litellm-alone": litellm_itself,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    given = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "sk-benchmark")
    run = PEERS[given.peer](given.url, given.calls, given.in_flight)
    cpu, began = cpu_seconds(), time.perf_counter()
    done = run()
    seconds, used = time.perf_counter() - began, cpu_seconds() - cpu
    print(json.dumps({"done": done, "seconds": seconds, "cpu_seconds": used, "peak_mib": peak_mib()}))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
