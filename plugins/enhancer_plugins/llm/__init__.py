"""LLM providers: ``litellm``, ``openai`` (the protocol spoken directly) and ``replay`` (recorded answers)."""
