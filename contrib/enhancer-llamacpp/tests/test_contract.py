"""Conformance suite for LLM providers, with a real model."""

from __future__ import annotations

import dataclasses

import enhancer_llamacpp
import pytest

from enhancer.contracts import Context
from enhancer.plugin_host import PluginManager
from enhancer.testing.llm import LLMProviderConformance


class TestContract(LLMProviderConformance):
    """The conformance suite without fault tests, since there is no server."""

    model = "SmolLM2-135M-Instruct.Q4_1"
    free = True
    at_once = 3

    @pytest.fixture
    def make_provider(self, smollm2):
        manager = PluginManager()
        manager.register(enhancer_llamacpp, distribution="enhancer-llamacpp")
        return lambda: manager.create("llm", "llamacpp", smollm2, Context())

    def request_for(self, *ids, timeout=60.0, schema=True):
        """Limit the length of answers, since a small model writes up to the limit."""
        request = super().request_for(*ids, timeout=timeout, schema=schema)
        if not schema:
            return dataclasses.replace(request, max_tokens=8)
        profile = {
            "type": "object",
            "properties": {
                "profile": {"type": "string", "minLength": 1, "maxLength": 30},
                "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "minItems": 1, "maxItems": 1},
            },
            "required": ["profile", "tags"],
            "additionalProperties": False,
        }
        if len(ids) == 1:
            return dataclasses.replace(request, schema=profile, max_tokens=80)
        element = {**profile, "properties": {"id": {"type": "string"}, **profile["properties"]}}
        element["required"] = ["id", *profile["required"]]
        items = {"type": "array", "items": element}
        whole = {"type": "object", "properties": {"items": items}, "required": ["items"], "additionalProperties": False}
        return dataclasses.replace(request, schema=whole)
