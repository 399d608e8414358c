#!/bin/sh
# LiteLLM 1.110.2: the price of a model that it does not know depends on the provider's name.
#
# completion_cost of one response with 1,000 prompt and 1,000 completion tokens, by a model that no price table holds:
# an error for openai and azure, zero dollars for ollama, and for fireworks_ai and together_ai a price guessed from
# the "70b" in the model's name. Zero may mean free or unknown, and a guess looks like a price.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check litellm==1.110.2
cat > "$folder/seen" <<'EOF'
openai/my-70b-model: ModelNotMappedError
azure/my-70b-model: ModelNotMappedError
fireworks_ai/my-70b-model: 0.0018
ollama/my-70b-model: 0.0
together_ai/my-70b-model: 0.0018
EOF
LITELLM_LOCAL_MODEL_COST_MAP=True "$folder/venv/bin/python" -W ignore - > "$folder/output" <<'EOF'
import litellm
from litellm import Choices, Message, ModelResponse, Usage

litellm.suppress_debug_info = True
response = ModelResponse(
    model="my-70b-model",
    choices=[Choices(message=Message(content="A profile."))],
    usage=Usage(prompt_tokens=1000, completion_tokens=1000, total_tokens=2000),
)
for provider in ("openai", "azure", "fireworks_ai", "ollama", "together_ai"):
    model = f"{provider}/my-70b-model"
    try:
        cost = litellm.completion_cost(completion_response=response, model=model)
    except Exception as error:
        cost = type(error).__name__
    print(f"{model}: {cost}")
EOF
cat "$folder/output"
diff "$folder/seen" "$folder/output" && echo "as seen"
