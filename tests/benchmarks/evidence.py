"""Does the feature help? Every fuser on two data sets, against ids alone, raw text and shuffled vectors::

    python tests/benchmarks/evidence.py FOLDER --work WORK                     # all experiments; hours on two cores
    python tests/benchmarks/evidence.py FOLDER --work WORK --only lastfm-cold  # some of them
    python tests/benchmarks/evidence.py FOLDER --work WORK --write docs/explanation/evidence.md

FOLDER holds ``lastfm`` (``train.tsv``, ``test.tsv``: user, item, play_count; ``items.jsonl``: item, name, profile).
``item_notes.jsonl``: id, sound, scene, kin, mood, confidence). MovieLens-100k is fetched as ``enhancer demo`` does, with
the profiles and notes that come with enhancer. WORK keeps a project for each
data set, what was trained (a second run goes on), and the results, from which ``--write`` makes the page.

Every option is at its default, but in ``lastfm-tuned``, where each arm gets twenty trials on validation.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from evidence_page import METRICS, page
from machine import machine

SOFTMAX = 'loss = "softmax", similarity = "cosine"'
MULTINOMIAL = 'loss = "multinomial"'


FILM_NOTES = ("plot", "mood", "audience", "making")
ARTIST_NOTES = ("sound", "scene", "kin", "mood")


def arm(
    name: str,
    fuser: str,
    *,
    text: bool = False,
    inputs: Sequence[str] = (),
    join: str = "",
    shuffle: bool = False,
    backbone: str = "",
    options: str = "",
) -> tuple[str, str]:
    """One arm: its name, and its table in ``enhancer.toml``."""
    rows = [f"[evaluation.arm.{json.dumps(name)}]", f'fuser = "{fuser}"']
    rows += [f"input = {json.dumps(['text'] if text else [*inputs])}"] if text or inputs else []
    rows += [f'join = "{join}"'] if join else []
    rows += ["shuffle = true"] if shuffle else []
    rows += [f"backbone = {{ {backbone} }}"] if backbone else []
    rows += [f"options = {{ {options} }}"] if options else []
    return name, "\n".join(rows)


def controlled(fuser: str, *, name: str | None = None, backbone: str = "", options: str = "") -> list[tuple[str, str]]:
    """A fuser with what it must beat before meaning may be credited: the same on raw text, and on shuffled vectors."""
    name = name or fuser
    return [
        arm(name, fuser, backbone=backbone, options=options),
        arm(f"{name}-text", fuser, text=True, backbone=backbone, options=options),
        arm(f"{name}-placebo", fuser, shuffle=True, backbone=backbone, options=options),
    ]


GRAPH = [
    arm("none", "none"),
    *controlled("prior"),
    *controlled("align"),
    arm("concat", "concat"),
    arm("concat-placebo", "concat", shuffle=True),
    arm("none-softmax", "none", backbone=SOFTMAX),
    *controlled("prior", name="prior-softmax", backbone=SOFTMAX),
]
LIKELIHOOD = [
    arm("none", "none", backbone=MULTINOMIAL),
    *controlled("prior", backbone=MULTINOMIAL),
    arm("concat", "concat", backbone=MULTINOMIAL),
    arm("concat-placebo", "concat", shuffle=True, backbone=MULTINOMIAL),
]
NEW = [*LIKELIHOOD, arm("prior-long", "prior", backbone=MULTINOMIAL, options="unseen_length = 1.0")]
LENGTHS = [
    arm("none", "none"),
    *controlled("prior"),
    *(arm(f"prior-{of}", "prior", options=f"unseen_length = {of}") for of in (1.0, 1.25, 1.5)),
]
OTHERS = [
    arm("none", "none"),
    *controlled("semantic"),
    *controlled("generate"),
    *controlled("adapter"),
]
FACTORS = [arm("none", "none"), *controlled("prior")]
TUNED = [arm("none", "none"), *controlled("prior"), *controlled("align")]
MACHINES = [
    arm("none", "none"),
    *controlled("prior"),
    *controlled("align"),
    *controlled("concat"),
    arm("adapter", "adapter"),
]


def dense(notes: Sequence[str]) -> list[tuple[str, str]]:
    """Arms of ``prior`` from nothing to everything there is about an item: single texts, joins, and what is fixed."""
    everything = ("text", "profile", *notes)
    fixed = 'ridge = 0.03, regression = "linear"'
    return [
        arm("none", "none"),
        *(arm(name, "prior", inputs=[name]) for name in everything),
        arm("text, profile", "prior", inputs=["text", "profile"]),
        arm("notes", "prior", inputs=notes),
        arm("notes-mean", "prior", inputs=notes, join="mean"),
        arm("notes-as-one-text", "prior", inputs=notes, join="text"),
        arm("notes-placebo", "prior", inputs=notes, shuffle=True),
        arm("text, notes", "prior", inputs=["text", *notes]),
        arm("text, notes-placebo", "prior", inputs=["text", *notes], shuffle=True),
        arm("everything", "prior", inputs=everything),
        arm("everything-linear", "prior", inputs=everything, options='regression = "linear"'),
        arm("everything-fixed", "prior", inputs=everything, options=fixed),
        arm("everything-placebo", "prior", inputs=everything, shuffle=True),
    ]


def dense_by_epochs(notes: Sequence[str]) -> list[tuple[str, str]]:
    """A selection of :func:`dense` for a backbone whose runs take minutes."""
    kept = {"none", "text", "profile", "everything", "everything-fixed", "everything-placebo"}
    return [(name, f"{table}\nbackbone = {{ {MULTINOMIAL} }}") for name, table in dense(notes) if name in kept]


LEFT_OUT = [arm("none", "none"), arm("text", "prior", text=True), arm("prior-placebo", "prior", shuffle=True)]
"""The arms with all texts, and without each, are made by ``aspects = "leave-one-out"``."""

EXPERIMENTS: Mapping[str, tuple[str, str, str, list[tuple[str, str]]]] = {
    # name: data set, backbone, what is particular in [evaluation], arms
    "lastfm-warm": ("lastfm", "lightgcn", "", GRAPH),
    "lastfm-cold": ("lastfm", "lightgcn", "cold_items = 0.2", GRAPH),
    "lastfm-others": ("lastfm", "lightgcn", "cold_items = 0.2", OTHERS),
    "lastfm-warm-multinomial": ("lastfm", "lightgcn", "", LIKELIHOOD),
    "lastfm-multinomial": ("lastfm", "lightgcn", "cold_items = 0.2", NEW),
    "lastfm-lengths": ("lastfm", "lightgcn", "cold_items = 0.2", LENGTHS),
    "lastfm-tuned": ("lastfm", "lightgcn", "[evaluation.search]\ntrials = 20", TUNED),
    "lastfm-warm-als": ("lastfm", "als", "", FACTORS),
    "lastfm-als": ("lastfm", "als", "cold_items = 0.2", FACTORS),
    "movielens-als": ("movielens", "als", "cold_items = 0.2", FACTORS),
    "movielens-notes-als": ("movielens-notes", "als", "cold_items = 0.2", dense(FILM_NOTES)),
    "movielens-notes": ("movielens-notes", "lightgcn", "cold_items = 0.2", dense_by_epochs(FILM_NOTES)),
    "lastfm-notes-als": ("lastfm-notes", "als", "cold_items = 0.2", dense(ARTIST_NOTES)),
    "lastfm-notes": ("lastfm-notes", "lightgcn", "cold_items = 0.2", dense_by_epochs(ARTIST_NOTES)),
    "movielens-aspects": ("movielens-notes", "als", 'cold_items = 0.2\naspects = "leave-one-out"', LEFT_OUT),
    "lastfm-aspects": ("lastfm-notes", "als", 'cold_items = 0.2\naspects = "leave-one-out"', LEFT_OUT),
    "movielens": ("movielens", "lightgcn", "cold_items = 0.2", GRAPH),
    "movielens-multinomial": ("movielens", "lightgcn", "cold_items = 0.2", NEW),
    "lastfm-fm": ("lastfm", "fm", "cold_items = 0.2", MACHINES),
    "movielens-fm": ("movielens", "fm", "cold_items = 0.2", MACHINES),
}
_TEMPLATE = """\
kind = "item"
system = "Describe the artist. Answer with one JSON object: {\\"profile\\": \\"...\\"}"
user = '''
<data>
{{ text }}
</data>
'''
[schema]
type = "object"
required = ["profile"]
[schema.properties.profile]
type = "string"
minLength = 1
maxLength = 6000
"""
_NOTES_TEMPLATE = """\
kind = "item"
system = "Write notes about the artist."
user = '''
<data>
{{ text }}
</data>
'''
[aspects]
profile = "What there is to say."
sound = "Genre, instruments, voice, production."
scene = "Country, decades, movement, how known."
kin = "Three to five artists that the same listeners love."
mood = "What listening feels like, and when."
"""
_CONFIG = """\
[data]
{data}
[prompts.item]
template = {template}
[prompts.user]
source = "pool"
[llm]
use = "replay"
path = "movielens-100k"
model = "recorded"
[embedder]
use = "minilm"
{inputs}
[backbone]
use = "{backbone}"
[fuser]
use = "{fuser}"
[evaluation]
metrics = {metrics}
{split}
seeds = {seeds}
workers = {workers}
controls = false
arms = {arms}
{particular}

