"""Every key of ``enhancer.toml`` that core itself understands, with its default.

The tables that choose a plugin (``[llm]``, ``[embedder]``, ``[store]``, ``[backbone]``, ``[fuser]``) hold, beside
core's keys, the plugin's own options; those are kept in ``options`` and checked by the plugin's options class when it
is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from enhancer.contracts.options import Options

Input = Literal["profile", "text"]
"""What is embedded: the profile that an LLM wrote, or the entity's raw text."""


class ColumnsConfig(Options):
    """``[data.columns]``: which column is which."""

    item_id: str = "item_id"
    """Item id, in items and interactions."""
    user_id: str = "user_id"
    """User id, in users and interactions."""
    items_id: str | None = None
    """Item id in the items table, where that table calls it otherwise; by default ``item_id``."""
    users_id: str | None = None
    """User id in the users table, likewise; by default ``user_id``."""
    rating: str | None = None
    """Rating in interactions; by default the column ``rating`` where there is one."""
    timestamp: str | None = None
    """Time of an interaction, in seconds; by default the column ``timestamp`` where there is one."""
    item_text: list[str] | None = None
    """Columns that make an item's text; by default every other column."""
    user_text: list[str] | None = None
    """Columns that make a user's text; by default every other column."""
    title: str | None = None
    """Column that names an item to people; by default ``title`` or ``name``, where there is one."""
    label: str | None = None
    """Whether an interaction was a good one: a column of 0 and 1, such as ``click``, or a bound, such as
    ``rating >= 4``. Those that were not are never to be recommended, and are what click models learn from."""


class FeaturesConfig(Options):
    """``[data.features]``: columns that a backbone learns from as they are, such as ``fm``.

    What a column is, its values tell; ``"name:number"``, ``"name:category"`` or ``"name:tags"`` says otherwise.
    """

    item: list[str] = Field(default=[])
    """Columns of the items table."""
    user: list[str] = Field(default=[])
    """Columns of the users table."""
    max_values: int = Field(default=10_000, ge=1)
    """Different values that a category, or tags, may have: a column with more is an id or a text."""


class DataConfig(Options):
    """``[data]``: the tables. CSV, TSV, JSONL, Parquet or RecBole atomic files, by their ending."""

    items: Path | None = None
    """Items and their text."""
    users: Path | None = None
    """Users and their text."""
    interactions: Path | None = None
    """Who touched what."""
    columns: ColumnsConfig = ColumnsConfig()
    features: FeaturesConfig = FeaturesConfig()
    max_text: int = Field(default=4000, ge=1)
    """Characters of an entity's text that enter a prompt or an embedder; the rest is cut off."""


class PromptConfig(Options):
    """``[prompts.item]`` and ``[prompts.user]``."""

    template: str = ""
    """Name of a bundled template, or a path."""
    source: Literal["llm", "text", "pool", "none"] = "llm"
    """``llm``: a profile; ``text``: the raw text, no LLM; ``pool`` (users): mean of their training items; ``none``."""
    max_history: int = Field(default=30, ge=1)
    """Interactions shown in a user's prompt, most recent first."""


class PromptsConfig(Options):
    """``[prompts]``."""

    item: PromptConfig = PromptConfig(template="item/v1", source="llm")
    user: PromptConfig = PromptConfig(template="user/v1", source="pool")
    """Without a table ``[prompts.user]`` users are pooled, which costs nothing; with one, ``source`` is ``llm``."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        """A table that sets one key keeps the other defaults of its own kind."""
        if isinstance(data, dict):
            kinds = {"item": {"template": "item/v1"}, "user": {"template": "user/v1"}}
            return {k: {**kinds.get(k, {}), **v} if isinstance(v, dict) else v for k, v in data.items()}
        return data

    @model_validator(mode="after")
    def _items_are_not_pooled(self) -> Self:
        if self.item.source == "pool":
            raise ValueError("item.source: 'pool' is for users; items take 'llm', 'text' or 'none'")
        return self


class UseConfig(Options):
    """A table that names a plugin; its other keys are the plugin's options."""

    use: str
    """Name of the plugin, or ``"distribution:name"``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The plugin's options, not yet checked."""

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, data: Any) -> Any:
        if isinstance(data, dict) and "options" not in data:
            own = {k: v for k, v in data.items() if k in cls.model_fields}
            return {**own, "options": {k: v for k, v in data.items() if k not in cls.model_fields}}
        return data


