"""Configuration of a project: its keys (``schema``) and loading (``load``)."""

from __future__ import annotations

from enhancer.config.data import ColumnsConfig, DataConfig
from enhancer.config.evaluation import ArmConfig, EvaluationConfig
from enhancer.config.load import load_settings
from enhancer.config.schema import (
    LLMConfig,
    PriceConfig,
    PromptConfig,
    Settings,
    UseConfig,
)

__all__ = [
    "ArmConfig",
    "ColumnsConfig",
    "DataConfig",
    "EvaluationConfig",
    "LLMConfig",
    "PriceConfig",
    "PromptConfig",
    "Settings",
    "UseConfig",
    "load_settings",
]
