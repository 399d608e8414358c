"""Environment variables that the library LiteLLM reads for a provider: keys that it sends, and where it sends them.

The library has no list of them that is complete: ``validate_environment`` knows neither ``HF_TOKEN`` nor
``TOGETHER_API_KEY``. These were seen in requests of version 1.106, in the order in which it looks for them. Clients
built upon that of OpenAI send ``OPENAI_API_KEY`` where the provider's own key is missing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Use = Literal["chat", "embedding"]

_AWS = (
    ("AWS_BEARER_TOKEN_BEDROCK",),
    # The secret is not sent, but signs what is.
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    ("AWS_PROFILE",),
    ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
)
_GOOGLE_CLOUD = (("VERTEXAI_CREDENTIALS",), ("GOOGLE_APPLICATION_CREDENTIALS",))
_ENTRA = (("AZURE_AD_TOKEN",), ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"))
_OWN: dict[str, tuple[tuple[str, ...], ...]] = {
    "ai21": (("AI21_API_KEY",),),
    "anthropic": (("ANTHROPIC_API_KEY",), ("ANTHROPIC_AUTH_TOKEN",)),
    "azure": (("AZURE_OPENAI_API_KEY",), ("AZURE_API_KEY",), *_ENTRA),
    "azure_ai": (("AZURE_AI_API_KEY",), ("AZURE_OPENAI_API_KEY",), ("AZURE_API_KEY",), *_ENTRA),
    "baseten": (("BASETEN_API_KEY",),),
    "bedrock": _AWS,
    "cerebras": (("CEREBRAS_API_KEY",),),
    "cloudflare": (("CLOUDFLARE_API_KEY",),),
    "codestral": (("CODESTRAL_API_KEY",),),
    "cohere": (("COHERE_API_KEY",), ("CO_API_KEY",)),
    "cohere_chat": (("COHERE_API_KEY",), ("CO_API_KEY",)),
    "dashscope": (("DASHSCOPE_API_KEY",),),
    "databricks": (("DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET"), ("DATABRICKS_API_KEY",)),
    "deepinfra": (("DEEPINFRA_API_KEY",),),
    "deepseek": (("DEEPSEEK_API_KEY",),),
    "featherless_ai": (("FEATHERLESS_AI_API_KEY",), ("FEATHERLESS_API_KEY",)),
    "fireworks_ai": (
        *(("FIREWORKS_API_KEY",), ("FIREWORKS_AI_API_KEY",), ("FIREWORKSAI_API_KEY",)),
        ("FIREWORKS_AI_TOKEN",),
    ),
    "friendliai": (("FRIENDLIAI_API_KEY",), ("FRIENDLI_TOKEN",)),
    "gemini": (("GOOGLE_API_KEY",), ("GEMINI_API_KEY",), ("PALM_API_KEY",)),
    "github": (("GITHUB_API_KEY",),),
    "groq": (("GROQ_API_KEY",),),
    "hosted_vllm": (("HOSTED_VLLM_API_KEY",),),
    "huggingface": (("HF_TOKEN",), ("HUGGINGFACE_API_KEY",)),
    "hyperbolic": (("HYPERBOLIC_API_KEY",),),
    "infinity": (("INFINITY_API_KEY",),),
    "jina_ai": (("JINA_AI_API_KEY",), ("JINA_API_KEY",), ("JINA_AI_TOKEN",)),
    "lambda_ai": (("LAMBDA_API_KEY",),),
    "litellm_proxy": (("LITELLM_PROXY_API_KEY",),),
    "llamafile": (("LLAMAFILE_API_KEY",),),
    "lm_studio": (("LM_STUDIO_API_KEY",),),
    "meta_llama": (("LLAMA_API_KEY",),),
    "minimax": (("MINIMAX_API_KEY",),),
    "mistral": (("MISTRAL_AZURE_API_KEY",), ("MISTRAL_API_KEY",)),
    "moonshot": (("MOONSHOT_API_KEY",),),
    "nebius": (("NEBIUS_API_KEY",),),
    "nlp_cloud": (("NLP_CLOUD_API_KEY",),),
    "novita": (("NOVITA_API_KEY",),),
    "nvidia_nim": (("NVIDIA_NIM_API_KEY",),),
    "ollama": (("OLLAMA_API_KEY",),),
    "ollama_chat": (("OLLAMA_API_KEY",),),
    "openai": (("OPENAI_API_KEY",),),
    "openrouter": (("OPENROUTER_API_KEY",), ("OR_API_KEY",)),
    "perplexity": (("PERPLEXITYAI_API_KEY",), ("PERPLEXITY_API_KEY",)),
    "replicate": (("REPLICATE_API_KEY",), ("REPLICATE_API_TOKEN",)),
    "sagemaker": _AWS[1:],
    "sagemaker_chat": _AWS[1:],
    "sambanova": (("SAMBANOVA_API_KEY",),),
    "together_ai": (
        *(("TOGETHER_API_KEY",), ("TOGETHER_AI_API_KEY",), ("TOGETHERAI_API_KEY",)),
        ("TOGETHER_AI_TOKEN",),
    ),
    "vercel_ai_gateway": (("VERCEL_AI_GATEWAY_API_KEY",), ("VERCEL_OIDC_TOKEN",)),
    "vertex_ai": _GOOGLE_CLOUD,
    "vertex_ai_beta": _GOOGLE_CLOUD,
    "volcengine": (("VOLCENGINE_API_KEY",),),
    "voyage": (("VOYAGE_API_KEY",), ("VOYAGE_AI_API_KEY",), ("VOYAGE_AI_TOKEN",)),
    "wandb": (("WANDB_API_KEY",),),
    "watsonx": (
        *(("WATSONX_TOKEN",), ("WATSONX_ZENAPIKEY",), ("WX_API_KEY",), ("WATSONX_API_KEY",)),
        ("WATSONX_APIKEY",),
    ),
    "xai": (("XAI_API_KEY",),),
    "xinference": (("XINFERENCE_API_KEY",),),
    "zai": (("ZAI_API_KEY",),),
}
"""Alternatives, the first of which is taken; variables of one are used together."""
_OWN_OF_EMBEDDERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "azure": (("AZURE_API_KEY",), ("AZURE_OPENAI_API_KEY",), *_ENTRA),
    "azure_ai": (("AZURE_AI_API_KEY",),),
    "gemini": (("GOOGLE_API_KEY",), ("GEMINI_API_KEY",)),
    "huggingface": (("HUGGINGFACE_API_KEY",),),
    "ollama": (),
    "volcengine": (("VOLCENGINE_API_KEY",), ("ARK_API_KEY",)),
    "watsonx": (
        *(("WATSONX_TOKEN",), ("WATSONX_ZENAPIKEY",), ("WATSONX_APIKEY",), ("WATSONX_API_KEY",)),
        ("WX_API_KEY",),
    ),
}
"""The same, where they are others for embeddings."""
_OWN_CLIENT = frozenset(
    {
        *("anthropic", "azure", "azure_ai", "bedrock", "cloudflare", "cohere", "cohere_chat", "databricks", "deepseek"),
        *("fireworks_ai", "gemini", "groq", "hosted_vllm", "huggingface", "infinity", "jina_ai", "llamafile"),
        *("lm_studio", "minimax", "mistral", "nlp_cloud", "ollama", "ollama_chat", "openai", "openrouter", "replicate"),
        *("sagemaker", "sagemaker_chat", "together_ai", "vertex_ai", "vertex_ai_beta", "voyage", "watsonx", "xai"),
    }
)
"""Providers whose own key is not replaced by ``OPENAI_API_KEY``."""
_BORROW_TO_EMBED = frozenset({"azure_ai", "fireworks_ai", "mistral", "together_ai"})
"""Those of them where it is, for embeddings."""
_OWN_TO_EMBED = frozenset({"dashscope", "perplexity", "sambanova", "vercel_ai_gateway", "volcengine", "xinference"})
"""Others where it is not, for embeddings."""
_BASES: dict[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"),
    "azure": ("AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"),
    "bedrock": ("AWS_BEDROCK_RUNTIME_ENDPOINT",),
    "cohere_chat": ("COHERE_API_BASE",),
    "fireworks_ai": ("FIREWORKS_API_BASE",),
    "huggingface": ("HF_API_BASE", "HUGGINGFACE_API_BASE"),
    "lambda_ai": ("LAMBDA_API_BASE",),
    "litellm_proxy": ("LITELLM_PROXY_API_BASE", "OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "meta_llama": ("LLAMA_API_BASE",),
    "mistral": ("MISTRAL_AZURE_API_BASE",),
    "ollama_chat": ("OLLAMA_API_BASE",),
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "xinference": ("XINFERENCE_API_BASE", "OPENAI_BASE_URL", "OPENAI_API_BASE"),
}
"""Variables with the address, the first of which is taken; by default ``NAME_API_BASE``."""


class Address(NamedTuple):
    """Address that an environment variable sets."""

    variable: str
    url: str


def is_known(provider: str) -> bool:
    """Return whether the variables of a provider are known, rather than guessed from its name."""
    return provider in _OWN


def own_variables(provider: str, use: Use) -> Sequence[tuple[str, ...]]:
    """Return the variables with a provider's own credentials: alternatives, the first of which is taken.

    >>> own_variables("huggingface", "chat")
    (('HF_TOKEN',), ('HUGGINGFACE_API_KEY',))
    >>> own_variables("newcomer", "chat")
    (('NEWCOMER_API_KEY',),)
    """
    default = _OWN.get(provider, ((f"{provider.upper()}_API_KEY",),))
    return _OWN_OF_EMBEDDERS.get(provider, default) if use == "embedding" else default


def own_set(provider: str, use: Use, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the variables with a provider's own credentials that are set and taken."""
    for alternative in own_variables(provider, use):
        if found := [name for name in alternative if environment.get(name, "").strip()]:
            return found
    return []