class PriceConfig(Options):
    """``[llm.price]``: USD per million tokens."""

    input: float = Field(ge=0)
    """For prompt tokens."""
    output: float = Field(ge=0)
    """For completion tokens."""


class LLMConfig(UseConfig):
    """``[llm]``: who answers, and how calls are made. Further keys are the provider's options."""

    use: str = "litellm"
    model: str = "openai/gpt-4o-mini"
    """The model, as the provider names it."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds for a whole call."""
    temperature: float | None = Field(default=0.0, ge=0)
    """Sampling temperature; none leaves it to the provider."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Nucleus sampling."""
    seed: int | None = None
    """Sampling seed, for providers that take one."""
    max_tokens: int = Field(default=400, ge=1)
    """Room for the profile of one entity, in tokens."""
    concurrency: int = Field(default=32, ge=1)
    """Calls in flight at most."""
    items_per_request: int = Field(default=1, ge=1)
    """Entities asked about in one call."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Limit on calls."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Limit on prompt and completion tokens."""
    max_cost: float | None = Field(default=None, ge=0)
    """USD; a hard cap on one run."""
    max_attempts: int = Field(default=6, ge=1)
    """Tries of one call, transient failures included."""
    batch_poll: float = Field(default=60.0, gt=0)
    """With ``--batch``: seconds between two looks at a job; up to ten times as long while nothing changes."""
    batch_discount: float = Field(default=0.5, ge=0, le=1)
    """Share of the price that an offline batch saves."""
    batch_rounds: int = Field(default=3, ge=1)
    """Times that an entity may come back from a batch without an answer before it is set aside."""
    batch_requests: int = Field(default=50_000, ge=1)
    """Requests in one job; the provider's own limit counts where it is lower."""
    batch_bytes: int = Field(default=200_000_000, ge=1)
    """Bytes of one job's file, likewise."""
    price: PriceConfig | None = None
    """Overrides the provider's price table."""


class EmbedderConfig(UseConfig):
    """``[embedder]``."""

    use: str = "sentence-transformers"
    input: list[Input] = Field(default=["profile"], min_length=1)
    """What is embedded; two give their vectors side by side."""

    @model_validator(mode="after")
    def _inputs_are_distinct(self) -> Self:
        if len(set(self.input)) < len(self.input):
            raise ValueError(f"input: each may be named once, not {self.input!r}")
        return self


class StoreConfig(UseConfig):
    """``[store]``."""

    use: str = "lmdb"


class BackboneConfig(UseConfig):
    """``[backbone]``."""

    use: str = "lightgcn"


class FuserConfig(UseConfig):
    """``[fuser]``."""

    use: str = "align"


class ObserverConfig(UseConfig):
    """``[observers.NAME]``: an observer to notify of runs. Further keys are the observer's options."""

    use: str = ""
    """Name of the observer plugin; by default the name of the table."""
    enabled: bool = True
    """Whether the observer is notified."""


class ArmConfig(Options):
    """``[evaluation.arm.NAME]``: one arm of an ablation, where its name alone does not say what it is."""

    fuser: str | None = None
    """Fuser; by default the one that the arm is named like, else that of ``[fuser]``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The fuser's options, over those of ``[fuser]`` if it is the same fuser."""
    backbone: dict[str, Any] = Field(default_factory=dict)
    """Options of the backbone that are other than those of ``[backbone]`` for this arm."""
    input: list[Input] | None = None
    """What its vectors come from; by default ``[embedder] input``."""
    shuffle: bool | None = None
    """Give every entity the vector of another; by default in the arm ``placebo`` alone."""


