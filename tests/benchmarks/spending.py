"""Count how often `enhancer spend` buys what gains, and how often what does not, over catalogues with planted tastes::

    python tests/benchmarks/spending.py --seeds 5
    python tests/benchmarks/spending.py --seeds 40 --case nowhere --pilot 80

Each campaign is the real one (strata, pilot, bounds, rounds, decisions) over the real backbone ``als``; only the language
model is replaced: profiles come from the planted traits of the items, or from words drawn by chance, and each costs a
tenth of a cent. A catalogue has 1,500 items and 600 users who take 40 items each, unless its case says otherwise. Its
cases are its truths: what profiles know, and thus where they may gain.

    nowhere     profiles know nothing; 500 items are new
    repeated    the raw text says what the profiles say; 500 items are new
    tail        profiles know the items of the tail, and nothing about the others; half of the catalogue is tail
    rare        the same, and 500 items are new, which profiles know as well
    few         profiles know all items; users take 60 items each, most of them among 300, which interactions know well
    new         profiles know all items; 500 are new, and users take 150 items each, so interactions know all others
    everywhere  profiles know all items; 500 are new
    aspect      one of two aspects knows all items, the other nothing; 500 items are new

A row of the table is one truth: the number of catalogues in which each stratum (of ``aspect``: and aspect) was found worth
buying; ``false``, the number in which anything was found whose profiles say nothing of their own; ``looked``, the number in
which a stratum got more after the pilot without having been found worth buying before; and the mean and the largest share
that was spent of what everything costs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import numpy as np
from planted_catalogue import PlantedCatalogue
from planted_shop import PRICE, PlantedShop, WideEmbedder

from enhancer.evaluation.measuring.strata import popularity_groups
from enhancer.project import Project
from enhancer.project.spending.campaign import Campaign
from enhancer.project.spending.deciding import PILOT_ITEMS

CASES: dict[str, dict[str, Any]] = {
    "nowhere": {"new": 500},
    "repeated": {"new": 500},
    "tail": {"skew": 0.15},
    "rare": {"new": 500},
    "few": {"each": 60, "skew": 0.2, "common": 300},
    "new": {"new": 500, "each": 150},
    "everywhere": {"new": 500},
    "aspect": {"new": 500},
}
"""Truths, with the arguments of their catalogues."""
SILENT = {
    "nowhere": {"head", "middle", "tail", "new"},
    "repeated": {"head", "middle", "tail", "new"},
    "tail": {"head", "middle"},
    "rare": {"head", "middle"},
}
"""Strata whose profiles say nothing of their own."""


def tables_of(catalogue: PlantedCatalogue, case: str, popularity: Any) -> dict[str, Any]:
    """Return the vectors of the aspects of a case, and of raw texts, from the training interactions of each item."""
    n = len(catalogue.traits)
    groups = popularity_groups(popularity)
    rare = groups["tail"] | groups["cold"]

    def embedded(texts: list[str], name: str) -> Any:
        return WideEmbedder(name=name).encode(texts)

    def profiles(knows: Any, salt: str = "") -> Any:
        return embedded([catalogue.words(item, knows=bool(knows[item]), salt=salt) for item in range(n)], "hashing")

    everything, nothing = np.ones(n, np.bool_), np.zeros(n, np.bool_)
    text = embedded([f"thing {item}" for item in range(n)], "text")
    if case == "aspect":
        return {"mood": profiles(everything, "mood"), "plot": profiles(nothing, "plot"), "text": text}
    if case == "repeated":
        text = embedded([f"thing {item} {catalogue.words(item, knows=True)}" for item in range(n)], "text")
    return {
        "profile": profiles({"nowhere": nothing, "tail": rare, "rare": rare}.get(case, everything)),
        "text": text,
    }


def campaign(case: str, seed: int, pilot: int) -> dict[str, Any]:
    """Run one campaign and summarise it."""
    catalogue = PlantedCatalogue.make(seed, **{"users": 600, "items": 1500, "each": 40, **CASES[case]})
    with tempfile.TemporaryDirectory() as folder:
        aspects = '[prompts.item]\naspects = ["mood", "plot"]' if case == "aspect" else ""
        catalogue.write(Path(folder), "http://127.0.0.1:9", aspects=aspects)
        overrides = ["embedder={use = 'sentence-transformers'}"]
        project = Project.load(Path(folder) / "enhancer.toml", overrides=overrides, environ={})
        train = project.parts.split.train
        items = np.array(train.item_ids, np.int64)[train.items]
        tables = tables_of(catalogue, case, np.bincount(items, minlength=len(catalogue.traits)))
        report = Campaign(project.parts, 1e6, shop=PlantedShop(Path(folder), tables), pilot=pilot).run()  # type: ignore[arg-type]
        project.close()
    worth = {(one["stratum"], "+".join(step)) for one in report.strata for step in one["worth"]}
    silent = SILENT.get(case, set())
    everything = len(catalogue.traits) * PRICE * (len(tables) - 1)
    return {
        "found": {f"{stratum} {aspects}" if case == "aspect" else stratum for stratum, aspects in worth},
        "false": any(stratum in silent or aspects == "plot" for stratum, aspects in worth),
        "looked": any(gain["decision"] == "look" for one in report.rounds for gain in one["gains"]),
        "spent": report.spent_usd / everything,
    }


def main() -> None:
    """Run the cases and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="a truth; all by default")
    parser.add_argument("--seeds", type=int, default=5, help="number of catalogues of each truth")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    parser.add_argument("--pilot", type=int, default=PILOT_ITEMS, help="smallest number of items of a stratum")
    arguments = parser.parse_args()
    print(
        "| truth | campaigns | found | false | looked | spent | at most | seconds |\n|---|---|---|---|---|---|---|---|"
    )
    for case in arguments.case or CASES:
        began = time.perf_counter()
        seeds = range(arguments.first, arguments.first + arguments.seeds)
        runs = [campaign(case, seed, arguments.pilot) for seed in seeds]
        found = Counter(name for run in runs for name in run["found"])
        spent = [run["spent"] for run in runs]
        cells = [
            case,
            len(runs),
            ", ".join(f"{name} {count}" for name, count in sorted(found.items())) or "nothing",
            sum(run["false"] for run in runs),
            sum(run["looked"] for run in runs),
            f"{np.mean(spent):.0%}",
            f"{max(spent):.0%}",
            f"{time.perf_counter() - began:.0f}",
        ]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
