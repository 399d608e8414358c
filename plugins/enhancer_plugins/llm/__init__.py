"""LLM providers: ``litellm``, ``openai`` (OpenAI-compatible servers) and ``replay`` (recorded answers)."""
