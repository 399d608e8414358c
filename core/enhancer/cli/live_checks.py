"""The checks of ``enhancer doctor`` that talk to servers, with ``--live`` by calls that may cost money."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from enhancer.cli.formatting import count, dollars, duration
from enhancer.cli.session import ask, is_terminal
from enhancer.cli.setup_check import SetupCheck, guarded
from enhancer.errors import AuthenticationError, ConfigError, ProviderError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enhancer.project.parts import ProjectParts


def server_checks(parts: ProjectParts, *, public: bool) -> Iterator[SetupCheck]:
    """Ask the server of the LLM about itself, which costs nothing, if the provider knows servers of its kind.

    Args:
        parts: The project, which is closed afterwards.
        public: Whether to ask a server outside this machine and its network, too.
    """
    from enhancer.features import wants_profiles
    from enhancer.project.inspecting.engine import inspect_engine

    if not wants_profiles(parts.settings):
        return
    try:
        found = inspect_engine(parts, public=public)
    except AuthenticationError as error:
        yield SetupCheck("llm server", "fail", error.message, error.hint)
    except ProviderError as error:
        mend = error.hint or "start the server, or correct [llm] api_base"
        yield SetupCheck("llm server", "warn", error.message, mend)
    except Exception:  # noqa: BLE001  the other checks report what is wrong with plugins, tables and store
        return
    else:
        if found is not None:
            detail = "; ".join([found.words, *(problem for problem, _ in found.problems)])
            remedies = "; ".join(remedy for _, remedy in found.problems)
            bad: Literal["warn", "fail"] = "fail" if found.refuses else "warn"
            yield SetupCheck("llm server", bad if remedies else "ok", detail, remedies or None, found.to_json())
    finally:
        parts.close()


def live_checks(parts: ProjectParts, *, yes: bool) -> Iterator[SetupCheck]:
    """Make one real call to the LLM, and embed two texts.

    Args:
        parts: The project, which is closed afterwards.
        yes: Whether to pay without asking.
    """
    from enhancer.features import wants_profiles

    try:
        if wants_profiles(parts.settings):
            yield guarded("llm, live", lambda: _llm(parts, yes=yes))
        yield guarded("embedder, live", lambda: _embedder(parts, yes=yes))
    finally:
        parts.close()


def _agreed(question: str, cost: float | None, *, yes: bool) -> bool:
    """Ask whether to make calls that cost money.

    Args:
        question: The question, without the price.
        cost: Largest cost in USD; None if it is unknown.
        yes: The answer, if there is no need to ask.

    Raises:
        ConfigError: There is no terminal to ask on.
    """
    if yes or cost == 0:
        return True
    price = "at an unknown price" if cost is None else f"for at most {dollars(cost)}"
    if not is_terminal():
        raise ConfigError(
            f"the call would be made {price}, and there is no terminal to ask for confirmation",
            hint="pass --yes to make it without confirmation",
        )
    return ask(f"{question} {price}?")


def _llm(parts: ProjectParts, *, yes: bool) -> SetupCheck:
    from enhancer.project.live_check import LiveCall

    call = LiveCall(parts)
    if not _agreed(f"Ask {parts.settings.llm.model} about one entity", call.max_cost_usd, yes=yes):
        return SetupCheck("llm, live", "warn", "not asked")
    found = call.ask()
    seen = found.completion
    detail = f"answered about {found.key.id!r} in {duration(found.seconds)}"
    tokens = f"{count(seen.prompt_tokens)} prompt and {count(seen.completion_tokens)} completion tokens"
    thought = "" if seen.reasoning_tokens is None else f", {count(seen.reasoning_tokens)} of them thought"
    if found.cut_off:
        told = f"{detail}; {tokens}{thought}; {dollars(found.cost_usd)}; the answer was cut off"
        mend = (
            "generate asks again with more room, so a profile takes more tokens and costs more than this call:"
            " `enhancer generate --limit 10` shows how much; [llm] thought_tokens or max_tokens gives the room at once"
        )
        return SetupCheck("llm, live", "warn", told, mend, found.to_json())
    kept = "the answer keeps to the schema" if found.keeps_schema else "the answer does not keep to the schema"
    told = f"{detail}; {tokens}{thought}; {dollars(found.cost_usd)} for one; {kept}"
    if found.problem:
        mend = f"its answer is not valid ({found.problem}): raise max_tokens, or choose another model in [llm]"
        return SetupCheck("llm, live", "fail", told, mend, found.to_json())
    if not found.keeps_schema:
        mend = "it was read nevertheless; a model or server with structured output needs fewer calls"
        return SetupCheck("llm, live", "warn", told, mend, found.to_json())
    return SetupCheck("llm, live", "ok", told, measured=found.to_json())


def _embedder(parts: ProjectParts, *, yes: bool) -> SetupCheck:
    from enhancer.project.live_check import LiveEmbedding

    embedding = LiveEmbedding(parts)
    if not _agreed(f"Embed two short texts with {parts.settings.embedder.use}", embedding.max_cost_usd, yes=yes):
        return SetupCheck("embedder, live", "warn", "not asked")
    found = embedding.embed()
    detail = (
        f"{duration(found.seconds)} for the first text, {found.seconds_again:.3f}s for the second; {found.dim} numbers"
    )
    if found.is_remote:
        detail += f"; {count(found.tokens)} tokens; {dollars(found.cost_usd)} for both"
    return SetupCheck("embedder, live", "ok", detail, measured=found.to_json())
