"""Defaults that commands show in their help. Imports nothing, so that the help needs no other module."""

from __future__ import annotations

from typing import Final

MAX_PRUNED_SHARE: Final = 0.5
"""Default of the largest share of a kind's records that one refresh may remove."""
