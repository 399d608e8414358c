"""Fixtures of the command-line tests."""

from __future__ import annotations

import pytest
from command_line import hashing, invoke  # noqa: F401  # fixtures


@pytest.fixture
def tables(tmp_path):
    """Two CSV files with non-default column names: six films, and twelve users with four ratings each."""
    films = ["Toy Story,Animation", "Heat,Crime", "Casper,Children", "Alien,Horror", "Solaris,SciFi", "Clue,Mystery"]
    rows = "".join(f"{number},{film},http://films/{number}\n" for number, film in enumerate(films, start=1))
    (tmp_path / "movies.csv").write_text("movieId,title,genre,url\n" + rows)
    rated = [
        f"{user},{1 + (user + step) % 6},{1 + (user * step) % 5},{1000 + user + step}\n"
        for user in range(1, 13)
        for step in range(4)
    ]
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(rated))
    return tmp_path
