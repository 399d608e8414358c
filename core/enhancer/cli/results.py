"""Render results for the terminal. Each function takes the dictionary that ``--json`` prints."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

from enhancer.cli.formatting import count, counted, dollars, duration, number
from enhancer.cli.layout import pairs, prose, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def plan(result: Mapping[str, Any]) -> str:
    """Render what would be generated and its estimated cost."""
    cost = dollars(result["cost_usd"])
    if result["cost_usd"] is None:
        cost += f" (the price of this model is not known; {_price_to_set(result)})"
    return pairs(
        [
            ("entities", count(result["entities"])),
            ("cached", count(result["cached"])),
            ("to generate", count(result["to_generate"])),
            *_notes(result, "notes to write"),
            *([("joint texts to embed", count(result["joint_texts"]))] if "joint_texts" in result else []),
            ("in quarantine", count(result["quarantined"])),
            *_unless_zero(result),
            ("calls", count(result["requests"])),
            ("prompt tokens", f"{count(result['prompt_tokens'])} (estimated)"),
            ("completion tokens", f"{count(result['completion_tokens'])} (estimated{_thought(result)})"),
            *_embedding(result, " (estimated)"),
            ("cost", cost),
            *_column_tokens(result.get("columns", [])),
        ]
    )


def _column_tokens(columns: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the share of the prompt tokens of each kind that its columns cost, the dearest first."""
    rows = []
    for kind in dict.fromkeys(each["kind"] for each in columns):
        own = [each for each in columns if each["kind"] == kind]
        shown = [f"{each['column']} {each['share']:.1%}" for each in own[:_MAX_COLUMNS]]
        if others := own[_MAX_COLUMNS:]:
            shown.append(f"{len(others)} others {sum(each['share'] for each in others):.1%}")
        rest = f"instructions and frame {max(0.0, 1 - sum(each['share'] for each in own)):.1%}"
        rows.append((f"tokens of {kind}s", ", ".join([*shown, rest])))
    return rows


def question_plan(result: Mapping[str, Any]) -> str:
    """Render how many questions would be asked and their estimated cost."""
    cost = dollars(result["cost_usd"])
    if result["cost_usd"] is None:
        cost += " (the price of this model is not known: set input and output in [llm.price], or price = 'free')"
    return pairs(
        [
            ("questions", count(result["entities"])),
            ("answered before", count(result["cached"])),
            ("calls", count(result["requests"])),
            ("prompt tokens", f"{count(result['prompt_tokens'])} (estimated)"),
            ("completion tokens", f"{count(result['completion_tokens'])} (estimated{_thought(result)})"),
            ("cost", cost),
        ]
    )


def generation(result: Mapping[str, Any]) -> str:
    """Render the counts and the cost of a run of ``generate``."""
    return pairs(
        [
            ("entities", count(result["entities"])),
            ("cached", count(result["cached"])),
            ("generated", count(result["generated"])),
            *_notes(result, "notes written"),
            ("embedded", count(result["embedded"])),
            ("in quarantine", count(result["quarantined"])),
            *_unless_zero(result),
            ("calls", _calls(result)),
            ("prompt tokens", count(result["prompt_tokens"])),
            ("completion tokens", count(result["completion_tokens"])),
            *_embedding(result),
            ("cost", dollars(result["cost_usd"])),
            ("time", duration(result["seconds"])),
        ]
    )


def import_plan(result: Mapping[str, Any]) -> str:
    """Render what an import would send to a remote embedder, and its estimated cost."""
    cost = dollars(result["cost_usd"])
    if result["cost_usd"] is None:
        cost += f" (the price of this model is not known; {_price_to_set(result)})"
    shown = [row for row in _embedding(result, " (estimated)") if row[0] != "cost of embedding"]
    return pairs([*shown, ("cost", cost)])


def _price_to_set(result: Mapping[str, Any]) -> str:
    """Name the key of the price that is not known."""
    if result.get("embedding_requests") and result["embedding_cost_usd"] is None:
        return 'set [embedder] price, or price = "free"'
    return 'set input and output in [llm.price], or [llm] price = "free"'


def _embedding(result: Mapping[str, Any], how: str = "") -> list[tuple[str, str]]:
    """Return what a remote embedder is sent and what that costs; nothing without one."""
    if "embedding_requests" not in result:
        return []
    texts = [("texts to embed", count(result["embedding_texts"]))] if "embedding_texts" in result else []
    return [
        *texts,
        ("requests to the embedder", _calls(result, "embedding_")),
        ("tokens embedded", f"{count(result['embedding_tokens'])}{how}"),
        ("cost of embedding", dollars(result["embedding_cost_usd"])),
    ]


def _calls(result: Mapping[str, Any], whose: str = "") -> str:
    failed = result.get(f"{whose}failed_requests", 0)
    return count(result[f"{whose}requests"]) + (f", and {count(failed)} without an answer" if failed else "")


