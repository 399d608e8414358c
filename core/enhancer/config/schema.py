"""Keys of ``enhancer.toml`` that belong to core, with their defaults.

A table that chooses a plugin (such as ``[llm]`` or ``[backbone]``) also holds the plugin's own options, which are kept
in ``options`` and validated by the plugin's options class.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from enhancer.config.data import DataConfig
from enhancer.config.evaluation import MAX_SEED, EvaluationConfig
from enhancer.config.inputs import (
    EVERYTHING,
    PROFILE,
    TEXT,
    Input,
    Join,
    all_texts,
    check_aspects,
    check_distinct,
    check_name,
    closed_version,
    joined,
    renamed,
)
from enhancer.config.serving import ServingConfig
from enhancer.contracts.options import Options
from enhancer.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.contracts.record import Kind


_KINDS: tuple[Kind, ...] = ("item", "user")


class PromptConfig(Options):
    """``[prompts.item]`` and ``[prompts.user]``."""

    template: str = ""
    """Name of a bundled template, or a path."""
    source: Literal["llm", "text", "pool", "none"] = "llm"
    """``llm``: a profile; ``text``: raw text, no LLM; ``pool``: mean of a user's training items; ``none``."""
    max_history: int = Field(default=30, ge=1)
    """Largest number of interactions in a user's prompt, most recent first."""
    max_reviews: int = Field(default=100, ge=1)
    """Largest number of reviews of an item that prompts are made from: the most helpful, then the latest."""
    reviews_budget: int = Field(default=6000, ge=2000, le=20_000)
    """Largest number of characters of reviews, or of notes on them, in one prompt."""
    condense_calls: int = Field(default=12, ge=0)
    """Largest number of calls that condense the reviews of an item to notes, if more of them count than fit into one
    prompt. With 0, the prompt shows those that fit."""
    condense: str = "item/condense"
    """Template of these calls: a bundled name or a path."""
    aspects: list[str] = Field(default=[])
    """Notes that the LLM writes of each entity, such as ``plot`` and ``mood``: each is stored and embedded by itself.
    By default it writes one profile; list ``profile`` to have it beside other notes. Notes that no input names are
    not asked for."""
    knowledge: Literal["closed", "open", "both"] = "closed"
    """``closed``: notes are written from the given text alone; ``open``: also from what the model knows; ``both``: each
    note is written twice, the open one under its name and the closed one as ``NAME:closed``, and the ablation compares
    them."""
    fallback: Literal["closed"] | None = None
    """With ``knowledge = "open"`` or ``"both"``: open notes of low confidence are asked for again, from the given text
    alone."""
    samples: int = Field(default=1, ge=1, le=20)
    """Answers of each entity. The vectors of several are averaged; they need a temperature above 0."""
    calls: Literal["together", "each"] = "together"
    """Whether one call asks for all aspects of an entity, or one call for each."""
    templates: dict[str, str] = Field(default_factory=dict)
    """Templates of aspects that are asked for by a call of their own: a bundled name or a path, by aspect."""

    @model_validator(mode="after")
    def _aspects_are_named_well(self) -> Self:
        check_aspects(self.aspects)
        for name in self.templates:
            if name not in self.aspects:
                raise ValueError(f"templates: {name!r} is not among the aspects; {did_you_mean(name, self.aspects)}")
        if self.fallback is not None and self.knowledge == "closed":
            raise ValueError("fallback needs knowledge = 'open': without it, no note is from what the model knows")
        return self

    @property
    def notes(self) -> tuple[str, ...]:
        """Names of the notes that an LLM writes: the aspects, or ``profile`` without any."""
        return tuple(self.aspects) or (PROFILE,)

    @property
    def closed_notes(self) -> tuple[str, ...]:
        """Names of the closed versions that stand beside the notes; none unless ``knowledge`` is ``both``."""
        return tuple(map(closed_version, self.notes)) if self.knowledge == "both" else ()


class PromptsConfig(Options):
    """``[prompts]``."""

    item: PromptConfig = PromptConfig(template="item/v1", source="llm")
    user: PromptConfig = PromptConfig(template="user/v1", source="pool")
    """Without a table ``[prompts.user]`` users are pooled, without an LLM; with one, ``source`` defaults to ``llm``."""

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        """Keep the default template of each kind if its table sets other keys only; aspects have another."""
        if isinstance(data, dict):

            def default(kind: str, table: dict[str, Any]) -> dict[str, Any]:
                return {"template": f"{kind}/v{2 if table.get('aspects') else 1}"} if kind in ("item", "user") else {}

            return {k: {**default(k, v), **v} if isinstance(v, dict) else v for k, v in data.items()}
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


def _none_if(word: str) -> Callable[[object], object]:
    """Return a validator that turns a word into None, which TOML cannot express."""
    return lambda value: None if value == word else value


def _price_or_free(value: object) -> object:
    return {"input": 0.0, "output": 0.0} if value == "free" else value


