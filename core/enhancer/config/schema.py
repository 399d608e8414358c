"""Keys of ``enhancer.toml`` that belong to core, with their defaults.

A table that chooses a plugin (such as ``[llm]`` or ``[backbone]``) also holds the plugin's own options, which are kept
in ``options`` and validated by the plugin's options class.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from enhancer.contracts.options import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

Input = Literal["profile", "text"]
"""Text that is embedded: the profile that an LLM wrote, or the entity's raw text."""


class ColumnsConfig(Options):
    """``[data.columns]``: roles of columns."""

    item_id: str = "item_id"
    """Item id, in items and interactions."""
    user_id: str = "user_id"
    """User id, in users and interactions."""
    items_id: str | None = None
    """Item id in the items table, if its name there differs; by default ``item_id``."""
    users_id: str | None = None
    """User id in the users table, if its name there differs; by default ``user_id``."""
    rating: str | None = None
    """Rating in interactions; by default the column ``rating``, if it exists."""
    timestamp: str | None = None
    """Time of an interaction, in seconds; by default the column ``timestamp``, if it exists."""
    item_text: list[str] | None = None
    """Columns that form an item's text; by default every other column."""
    user_text: list[str] | None = None
    """Columns that form a user's text; by default every other column."""
    title: str | None = None
    """Column of item titles; by default ``title`` or ``name``, if it exists."""
    label: str | None = None
    """Binary label of an interaction: a column of 0 and 1, such as ``click``, or a condition, such as ``rating >= 4``.
    Negative interactions are never recommended; click models learn from them."""


class FeaturesConfig(Options):
    """``[data.features]``: side features, for backbones that use them, such as ``fm``.

    The type of a column follows from its values, unless it is given: ``"name:number"``, ``"name:category"``,
    ``"name:tags"``.
    """

    item: list[str] = Field(default=[])
    """Columns of the items table."""
    user: list[str] = Field(default=[])
    """Columns of the users table."""
    max_values: int = Field(default=10_000, ge=1)
    """Largest number of distinct values of a category or of tags; a column with more is rejected as an id or text."""


class DataConfig(Options):
    """``[data]``: the tables. CSV, TSV, JSONL, Parquet or RecBole atomic files, by file extension."""

    items: Path | None = None
    """Items table, with text."""
    users: Path | None = None
    """Users table, with text."""
    interactions: Path | None = None
    """Interactions of users with items."""
    columns: ColumnsConfig = ColumnsConfig()
    features: FeaturesConfig = FeaturesConfig()
    max_text: int = Field(default=4000, ge=1)
    """Largest number of characters of an entity's text in a prompt or embedding; longer text is truncated."""


class PromptConfig(Options):
    """``[prompts.item]`` and ``[prompts.user]``."""

    template: str = ""
    """Name of a bundled template, or a path."""
    source: Literal["llm", "text", "pool", "none"] = "llm"
    """``llm``: a profile; ``text``: raw text, no LLM; ``pool``: mean of a user's training items; ``none``."""
    max_history: int = Field(default=30, ge=1)
    """Largest number of interactions in a user's prompt, most recent first."""


class PromptsConfig(Options):
    """``[prompts]``."""

    item: PromptConfig = PromptConfig(template="item/v1", source="llm")
    user: PromptConfig = PromptConfig(template="user/v1", source="pool")
    """Without a table ``[prompts.user]`` users are pooled, without an LLM; with one, ``source`` defaults to ``llm``."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        """Keep the default template of each kind if its table sets other keys only."""
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
    """Base of tables that choose a plugin. Further keys are the plugin's options."""

    use: str
    """Name of the plugin, or ``"distribution:name"``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the plugin, not validated yet."""

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, data: Any) -> Any:
        if isinstance(data, dict) and "options" not in data:
            own = {k: v for k, v in data.items() if k in cls.model_fields}
            return {**own, "options": {k: v for k, v in data.items() if k not in cls.model_fields}}
        return data


