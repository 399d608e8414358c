"""The demo's words: on the terminal, and as sections of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.cli.kit import duration, table
from enhancer.evaluation.reporting.report import Lists, Section, Table as ReportTable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from enhancer.evaluation import Ablation
    from enhancer_plugins.demo.showcase import ColdCase, Showcase, UserCase

ARMS = {
    "none": "no feature",
    "text": "raw text, no LLM, by align",
    "concat": "LLM profile, by concat",
    "align": "LLM profile, by align",
    "both": "profile + text, by align",
    "placebo": "both, but shuffled, by align",
}
_COLUMNS = (
    ("all", "ndcg@10", "NDCG@10"),
    ("all", "recall@20", "Recall@20"),
    ("head", "recall@20", "head"),
    ("tail", "recall@20", "tail"),
    ("cold", "recall@20", "cold films"),
)
"""Stratum, metric and heading of each column of the table."""


def render(ablation: Ablation, showcase: Showcase, *, recorded: bool) -> str:
    """The whole page for the terminal."""
    facts = ablation.facts
    origin = "recorded answers of a large language model" if recorded else "a live model"
    opening = (
        f"MovieLens-100k: {facts['users']:,} users, {facts['items']:,} films; {facts['train']:,} ratings to train on. "
        f"{facts['cold_items']} films are held out of training altogether.\n"
        f"Profiles: {origin}, from title, year and genres alone. Means over {len(ablation.seeds)} "
        f"{'seed' if len(ablation.seeds) == 1 else 'seeds'}, ± one standard deviation."
    )
    parts = ["", opening, _results(ablation), _legend(ablation), _verdicts(ablation)]
    parts += [_user(case) for case in showcase.users]
    parts += [_similar(showcase), _cold(showcase.cold)]
    return "\n\n".join(parts)


def next_steps(folder: Path, seconds: float) -> str:
    """What to run on one's own data."""
    return f"""
Done in {duration(seconds)}. The report, with plots: {folder / "report.html"}

On your own data, in a folder with a table of items and one of interactions:
  enhancer init                 looks at your tables and writes enhancer.toml
  enhancer plan                 what it would cost; calls nothing
  enhancer generate             profiles, embeds, stores; pays for each item once
  enhancer ablate               says whether it helps
  enhancer train && enhancer recommend USER
With a live model on these films: enhancer demo --model openai/gpt-4o-mini"""


def sections(showcase: Showcase) -> list[Section]:
    """The same for the report."""
    people: dict[str, list[str]] = {}
    for case in showcase.users:
        people[f"User {case.user_id} liked"] = [f"{title} ({rating:g})" for title, rating in case.liked]
        people[f"User {case.user_id} is recommended"] = [_mark(title, hit) for title, hit in case.recommended]
    similar = showcase.similar
    return [
        Section("Two users", _rule_for_users(), [Lists(people)]),
        Section(
            f"Films similar to {similar.title}",
            "By the cosine of profile vectors: no rating took part.",
            [
                ReportTable(
                    ["film", "cosine"], [[title or item, f"{score:.3f}"] for item, score, title in similar.items]
                )
            ],
        ),
        Section(f"A film that training never saw: {showcase.cold.title}", _cold_words(showcase.cold)),
    ]


def _results(ablation: Ablation) -> str:
    columns = [column for column in _COLUMNS if column[0] in ablation.findings]
    head = ["arm", "", *(heading for _, _, heading in columns)]
    rows = []
    for name in ablation.findings["all"].reference:
        values = [f"{ablation.findings[s].reference[name][metric]:.4f}         " for s, metric, _ in columns]
        rows.append([name, "reference, no training", *values])
    for arm in ablation.arms:
        cells = []
        for stratum, metric, _ in columns:
            finding = ablation.findings[stratum]
            std = finding.std(arm.name, metric)
            cells.append(f"{finding.mean(arm.name, metric):.4f}" + ("" if std is None else f" ± {std:.4f}"))
        rows.append([arm.name, ARMS.get(arm.name, arm.description), *cells])
    return table(head, rows, right=range(2, len(head)))


def _legend(ablation: Ablation) -> str:
    cold = ablation.facts["cold_items"]
    chance = ""
    if cold:
        share = min(1.0, 20 / cold)
        chance = f"\nThere chance alone gives {share:.2f} on average; what knows nothing of them has one random order."
    return (
        "Full ranking, films seen in training left out. head, tail: Recall@20 of popular and of rare films, ranked\n"
        f"among all trained films; cold films: Recall@20 of those held out, ranked among themselves.{chance}"
    )


def _verdicts(ablation: Ablation) -> str:
    words = [str(each) for each in ablation.verdict.values()]
    return "\n".join([*words, *_profile_against_text(ablation)])


def _profile_against_text(ablation: Ablation) -> list[str]:
    """What the verdict leaves open: on new films, is the profile alone worth more than the text it was made from?"""
    finding, metric = ablation.findings.get("cold"), "recall@20"
    if finding is None or not {"align", "text"} <= finding.per_seed.keys():
        return []
    profile, text = finding.mean("align", metric), finding.mean("text", metric)
    more, less = ("raw text", "the profile") if text > profile else ("the profile", "raw text")
    reason = " (the release year alone says much, and profiles seldom tell it)" if text > profile else ""
    numbers = f"Recall@20 {max(text, profile):.4f} against {min(text, profile):.4f}"
    return [f"By the same fuser, {more} alone finds more of the new films than {less} alone: {numbers}{reason}."]


def _rule_for_users() -> str:
    return (
        "The users at the lower quartile and at the median of the length of history, by the align model. "
        "✓: in the user's test ratings, which training never saw."
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
    return table([f"similar to {similar.title}, by profile", "cosine"], rows, right=[1])


def _cold(case: ColdCase) -> str:
    return f"A film that training never saw: {case.title}\n{_cold_words(case)}"


def _cold_words(case: ColdCase) -> str:
    near = _listed(case.neighbours)
    return (
        f'Its profile: "{case.profile}" By that alone it lands beside {near}. Of the {case.held_out} films held out, '
        f"it stands at place {case.rank_for_watchers:g} (median) for the {case.watchers} users who rated it, and at "
        f"{case.rank_for_others:g} for the others."
    )


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
