"""The journal in a database: its promises, lost connections, and runs on two machines."""

from __future__ import annotations

import contextlib
import hashlib
import logging

import psycopg
import pytest
from enhancer_postgres.journal import PostgresJournal, translate
from enhancer_postgres.options import PostgresOptions
from pydantic import ValidationError

from enhancer.harness import Journal
from enhancer.testing.journal import JournalConformance, paid_call


def schema_of(root):
    return "j" + hashlib.blake2b(str(root).encode(), digest_size=8).hexdigest()


def open_at(root):
    return PostgresJournal(PostgresOptions(journal=schema_of(root), connect_timeout=5))


class TestJournalOnPostgres(JournalConformance):
    @pytest.fixture(autouse=True)
    def _server(self, url):
        """Return a server."""

    def open_database(self, root):
        return open_at(root)

    def test_the_lease_of_another_machine_ends_by_the_clock_of_the_server(self, tmp_path):
        with self.journal(tmp_path, lease=-1.0) as far, self.journal(tmp_path) as near:
            far.owner = "elsewhere:boot/0:1:1:1:far"
            assert far.claim(["a"]).result() == {"a"}
            assert near.claim(["a"]).result() == {"a"}
            near.owner = "elsewhere:boot/0:1:1:1:near"
            near.renew().result()
            assert far.claim(["b"]).result() == {"b"}

    def test_the_lease_of_a_living_machine_holds(self, tmp_path):
        with self.journal(tmp_path) as far, self.journal(tmp_path) as near:
            far.owner = "elsewhere:boot/0:1:1:1:far"
            assert far.claim(["a"]).result() == {"a"}
            assert near.claim(["a"]).result() == set()


@pytest.mark.parametrize("after_commit", [True, False])
def test_a_commit_of_unknown_outcome_is_written_once(url, tmp_path, monkeypatch, after_commit):
    with Journal(tmp_path, database=open_at(tmp_path)) as journal:
        journal.record(paid_call("warm")).result()
        real, lost = psycopg.Connection.execute, []

        def execute(line, query, *more, **options):
            if query == "COMMIT" and not lost:
                lost.append(True)
                if after_commit:
                    real(line, query)
                line.close()
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            return real(line, query, *more, **options)

        monkeypatch.setattr(psycopg.Connection, "execute", execute)
        journal.record(paid_call("a", text="paid")).result()
        assert lost
        assert [one.text for one in journal.paid_answers(["a"])["a"]] == ["paid"]
        assert journal.spending_after(0).cost_usd == 0.5


def test_a_dropped_connection_is_told_in_one_line(server, url, tmp_path, caplog):
    with Journal(tmp_path, database=open_at(tmp_path)) as journal:
        journal.record(paid_call("a")).result()
        with psycopg.connect(url, autocommit=True) as admin, caplog.at_level(logging.WARNING, "enhancer"):
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            journal.record(paid_call("b")).result()
        assert len(journal.paid_answers(["a", "b"])) == 2
    lines = [one.getMessage() for one in caplog.records if "out of reach" in one.getMessage()]
    assert len(lines) <= 2  # one for each connection
    assert all(schema_of(tmp_path) in line for line in lines)


def test_nothing_is_created_by_looking(url, tmp_path):
    with contextlib.closing(open_at(tmp_path)) as database:
        assert not database.has_table("completions")
    with psycopg.connect(url) as admin:
        assert admin.execute("SELECT to_regnamespace(%s)", (schema_of(tmp_path),)).fetchone() == (None,)


def test_another_version_is_refused(url, tmp_path):
    with Journal(tmp_path, database=open_at(tmp_path)):
        pass
    with psycopg.connect(url) as admin:
        admin.execute(f"UPDATE {schema_of(tmp_path)}.journal_format SET version = 99")
    with pytest.raises(Exception, match="has version 99"):
        Journal(tmp_path, database=open_at(tmp_path))


@pytest.mark.parametrize("name", ["a-b", "pg_mine", "1x", 'x"; DROP'])
def test_a_bad_name_of_a_schema_is_refused(name):
    with pytest.raises(ValidationError, match="not a schema's name"):
        PostgresOptions(journal=name)


def test_parameters_are_numbered():
    assert translate("SELECT ? FROM json_each(?)") == b"SELECT $1 FROM json_array_elements_text($2::json)"
