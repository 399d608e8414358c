#!/bin/sh
# LiteLLM 1.106.2: aembedding with max_retries=0 sends a failing request three times.
#
# A server on 127.0.0.1 answers 503 and counts. With max_retries=0, acompletion sends one request and aembedding three:
# for embeddings the zero counts as not given. A layer above that retries by itself sends each attempt three times.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check litellm==1.106.2
cat > "$folder/seen" <<'EOF'
acompletion: 1
aembedding: 3
EOF
LITELLM_LOCAL_MODEL_COST_MAP=True "$folder/venv/bin/python" -W ignore - > "$folder/output" 2> "$folder/errors" <<'EOF'
import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import litellm

litellm.suppress_debug_info = True
received = []


class Busy(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        received.append(self.path)
        self.send_response(503)
        self.end_headers()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Busy)
threading.Thread(target=server.serve_forever, daemon=True).start()
to = {"api_base": f"http://127.0.0.1:{server.server_port}/v1", "api_key": "none", "max_retries": 0}


async def count(call, **more):
    received.clear()
    try:
        await call(model="openai/m", **to, **more)
    except (litellm.ServiceUnavailableError, litellm.InternalServerError):
        pass
    return len(received)


async def main():
    print("acompletion:", await count(litellm.acompletion, messages=[{"role": "user", "content": "a"}]))
    print("aembedding:", await count(litellm.aembedding, input=["a"]))


asyncio.run(main())
EOF
cat "$folder/output"
diff "$folder/seen" "$folder/output" && echo "as seen"
