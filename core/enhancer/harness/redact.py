"""Remove secrets from messages before they are shown, stored or logged."""

from __future__ import annotations

import os
import re

_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$", re.IGNORECASE)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{6,}")
_KEY = re.compile(r"\b(?:sk|pk|gsk|xai|hf|AIza)[-_]?[A-Za-z0-9_-]{16,}")
_MIN_LENGTH = 6


def redact(text: str) -> str:
    """Replace values of environment variables with key-like names, and texts that look like keys, by ``***``.

    >>> redact("Incorrect API key provided: Bearer abcdef123456")
    'Incorrect API key provided: Bearer ***'
    """
    for name, value in os.environ.items():
        if len(value) >= _MIN_LENGTH and _NAME.search(name) and value in text:
            text = text.replace(value, "***")
    return _KEY.sub("***", _BEARER.sub(r"\1***", text))