class PriceConfig(Options):
    """``[llm.price]``: price in USD per million tokens."""

    input: float = Field(ge=0)
    """Price of prompt tokens."""
    output: float = Field(ge=0)
    """Price of completion tokens."""


class LLMConfig(UseConfig):
    """``[llm]``: the LLM provider and limits on its calls. Further keys are the provider's options."""

    use: str = "litellm"
    model: str = "openai/gpt-4o-mini"
    """Name of the model at the provider."""
    timeout: float = Field(default=60.0, gt=0)
    """Timeout of a whole call, in seconds."""
    temperature: float | None = Field(default=0.0, ge=0)
    """Sampling temperature; None uses the provider's default."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Probability mass of nucleus sampling."""
    seed: int | None = None
    """Sampling seed, for providers that support one."""
    max_tokens: int = Field(default=400, ge=1)
    """Largest number of completion tokens for one entity."""
    concurrency: int = Field(default=32, ge=1)
    """Largest number of concurrent calls."""
    items_per_request: int = Field(default=1, ge=1)
    """Entities in one request."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Rate limit on calls."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Rate limit on prompt and completion tokens together."""
    max_cost: float | None = Field(default=None, ge=0)
    """Budget of one run, in USD. It is never exceeded."""
    max_attempts: int = Field(default=6, ge=1)
    """Attempts at one call before its transient errors count as a failure."""
    batch_poll: float = Field(default=60.0, gt=0)
    """With ``--batch``: seconds between polls of a batch job; up to ten times as long while nothing changes."""
    batch_discount: float = Field(default=0.5, ge=0, le=1)
    """Discount of batch jobs, as a share of the price."""
    batch_rounds: int = Field(default=3, ge=1)
    """Batch jobs in which an entity may get no answer before it is quarantined."""
    batch_requests: int = Field(default=50_000, ge=1)
    """Largest number of requests in one batch job; a lower limit of the provider applies."""
    batch_bytes: int = Field(default=200_000_000, ge=1)
    """Largest file of one batch job, in bytes; a lower limit of the provider applies."""
    price: PriceConfig | None = None
    """Price that overrides the provider's price table."""


class EmbedderConfig(UseConfig):
    """``[embedder]``."""

    use: str = "sentence-transformers"
    input: list[Input] = Field(default=["profile"], min_length=1)
    """Inputs to embed; vectors of two inputs are concatenated."""

    @model_validator(mode="after")
    def _inputs_are_distinct(self) -> Self:
        if len(set(self.input)) < len(self.input):
            raise ValueError(f"input: name each input once, not {self.input!r}")
        return self


class StoreConfig(UseConfig):
    """``[store]``."""

    use: str = "lmdb"


AUTO = "auto"
"""Value of ``[backbone] use`` with which core chooses the backbone. No plugin can be registered under it."""


class AutoConfig(Options):
    """``[backbone] use = "auto"``: the backbone and its main options are chosen on the validation part."""

    candidates: list[str] | None = Field(default=None, min_length=1)
    """Names of the backbones to try; by default all installed ones that offer themselves."""
    trials: int = Field(default=8, ge=1)
    """Largest number of fits of one candidate: the first with its defaults, the others with neighbouring options."""


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
    """``[evaluation.arm.NAME]``: an arm of an ablation that differs from what its name alone means."""

    fuser: str | None = None
    """Fuser; by default the one that the arm is named like, else that of ``[fuser]``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the fuser; they override those of ``[fuser]`` if it is the same fuser."""
    backbone: dict[str, Any] = Field(default_factory=dict)
    """Options of the backbone that override those of ``[backbone]``."""
    input: list[Input] | None = None
    """Inputs that its vectors come from; by default ``[embedder] input``."""
    shuffle: bool | None = None
    """Whether vectors are shuffled among entities; by default in the arm ``placebo`` only."""


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

    trials: int = Field(default=20, ge=1)
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
    split_seed: int = 0
    """Seed of the split, which all arms and seeds share."""
    seeds: int = Field(default=5, ge=1)
    """Number of seeds: training runs of each arm."""
    workers: int = Field(default=1, ge=1)
    """Number of worker processes for training runs."""
    arms: list[str] | None = Field(default=None, min_length=1)
    """Names of fusers, ``text`` (raw text, no LLM), ``placebo`` (shuffled vectors) or names of ``[evaluation.arm]``.
    By default ``none`` and the fuser of ``[fuser]``."""
    controls: bool = True
    """Whether to add arms that are not listed, if any arm uses vectors: the fuser of ``[fuser]``, ``text`` and
    ``placebo``."""
    arm: dict[str, ArmConfig] = Field(default_factory=dict)
    """Definitions of further arms."""
    baseline: str | None = None
    """Arm that the others are compared with; by default the first of ``arms``."""
    search: SearchConfig | None = None
    """Search of hyper-parameters before the comparison; without this table arms are trained as configured."""
    allow_leaks: bool = False
    """Train even if profiles or texts of users may have been written from held-out interactions; the report says so."""


