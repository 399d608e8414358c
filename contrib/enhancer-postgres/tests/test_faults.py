"""Faults of a shared server: it stops or is slow, other clients write, rows are damaged."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from enhancer_postgres.options import PostgresOptions
from enhancer_postgres.store import PostgresStore
from postgres_server import PATIENT

from enhancer.contracts import Context
from enhancer.contracts.options import build_options
from enhancer.errors import ConfigError, StoreCorruptError, StoreError
from enhancer.testing.store import as_tuple, make_record

TABLES = iter(range(10**6))


def options(**values):
    values = {"table": f"faults.t{next(TABLES)}", **PATIENT, **values}
    return build_options(PostgresOptions, values, where="[store]")


@pytest.fixture
def opened(url, tmp_path):
    """Return a function that opens stores; close them after the test."""
    stores = []

    def open_(chosen=None, **values):
        stores.append(PostgresStore(chosen or options(**values), Context(tmp_path)))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def drop_sessions(server):
    server.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'enhancer'")


# --- where the server is ------------------------------------------------------------------------------------------


def test_a_missing_variable_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("ENHANCER_POSTGRES_URL", raising=False)
    with pytest.raises(ConfigError, match="ENHANCER_POSTGRES_URL is not set; export ENHANCER_POSTGRES_URL="):
        PostgresStore(options(), Context(tmp_path))


@pytest.mark.parametrize(
    "url",
    [
        "hush-hush",
        "postgresql://me:hush%zzhush@127.0.0.1:1/db",
        "postgresql://me:hush-hush@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 user=me password='hush-hush'",
        "host=127.0.0.1 password='hush-hush",
        "postgresql://me@127.0.0.1:1/db?password=hush-hush&hush=hush",
    ],
)
def test_no_password_is_ever_shown(monkeypatch, tmp_path, url):
    import traceback

    monkeypatch.setenv("ENHANCER_POSTGRES_URL", url)
    with pytest.raises((ConfigError, StoreError), match="ENHANCER_POSTGRES_URL") as caught:
        PostgresStore(options(), Context(tmp_path))
    assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_a_password_that_the_server_refuses_is_not_shown(server, monkeypatch, tmp_path):
    server.ask("CREATE ROLE locked LOGIN PASSWORD 'right'")
    host_rules = server.folder / "data" / "pg_hba.conf"
    before = host_rules.read_text()
    try:
        host_rules.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + before)
        server.ask("SELECT pg_reload_conf()")
        monkeypatch.setenv("ENHANCER_POSTGRES_URL", f"postgresql://locked:hush-hush@127.0.0.1:{server.port}/postgres")
        with pytest.raises(StoreError, match="password authentication failed") as caught:
            PostgresStore(options(), Context(tmp_path))
        assert "hush" not in str(caught.value)
    finally:
        host_rules.write_text(before)
        server.ask("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"url_env": "postgresql://me:hush@host/db"}, "name of an environment variable"),
        ({"table": "a.b.c"}, "not schema.table"),
        ({"table": 'x"; DROP TABLE y'}, "not schema.table"),
        ({"table": "x" * 51}, "not schema.table"),
        ({"vectors": "float"}, "vectors"),
        ({"tabel": "x.y"}, "did you mean 'table'"),
    ],
)
def test_bad_options_are_refused(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_options(PostgresOptions, values, where="[store]")
    assert "hush" not in str(caught.value)


def test_a_database_that_cannot_hold_every_text_is_refused(server, monkeypatch, tmp_path):
    server.ask("CREATE DATABASE old ENCODING 'SQL_ASCII' TEMPLATE template0")
    monkeypatch.setenv("ENHANCER_POSTGRES_URL", server.url.replace("/postgres?", "/old?"))
    with pytest.raises(StoreError, match="encoding SQL_ASCII"):
        PostgresStore(options(), Context(tmp_path))


def test_a_database_or_role_that_is_not_there_is_named(server, monkeypatch, tmp_path):
    for before, after, message in (
        (
            "/postgres?",
            "/nowhere?",
            'cannot connect to postgres .*database "nowhere" does not exist; check that',
        ),
        ("enhancer@", "nobody@", 'role "nobody" does not exist.*value of ENHANCER_POSTGRES_URL'),
    ):
        monkeypatch.setenv("ENHANCER_POSTGRES_URL", server.url.replace(before, after))
        for open_ in (PostgresStore, PostgresStore.exists, PostgresStore.repair):
            with pytest.raises(StoreError, match=message):
                open_(options(), Context(tmp_path))


# --- the table ----------------------------------------------------------------------------------------------------


def test_whoever_only_looks_makes_nothing(opened, server, tmp_path):
    store = opened(table="nowhere.records")
    assert store.get(["1"]) == [None]
    assert store.vectors(["1"]).shape == (1, 0)
    assert list(store.scan()) == list(store.keys()) == store.verify() == []
    assert (store.delete(["1"]), store.stats().records) == (0, 0)
    assert server.ask("SELECT 1 FROM pg_namespace WHERE nspname = 'nowhere'") == []
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize("dropped", ["TABLE {0}", "TABLE {0}, {0}_format", "SCHEMA dropped CASCADE"])
def test_a_table_that_is_dropped_is_named_and_can_be_made_again(opened, server, tmp_path, dropped):
    chosen = options(table="dropped.records")
    store = opened(chosen)
    store.put([make_record("1")])
    assert PostgresStore.exists(chosen, Context(tmp_path))
    server.ask(f"DROP {dropped.format(chosen.table)}")
    for call in (
        lambda: store.get(["1"]),
        lambda: store.put([make_record("1")]),
        lambda: list(store.keys()),
        lambda: store.delete(["1"]),
        store.stats,
        store.verify,
    ):
        with pytest.raises(StoreError, match=r"postgres .*dropped\.records: its table was dropped .*; open the"):
            call()
    assert not PostgresStore.exists(chosen, Context(tmp_path))
    with pytest.raises(StoreError, match=r"there is no store postgres .*dropped\.records; `enhancer generate`"):
        PostgresStore.repair(chosen, Context(tmp_path))
    again = opened(chosen)
    assert again.stats().records == 0
    again.put([make_record("2")])
    assert (again.stats().records, again.verify()) == (1, [])
    assert server.ask("SELECT * FROM dropped.records_format") == [(1,)]
    server.ask("DROP SCHEMA dropped CASCADE")


def test_formats_that_a_newer_store_left_behind_are_not_overwritten(opened, server):
    server.ask("CREATE SCHEMA IF NOT EXISTS newer; CREATE TABLE newer.t_format (format integer)")
    server.ask("INSERT INTO newer.t_format VALUES (99)")
    with pytest.raises(StoreError, match="has format 99"):
        opened(table="newer.t").put([make_record("1")])
    assert server.ask("SELECT to_regclass('newer.t')") == [(None,)]
    server.ask("DROP SCHEMA newer CASCADE")


def test_ten_make_the_table_at_once(opened):
    chosen = options(table="together.records")
    stores = [opened(chosen) for _ in range(10)]
    threads = [threading.Thread(target=store.put, args=([make_record(str(n))],)) for n, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].stats().records == 10


def test_tables_that_are_something_else_are_refused(opened, server):
    server.ask("CREATE SCHEMA IF NOT EXISTS other")
    server.ask("CREATE TABLE other.people (name text)")
    server.ask("CREATE TABLE other.pictures (vector bytea)")
    for table in ("other.people", "other.pictures"):
        with pytest.raises(StoreError, match="not a feature store; choose another"):
            opened(table=table)


def test_a_store_of_a_newer_format_or_none_is_refused(opened, server):
    chosen = options()
    opened(chosen).put([make_record("1")])
    server.ask(f"UPDATE {chosen.table}_format SET format = 99")
    with pytest.raises(StoreError, match="has format 99; this plugin reads formats up to 1; upgrade"):
        opened(chosen)
    server.ask(f"DELETE FROM {chosen.table}_format")
    with pytest.raises(StoreCorruptError, match=r"format of .* is unknown"):
        opened(chosen)


def test_vectors_stay_what_they_were_made_as(opened, server):
    chosen = options(vectors="bytea")
    opened(chosen).put([make_record("1", dim=20_000)])
    assert opened(chosen.model_copy(update={"vectors": "auto"})).vectors(["1"]).shape == (1, 20_000)
    with pytest.raises(StoreError, match="stores vectors as bytea"):
        opened(chosen.model_copy(update={"vectors": "pgvector"}))


@pytest.mark.usefixtures("with_pgvector")
def test_pgvector_takes_sixteen_thousand_numbers(opened):
    store = opened(vectors="pgvector")
    store.put([make_record("1", dim=16_000)])
    with pytest.raises(StoreError, match=r"item/2: its vector has 16,001 dimensions; pgvector supports 16,000"):
        store.put([make_record("3"), make_record("2", dim=16_001)])
    assert store.stats().dims == {16_000: 1}


@pytest.mark.usefixtures("with_pgvector")
def test_pgvector_is_there_for_sql(opened, server):
    store = opened()
    store.put([make_record(str(n), seed=n) for n in range(50)])
    vector = store.vectors(["7"])[0]
    near = server.ask(
        f"SELECT id, vector <=> %s::public.vector FROM {store._options.table} ORDER BY 2 LIMIT 1",
        str(vector.tolist()),
    )
    assert near[0][0] == "7"
    assert near[0][1] == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("without_pgvector")
def test_a_server_without_pgvector_keeps_bytes(server, opened, monkeypatch):
    monkeypatch.setenv("ENHANCER_POSTGRES_URL", server.tcp_url)
    with pytest.raises(StoreError, match="does not have pgvector"):
        opened(vectors="pgvector").put([make_record("1")])
    store = opened()
    store.put([make_record("1")])
    np.testing.assert_array_equal(store.vectors(["1"])[0], make_record("1").vector)


# --- the connection -----------------------------------------------------------------------------------------------


def test_a_dropped_connection_is_made_anew(opened, server):
    store = opened()
    store.put([make_record("1")])
    for call in (
        lambda: store.put([make_record("2")]),
        lambda: store.vectors(["1", "2"]),
        lambda: list(store.scan()),
        lambda: store.delete(["2"]),
    ):
        drop_sessions(server)
        call()
    stream = store.scan()
    store.put([make_record(str(n)) for n in range(1200)])
    next(stream)
    drop_sessions(server)
    assert len(list(stream)) == 1199


def test_a_server_that_restarts_is_waited_for_and_one_that_does_not_is_named(opened, server):
    store = opened()
    hasty = opened(store._options.model_copy(update={"reconnect": 0.2}))
    store.put([make_record("1")])
    server.stop(signal.SIGQUIT)
    try:
        with pytest.raises(StoreError, match=r"connect.* to postgres .*; check that the server is running"):
            hasty.vectors(["1"])
        late = threading.Timer(0.5, server.start)
        late.start()
        store.put([make_record("2")])  # waits for the lock
        late.join()
    finally:
        if server.process.poll() is not None:
            server.start()
    assert not np.isnan(hasty.vectors(["1", "2"])).any()


def test_a_statement_that_takes_too_long_is_given_up(opened, server):
    store = opened(statement_timeout=77)
    assert store._server.run(lambda line: line.execute("SHOW statement_timeout").fetchone()) == ("77s",)
    store = opened(store._options.model_copy(update=PATIENT))
    store.put([make_record("1", seed=1)])
    store._server.run(lambda line: line.execute("SET statement_timeout = 300"))  # not before: opening is slow
    import psycopg

    with psycopg.connect(server.url) as line:
        line.execute(f"LOCK TABLE {store._options.table} IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreError, match="statement timeout; this call wrote nothing; raise"):
            store.put([make_record("1", seed=2)])
    assert opened(store._options).stamps(["1"])[0].input_hash == "hash-1"


def test_a_lost_snapshot_says_so(opened, server):
    store = opened()
    store.put([make_record("1")])
    with store.snapshot() as pinned:
        drop_sessions(server)
        with pytest.raises(StoreError, match="this snapshot is lost"):
            pinned.vectors(["1"])
    assert not np.isnan(store.vectors(["1"])).any()


def test_a_put_waits_for_the_disk_whatever_the_roles_default_is(opened, server):
    server.ask("ALTER ROLE enhancer SET synchronous_commit = off")
    try:
        store = opened()
        row = store._server.run(lambda line: line.execute("SHOW synchronous_commit").fetchone())
        assert row == ("on",)
    finally:
        server.ask("ALTER ROLE enhancer RESET synchronous_commit")


# --- many writers -------------------------------------------------------------------------------------------------

WRITER = """
import json, pathlib, sys
from enhancer.contracts import Context
from enhancer.testing.store import make_record
from enhancer_postgres.options import PostgresOptions
from enhancer_postgres.store import PostgresStore
who, table, root = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
ids = [str(n) for n in range(40)]
with PostgresStore(PostgresOptions(table=table, **json.loads(sys.argv[4])), Context(root)) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for step in range(8):
        order = ids if (who + step) % 2 else ids[::-1]
        store.put([make_record(id_, seed=1000 * who + step, profile=f"{who}-{step}") for id_ in order])
        store.put([make_record(f"{who}-{step}", seed=who)])
        print(step, flush=True)