class PriceConfig(Options):
    """``[llm.price]``: price in USD per million tokens."""

    input: float = Field(ge=0)
    """Price of prompt tokens."""
    output: float = Field(ge=0)
    """Price of completion tokens."""
    cached_input: float | None = Field(default=None, ge=0)
    """Price of prompt tokens that the provider reads from its cache; by default that of other prompt tokens."""


class LLMConfig(UseConfig):
    """``[llm]``: the LLM provider and limits on its calls. Further keys are the provider's options."""

    use: str = "litellm"
    model: str = "openai/gpt-4o-mini"
    """Name of the model at the provider."""
    timeout: float = Field(default=60.0, gt=0)
    """Timeout of a whole call, in seconds."""
    temperature: Annotated[float | None, BeforeValidator(_none_if("default"))] = Field(default=0.0, ge=0)
    """Sampling temperature; ``"default"`` leaves it to the provider."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Probability mass of nucleus sampling."""
    seed: int | None = None
    """Sampling seed, for providers that support one."""
    max_tokens: int = Field(default=400, ge=1)
    """Largest number of completion tokens for one profile or note of an entity, without thought."""
    reasoning_effort: str | None = Field(default=None, min_length=1, max_length=40)
    """Effort of a reasoning model, such as ``low``; by default the provider decides."""
    thought_tokens: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """Room for thought, in tokens on top of ``max_tokens``. ``auto``: for models that are known to think, or seen to,
    as much as they need."""
    concurrency: int = Field(default=32, ge=1, le=10_000)
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
    # The keys `batch_*` apply to the batch jobs of a run, those of embedders too, as does `max_cost`.
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
    price: Annotated[PriceConfig | None, BeforeValidator(_price_or_free)] = None
    """Price that overrides the provider's price table; ``"free"`` for a model that costs nothing."""


class EmbedderConfig(UseConfig):
    """``[embedder]``."""

    use: str = "sentence-transformers"
    input: list[Input] | None = Field(default=None, min_length=1)
    """Inputs to embed: ``profile``, ``text``, names of aspects, or ``*`` for the raw text and all aspects of items.
    ``plot+mood`` is one text of two. By default ``profile``, or ``*`` if items have aspects."""
    join: Join = "side"
    """Way of joining several inputs: vectors ``side`` by side, their ``mean``, or all texts as one ``text``."""
    price: Annotated[float, Field(ge=0)] | Literal["free"] | None = None
    """Price of a remote embedder in USD per million tokens, or ``free``; by default its list price."""
    concurrency: int | None = Field(default=None, ge=1, le=10_000)
    """Largest number of concurrent requests to a remote embedder; by default 8."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Rate limit on requests to a remote embedder."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Rate limit on tokens sent to a remote embedder."""
    timeout: float | None = Field(default=None, gt=0)
    """Timeout of a whole request to a remote embedder, in seconds; by default 60."""
    batch: bool | None = None
    """Whether ``--batch`` embeds by the batch API of a remote embedder, too. By default it does where the server is
    known to have one and texts cost anything."""

    @model_validator(mode="after")
    def _inputs_are_distinct(self) -> Self:
        check_distinct(self.input)
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
    trials: int = Field(default=8, ge=1, le=10_000)
    """Largest number of fits of one candidate: the first with its defaults, the others with neighbouring options."""


class BackboneConfig(UseConfig):
    """``[backbone]``."""

    use: str = "lightgcn"


class FuserConfig(UseConfig):
    """``[fuser]``."""

    use: str = "align"


class RunnerConfig(UseConfig):
    """``[runner]``: where training runs happen. Further keys are the runner's options."""

    use: str = "local"


class ObserverConfig(UseConfig):
    """``[observers.NAME]``: an observer to notify of runs. Further keys are the observer's options."""

    use: str = ""
    """Name of the observer plugin; by default the name of the table."""
    enabled: bool = True
    """Whether the observer is notified."""


