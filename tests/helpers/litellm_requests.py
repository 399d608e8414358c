"""Find out which environment variables litellm sends, by recording its requests instead of sending them.

Runs in a process of its own, because the library leaves clients and event loops behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

Case = tuple[str, str, Sequence[str]]
"""Provider, ``chat`` or ``embedding``, and the variables that are set."""
LOCAL = "http://127.0.0.1:9/v1"


def sent_variables(cases: Sequence[Case]) -> list[list[str]]:
    """Return which of the variables of each case are found in the requests."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
        env={**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"},
    )
    found: list[list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _main() -> None:
    import httpx
    import litellm

    litellm.suppress_debug_info = True
    seen: list[str] = []

    def record(_: Any, request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url) + json.dumps(dict(request.headers)))
        return httpx.Response(400, json={"error": {"message": "recorded"}}, request=request)

    httpx.HTTPTransport.handle_request = record  # type: ignore[method-assign]
    found = []
    for provider, use, names in json.load(sys.stdin):
        seen.clear()
        os.environ.update({name: f"canary-{name}-end" for name in names})
        arguments: dict[str, Any] = {"model": f"{provider}/a", "api_base": LOCAL, "max_retries": 0}
        if provider == "azure":
            arguments["api_version"] = "2024-10-21"
        try:
            if use == "chat":
                litellm.completion(messages=[{"role": "user", "content": "hello"}], **arguments)
            else:
                litellm.embedding(input=["hello"], **arguments)
        except Exception:  # noqa: BLE001 - whatever the library makes of the answer, or of a missing key
            pass
        for name in names:
            del os.environ[name]
        found.append([name for name in names if f"canary-{name}-end" in "".join(seen)])
    print(json.dumps(found))


if __name__ == "__main__":
    _main()
