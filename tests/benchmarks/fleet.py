"""A catalogue on many machines, on paper: rates, hours, dollars, and what breaks first::

    python tests/benchmarks/fleet.py
    python tests/benchmarks/fleet.py --items 5e6 --machines 4 --hours 8 --answer-rate 2500 --gpu-dollars 1.2

Nothing is run. The costs are those that other commands of this folder have measured, each named beside its figure, and
every one can be replaced by a flag. What was not measured is an assumption and is called one. ``docs/explanation/scale.md``
has the output.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import NamedTuple


class Cost(NamedTuple):
    """A figure that the model starts from."""

    value: float
    unit: str
    source: str


MEASURED = {
    "call-cpu": Cost(0.47, "ms of CPU a call, journal and store included", "`throughput.py --clients openai --in-flight 256`"),
    "process-rate": Cost(880, "calls a second of one process with 256 in flight", "the same"),
    "survey-cpu": Cost(25, "µs of CPU a row that is surveyed", "`rerun.py --rows 1000000`"),
    "unchanged-cpu": Cost(5.4, "µs of CPU a row that a refresh remembers as unchanged", "`refresh.py --rows 1000000`"),
    "survey-memory": Cost(45, "bytes a row in the memory of a refresh, three times as many in the first", "the same"),
    "embed-rate": Cost(150, "texts a CPU-second, `minilm` with `mixed`", "`embedders.py --texts 64 --threads 1`"),
    "record-rate": Cost(16_933, "records a second into one PostgreSQL, one client", "`stores.py --records 1000000`"),
    "journal-rate": Cost(4_700, "answers a second into a journal in one PostgreSQL", "`contrib/enhancer-postgres/tests/journal_rate.py`"),
    "record-bytes": Cost(2_088, "bytes a record in PostgreSQL, 384 numbers and 300 characters", "the same"),
    "shared-tokens": Cost(219, "tokens of a prompt that all items share, `item/films`", "[local engine](../how-to/run-a-local-engine.md)"),
}  # fmt: skip
ASSUMED = {
    "items": Cost(50e6, "items", ""),
    "machines": Cost(20, "machines", ""),
    "cores": Cost(16, "cores of a machine", ""),
    "gpus": Cost(1, "GPUs of a machine", ""),
    "hours": Cost(24, "hours that it may take", ""),
    "text-tokens": Cost(110, "tokens of an item's text", ""),
    "answer-tokens": Cost(110, "tokens of an answer", ""),
    "answer-rate": Cost(2_500, "answer tokens a second of a GPU, prompts included", ""),
    "gpu-dollars": Cost(2.5, "dollars an hour of a machine with its GPUs", ""),
    "input-price": Cost(0.15, "dollars per million prompt tokens of a hosted model", ""),
    "output-price": Cost(0.60, "dollars per million answer tokens of a hosted model", ""),
    "requests-a-minute": Cost(30_000, "requests a minute that the account of a hosted model has", ""),
    "tokens-a-minute": Cost(150e6, "tokens a minute that it has", ""),
}


@dataclass(frozen=True)
class Fleet:
    """The figures by name, and what follows from them."""

    of: dict[str, float]

    def __getattr__(self, name: str) -> float:
        return self.of[name.replace("_", "-")]

    @property
    def prompt_tokens(self) -> float:
        """Tokens of a prompt."""
        return self.shared_tokens + self.text_tokens

    @property
    def needed(self) -> float:
        """Calls a second that the catalogue takes within the hours."""
        return self.items / (3600 * self.hours)

    def capacities(self) -> dict[str, tuple[float, str]]:
        """Items a second that each part can take, and how that grows."""
        tokens = self.prompt_tokens + self.answer_tokens
        cores = self.machines * self.cores
        return {
            "hosted model, by requests a minute": (self.requests_a_minute / 60, "another account, or batch jobs"),
            "hosted model, by tokens a minute": (self.tokens_a_minute / 60 / tokens, "likewise; shorter texts"),
            "own GPUs": (self.machines * self.gpus * self.answer_rate / self.answer_tokens, "GPUs, a smaller model"),
            "PostgreSQL, answers in its journal": (self.journal_rate, "clients and cores of the database; shards"),
            "PostgreSQL, records by one client": (self.record_rate, "clients and cores of the database; shards"),
            "embedding on all cores": (cores * self.embed_rate, "GPUs; `model2vec`"),
            "calls, one process in all": (self.process_rate, "more in flight; processes"),
            "calls, one process a machine": (self.machines * self.process_rate, "processes"),
            "calls, by CPU on all cores": (cores * 1000 / self.call_cpu, "cores"),
        }

    def work(self) -> list[tuple[str, str]]:
        """What the catalogue takes in all."""
        items, machines = self.items, self.machines
        own, (hosted_requests, _), (hosted_tokens, _) = (
            self.capacities()["own GPUs"][0],
            self.capacities()["hosted model, by requests a minute"],
            self.capacities()["hosted model, by tokens a minute"],
        )
        hosted = min(hosted_requests, hosted_tokens)
        dollars = items * (self.prompt_tokens * self.input_price + self.answer_tokens * self.output_price) / 1e6
        gpu_hours = items / own / 3600
        return [
            ("calls a second, to be done in the hours", f"{self.needed:,.0f}, {self.needed / machines:,.0f} a machine"),
            ("CPU of the calls", f"{items * self.call_cpu / 3.6e6:,.1f} core-hours, {self.needed * self.call_cpu / 1000:.2f} cores"),
            ("CPU of the embeddings", f"{items / self.embed_rate / 3600:,.0f} core-hours, {self.needed / self.embed_rate:,.1f} cores"),
            ("CPU of one survey of all rows", f"{items * self.survey_cpu / 6e7:,.0f} minutes of one core"),
            ("CPU of a refresh in which nothing changed", f"{items * self.unchanged_cpu / 6e7:,.1f} minutes of one core"),
            ("memory of a refresh in one process", f"{items * self.survey_memory / 2**30:.1f} GiB, three times as much in the first"),
            ("database writes a second", f"{self.needed:,.0f} records and as many answers, {self.needed / self.journal_rate:.0%} of what the journal takes"),
            ("database size", f"{items * self.record_bytes / 1e9:,.0f} GB of records"),
            ("own GPUs", f"{gpu_hours:,.1f} hours, ${gpu_hours * machines * self.gpu_dollars:,.0f}"),
            ("hosted model, direct calls", f"{items / hosted / 3600:,.1f} hours, ${dollars:,.0f}"),
            ("hosted model, batch jobs at half the price", f"${dollars / 2:,.0f}"),
            ("prompt tokens that a prefix cache saves", f"{self.shared_tokens / self.prompt_tokens:.0%}"),
        ]  # fmt: skip


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Calculate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, cost in (MEASURED | ASSUMED).items():
        parser.add_argument(f"--{name}", type=float, default=cost.value, help=f"{cost.unit} ({cost.value:g})")
    told = {name.replace("_", "-"): value for name, value in vars(parser.parse_args()).items()}
    fleet = Fleet(told)
    rows = [[f"{told[name]:,.10g}", cost.unit, cost.source] for name, cost in MEASURED.items()]
    print(table(["measured", "", "by"], rows), end="\n\n")
    print(table(["assumed", ""], [[f"{told[name]:,.10g}", cost.unit] for name, cost in ASSUMED.items()]), end="\n\n")
    print(table(["it takes", ""], [list(row) for row in fleet.work()]), end="\n\n")
    ranked = sorted(fleet.capacities().items(), key=lambda each: each[1][0])
    print(
        table(
            ["what can be done at most", "items a second", "hours for all", "grows with"],
            [[name, f"{rate:,.0f}", f"{fleet.items / rate / 3600:,.1f}", how] for name, (rate, how) in ranked],
        )
    )


if __name__ == "__main__":
    main()
