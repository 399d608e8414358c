"""The page of evidence, made from the results of ``evidence.py``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import lines

METRICS = ("recall@20", "ndcg@20")
WORDS = {
    "lastfm-warm": "Last.fm, all artists in training",
    "lastfm-cold": "Last.fm, a fifth of the artists held out of training",
    "lastfm-others": "Last.fm, a fifth of the artists held out, the other fusers",
    "lastfm-warm-multinomial": "Last.fm, all artists in training, the backbone trained by the multinomial likelihood",
    "lastfm-multinomial": "Last.fm, a fifth of the artists held out, the backbone trained by the multinomial likelihood",
    "lastfm-lengths": "Last.fm, a fifth of the artists held out, how much is shown of what is new",
    "lastfm-tuned": "Last.fm, all artists in training, every arm tuned on validation",
    "lastfm-warm-als": "Last.fm, all artists in training, alternating least squares",
    "lastfm-als": "Last.fm, a fifth of the artists held out, alternating least squares",
    "movielens-als": "MovieLens-100k, a fifth of the films held out, alternating least squares",
    "movielens-notes-als": "MovieLens-100k, notes of films, alternating least squares",
    "movielens-notes": "MovieLens-100k, notes of films, the backbone trained by the multinomial likelihood",
    "lastfm-notes-als": "Last.fm, notes of artists, alternating least squares",
    "lastfm-notes": "Last.fm, notes of artists, the backbone trained by the multinomial likelihood",
    "movielens-aspects": "MovieLens-100k, notes of films, each left out in turn, alternating least squares",
    "lastfm-aspects": "Last.fm, notes of artists, each left out in turn, alternating least squares",
    "movielens": "MovieLens-100k, a fifth of the films held out of training",
    "movielens-multinomial": "MovieLens-100k, a fifth of the films held out, the backbone trained by the multinomial likelihood",
    "lastfm-fm": "Last.fm, factorisation machine, a fifth of the artists held out",
    "movielens-fm": "MovieLens-100k, factorisation machine, a fifth of the films held out",
}

_PANELS = (
    ("all", "all"),
    ("head", "head"),
    ("tail", "tail"),
    ("cold", "cold"),
    ("cold_among_all", "cold among all"),
    ("everything", "everything"),
)


def _findings(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {"all": result, **result["strata"]}


def _cell(found: Mapping[str, Any], name: str, metric: str) -> str:
    value = found["arms"][name][metric]
    comparisons = [c for c in found["comparisons"] if c["arm"] == name and c["metric"] == metric]
    mark = ""
    for one in comparisons:
        if one["baseline"] == "none" and one["significant"]:
            mark = " ▲" if one["delta"] > 0 else " ▼"
    return f"{value['mean']:.4f} ± {value['std'] or 0:.4f}{mark}"


def section(told: Mapping[str, Any]) -> str:
    """Return the result of one experiment as a section of the page."""
    result = told["result"]
    findings = _findings(result)
    panels = [(key, title) for key, title in _PANELS if key in findings]
    out = [f"## {WORDS[told['experiment']]}", ""]
    columns = [f"{METRICS[0]}, {title}" for _, title in panels] + [f"{METRICS[1]}, {title}" for _, title in panels[:1]]
    dollars_of = told.get("dollars")
    last = "seconds a run" if dollars_of is None else "seconds a run | dollars"
    out.append("| arm | " + " | ".join(columns) + f" | {last} |")
    out.append("|---" * (len(columns) + 2 + (dollars_of is not None)) + "|")
    for name in result["arms"]:
        cells = [_cell(findings[key], name, METRICS[0]) for key, _ in panels]
        cells += [_cell(findings[key], name, METRICS[1]) for key, _ in panels[:1]]
        runs = [run["seconds"] for run in result["runs"] if run["arm"] == name]
        seconds = f"{sum(runs) / len(runs):.0f}" if runs else "-"
        cells += [seconds] if dollars_of is None else [seconds, f"{dollars_of[name]:.2f}"]
        out.append(f"| `{name}` | " + " | ".join(cells) + " |")
    for line in result["reference"]:
        cells = [f"{findings[key]['reference'][line][METRICS[0]]:.4f}" for key, _ in panels]
        cells += [f"{findings[key]['reference'][line][METRICS[1]]:.4f}" for key, _ in panels[:1]]
        out.append(
            f"| {line} (reference) | " + " | ".join([*cells, "-", *([] if dollars_of is None else ["-"])]) + " |"
        )
    out += tuning(result.get("search") or {})
    out += left_out(result.get("left_out"))
    out += ["", "The report's verdict:", "", *(f"- {words}" for words in result["verdict"].values()), ""]
    out.append(f"{len(result['seeds'])} seeds, {len(result['runs'])} training runs.")
    return "\n".join(out)


def left_out(found: Mapping[str, Any] | None) -> list[str]:
    """Return what the arm with all inputs gains over the arm without each, as a table; nothing without such arms."""
    if not found:
        return []
    metric = found["metric"]
    places = [(key, title) for key, title in _PANELS if key in next(iter(found["inputs"].values()))["panels"]]
    out = ["", f"| {metric}, gain of | " + " | ".join(title for _, title in places) + " | |"]
    out.append("|---" * (len(places) + 2) + "|")
    for name, one in found["inputs"].items():
        cells = []
        for key, _ in places:
            gain = one["panels"][key][metric]
            low, high = gain["interval"]
            cells.append(f"{gain['gain']:+.4f} ({low:+.4f} to {high:+.4f})".replace("-", "\N{MINUS SIGN}"))
        out.append(f"| `{name}` | " + " | ".join(cells) + f" | {one['worth']} |")
    return out


def tuning(search: Mapping[str, Any]) -> list[str]:
    """Return the options that a search chose for each arm, as a table; nothing without a search."""
    if not search:
        return []
    out = [
        "",
        f"| arm | options of the best trial | its {METRICS[0]} on validation | as configured |",
        "|---|---|---|---|",
    ]
    for name, found in search.items():
        options = [f"{option} {value:.3g}" for part in found["best"].values() for option, value in part.items()]
        best = ", ".join(options) or "as configured"
        out.append(f"| `{name}` | {best} | {found['validation']:.4f} | {found['configured']:.4f} |")
    return out


def page(work: Path, before: str, experiments: Sequence[str]) -> str:
    """The whole page: sections from the results that are there, and the others as they stand in the page before."""
    results = {n: work / "results" / f"{n}.json" for n in experiments}
    found = {n: json.loads(path.read_text(encoding="utf-8")) for n, path in results.items() if path.exists()}
    if not found:
        sys.exit(f"there is no result in {work / 'results'}")
    kept = {text.partition("\n")[0]: text.strip() for text in before.split("\n## ")[1:]}
    sections = []
    for name in experiments:
        if name in found:
            sections.append(section(found[name]))
        elif WORDS[name] in kept:
            sections.append(f"## {kept[WORDS[name]]}")
            print(f"{name}: no result; its section stays as it was", file=sys.stderr)
    about = lines({**next(iter(found.values()))["machine"], "load": "any"}).splitlines()[0]
    text = Path(__file__).with_name("evidence_words.md").read_text(encoding="utf-8")
    return text.replace("{machine}", about.replace(", load any at the start", "")).replace(
        "{sections}", "\n\n".join(sections)
    )
