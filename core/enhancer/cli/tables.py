"""Results as people read them. Everything here takes the very dictionaries that ``--json`` prints."""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HOUR, _MINUTE = 3600, 60


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns set side by side, as wide as their cells and never cut: for eyes, ``grep`` and ``awk`` alike.

    >>> print(table(["name", "n"], [["a", "1"], ["bcd", "12"]], right=[1]))
    name   n
    ----  --
    a      1
    bcd   12
    """
    cells = [[one_line(cell) for cell in row] for row in [head, *rows]]
    widths = [max(_width(row[column]) for row in cells) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        padded = (_pad(cell, widths[column], column in right) for column, cell in enumerate(row))
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:])])


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, one to a line.

    >>> print(pairs([("entities", "12"), ("cost", "$0.10")]))
    entities  12
    cost      $0.10
    """
    width = max((_width(name) for name, _ in rows), default=0)
    return "\n".join(f"{_pad(name, width)}  {one_line(value)}".rstrip() for name, value in rows)


def one_line(text: str) -> str:
    """Text of others, without what could move the cursor or colour the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _width(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def _pad(text: str, width: int, right: bool = False) -> str:
    space = " " * (width - _width(text))
    return space + text if right else text + space


def count(value: float | None) -> str:
    """A count, or a dash where it is unknown.

    >>> count(12345), count(None)
    ('12,345', '-')
    """
    return "-" if value is None else f"{value:,.0f}"


def counted(number: int, what: str) -> str:
    """How many of what.

    >>> counted(1, "fault"), counted(1200, "fault"), counted(0, "entity")
    ('1 fault', '1,200 faults', '0 entities')
    """
    if number == 1:
        return f"1 {what}"
    return f"{number:,} {what[:-1]}ies" if what.endswith("y") else f"{number:,} {what}s"


def dollars(value: float | None) -> str:
    """A price that does not hide cents, nor fractions of one.

    >>> dollars(12.5), dollars(0.0021), dollars(0), dollars(None)
    ('$12.50', '$0.0021', '$0.00', 'unknown')
    """
    if value is None:
        return "unknown"
    return f"${value:,.2f}" if value == 0 or value >= 1 else f"${value:.4f}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them.

    >>> duration(0.31), duration(42), duration(192), duration(7500), duration(None)
    ('0.3s', '42s', '3m12s', '2h05m', '-')
    """
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"


def number(value: Any) -> str:
    """Any number of a result; four decimals for those that are not whole.

    >>> number(0.31415926), number(3), number(None), number(float("nan")), number("x")
    ('0.3142', '3', '-', '-', 'x')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if math.isfinite(value) else "-"


def plan(result: Mapping[str, Any]) -> str:
    """The plan: what would be generated, and what it would cost."""
    cost = dollars(result["cost_usd"])
    if result["cost_usd"] is None:
        cost += " (the model has no known price; give it one with [llm.price] input and output)"
    return pairs(
        [
            ("entities", count(result["entities"])),
            ("cached", count(result["cached"])),
            ("to generate", count(result["to_generate"])),
            ("in quarantine", count(result["quarantined"])),
            *_some(result),
            ("calls", count(result["requests"])),
            ("prompt tokens", f"{count(result['prompt_tokens'])} (estimated)"),
            ("completion tokens", f"{count(result['completion_tokens'])} (estimated)"),
            ("cost", cost),
        ]
    )


def generation(result: Mapping[str, Any]) -> str:
    """What a run of ``generate`` did."""
    return pairs(
        [
            ("entities", count(result["entities"])),
            ("cached", count(result["cached"])),
            ("generated", count(result["generated"])),
            ("embedded", count(result["embedded"])),
            ("in quarantine", count(result["quarantined"])),
            *_some(result),
            ("calls", count(result["requests"])),
            ("prompt tokens", count(result["prompt_tokens"])),
            ("completion tokens", count(result["completion_tokens"])),
            ("cost", dollars(result["cost_usd"])),
            ("time", duration(result["seconds"])),
        ]
    )


def _some(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Only where there are any: most tables have none, and most stores no batch that is out."""
    some = {"without_text": "without text", "pending": "out in a batch"}
    return [(said, count(result[name])) for name, said in some.items() if result.get(name)]


def training(result: Mapping[str, Any]) -> str:
    """What a run of ``train`` made."""
    metrics = [(name, number(value)) for name, value in (result.get("metrics") or {}).items()]
    return pairs(
        [
            ("artifact", str(result["artifact"])),
            ("epochs", count(result["epochs"])),
            *metrics,
            ("time", duration(result["seconds"])),
        ]
    )


def diagnosis(result: Mapping[str, Any]) -> str:
    """What was looked at before training: the verdict, then each check with its level."""
    rows = [[each["kind"], each["name"], each["level"]] for each in result["checks"]]
    words = "\n".join(f"- {each['kind']}s, {each['name']}: {each['words']}" for each in result["checks"])
    return "\n\n".join([result["verdict"], table(["of", "check", "level"], rows), words])


def ablation(result: Mapping[str, Any]) -> str:
    """The table of an ablation: arms by metrics, then the comparisons, then the verdict in words."""
    arms: Mapping[str, Any] = result["arms"]
    metrics = list(dict.fromkeys(metric for arm in arms.values() for metric in arm))
    rows = [[name, *(_spread(arm.get(metric)) for metric in metrics)] for name, arm in arms.items()]
    parts = [table(["arm", *metrics], rows, right=range(1, len(metrics) + 1))]
    if comparisons := result.get("comparisons"):
        head = ["arm", "against", "metric", "delta", "t", "df", "p", "p adjusted", ""]
        parts.append(table(head, [_comparison(each) for each in comparisons], right=range(3, 8)))
    if (strata := result.get("strata")) and metrics:
        parts.append(_strata(strata, list(arms), metrics[0]))
    if isinstance(verdicts := result.get("verdict"), dict):
        parts.extend(verdicts.values())  # each says itself what it is about
    return "\n\n".join(parts)


def _strata(strata: Mapping[str, Any], arms: list[str], metric: str) -> str:
    """One metric of every arm in every stratum."""
    rows = [
        [arm, *(_spread(stratum.get("arms", {}).get(arm, {}).get(metric)) for stratum in strata.values())]
        for arm in arms
    ]
    return table([metric, *strata], rows, right=range(1, len(strata) + 1))


def _spread(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return "-"
    return number(metric["mean"]) + ("" if metric["std"] is None else f" ± {number(metric['std'])}")


def _comparison(each: Mapping[str, Any]) -> list[str]:
    delta = each["delta"]
    signed = f"{delta:+.4f}" if isinstance(delta, float | int) and math.isfinite(delta) else "-"
    values = [number(each[key]) for key in ("t", "df", "p", "p_adjusted")]
    mark = "significant" if each["significant"] else "not significant"
    return [each["arm"], each["baseline"], each["metric"], signed, *values, mark]


def ranking(result: Mapping[str, Any], subject: str) -> str:
    """The items recommended to a user, or similar to an item."""
    items = result["items"]
    titled = any(item.get("title") for item in items)
    head = ["", "item", *(["title"] if titled else []), "score"]
    rows = [
        [str(place), str(item["item_id"]), *([item.get("title") or ""] if titled else []), number(float(item["score"]))]
        for place, item in enumerate(items, start=1)
    ]
    if not rows:
        return f"{subject}: nothing left to recommend"
    return f"{subject}\n{table(head, rows, right=[0, len(head) - 1])}"
