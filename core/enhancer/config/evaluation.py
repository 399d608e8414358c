"""Keys of ``[evaluation]``, with their defaults."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads annotations at run time
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from enhancer.config.inputs import Input, Join, check_distinct
from enhancer.contracts.options import Options

MAX_SEED = 2**31 - 1
"""Largest seed that can be set. The seeds of further runs and trials, which are added to it, stay below ``2**32``."""


class ArmConfig(Options):
    """``[evaluation.arm.NAME]``: an arm of an ablation that differs from what its name alone means."""

    fuser: str | None = None
    """Fuser; by default the one that the arm is named like, else that of ``[fuser]``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the fuser; they override those of ``[fuser]`` if it is the same fuser."""
    backbone: dict[str, Any] = Field(default_factory=dict)
    """Options of the backbone that override those of ``[backbone]``."""
    input: list[Input] | None = Field(default=None, min_length=1)
    """Inputs that its vectors come from; by default ``[embedder] input``."""
    join: Join | None = None
    """Way of joining several inputs; by default ``[embedder] join``."""
    shuffle: bool | None = None
    """Whether vectors are shuffled among entities; by default in the arm ``placebo`` only."""

    @model_validator(mode="after")
    def _inputs_are_distinct(self) -> Self:
        check_distinct(self.input)
        return self


class DimensionConfig(Options):
    """Search range of one option: from ``low`` to ``high``, or one of ``choices``."""

    low: int | float | None = None
    """Smallest value; if both ends are integers, integers are searched."""
    high: int | float | None = None
    """Largest value."""
    log: bool = False
    """Whether to search on a log scale."""
    choices: list[int | float | bool | str] | None = Field(default=None, min_length=1)
    """Values to choose from, instead of a range."""

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None:
                raise ValueError("give low and high, or choices, not both")
            return self
        if self.low is None or self.high is None or not self.low < self.high:
            raise ValueError("give low and high, low below high, or choices")
        if self.log and self.low <= 0:
            raise ValueError("low must be above 0 on a log scale")
        return self


class SearchConfig(Options):
    """``[evaluation.search]``: search of hyper-parameters on the validation split, with equal trials for all arms."""

    trials: int = Field(default=20, ge=1, le=10_000)
    """Training runs of each arm in the search; the first is the arm as configured."""
    backbone: dict[str, DimensionConfig] | None = None
    """Options of the backbone to search; by default the usual ones, around their values."""
    fuser: dict[str, dict[str, DimensionConfig]] = Field(default_factory=dict)
    """Options of the fuser to search, by arm or fuser; by default the usual ones, around their values."""


class EvaluationConfig(Options):
    """``[evaluation]``."""

    metrics: list[str] = Field(default=["ndcg@10", "recall@20"], min_length=1)
    """Metrics; the first one decides early stopping and the verdict."""
    split: Literal["random", "temporal", "temporal-global", "leave-one-out", "files"] = "random"
    """Method of the split. ``temporal``: the latest interactions of each user are the test split; ``temporal-global``:
    all after one time; ``files``: ``test`` (and ``validation``) are read from files."""
    test: Path | None = None
    """With ``files``: file of the test interactions."""
    validation: Path | None = None
    """With ``files``: file of the validation interactions; by default they are split from the training interactions."""
    test_size: float = Field(default=0.2, gt=0, lt=1)
    """Share of interactions in the test split: of each user (random, temporal) or of all (temporal-global)."""
    test_users: int | None = Field(default=None, ge=1)
    """Number of users whose interactions are held out, for validation and test, drawn at random; all interactions of
    other users are training interactions. By default all users. Ranking all items for millions of users takes longer
    than training."""
    validation_size: float = Field(default=0.1, ge=0, lt=1)
    """Share of each user's training interactions in the validation split."""
    cold_items: float = Field(default=0.0, ge=0, lt=1)
    """Share of items without any interaction in the training split."""
    cold_users: float = Field(default=0.0, ge=0, lt=1)
    """Share of users without any interaction in the training split."""
    min_rating: float | None = None
    """Lowest rating; interactions below it are dropped. By default all are kept."""
    k_core: int = Field(default=0, ge=0)
    """Before splitting, repeatedly drop users and items with fewer interactions than this."""
    split_seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of the split, which all arms and seeds share."""
    seeds: int = Field(default=5, ge=1, le=1000)
    """Number of seeds: training runs of each arm."""
    workers: int = Field(default=1, ge=1, le=1024)
    """Number of worker processes for training runs."""
    arms: list[str] | None = Field(default=None, min_length=1)
    """Names of fusers, ``text`` (raw text, no LLM), ``placebo`` (shuffled vectors) or names of ``[evaluation.arm]``.
    By default ``none`` and the fuser of ``[fuser]``."""
    controls: bool = True
    """Whether to add arms that are not listed, if any arm uses vectors: the fuser of ``[fuser]``, ``text`` and
    ``placebo``."""
    aspects: Literal["leave-one-out"] | None = None
    """``leave-one-out``: an arm without each of the inputs of ``[embedder]``, to tell which of them earn their keep."""
    arm: dict[str, ArmConfig] = Field(default_factory=dict)
    """Definitions of further arms."""
    baseline: str | None = None
    """Arm that the others are compared with; by default the first of ``arms``."""
    search: SearchConfig | None = None
    """Search of hyper-parameters before the comparison; without this table arms are trained as configured."""
    allow_leaks: bool = False
    """Train even if profiles or texts of users may have been written from held-out interactions; the report says so."""
