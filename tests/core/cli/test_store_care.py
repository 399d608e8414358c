"""Tests of ``enhancer store`` with missing and damaged files."""

from __future__ import annotations

import pytest
from command_line import hashing, invoke  # noqa: F401 - fixtures
from generation import answer
from loopback import Behaviour, Script

FILES = {"lmdb": "store.lmdb", "sqlite": "store.sqlite"}


@pytest.fixture(params=FILES)
def store(request, tmp_path, llm_server, hashing, monkeypatch):  # noqa: F811
    """The file of a store with six films; one of each kind of store."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-notforanyone-0123456789abcdef")
    rows = "".join(f"{n},film {n},a story of {n} friends\n" for n in range(6))
    (tmp_path / "items.csv").write_text("item_id,title,plot\n" + rows)
    (tmp_path / "enhancer.toml").write_text(
        f'[data]\nitems = "items.csv"\n[prompts.user]\nsource = "none"\n[evaluation]\narms = ["none"]\n'
        f'[llm]\nuse = "openai"\nmodel = "loopback-model"\napi_base = "{llm_server.url}"\ntimeout = 5\n'
        f'[embedder]\nuse = "hashing"\n[store]\nuse = "{request.param}"\n'
    )
    llm_server.script = Script(default=Behaviour(answer=answer))
    return tmp_path / "features" / FILES[request.param]


def test_before_there_is_a_store_there_is_nothing_to_verify(store, invoke):  # noqa: F811
    done = invoke("store", "verify")
    assert (done.code, done.out.count("there is no store")) == (1, 1)
    assert "check [store] path" in done.err
    assert not store.parent.exists()


def test_a_deleted_file_is_told_and_its_records_are_made_again_without_a_call(store, invoke, llm_server):  # noqa: F811
    assert invoke("generate", "--yes").code == 0
    sound = invoke("store", "verify")
    assert (sound.code, sound.out) == (0, "6 records, no faults\n")
    store.unlink()
    done = invoke("store", "verify", "--json")
    assert done.code == 1
    assert done.json() == {"records": 0, "faults": [{"where": "features", "what": "there is no store"}]}
    assert "6 paid answers in the journal: `enhancer generate` restores the records" in done.err
    assert not store.exists(), "reading must not create a store"
    assert invoke("store", "stats", "--quick", "--json").json()["records"] == 0
    asked = llm_server.count
    assert invoke("generate").code == 0
    assert (invoke("store", "verify").code, llm_server.count) == (0, asked)


def test_an_empty_store_beside_paid_answers_is_told(store, invoke):  # noqa: F811
    assert invoke("generate", "--yes").code == 0
    (store.parents[1] / "items.csv").write_text("item_id,title,plot\nnew,a new film,its story\n")
    assert invoke("store", "gc", "--yes", "--prune-at-most", "1").code == 0
    done = invoke("store", "verify")
    assert (done.code, "the store has no records" in done.out) == (1, True)


def test_nonsense_in_the_file_says_how_to_go_on(store, invoke, llm_server):  # noqa: F811
    assert invoke("generate", "--yes").code == 0
    store.write_bytes(b"nonsense" * (store.stat().st_size // 8))
    assert invoke("store", "verify").code == 1
    done = invoke("store", "repair", "--yes")
    assert done.code == 1
    assert "contains no records of a feature store" in done.err
    assert "move the file away and run `enhancer generate`" in done.err
    asked = llm_server.count
    store.rename(store.with_suffix(".nonsense"))
    again = invoke("generate", "--json")
    assert (again.code, again.json()["cached"], llm_server.count) == (0, 6, asked)
    assert invoke("store", "verify").code == 0


def test_a_wrong_table_does_not_empty_the_store(store, invoke):  # noqa: F811
    assert invoke("generate", "--yes").code == 0
    (store.parents[1] / "items.csv").write_text("item_id,title,plot\n1,film 1,a story of 1 friends\n")
    refused = invoke("store", "gc", "--yes")
    assert refused.code == 1
    assert "5 of 6 records of item have no entity in the tables: too many to remove unseen" in refused.err
    assert "--prune-at-most 1" in refused.err
    dry = invoke("store", "gc", "--dry-run", "--json").json()
    assert (dry["orphaned"], dry["removed"]) == (5, 0)
    assert "5 of 6 records of item have no entity" in dry["refused"]
    told = invoke("store", "gc", "--dry-run")
    assert told.code == 0
    assert told.out.startswith("nothing would be removed: 5 of 6 records of item")
    assert "--prune-at-most 1" in told.err
    assert invoke("store", "stats", "--quick", "--json").json()["records"] == 6
    assert invoke("store", "gc", "--yes", "--prune-at-most", "0.9", "--json").json()["removed"] == 5


def test_a_part_is_exported(store, invoke):  # noqa: F811
    assert invoke("generate", "--yes").code == 0
    (store.parents[1] / "one.jsonl").write_text(
        '{"id": "u1", "kind": "user", "profile": "Somebody who likes slow and warm films.", "tags": ["warm", "slow"]}\n'
    )
    assert invoke("store", "import", "one.jsonl", "--set", "embedder.dim=24").code == 0
    refused = invoke("store", "export", "all.parquet")
    assert (refused.code, "--kind and --aspect" in refused.err) == (1, True)
    assert invoke("store", "export", "items.parquet", "--kind", "item", "--aspect", "", "--json").json()["records"] == 6
    nothing = invoke("store", "export", "none.jsonl", "--aspect", "text")
    assert (nothing.code, "no records of aspect 'text'" in nothing.err) == (1, True)


def test_one_is_not_many(store, invoke):  # noqa: F811
    (store.parents[1] / "items.csv").write_text("item_id,title,plot\n1,film,its story\n")
    assert invoke("generate", "--yes").code == 0
    assert invoke("store", "verify").out == "1 record, no faults\n"
    assert invoke("store", "export", "all.jsonl").out == "1 record written to all.jsonl\n"
    assert invoke("store", "import", "all.jsonl").out == "1 record read from all.jsonl, 0 of them embedded here\n"
    assert invoke("store", "repair", "--yes").out == "1 sound record kept; nothing was lost\n"
    raw = store.read_bytes()
    place = raw.rindex(b"A warm") if b"A warm" in raw else raw.rindex(b"loopback")
    store.write_bytes(raw[:place] + b"?" + raw[place + 1 :])
    assert "1 fault: `enhancer store repair`" in invoke("store", "verify").err


def test_a_broken_page_is_listed_and_repaired(store, invoke):  # noqa: F811
    """Faults and the advice are printed even if the records can no longer be counted."""
    lines = [f'{{"id": "{n}", "profile": "Film {n}, of slow and warm days.", "tags": ["warm"]}}\n' for n in range(300)]
    (store.parents[1] / "made.jsonl").write_text("".join(lines))
    assert invoke("store", "import", "made.jsonl").code == 0
    raw = store.read_bytes()
    size = {".lmdb": 4096, ".sqlite": 8192}[store.suffix]
    pages = [raw[at : at + size] for at in range(0, len(raw), size)]
    store.write_bytes(b"".join(bytes(size) if b"Film 150," in page else page for page in pages))
    told = invoke("store", "verify")
    assert (told.code, "store repair" in told.err) == (1, True)
    assert str(store.name) in told.out
    assert invoke("store", "verify", "--json").json()["faults"]
    repaired = invoke("store", "repair", "--yes")
    assert (repaired.code, "nothing was lost" in repaired.out) == (0, False)
    assert invoke("store", "verify").code == 0


def test_a_doctor_tells_what_a_store_holds_and_whose_vectors(store, invoke, llm_server):  # noqa: F811
    def told(*flags: str) -> dict[str, str]:
        return next(check for check in invoke("doctor", "--json", *flags).json() if check["name"] == "store")

    assert "will be created by the first `enhancer generate`" in told()["detail"]
    assert invoke("generate", "--yes").code == 0
    assert (told()["status"], told()["detail"].endswith(": 6 records")) == ("ok", True)
    other = told("--set", "embedder.dim=7")
    assert (other["status"], "all with vectors of another embedder" in other["detail"]) == ("warn", True)
    broken = told("--set", "embedder.use=gone")
    assert (broken["status"], broken["detail"].endswith(": 6 records")) == ("ok", True)
