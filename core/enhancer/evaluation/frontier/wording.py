"""Say in words which rungs are worth their cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.config.inputs import PROFILE, TEXT, is_closed_version, note_of
from enhancer.evaluation.frontier.ladder import NOTHING, ONE_TEXT
from enhancer.evaluation.judging.formatting import format_number, metric_label
from enhancer.evaluation.judging.wording import MINUS, enumerate_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.evaluation.frontier.ladder import Rung
    from enhancer.evaluation.frontier.standing import Standing
    from enhancer.evaluation.frontier.weighed import Unit, Weighed

PLACES = {
    "all": "over all items",
    "tail": "on rare items (the tail)",
    "cold": "on new items, held out of training and ranked among themselves",
    "everything": "over everything, new and trained items together",
}
"""Strata that get a verdict, in this order."""
_MOST = 0.8
"""Share of the added gain from which a cheaper rung is named."""
_LISTED = 2
"""Largest number of notes that are named one by one."""
_DO_NOT_BUY = "do not buy"


def verdict_words(weighed: Weighed) -> dict[str, str]:
    """Return ``overall``, what to buy if anything, and a verdict on each stratum of :data:`PLACES`."""
    shown = {name: weighed.standings[name] for name in PLACES if name in weighed.standings}
    return {"overall": _overall(weighed, shown)} | {name: _sentence(weighed, each) for name, each in shown.items()}


def format_cost(cost: float | None, unit: Unit) -> str:
    """Format a cost.

    >>> format_cost(2.104, "usd"), format_cost(0.0213, "usd"), format_cost(1200345, "tokens"), format_cost(None, "usd")
    ('$2.10', '$0.0213', '1,200,345 tokens', 'an unknown price')
    """
    if cost is None:
        return "an unknown price"
    if unit == "usd":
        return f"${cost:,.2f}" if cost >= 1 or cost == 0 else f"${cost:.4f}"
    return f"{cost:,.0f} {'tokens' if unit == 'tokens' else 'generated texts'}"


def signed(value: float, digits: int = 4) -> str:
    """Format a gain.

    >>> signed(0.01234), signed(-0.5), signed(-0.00001)
    ('+.0123', '−.5000', '0')
    """
    if abs(value) < 0.5 * 10**-digits:
        return "0"
    shown = format_number(abs(value), digits)
    return f"{MINUS if value < 0 else '+'}{shown}"


def describe(rung: Rung) -> str:
    """Return a rung in words.

    >>> from enhancer.evaluation.frontier.ladder import Rung
    >>> describe(Rung(name="making", inputs=("text", "making")))
    "the note 'making'"
    """
    if rung.name == TEXT:
        return "raw text"
    texts = tuple(map(note_of, rung.generated))
    if not texts:
        return rung.name
    if texts == (PROFILE,):
        what = "the profile"
    elif len(texts) == 1:
        what = f"the note {texts[0]!r}"
    elif len(texts) <= _LISTED and PROFILE not in texts:
        what = f"the notes {enumerate_words([repr(text) for text in texts])}"
    else:
        others = len([text for text in texts if text != PROFILE])
        what = f"the {others} notes" + (" and the profile" if PROFILE in texts else "")
    if len(texts) > 1 and any("+" in name for name in rung.inputs):
        what += f" {ONE_TEXT}"
    if any(map(is_closed_version, rung.generated)):
        what += ", closed"
    if rung.reviews:
        what += ", made from reviews"
    if rung.kept is None:
        return what
    which = {"rarest": "the rarest ", "commonest": "the commonest ", "random": "a random "}[rung.kept.order]
    return f"{what} of {which}{rung.share:.0%} of the items"


def added_notes(result: Mapping[str, Any]) -> str | None:
    """Return in words which notes the rungs of several have; None if there are none. Takes the JSON of the result."""
    counted = [rung for rung in result["frontier"] if rung["rung"].endswith(" notes")]
    if not counted:
        return None
    names = [name for name in max(counted, key=lambda rung: len(rung["inputs"]))["inputs"] if name != TEXT]
    return f"Notes are added in this order, the most telling first: {', '.join(names)}."


def _sentence(weighed: Weighed, standing: Standing) -> str:
    """Return the verdict on one stratum."""
    place = PLACES[standing.stratum.name]
    place = place[0].upper() + place[1:]
    rungs = {rung.name: rung for rung in weighed.rungs}
    metric, best = metric_label(weighed.metric), rungs[standing.best]
    if not best.inputs:
        return f"{place}, no rung gains beyond chance: {_DO_NOT_BUY}."
    gain, reached = _gain(standing, best.name), format_number(standing.values[best.name])
    rise = f"{signed(gain)} {metric} over interactions alone ({format_number(standing.values[NOTHING])} to {reached})"
    if not best.generated:
        return (
            f"{place}, raw text, which costs nothing, gains {rise}; no generated text gains on that beyond chance: "
            f"{_DO_NOT_BUY}."
        )
    price = format_cost(weighed.cost_of(best.name), weighed.unit)
    words = f"{place}, {describe(best)} gain {rise}" if _plural(best) else f"{place}, {describe(best)} gains {rise}"
    free = _best_free(weighed, standing)
    base = 0.0 if free == NOTHING else _gain(standing, free)
    if free == TEXT:
        words += f", {signed(gain - base)} of it beyond raw text"
    words += f", for {price}."
    added = gain - base
    for name in standing.frontier:
        rung = rungs[name]
        share = (_gain(standing, name) - base) / added if rung.generated and added > 0 else 0.0
        if name != best.name and share >= _MOST:
            part = weighed.cost_of(name) / weighed.cost_of(best.name)
            verb = "bring" if _plural(rung) else "brings"
            return (
                f"{words} {_capital(describe(rung))} {verb} {share:.0%} of what generated texts add, for {part:.0%} of "
                f"the price ({format_cost(weighed.cost_of(name), weighed.unit)})."
            )
    return f"{words} Nothing cheaper brings four fifths of what {'they add' if _plural(best) else 'it adds'}."


def _overall(weighed: Weighed, shown: dict[str, Standing]) -> str:
    rungs = {rung.name: rung for rung in weighed.rungs}
    bought = {name: rungs[each.best] for name, each in shown.items() if rungs[each.best].generated}
    if not bought:
        text = any(each.best == TEXT for each in shown.values())
        start = "Raw text gains, and no generated text gains on it" if text else "No rung gains"
        return f"{start} beyond chance: {_DO_NOT_BUY}."
    by_rung: dict[str, list[str]] = {}
    for name, rung in bought.items():
        by_rung.setdefault(rung.name, []).append(PLACES[name].partition(",")[0])
    parts = [
        f"{describe(rungs[name])} ({format_cost(weighed.cost_of(name), weighed.unit)}) {enumerate_words(places)}"
        for name, places in by_rung.items()
    ]
    words = f"Generated texts pay: {'; '.join(parts)}."
    harmed = [
        f"{PLACES[other].partition(',')[0]} ({signed(gain.delta)})"
        for name in by_rung
        for other, standing in shown.items()
        if (gain := standing.gain(name)) is not None and (ends := gain.interval()) is not None and ends[1] < 0
    ]
    return words + (f" They lose {enumerate_words(list(dict.fromkeys(harmed)))}." if harmed else "")


def _best_free(weighed: Weighed, standing: Standing) -> str:
    """Return the last rung on the frontier that costs nothing."""
    generated = {rung.name for rung in weighed.rungs if rung.generated}
    return [name for name in standing.frontier if name not in generated][-1]


def _gain(standing: Standing, rung: str) -> float:
    gain = standing.gain(rung)
    return 0.0 if gain is None else gain.delta


def _plural(rung: Rung) -> bool:
    return len(rung.generated) > 1


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