"""


def start_writer(who, table, tmp_path):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(who), table, str(tmp_path), json.dumps(PATIENT)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_writers_of_the_same_records_neither_mix_nor_deadlock_nor_lose(opened, tmp_path):
    store = opened()
    writers = [start_writer(who, store._options.table, tmp_path) for who in range(3)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    torn = []
    while any(writer.poll() is None for writer in writers):
        found = {record.profile for record in store.get([str(n) for n in range(40)]) if record}
        torn += [found] if len(found) > 1 else []  # a put is visible completely or not at all
    for writer in writers:
        _, said = writer.communicate()
        assert (writer.returncode, said) == (0, "")
    assert torn == []
    assert None not in store.stamps([f"{who}-{step}" for who in range(3) for step in range(8)])
    assert store.verify() == []


def test_a_writer_that_is_killed_leaves_what_it_had_acknowledged(opened, tmp_path):
    store = opened()
    writers = [start_writer(who, store._options.table, tmp_path) for who in range(2)]
    for who, writer in enumerate(writers):
        writer.stdout.readline()
        writer.stdin.write("\n")
        writer.stdin.flush()
        acknowledged = [writer.stdout.readline() for _ in range(2 + 2 * who)]
        writer.kill()
        writer.communicate()
        assert None not in store.stamps([f"{who}-{step}" for step in range(int(acknowledged[-1]) + 1)])
    assert store.verify() == []


def _in_a_child(store, answers):
    answers.put(store.stamps(["1"]) != [None])
    store.put([make_record("theirs")])
    os._exit(0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(opened):
    store = opened()
    store.put([make_record("1")])
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    child = fork.Process(target=_in_a_child, args=(store, answers))
    child.start()
    assert answers.get()
    child.join()
    assert store.stamps(["1", "theirs"]).count(None) == 0


# --- damage -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "noticed_by_vectors"),
    [
        ("profile = profile || '!'", False),
        ("tags = '{}'", False),
        ("cost_usd = 5", False),
        ("exact = '{'", False),
        ("vector = decode('0000803f0000803f0000803f0000803f', 'hex')", True),
        ("vector = decode('0000803f', 'hex')", True),
        ("vector = ''", True),
        ("vector_crc = vector_crc + 1", True),
        ("key = decode('69003d62616478', 'hex')", True),  # the key of item/badx
    ],
)
def test_a_row_that_was_changed_by_others_is_named_and_made_again(opened, server, change, noticed_by_vectors):
    store = opened(vectors="bytea")
    table = store._options.table
    store.put([make_record("bad"), make_record("good")])
    server.ask(f"UPDATE {table} SET {change} WHERE id = 'bad'")
    id_ = "badx" if "key =" in change else "bad"
    if "exact" in change:
        assert store.stamps(["bad"]) == [None]
    if noticed_by_vectors:
        with pytest.raises(StoreCorruptError, match=rf"item/{id_}.*generate.* creates damaged records again"):
            store.vectors([id_, "good"])
    with pytest.raises(StoreCorruptError, match=f"item/{id_}"):
        store.get([id_])
    with pytest.raises(StoreCorruptError):
        list(store.scan())
    assert [fault.where for fault in store.verify()] == [f"item/{id_}"]
    assert store.stamps([id_, "good"])[0] is None  # so that it is created again
    assert store.stats().by_kind == {"damaged": 1, "item": 1}
    store.put([make_record(id_)])
    assert store.verify() == []
    assert store.stamps([id_]) != [None]


@pytest.mark.parametrize("key", ["", "\\x69", "\\xff", "\\xffff41", "\\x69ff", "\\x7a0541"])
def test_a_key_that_is_none_is_found_counted_and_removed(opened, server, tmp_path, key):
    store = opened()
    store.put([make_record("bad"), make_record("good"), make_record("good", aspect="mood" * 50)])
    server.ask(f"UPDATE {store._options.table} SET key = '{key}' WHERE id = 'bad'")
    assert store.stats().records == 3
    assert len(store.verify()) == 1
    assert store.stats().by_kind == {"damaged": 1, "item": 1, "item/(long)": 1}
    assert PostgresStore.repair(store._options, Context(tmp_path)).kept == 2
    assert store.stamps(["good"]) != [None]


def test_repair_keeps_what_is_sound(opened, server, tmp_path):
    store = opened()
    store.put([make_record(str(n)) for n in range(10)])
    server.ask(f"UPDATE {store._options.table} SET model = 'x' WHERE id IN ('3', '4')")
    done = PostgresStore.repair(store._options, Context(tmp_path))
    assert (done.kept, sorted(fault.where for fault in done.lost)) == (8, ["item/3", "item/4"])
    assert store.verify() == []


def test_a_role_that_may_only_read_reads(opened, server, monkeypatch):
    store = opened()
    table = store._options.table
    store.put([make_record("1"), make_record("2")])
    server.ask("CREATE ROLE looker LOGIN")
    monkeypatch.setenv("ENHANCER_POSTGRES_URL", server.url.replace("enhancer@", "looker@"))
    with pytest.raises(StoreError, match=r"permission denied.*; GRANT"):
        opened(store._options)
    server.ask(f"GRANT USAGE ON SCHEMA faults TO looker; GRANT SELECT ON {table}, {table}_format TO looker")
    reader = opened(store._options)
    assert [as_tuple(record) for record in reader.scan()] == [as_tuple(record) for record in store.scan()]
    with pytest.raises(StoreError, match="permission denied"):
        reader.put([make_record("3")])
    server.ask(f"UPDATE {table} SET model = 'x' WHERE id = '2'")
    with pytest.raises(StoreCorruptError):  # which it cannot mark
        reader.get(["2"])


def test_many_ids_are_one_state_of_the_table(opened, monkeypatch):
    from enhancer_postgres import reading

    monkeypatch.setattr(reading, "_LOOKUP", 7)
    store = opened()
    records = {str(n): make_record(str(n), seed=n) for n in range(40)}
    store.put(list(records.values()))
    ids = ["none", *records, "none", "3"]
    table = store.vectors(ids)
    for row, id_ in zip(table, ids, strict=True):
        assert np.isnan(row).all() if id_ == "none" else np.array_equal(row, records[id_].vector)
    assert [record.id for record in store.get(ids) if record] == [*records, "3"]