class DimensionConfig(Options):
    """One option that is searched: from ``low`` to ``high``, or one of ``choices``."""

    low: int | float | None = None
    """Smallest value; whole numbers on both ends search whole numbers."""
    high: int | float | None = None
    """Largest value."""
    log: bool = False
    """Search on a log scale."""
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
    """``[evaluation.search]``: hyper-parameters are searched, with equal budget for every arm, on validation."""

    trials: int = Field(default=20, ge=1)
    """Training runs of each arm; the first is the arm as configured."""
    backbone: dict[str, DimensionConfig] | None = None
    """Options of the backbone that are searched; by default the well-known ones around their values."""
    fuser: dict[str, dict[str, DimensionConfig]] = Field(default_factory=dict)
    """By arm or fuser, options of the fuser that are searched; by default likewise."""


class EvaluationConfig(Options):
    """``[evaluation]``."""

    metrics: list[str] = Field(default=["ndcg@10", "recall@20"], min_length=1)
    """What is measured; the first one decides early stopping and the verdict."""
    split: Literal["random", "temporal", "temporal-global", "leave-one-out", "files"] = "random"
    """How the test set is cut: ``temporal`` the latest of each user, ``temporal-global`` all from one moment on;
    ``files`` takes ``test`` (and ``validation``) as they are."""
    test: Path | None = None
    """With ``files``: the test interactions."""
    validation: Path | None = None
    """With ``files``: the validation interactions; else cut from train."""
    test_size: float = Field(default=0.2, gt=0, lt=1)
    """Share of each user's interactions that is tested (random, temporal), or of all (temporal-global)."""
    validation_size: float = Field(default=0.1, ge=0, lt=1)
    """Share of each user's training interactions that is kept for validation."""
    cold_items: float = Field(default=0.0, ge=0, lt=1)
    """Share of items held out of training altogether."""
    cold_users: float = Field(default=0.0, ge=0, lt=1)
    """Share of users held out of training altogether."""
    min_rating: float | None = None
    """Interactions rated lower are left out; by default every interaction counts."""
    k_core: int = Field(default=0, ge=0)
    """Drop users and items with fewer interactions, repeatedly, before splitting."""
    split_seed: int = 0
    """Seed of the split: cut once, shared by every arm and seed."""
    seeds: int = Field(default=5, ge=1)
    """Training runs of each arm."""
    workers: int = Field(default=1, ge=1)
    """Processes that runs are spread over."""
    arms: list[str] = Field(default=["none", "concat", "align", "text", "placebo"], min_length=1)
    """Fusers, ``text`` (raw text, no LLM), ``placebo`` (shuffled vectors), or names of ``[evaluation.arm]``."""
    controls: bool = True
    """Run the arms ``text`` and ``placebo`` also where ``arms`` does not name them, if any arm uses vectors."""
    arm: dict[str, ArmConfig] = Field(default_factory=dict)
    """Arms of your own."""
    baseline: str | None = None
    """The arm that others are compared with; by default the first of ``arms``."""
    search: SearchConfig | None = None
    """Search hyper-parameters before arms are compared; without this table they are taken as configured."""
    allow_leaks: bool = False
    """Go on where profiles or texts of users may have been written from held-out interactions; the report says so."""


class Settings(Options):
    """The whole file."""

    data: DataConfig = DataConfig()
    prompts: PromptsConfig = PromptsConfig()
    llm: LLMConfig = LLMConfig()
    embedder: EmbedderConfig = EmbedderConfig()
    store: StoreConfig = StoreConfig()
    backbone: BackboneConfig = BackboneConfig()
    fuser: FuserConfig = FuserConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    observers: dict[str, ObserverConfig] = Field(default_factory=dict)
    artifact: Path = Path("artifact")
    """Folder of the serving artifact that ``enhancer train`` writes."""
    seed: int = 0
    """Seed of ``enhancer train``, and of the first run of each arm."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What the vectors of items come from; where nothing but text is read, ``[embedder] input`` has no say."""
        return ("text",) if self.prompts.item.source == "text" else tuple(self.embedder.input)
