"""How often `enhancer spend` buys what gains, and how often what does not, over catalogues with planted tastes::

    python tests/benchmarks/spending.py --seeds 40
    python tests/benchmarks/spending.py --seeds 40 --case nowhere --pilot 80

Each campaign is the real one (strata, pilot, bounds, rounds, decisions) over the real backbone ``als``; only the language
model is replaced: profiles come from the planted traits of the items, or from words drawn by chance, and each costs a
tenth of a cent. A catalogue has 600 users and 1,500 items, of which 500 are new; users take 40 items each. The cases:

    everywhere  profiles know the traits of all items
    new         the same, and users take 150 items each, so that interactions know all but the new items
    nowhere     profiles know nothing
    repeated    the raw text says what the profiles say
    rare        profiles know rare and new items, and nothing about the others
    aspect      one of two aspects knows the traits, the other nothing

``found`` is the share of catalogues in which a stratum was found worth buying, by stratum; for ``aspect`` both by aspect.
``anything`` is the share in which anything was bought after the pilot. ``spent`` is the mean share of what everything costs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import numpy as np
from generation import HashingEmbedder
from planted_catalogue import PlantedCatalogue

from enhancer.project import Project
from enhancer.project.spending.campaign import Campaign
from enhancer.project.spending.deciding import PILOT_ITEMS
from enhancer.project.spending.shop import UnitCost

PRICE = 0.001
CASES = ("everywhere", "new", "nowhere", "repeated", "rare", "aspect")


class PlantedShop:
    """Sells profiles made from planted traits."""

    def __init__(self, folder: Path, tables: dict[str, Any]) -> None:
        self.folder, self._tables = folder, tables
        self._bought = {name: np.zeros(len(table), np.bool_) for name, table in tables.items()}
        self._calls = 0.0

    def templates(self, _: Any) -> list[str]:
        return []

    def last_completion(self) -> int:
        return 0

    def spent(self, *_: Any) -> float:
        return self._calls * PRICE

    def examples(self, _: Any) -> None:
        pass

    def unit_cost(self, _: Any, aspects: tuple[str, ...]) -> UnitCost:
        return UnitCost(PRICE * len(aspects), PRICE)

    def buy(self, ids: list[str], aspects: tuple[str, ...], *_: Any) -> SimpleNamespace:
        rows = np.array([int(id_) for id_ in ids])
        for name in aspects:
            self._calls += np.count_nonzero(~self._bought[name][rows])
            self._bought[name][rows] = True
        return SimpleNamespace(generated=len(ids), cached=0)

    def embed_texts(self, _: Any) -> None:
        pass

    def vectors(self, name: str) -> Any:
        if name == "text":
            return self._tables["text"]
        return np.where(self._bought[name][:, None], self._tables[name], np.float32(0))


def tables_of(catalogue: PlantedCatalogue, case: str) -> dict[str, Any]:
    """Return the vectors of the aspects of a case, and of raw texts."""
    n = len(catalogue.traits)
    taken = np.bincount([item for _, item in catalogue.taken], minlength=n)
    rare = taken < np.median(taken[taken > 0])

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
        "profile": profiles({"nowhere": nothing, "rare": rare}.get(case, everything)),
        "text": text,
    }


class WideEmbedder(HashingEmbedder):
    """Hashed words in 128 numbers."""

    def encode(self, texts: Any) -> Any:
        rng = np.random.default_rng(7)
        parts = [HashingEmbedder(name=f"{self.name}{number}").encode(texts) for number in range(8)]
        wide = np.hstack(parts) + 0.02 * rng.standard_normal((len(texts), 128))
        return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


def campaign(case: str, seed: int, pilot: int) -> dict[str, Any]:
    """Run one campaign and summarise it."""
    catalogue = PlantedCatalogue.make(seed, users=600, items=1500, new=500, each=150 if case == "new" else 40)
    with tempfile.TemporaryDirectory() as folder:
        aspects = '[prompts.item]\naspects = ["mood", "plot"]' if case == "aspect" else ""
        catalogue.write(Path(folder), "http://127.0.0.1:9", aspects=aspects)
        overrides = ["embedder={use = 'sentence-transformers'}"]
        project = Project.load(Path(folder) / "enhancer.toml", overrides=overrides, environ={})
        tables = tables_of(catalogue, case)
        report = Campaign(project.parts, 1e6, shop=PlantedShop(Path(folder), tables), pilot=pilot).run()  # type: ignore[arg-type]
        project.close()
    worth = {one["stratum"]: one["worth"] for one in report.strata}
    bought = [
        f"{order['stratum']}{'/' + '+'.join(order['aspects']) if case == 'aspect' else ''}"
        for one in report.rounds[1:]
        for order in one["orders"]
    ]
    everything = len(catalogue.traits) * PRICE * (len(tables) - 1)
    return {"worth": worth, "bought": sorted(set(bought)), "share": report.spent_usd / everything}


def main() -> None:
    """Run the cases and print rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--pilot", type=int, default=PILOT_ITEMS)
    arguments = parser.parse_args()
    for case in arguments.case or CASES:
        began = time.perf_counter()
        runs = [
            campaign(case, seed, arguments.pilot) for seed in range(arguments.first, arguments.first + arguments.seeds)
        ]
        found = Counter(name for run in runs for name in run["bought"])
        result = {
            "case": case,
            "pilot": arguments.pilot,
            "catalogues": len(runs),
            "anything": sum(bool(run["bought"]) for run in runs) / len(runs),
            "found": {name: count / len(runs) for name, count in sorted(found.items())},
            "spent": round(float(np.mean([run["share"] for run in runs])), 3),
            "seconds": round(time.perf_counter() - began, 1),
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
