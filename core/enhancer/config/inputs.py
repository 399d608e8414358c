"""Names of inputs: the stored texts that vectors come from, and how several of them are joined.

======================  ====================================================================================
input                   its vector
======================  ====================================================================================
``profile``, ``text``   that of the profile, or of the raw text
``plot``                that of the aspect ``plot``
``plot+mood``           that of one text: the texts of both, one after another
``mean(plot,mood)``     the normalised mean of the vectors of both
``plot:closed``         that of ``plot`` as written from the given text alone, with ``knowledge = "both"``
======================  ====================================================================================

No name of an aspect holds a colon, so ``plot:closed`` is the name of no aspect, and it is a text like any other within
the grammar above.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from enhancer.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

Input = str
"""Name of an input."""
Join = Literal["side", "mean", "text"]
"""Ways of joining the vectors of several inputs."""
PROFILE: Final = "profile"
"""The profile that an LLM wrote."""
TEXT: Final = "text"
"""The raw text of an entity."""
EVERYTHING: Final = "*"
"""The raw text and all aspects of items."""
ASPECT_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")
"""Pattern of the name of an aspect."""
RESERVED: Final = frozenset(
    {
        *("text", "tags", "confidence", "id", "kind", "aspect", "vector", "prompt_version", "model", "embedder"),
        *("generated_at", "input_hash", "prompt_tokens", "completion_tokens", "cost_usd"),
    }
)
"""Names that no aspect may have: the raw text, and the other fields of records and answers."""
_MEAN = re.compile(r"mean\(([^()]*)\)")
_CLOSED: Final = ":closed"
_TEXT_NAME = re.compile(rf"{ASPECT_NAME.pattern}({_CLOSED})?")


def aspect_of(name: Input, sample: int = 1) -> str:
    """Return the aspect under which an input is stored.

    >>> aspect_of("profile"), aspect_of("text"), aspect_of("mood"), aspect_of("mood", sample=2)
    ('', 'text', 'mood', 'mood#2')
    """
    aspect = "" if name == PROFILE else name
    return aspect if sample == 1 else f"{aspect}#{sample}"


def closed_version(note: str) -> Input:
    """Return the name of a note's version that is written from the given text alone.

    >>> closed_version("mood"), note_of("mood:closed"), note_of("mood")
    ('mood:closed', 'mood', 'mood')
    """
    return f"{note}{_CLOSED}"


def note_of(text: Input) -> str:
    """Return the name of the note that a text is, or is a version of."""
    return text.removesuffix(_CLOSED)


def is_closed_version(text: Input) -> bool:
    """Return whether a text is a note's version from the given text alone."""
    return text.endswith(_CLOSED)


def renamed(name: Input, names: Mapping[Input, Input]) -> Input:
    """Return an input with other texts in the places of some of its own.

    >>> renamed("mean(plot,mood+text)", {"mood": "mood:closed"})
    'mean(plot,mood:closed+text)'
    """
    means = ["+".join(names.get(text, text) for text in texts_of(one)) for one in averaged(name)]
    return means[0] if len(means) == 1 else f"mean({','.join(means)})"


def averaged(name: Input) -> tuple[Input, ...]:
    """Return the inputs whose vectors are averaged; the input itself if it is no mean.

    >>> averaged("mean(plot, mood+text)")
    ('plot', 'mood+text')
    >>> averaged("plot")
    ('plot',)
    """
    found = _MEAN.fullmatch(name)
    return tuple(part.strip() for part in found[1].split(",")) if found else (name,)


def stored_inputs(inputs: Sequence[Input]) -> tuple[Input, ...]:
    """Return the inputs that have a vector in the store, each once: means are computed when vectors are read."""
    return tuple(dict.fromkeys(one for name in inputs for one in averaged(name)))


def texts_of(name: Input) -> tuple[Input, ...]:
    """Return the texts that a stored input consists of.

    >>> texts_of("plot+mood")
    ('plot', 'mood')
    """
    return tuple(name.split("+"))


def all_texts(inputs: Sequence[Input]) -> tuple[Input, ...]:
    """Return the texts that any of the inputs comes from, each once."""
    return tuple(dict.fromkeys(text for name in stored_inputs(inputs) for text in texts_of(name)))


def joined(inputs: Sequence[Input], join: Join) -> tuple[Input, ...]:
    """Return the inputs after joining: as many as there are parts side by side.

    >>> joined(["text", "plot"], "side"), joined(["text", "plot"], "mean"), joined(["text", "plot"], "text")
    (('text', 'plot'), ('mean(text,plot)',), ('text+plot',))
    """
    if join == "side" or len(inputs) == 1:
        return tuple(inputs)
    return (f"mean({','.join(stored_inputs(inputs))})",) if join == "mean" else ("+".join(all_texts(inputs)),)


def without(inputs: Sequence[Input], left_out: Input) -> tuple[Input, ...]:
    """Return the inputs without one text, each once.

    >>> without(["text", "mean(plot,mood)", "mood+plot"], "mood")
    ('text', 'plot')
    """
    kept: list[Input] = []
    for name in inputs:
        means = [joined([text for text in texts_of(one) if text != left_out], "text") for one in averaged(name)]
        kept += joined([one for each in means for one in each if one], "mean") if any(map(any, means)) else ()
    return tuple(dict.fromkeys(kept))


def check_name(name: Input, known: Collection[Input], where: str) -> None:
    """Check that every text of an input is known.

    Args:
        name: The input.
        known: Names of all texts.
        where: Key of the configuration, for the message.

    Raises:
        ValueError: The name is malformed, or a text is unknown.
    """
    for text in (text for one in averaged(name) for text in texts_of(one)):
        if text in known:
            continue
        if not _TEXT_NAME.fullmatch(text):
            raise ValueError(
                f"{where}: {name!r} is not an input: name a text, such as 'plot', several as one text, such as"
                " 'plot+mood', or the mean of their vectors, such as 'mean(plot,mood)'"
            )
        if is_closed_version(text) and note_of(text) in known:
            raise ValueError(
                f"{where}: {text!r} is {note_of(text)!r} as written from the given text alone, beside what the model"
                " knows: set [prompts.item] knowledge = 'both' to have both"
            )
        if text == PROFILE:
            raise ValueError(
                f"{where}: there is no profile, because [prompts.item] aspects do not list 'profile': add it to them,"
                " or take it out of the inputs"
            )
        none = "" if {*known} - {PROFILE, TEXT} else " (none are set)"
        hint = did_you_mean(text, known)
        raise ValueError(f"{where}: {text!r} is not among the aspects of [prompts.item]{none}; {hint}")


def check_aspects(aspects: Sequence[str]) -> None:
    """Check names of aspects.

    Raises:
        ValueError: A name is malformed, reserved or there twice.
    """
    for name in aspects:
        if not ASPECT_NAME.fullmatch(name):
            raise ValueError(
                f"aspects: {name!r} is no name of an aspect: up to 40 lower-case letters, digits, _ and -, a letter"
                " first"
            )
        if name in RESERVED:
            raise ValueError(f"aspects: {name!r} is reserved: choose another name")
        if list(aspects).count(name) > 1:
            raise ValueError(f"aspects: {name!r} is there twice: name each aspect once")


def check_distinct(inputs: Sequence[Input] | None) -> None:
    """Check that no input is there twice.

    Raises:
        ValueError: One is.
    """
    if inputs is not None and len(set(inputs)) < len(inputs):
        raise ValueError(f"input: name each input once, not {list(inputs)!r}")