class ServingConfig(Options):
    """``[serving]``: the share of lists that new items get, which training has not seen."""

    explore: float = Field(default=0.0, ge=0, le=1)
    """Share of all places in lists that new items get, whatever their scores; see
    :mod:`enhancer.serving.new_items`."""
    new_items_cap: float | None = Field(default=None, ge=0, le=1)
    """Largest share of a list that is new items. By default there is no limit without ``explore``, and with it new
    items get the promised places alone."""

    @model_validator(mode="after")
    def _cap_is_not_below_the_promise(self) -> Self:
        if self.new_items_cap is not None and self.new_items_cap < self.explore:
            raise ValueError(f"new_items_cap = {self.new_items_cap:g} is below explore = {self.explore:g}: raise it")
        return self


class Settings(Options):
    """The whole configuration file."""

    data: DataConfig = DataConfig()
    prompts: PromptsConfig = PromptsConfig()
    llm: LLMConfig = LLMConfig()
    embedder: EmbedderConfig = EmbedderConfig()
    store: StoreConfig = StoreConfig()
    backbone: BackboneConfig = BackboneConfig()
    fuser: FuserConfig = FuserConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    observers: dict[str, ObserverConfig] = Field(default_factory=dict)
    serving: ServingConfig = ServingConfig()
    artifact: Path = Path("artifact")
    """Folder of the serving artifact that ``enhancer train`` writes."""
    seed: int = 0
    """Seed of ``enhancer train``, and of the first run of each arm."""

    @property
    def listed_arms(self) -> list[str]:
        """Arms of ``[evaluation] arms``; by default ``none`` and the fuser of ``[fuser]``."""
        if self.evaluation.arms is not None:
            return self.evaluation.arms
        return list(dict.fromkeys(["none", self.fuser.use]))

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Inputs that vectors come from: ``[embedder] input``, or a single one if items have their raw text alone.

        That one is the profile if users have profiles, which then stand beside the raw text of items.
        """
        if self.prompts.item.source != "text":
            return tuple(self.embedder.input)
        return ("profile",) if self._profiles_users and "profile" in self.embedder.input else ("text",)

    def item_inputs(self, inputs: Sequence[Input]) -> list[Input]:
        """Return what items have for each of ``inputs``: their raw text if no profiles of them are wanted."""
        return ["text"] * len(inputs) if self.prompts.item.source == "text" else list(inputs)

    @property
    def _profiles_users(self) -> bool:
        return self.prompts.user.source == "llm"

    @model_validator(mode="after")
    def _profiles_of_users_are_used(self) -> Self:
        inputs = [*self.embedder.input, *(name for arm in self.evaluation.arm.values() for name in arm.input or ())]
        if self._profiles_users and "profile" not in inputs:
            raise ValueError(
                "prompts.user.source is 'llm', but no input is 'profile', so profiles of users would not be used: add"
                " 'profile' to [embedder] input, or set [prompts.user] source = 'pool'"
            )
        return self
