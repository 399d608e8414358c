"""bespokelabs-curator over the same work; run by ``throughput.py`` with the interpreter of curator's own environment.

Limits on rates are set far above what can be reached, so that only the number of requests in flight holds it. It writes
requests and answers into its cache folder, as enhancer writes a journal and a store.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    given = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "sk-benchmark")
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["CURATOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="curator-bench-")
    os.environ["CURATOR_DISABLE_RICH_DISPLAY"] = "1"
    os.environ["TELEMETRY_ENABLED"] = "false"
    os.environ["HF_HUB_OFFLINE"] = "1"

    # Its token counter loads a vocabulary from the network; litellm, which it depends on, ships a copy.
    spec = importlib.util.find_spec("litellm")
    if spec is not None and spec.origin is not None:
        os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(spec.origin).parent / "litellm_core_utils" / "tokenizers")

    import resource

    from bespokelabs import curator
    from peers import MODEL, chats, cpu_seconds, peak_mib
    from pydantic import BaseModel

    class Profile(BaseModel):
        profile: str
        tags: list[str]

    class Profiler(curator.LLM):
        response_format = Profile

        def prompt(self, row: dict) -> list:
            return row["messages"]

        def parse(self, row: dict, response: Profile) -> dict:
            return {"profile": response.profile, "tags": response.tags}

    llm = Profiler(
        model_name=MODEL,
        backend="openai",
        generation_params={"temperature": 0.0, "max_tokens": 400},
        backend_params={
            "base_url": given.url,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 100_000_000_000,
            "max_concurrent_requests": given.in_flight,
            "request_timeout": 60,
            "max_retries": 0,
        },
    )
    work = [{"messages": messages} for messages in chats(given.calls)]
    cpu, began = cpu_seconds(), time.perf_counter()
    made = llm(work)
    dataset = getattr(made, "dataset", made)
    seconds, used = time.perf_counter() - began, cpu_seconds() - cpu
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    peak = max(peak_mib(), children)
    print(json.dumps({"done": len(dataset), "seconds": seconds, "cpu_seconds": used, "peak_mib": peak}), flush=True)


if __name__ == "__main__":
    main()