def _notes(result: Mapping[str, Any], label: str) -> list[tuple[str, str]]:
    """Return the number of notes, if entities have several."""
    return [(label, count(result["notes"]))] if "notes" in result else []


def _thought(result: Mapping[str, Any]) -> str:
    """Return how many of the completion tokens go into thought, if any do."""
    return f", {count(result['thought_tokens'])} of them thought" if result.get("thought_tokens") else ""


def _unless_zero(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the counts that are shown only if they are not 0, which they are for most projects."""
    labels = {
        "without_text": "without text",
        "pending": "in batch jobs",
        "left": "left for later runs",
        "review_notes": "notes on reviews",
        "truncated": "texts longer than the embedder reads",
    }
    return [(label, count(result[name])) for name, label in labels.items() if result.get(name)]


def training(result: Mapping[str, Any]) -> str:
    """Render the artifact and the metrics of a run of ``train``."""
    metrics = [(name, number(value)) for name, value in (result.get("metrics") or {}).items()]
    head = pairs(
        [
            ("artifact", str(result["artifact"])),
            ("epochs", _epochs(result)),
            *metrics,
            ("trained on", _trained_on(result)),
            ("time", duration(result["seconds"])),
        ]
    )
    exploration = result.get("exploration")
    return head if exploration is None else f"{head}\n\n{_exploration(exploration)}"


def _trained_on(result: Mapping[str, Any]) -> str:
    told = counted(result["interactions"], "interaction")
    if result["refit"]:
        return f"all {told}, with the epochs and options of the model that was tested"
    return f"{told} of the training part: it is the model that was tested"


def _epochs(result: Mapping[str, Any]) -> str:
    """Say how many epochs were run, which one was kept, and why training stopped."""
    kept = result.get("best_epoch")
    told = count(result["epochs"])
    if kept == 0:
        told += ", none better than the model that needs no training"
    elif kept not in (None, result["epochs"]):
        told += f", the best is {count(kept)}"
    return f"{told}; {result['stopped']}" if result.get("stopped") else told


def _exploration(exploration: Mapping[str, Mapping[str, float]]) -> str:
    """Render what the share of places for new items costs, where held-out items stand for new ones."""
    labels = {"with": "with [serving]", "without": "by scores alone", "no_new_items": "without new items"}
    names = list(exploration["with"])
    places = max(int(name.partition("@")[2]) for name in names if "@" in name)
    head = ["over everything", *(name.replace("new_items", f"share of new items in first {places}") for name in names)]
    rows = [[label, *(number(exploration[key][name]) for name in names)] for key, label in labels.items()]
    return table(head, rows, right=range(1, len(head)))


_MAX_COLUMNS = 12
"""Columns whose tokens a plan shows."""
_TOPICS = {
    "coverage": "coverage",
    "duplicates": "duplicates",
    "near-duplicates": "near-duplicates",
    "echo": "echo of the text",
    "length": "texts that are cut off",
    "facts": "facts not in the text",
    "frames": "shared frames",
    "aspects": "aspects that repeat each other",
    "spread": "spread of vectors",
    "agreement": "neighbours as by interactions",
    "alone": "recommendations by vectors alone",
    "claims": "claims supported by the text",
    "memory": "memory of the model",
    "leak": "leak",
}
"""Subjects of checks, in the order of the table."""


def diagnosis(result: Mapping[str, Any]) -> str:
    """Render the verdict of a diagnosis, a table of its checks, and a paragraph on each check."""
    checks = sorted(result["checks"], key=lambda each: (each["kind"], list(_TOPICS).index(each["topic"])))
    rows = [
        [kind, _TOPICS[topic], _levels(list(same))]
        for (kind, topic), same in groupby(checks, key=lambda each: (each["kind"], each["topic"]))
    ]
    details = [prose(f"{each['kind']}s, {each['name']}: {each['words']}", "- ") for each in checks]
    return "\n\n".join([prose(result["verdict"]), table(["of", "check", "level"], rows), "\n".join(details)])


def _levels(checks: Sequence[Mapping[str, Any]]) -> str:
    """Return the level of all checks of one subject; where they differ, each level with what it is about."""
    by_level: dict[str, list[str]] = {}
    for check in checks:
        by_level.setdefault(check["level"], []).append(check["source"] or check["name"])
    if len(by_level) == 1:
        return next(iter(by_level))
    return "; ".join(f"{level} ({', '.join(sources)})" for level, sources in by_level.items())


def ablation(result: Mapping[str, Any]) -> str:
    """Render the verdicts, then the metrics of arms and reference lines, the strata and the comparisons."""
    arms: Mapping[str, Any] = result["arms"]
    metrics = list(dict.fromkeys(metric for arm in arms.values() for metric in arm))
    parts: list[str] = []
    if isinstance(verdicts := result.get("verdict"), dict):
        parts += [prose(verdict) for verdict in verdicts.values()]  # each begins with the stratum it is about
    if left_out := result.get("left_out"):
        parts.append(_left_out(left_out))
    parts.append(_metrics("arm", arms, result.get("reference") or {}, metrics))
    cold: Mapping[str, Any] = (result.get("strata") or {}).get("cold", {}).get("arms", {})
    if cold.keys() > arms.keys():  # content baselines stand beside the arms
        parts.append(_metrics("held-out items alone", cold, {}, metrics))
    if (strata := result.get("strata")) and metrics:
        parts.append(_strata(strata, list(arms), metrics[0]))
    if comparisons := result.get("comparisons"):
        head = ["arm", "against", "metric", "delta", "t", "df", "p", "adjusted p", "significant"]
        parts.append(table(head, [_comparison(each) for each in comparisons], right=range(3, 8)))
    return "\n\n".join(parts)


def _metrics(
    title: str, arms: Mapping[str, Any], references: Mapping[str, Mapping[str, float]], metrics: Sequence[str]
) -> str:
    """Render a row for each arm and each reference line, a column for each metric."""
    rows = [[name, *(_mean_and_deviation(arm.get(metric)) for metric in metrics)] for name, arm in arms.items()]
    # A reference line is one fit without a deviation; its number stands under the means.
    beside = " " * max(
        (len(cell.partition(" ")[2]) + 1 for row in rows for cell in row[1:] if " ± " in cell), default=0
    )
    rows += [
        [
            f"{name} (reference)",
            *(f"{number(values[metric])}{beside}" if metric in values else "-" for metric in metrics),
        ]
        for name, values in references.items()
    ]
    return table([title, *metrics], rows, right=range(1, len(metrics) + 1))


def _strata(strata: Mapping[str, Any], arms: Sequence[str], metric: str) -> str:
    """Render one metric: a row for each stratum, a column for each arm."""
    rows = [
        [name, *(_mean_and_deviation(stratum.get("arms", {}).get(arm, {}).get(metric)) for arm in arms)]
        for name, stratum in strata.items()
    ]
    return table([f"{metric} by stratum", *arms], rows, right=range(1, len(arms) + 1))


def _left_out(found: Mapping[str, Any]) -> str:
    """Render what is lost without each input: a row for each, a column for each panel."""
    inputs, metric = found["inputs"], found["metric"]
    panels = list(next(iter(inputs.values()))["panels"])
    rows = []
    for name, one in inputs.items():
        cells = []
        for panel in panels:
            gain = one["panels"][panel][metric]
            between = "" if gain["interval"] is None else " ({:+.4f} to {:+.4f})".format(*gain["interval"])
            cells.append(f"{gain['gain']:+.4f}{between}")
        rows.append([name, *cells, one["worth"]])
    head = [f"{metric} lost without", *panels, ""]
    return table(head, rows, right=range(1, len(panels) + 1))


def _mean_and_deviation(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return "-"
    return number(metric["mean"]) + ("" if metric["std"] is None else f" ± {number(metric['std'])}")


def _comparison(each: Mapping[str, Any]) -> list[str]:
    delta, t = (_decimals(each[key], spec) for key, spec in (("delta", "+.4f"), ("t", ".2f")))
    values = [number(each[key]) for key in ("df", "p", "p_adjusted")]
    return [each["arm"], each["baseline"], each["metric"], delta, t, *values, "yes" if each["significant"] else "no"]


def _decimals(value: float | None, spec: str) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:{spec}}"


def _reason(beside: Mapping[str, Any] | None) -> list[str]:
    return ["", ""] if beside is None else [str(beside.get("title") or beside["item_id"]), str(beside["by"])]


def ranking(result: Mapping[str, Any], title: str) -> str:
    """Render ranked items with their scores.

    Args:
        result: ``items``, best first. With a share of new items, those are marked, because it and not their score gives
            them their places.
        title: Line above the table.
    """
    items = result["items"]
    if not items:
        return f"{title}: no items left to recommend"
    titled = any(item.get("title") for item in items)
    marked = any(item.get("new") for item in items)
    explained = any(item.get("beside") for item in items)
    head = ["rank", "item", *(["title"] if titled else []), "score", *([""] if marked else [])]
    head += ["beside", "by"] if explained else []
    rows = [
        [
            str(rank),
            str(item["item_id"]),
            *([item.get("title") or ""] if titled else []),
            number(float(item["score"])),
            *(["new" if item.get("new") else ""] if marked else []),
            *(_reason(item.get("beside")) if explained else []),
        ]
        for rank, item in enumerate(items, start=1)
    ]
    return f"{prose(title)}\n{table(head, rows, right=[0, head.index('score')])}"
