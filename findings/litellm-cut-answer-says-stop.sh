#!/bin/sh
# LiteLLM 1.110.2: an answer that was cut off by the limit of tokens has the finish reason "stop" for some providers.
#
# Each provider's own API says that the answer ran out of tokens: done_reason "length" (Ollama's /api/generate),
# stop_reason "max_tokens" (Anthropic, with a JSON schema, which an older model gets as a tool). The response of the
# library says "stop". For Ollama's /api/chat, Cohere, and Anthropic without a schema it says "length". Callers that
# look at the finish reason take half an answer for a whole one.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check litellm==1.110.2
cat > "$folder/seen" <<'EOF'
ollama/m, done_reason length: stop
ollama_chat/m, done_reason length: length
cohere_chat/m, finish_reason MAX_TOKENS: length
anthropic/claude-3-5-haiku-latest, stop_reason max_tokens: length
anthropic/claude-3-5-haiku-latest with a schema, stop_reason max_tokens: stop
EOF
LITELLM_LOCAL_MODEL_COST_MAP=True "$folder/venv/bin/python" -W ignore - > "$folder/output" <<'EOF'
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import litellm

litellm.suppress_debug_info = True
reply = {}


class Provider(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()

SCHEMA = {"type": "object", "properties": {"profile": {"type": "string"}}, "required": ["profile"]}
FORM = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
HALF = "A quiet film about the"
ollama = {"model": "m", "created_at": "2026-12-01T00:00:00Z", "done": True, "done_reason": "length"}
ollama |= {"prompt_eval_count": 5, "eval_count": 10}
claude = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "max_tokens"}
claude |= {"usage": {"input_tokens": 5, "output_tokens": 10}}
tokens = {"input_tokens": 5, "output_tokens": 10}
cases = [
    ("ollama/m", {}, "done_reason length", {**ollama, "response": HALF}),
    ("ollama_chat/m", {}, "done_reason length", {**ollama, "message": {"role": "assistant", "content": HALF}}),
    (
        "cohere_chat/m",
        {},
        "finish_reason MAX_TOKENS",
        {
            "id": "c",
            "finish_reason": "MAX_TOKENS",
            "message": {"role": "assistant", "content": [{"type": "text", "text": HALF}]},
            "usage": {"billed_units": tokens, "tokens": tokens},
        },
    ),
    (
        "anthropic/claude-3-5-haiku-latest",
        {},
        "stop_reason max_tokens",
        {**claude, "content": [{"type": "text", "text": HALF}]},
    ),
    (
        "anthropic/claude-3-5-haiku-latest",
        {"response_format": FORM},
        "stop_reason max_tokens",
        {**claude, "content": [{"type": "tool_use", "id": "t", "name": "json_tool_call", "input": {"profile": HALF}}]},
    ),
]
for model, more, said, reply in cases:
    response = litellm.completion(
        model=model,
        messages=[{"role": "user", "content": "Write a profile."}],
        max_tokens=10,
        api_base=f"http://127.0.0.1:{server.server_port}",
        api_key="none",
        **more,
    )
    print(f"{model}{' with a schema' if more else ''}, {said}: {response.choices[0].finish_reason}")
EOF
cat "$folder/output"
diff "$folder/seen" "$folder/output" && echo "as seen"