def borrows(provider: str, use: Use, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the library would send ``OPENAI_API_KEY`` to a provider in place of its own key."""
    own = provider in _OWN_CLIENT
    if use == "embedding":
        own = (own and provider not in _BORROW_TO_EMBED) or provider in _OWN_TO_EMBED
    return not own and bool(environment.get("OPENAI_API_KEY", "").strip())


def sent(provider: str, use: Use, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the variables whose values are sent to a provider, or sign what is sent.

    >>> sent("gemini", "chat", {"GEMINI_API_KEY": "secret"})
    ['GEMINI_API_KEY']
    >>> sent("lambda_ai", "chat", {"OPENAI_API_KEY": "secret"})
    ['OPENAI_API_KEY']
    """
    found = own_set(provider, use, environment)
    return found or (["OPENAI_API_KEY"] if borrows(provider, use, environment) else [])


def address(provider: str, environment: Mapping[str, str] = os.environ) -> Address | None:
    """Return the address that the environment sets for a provider; None without one.

    >>> address("azure", {"AZURE_API_BASE": "https://mine.openai.azure.com"})
    Address(variable='AZURE_API_BASE', url='https://mine.openai.azure.com')
    """
    for name in _BASES.get(provider, (f"{provider.upper()}_API_BASE",)):
        if url := environment.get(name, "").strip():
            return Address(name, url)
    return None