class Settings(Options):
    """The whole configuration file."""

    data: DataConfig = DataConfig()
    prompts: PromptsConfig = PromptsConfig()
    llm: LLMConfig = LLMConfig()
    embedder: EmbedderConfig = EmbedderConfig()
    store: StoreConfig = StoreConfig()
    backbone: BackboneConfig = BackboneConfig()
    fuser: FuserConfig = FuserConfig()
    runner: RunnerConfig = RunnerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    observers: dict[str, ObserverConfig] = Field(default_factory=dict)
    serving: ServingConfig = ServingConfig()
    artifact: Path = Path("artifact")
    """Folder of the serving artifact that ``enhancer train`` writes."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of ``enhancer train``, and of the first run of each arm."""

    @property
    def listed_arms(self) -> list[str]:
        """Arms of ``[evaluation] arms``; by default ``none`` and the fuser of ``[fuser]``."""
        if self.evaluation.arms is not None:
            return self.evaluation.arms
        return list(dict.fromkeys(["none", self.fuser.use]))

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Inputs that vectors come from, after joining: ``[embedder] input``, or ``text`` if items have no notes.

        If users have notes then, these stand beside the raw text of items.
        """
        chosen = self.joined_inputs(self.embedder.input, self.embedder.join)
        if self.prompts.item.source != "text":
            return chosen
        own = [name for name in chosen if not {*self.prompts.user.notes}.isdisjoint(all_texts([name]))]
        return tuple(own) if self._profiles_users and own else (TEXT,)

    def joined_inputs(self, names: Sequence[Input] | None, join: Join | None = None) -> tuple[Input, ...]:
        """Return inputs as they are read: ``*`` replaced by what it stands for, and several joined.

        Args:
            names: Inputs as configured; None for those of ``[embedder]``.
            join: How they are joined; None as in ``[embedder]``.
        """
        if names is None:
            names = self.embedder.input or [EVERYTHING if self.prompts.item.aspects else PROFILE]
        everything = (TEXT, *self.prompts.item.notes)
        each = dict.fromkeys(one for name in names for one in (everything if name == EVERYTHING else (name,)))
        return joined(list(each), join or self.embedder.join)

    def item_inputs(self, inputs: Sequence[Input]) -> list[Input]:
        """Return what items have for each of ``inputs``: their raw text if no profiles of them are wanted."""
        return [TEXT] * len(inputs) if self.prompts.item.source == "text" else list(inputs)

    def notes(self, kind: Kind) -> tuple[Input, ...]:
        """Return the inputs that an LLM writes for entities of a kind; none if it writes nothing."""
        prompt: PromptConfig = getattr(self.prompts, kind)
        return prompt.notes if prompt.source == "llm" else ()

    def closed_notes(self, kind: Kind) -> tuple[Input, ...]:
        """Return the closed versions that an LLM writes beside the notes of a kind, with ``knowledge = "both"``."""
        prompt: PromptConfig = getattr(self.prompts, kind)
        return prompt.closed_notes if prompt.source == "llm" else ()

    def closed_inputs(self, inputs: Sequence[Input]) -> tuple[Input, ...]:
        """Return inputs with the closed versions of their notes, as far as there are any."""
        versions = {
            note: closed_version(note)
            for kind in _KINDS
            for note in self.notes(kind)
            if closed_version(note) in self.closed_notes(kind)
        }
        return tuple(renamed(name, versions) for name in inputs)

    def input_of(self, kind: Kind, name: Input) -> Input:
        """Return an input as entities of a kind have it: notes without a closed version of their own stand for it."""
        own = {closed_version(note): note for note in self.notes(kind)}
        return renamed(name, own if not self.closed_notes(kind) else {})

    @property
    def _profiles_users(self) -> bool:
        return self.prompts.user.source == "llm"

    @model_validator(mode="after")
    def _inputs_exist(self) -> Self:
        known = {TEXT, *self.prompts.item.notes, *self.notes("user")}
        known |= {*self.closed_notes("item"), *self.closed_notes("user")}
        chosen = {"embedder": self.embedder} | {f"evaluation.arm.{k}": arm for k, arm in self.evaluation.arm.items()}
        for table, one in chosen.items():
            for name in one.input or ():
                if name != EVERYTHING:
                    check_name(name, known, f"[{table}] input")
        return self

    @model_validator(mode="after")
    def _closed_notes_are_closed(self) -> Self:
        for kind, other in zip(_KINDS, reversed(_KINDS), strict=True):
            knows = getattr(self.prompts, other).knowledge == "open" and bool(self.notes(other))
            if self.closed_notes(kind) and knows:
                raise ValueError(
                    f"[prompts.{kind}] knowledge is 'both' and [prompts.{other}] knowledge is 'open', so that the arm"
                    f" with closed notes of {kind}s would have open ones of {other}s: set [prompts.{other}] knowledge"
                    " to 'both' or 'closed'"
                )
        return self

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        for kind in ("item", "user"):
            prompt: PromptConfig = getattr(self.prompts, kind)
            if prompt.source == "llm" and prompt.samples > 1 and self.llm.temperature == 0:
                raise ValueError(
                    f"[prompts.{kind}] samples = {prompt.samples} needs a [llm] temperature above 0, such as 0.7: at 0"
                    " all samples of an entity would be alike"
                )
        return self

    @model_validator(mode="after")
    def _profiles_of_users_are_used(self) -> Self:
        arms = [self.joined_inputs(arm.input, arm.join) for arm in self.evaluation.arm.values()]
        inputs = all_texts([name for chosen in (self.joined_inputs(None), *arms) for name in chosen])
        if self._profiles_users and {*inputs}.isdisjoint({*self.notes("user"), *self.closed_notes("user")}):
            own = self.prompts.user.notes[0]
            raise ValueError(
                f"prompts.user.source is 'llm', but no input is {own!r}, so profiles of users would not be used: add"
                f" {own!r} to [embedder] input, or set [prompts.user] source = 'pool'"
            )
        return self