{tables}
"""


def lastfm(folder: Path, project: Path) -> tuple[str, str, str]:
    """Write the tables; gives what stands in ``[data]``, the template and the split."""
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    with (project / "items.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "name"])
        writer.writerows([row["item"], row["name"]] for row in rows)
    with (project / "profiles.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            print(json.dumps({"id": str(row["item"]), "kind": "item", "profile": row["profile"]}), file=file)
    (project / "item.toml").write_text(_TEMPLATE, encoding="utf-8")
    train, test = (json.dumps(str((folder / name).resolve())) for name in ("train.tsv", "test.tsv"))
    data = f'items = "items.csv"\ninteractions = {train}\n[data.columns]\nuser_id = "user"\nitem_id = "item"\nitems_id = "item_id"'
    return data, '"item.toml"', f'split = "files"\ntest = {test}'


def lastfm_notes(folder: Path, project: Path) -> tuple[str, str, str]:
    """The same beside four notes on each artist."""
    data, _, split = lastfm(folder, project)
    found = [json.loads(line) for line in (folder / "item_notes.jsonl").read_text(encoding="utf-8").splitlines()]
    with (project / "notes.jsonl").open("w", encoding="utf-8") as file:
        for row in found:
            print(json.dumps({**row, "id": str(row["id"]), "kind": "item"}), file=file)
    (project / "item.toml").write_text(_NOTES_TEMPLATE, encoding="utf-8")
    aspects = json.dumps(["profile", *ARTIST_NOTES])
    return data, f'"item.toml"\naspects = {aspects}\nknowledge = "open"', split


def movielens_notes() -> tuple[str, str, str]:
    """Have the tables; as :func:`movielens`, with the notes on films."""
    data, _, split = movielens()
    aspects = json.dumps(["profile", *FILM_NOTES])
    notes = f'"item/films"\naspects = {aspects}\ntemplates = {{ profile = "item/v1" }}\nknowledge = "open"'
    return data, notes, split


def movielens() -> tuple[str, str, str]:
    """Have the tables; gives what stands in ``[data]``, the template and the split."""
    from enhancer_plugins.demo.movielens import fetch_movielens

    tables = fetch_movielens()
    data = f"items = {json.dumps(str(tables.items))}\ninteractions = {json.dumps(str(tables.interactions))}"
    return f'{data}\n[data.columns]\ntitle = "movie_title"', '"item/v1"', 'split = "random"'


def enhancer(project: Path, *command: str) -> str:
    """Run the command line in a project; gives what it prints on stdout."""
    done = subprocess.run(
        [sys.executable, "-c", "from enhancer.cli.app import main; raise SystemExit(main())", *command],
        cwd=project,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"`enhancer {' '.join(command)}` in {project} ended with {done.returncode}")
    return done.stdout


def run(name: str, folder: Path, work: Path, seeds: int, workers: int) -> None:
    """One experiment, from tables to a result in ``WORK/results``."""
    data_set, backbone, particular, arms = EXPERIMENTS[name]
    project = work / data_set
    project.mkdir(parents=True, exist_ok=True)
    data, template, split = {
        "lastfm": lambda: lastfm(folder / "lastfm", project),
        "lastfm-notes": lambda: lastfm_notes(folder / "lastfm", project),
        "movielens": movielens,
        "movielens-notes": movielens_notes,
    }[data_set]()
    leaves_out = "aspects" in particular  # of the configured inputs and fuser; elsewhere arms have their own
    notes = FILM_NOTES if data_set == "movielens-notes" else ARTIST_NOTES
    config = _CONFIG.format(
        data=data,
        inputs=f"input = {json.dumps(['text', 'profile', *notes])}" if leaves_out else "",
        fuser="prior" if leaves_out else "align",
        template=template,
        backbone=backbone,
        metrics=json.dumps(METRICS),
        split=split,
        seeds=seeds,
        workers=workers,
        arms=json.dumps([one for one, _ in arms]),
        particular=particular,
        tables="\n\n".join(table for _, table in arms),
    )
    (project / "enhancer.toml").write_text(config, encoding="utf-8")
    if data_set.startswith("lastfm") and not (project / "imported").exists():
        for file in sorted(project.glob("*.jsonl")):
            enhancer(project, "store", "import", file.name)
        (project / "imported").touch()
    enhancer(project, "generate", "--yes")
    started = time.perf_counter()
    result = json.loads(enhancer(project, "ablate", "--json"))
    seconds = time.perf_counter() - started
    results = work / "results"
    results.mkdir(exist_ok=True)
    about = machine("enhancer", "torch", "numba")
    told = {"experiment": name, "machine": about, "seconds": seconds, "result": result}
    if "notes" in data_set and not leaves_out:
        told["dollars"] = dollars(project, arms)
    (results / f"{name}.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


PRICE = (0.15, 0.6)
"""gpt-4o-mini on 30 November 2026: USD per million tokens of prompts and of answers."""


def dollars(project: Path, arms: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Return what an LLM would take to write the texts of each arm for all items: estimated tokens times the price."""
    from dataclasses import replace

    from enhancer.contracts import Price
    from enhancer.evaluation.frontier.prices import CostTable
    from enhancer.project import Project
    from enhancer.project.buying.prices import record_prices

    opened = Project.load(project / "enhancer.toml")
    try:
        prices = replace(record_prices(opened.parts), price=Price(*PRICE))
        ids = opened.parts.split.train.item_ids
        cost: dict[str, float] = {"text": 0.0}
        found = {}
        for name, table in arms:
            inputs = [line.removeprefix("input = ") for line in table.splitlines() if line.startswith("input = ")]
            texts = json.loads(inputs[0]) if inputs else []
            for text in texts:
                if text not in cost:
                    aspect = "" if text == "profile" else text
                    cost[text] = CostTable.read(opened.store, ids, "item", [aspect], prices).sum().usd or 0.0
            found[name] = sum(cost[text] for text in texts)
    finally:
        opened.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=list(EXPERIMENTS), default=None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--write",
        type=Path,
        help="make this page of the results that are there (a section without one stays), and run nothing",
    )
    given = parser.parse_args()
    if given.write:
        before = given.write.read_text(encoding="utf-8") if given.write.exists() else ""
        given.write.write_text(page(given.work, before, list(EXPERIMENTS)), encoding="utf-8")
        return
    for name in given.only or EXPERIMENTS:
        print(f"-- {name}", file=sys.stderr)
        run(name, given.folder, given.work, given.seeds, given.workers)


if __name__ == "__main__":
    main()
