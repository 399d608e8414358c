"""Secrets are taken out of every message before it can be shown, stored or logged."""

from __future__ import annotations

import os
import re

_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$", re.IGNORECASE)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{6,}")
_SHAPED = re.compile(r"\b(?:sk|pk|gsk|xai|hf|AIza)[-_]?[A-Za-z0-9_-]{16,}")
_SHORTEST = 6


def redact(text: str) -> str:
    """Replace the values of key-like environment variables, and what looks like a key, by ``***``.

    >>> redact("Incorrect API key provided: Bearer abcdef123456")
    'Incorrect API key provided: Bearer ***'
    """
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and _NAME.search(name) and value in text:
            text = text.replace(value, "***")
    return _SHAPED.sub("***", _BEARER.sub(r"\1***", text))
