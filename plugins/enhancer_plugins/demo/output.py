"""Render the results of the demo for the terminal and as sections of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.cli.kit import duration, table
from enhancer.evaluation.reporting.blocks import ReportLists, ReportSection, ReportTable
from enhancer_plugins.demo.density import DATE, MODEL, PRICE
from enhancer_plugins.demo.showcase import NOTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from enhancer.evaluation import Ablation
    from enhancer_plugins.demo.density import Density, Rung
    from enhancer_plugins.demo.showcase import ColdCase, Showcase, UserCase

ARMS = {
    "none": "no feature",
    "text": "raw text, no LLM, by prior",
    "profile": "LLM profile, by prior",
    "both": "profile + text, by prior",
    "prior": "text + four notes, by prior",
    "placebo": "the same, but shuffled, by prior",
}
_COLUMNS = (
    ("all", "ndcg@10", "NDCG@10"),
    ("all", "recall@20", "Recall@20"),
    ("head", "recall@20", "head"),
    ("tail", "recall@20", "tail"),
    ("cold", "recall@20", "cold films"),
)
"""Stratum, metric and heading of each column of the table."""


def render(ablation: Ablation, showcase: Showcase, density: Density) -> str:
    """Return the results as text for the terminal."""
    facts = ablation.facts
    origin = "recorded answers of a large language model" if density.recorded else "a live model"
    opening = (
        f"MovieLens-100k: {facts['users']:,} users, {facts['items']:,} films; {facts['train']:,} training ratings. "
        f"{facts['cold_items']} films are held out of training completely.\n"
        f"Notes (plot, mood, audience, making) and profiles: {origin}.\n"
        "It has seen no rating, but knows how these films fared after people rated them in 1997 and 1998.\n"
        f"Means over {len(ablation.seeds)} {'seed' if len(ablation.seeds) == 1 else 'seeds'}, "
        "± one standard deviation."
    )
    parts = ["", opening, _density(density), _verdicts(ablation), _results(ablation), _legend(ablation)]
    parts += [_user(case) for case in showcase.users]
    parts += [_similar(showcase), _cold(showcase.cold)]
    return "\n\n".join(parts)


def next_steps(folder: Path, seconds: float) -> str:
    """Return suggestions for the next commands."""
    return f"""
Done in {duration(seconds)}. The report, with plots: {folder / "report.html"}

On your own data, in a folder with a table of items and one of interactions:
  enhancer init                 reads your tables and writes enhancer.toml
  enhancer plan                 estimates the cost, without calls
  enhancer generate             writes, embeds and stores profiles; pays for each item once
  enhancer ablate               tests whether the profiles help
  enhancer train && enhancer recommend USER
