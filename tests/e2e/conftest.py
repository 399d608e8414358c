"""A small shop whose tables have a pattern to be learnt, and the whole way through it by the command line."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import hashing, invoke  # noqa: F401  # fixtures

ITEMS, USERS, GENRES = 40, 30, ("western", "musical", "thriller", "romance")


def write_tables(folder: Path) -> None:
    """Forty films of four genres, and thirty people of whom each keeps to two of them."""
    chance = random.Random(7)
    films = [(number, GENRES[number % len(GENRES)], 1950 + number) for number in range(1, ITEMS + 1)]
    rows = [f"{number},A {genre} of {year},{genre}\n" for number, genre, year in films]
    (folder / "items.csv").write_text("item_id,title,genre\n" + "".join(rows))
    rated = ["user_id,item_id,rating,timestamp\n"]
    for user in range(1, USERS + 1):
        liked = [number for number, genre, _ in films if GENRES.index(genre) in (user % 4, (user + 1) % 4)]
        for when, item in enumerate(chance.sample(liked, 14)):
            rated.append(f"u{user},{item},{chance.randint(3, 5)},{1_000_000 + 100 * when + user}\n")
    (folder / "ratings.csv").write_text("".join(rated))


@pytest.fixture
def tables(tmp_path):
    write_tables(tmp_path)
    return tmp_path


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Threads that wait for one another make tiny batches slow, and this machine may be busy."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def whole_way(invoke):  # noqa: F811
    """Every verb one after the other, with ``--json``; each must succeed. Gives their results by name."""

    def run(*flags: str) -> SimpleNamespace:
        results = {}
        for verb in (
            ("generate",),
            ("train",),
            ("ablate",),
            ("recommend", "u3", "-k", "5"),
            ("similar", "1", "-k", "5"),
        ):
            done = invoke(*verb, "--json", *flags)
            assert done.code == 0, f"{verb[0]}: {done.err}"
            results[verb[0]] = done.json()
        return SimpleNamespace(**results)

    return run