With a live model on these films: enhancer demo --model openai/gpt-4o-mini"""


def sections(showcase: Showcase) -> list[ReportSection]:
    """Return the examples as sections of the report."""
    people: dict[str, list[str]] = {}
    for case in showcase.users:
        people[f"User {case.user_id} liked"] = [f"{title} ({rating:g})" for title, rating in case.liked]
        people[f"User {case.user_id} is recommended"] = [_mark(title, hit) for title, hit in case.recommended]
    similar = showcase.similar
    return [
        ReportSection("Two users", _user_selection(), [ReportLists(people)]),
        ReportSection(
            f"Films similar to {similar.title}",
            "By the cosine of the vectors of text and notes, without ratings.",
            [
                ReportTable(
                    ["film", "cosine"], [[title or item, f"{score:.3f}"] for item, score, title in similar.items]
                )
            ],
        ),
        ReportSection(f"A film held out of training: {showcase.cold.title}", _describe_cold(showcase.cold)),
    ]


def _results(ablation: Ablation) -> str:
    columns = [column for column in _COLUMNS if column[0] in ablation.findings]
    head = ["arm", "", *(heading for _, _, heading in columns)]
    rows = []
    for name in ablation.findings["all"].reference:
        values = [f"{ablation.findings[s].reference[name][metric]:.4f}         " for s, metric, _ in columns]
        rows.append([name, "reference, no vectors", *values])
    for arm in ablation.arms:
        cells = []
        for stratum, metric, _ in columns:
            finding = ablation.findings[stratum]
            std = finding.std(arm.name, metric)
            cells.append(f"{finding.mean(arm.name, metric):.4f}" + ("" if std is None else f" ± {std:.4f}"))
        rows.append([arm.name, ARMS.get(arm.name, arm.description), *cells])
    content = ablation.findings["cold"].content if "cold" in ablation.findings else []
    for name in content:
        cells = [
            f"{ablation.findings[stratum].mean(name, metric):.4f}         " if stratum == "cold" else ""
            for stratum, metric, _ in columns
        ]
        rows.append([_short(name), "content baseline", *cells])
    return table(head, rows, right=range(2, len(head)))


def _legend(ablation: Ablation) -> str:
    cold = ablation.facts["cold_items"]
    chance = ""
    if cold:
        share = min(1.0, 20 / cold)
        chance = f"\nA random order of the held-out films reaches {share:.2f} on average."
    return (
        "Full ranking without the films of a user's training history. head, tail: Recall@20 of popular and of rare\n"
        "films, ranked among all trained films; cold films: Recall@20 of held-out films, ranked among themselves."
        f"{chance}"
    )


def _verdicts(ablation: Ablation) -> str:
    return "\n\n".join(_short(str(each)) for each in ablation.verdict.values())


def _short(words: str) -> str:
    """Name the four notes together."""
    return words.replace(" + ".join(NOTES), "notes")


def _density(density: Density) -> str:
    """Return a table of what each amount of text brought and costs."""
    head = ["what there is about each film", "Recall@20, films held out", "from a live model"]
    rows = [[rung.words, f"{rung.cold:.4f}", _price(rung)] for rung in density.rungs]
    note = (
        f"From a live model: tokens times the price of {MODEL} on {DATE}, ${PRICE.input:.2f} and ${PRICE.output:.2f} "
        "per million.\nThe recorded answers are free."
        if density.recorded
        else "From a live model: what was paid."
    )
    return f"{table(head, rows, right=range(1, 3))}\n\n{note}"


def _price(rung: Rung) -> str:
    if rung.prompt_tokens == 0:
        return "-"
    return "unknown" if rung.cost_usd is None else f"${rung.cost_usd:.2f}"


def _user_selection() -> str:
    return (
        "The users at the lower quartile and at the median of history length. Recommended by the prior model. "
        "✓: in the user's test ratings, which are not used in training."
    )


def _mark(title: str, hit: bool) -> str:
    return f"{title} ✓" if hit else title


def _user(case: UserCase) -> str:
    liked = [f"{title} ({rating:g})" for title, rating in case.liked]
    recommended = [_mark(title, hit) for title, hit in case.recommended]
    rows = list(zip(liked, recommended, strict=False))
    head = [f"user {case.user_id} liked ({case.seen} ratings)", "is recommended (✓: rated later)"]
    return table(head, [list(row) for row in rows])


def _similar(showcase: Showcase) -> str:
    similar = showcase.similar
    rows = [[title or item, f"{score:.3f}"] for item, score, title in similar.items]
    return table([f"similar to {similar.title}, by text and notes", "cosine"], rows, right=[1])


def _cold(case: ColdCase) -> str:
    return f"A film held out of training: {case.title}\n{_describe_cold(case)}"


def _describe_cold(case: ColdCase) -> str:
    near = _enumerate(case.neighbours)
    notes = " ".join(f"{aspect.capitalize()}: {text}" for aspect, text in case.notes.items() if text)
    return (
        f"{notes} The trained films nearest to it by text and notes are {near}. Among the {case.held_out} held-out "
        f"films, its median rank is {case.rank_for_watchers:g} for the {case.watchers} users who rated it, and "
        f"{case.rank_for_others:g} for the others."
    )


def _enumerate(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
