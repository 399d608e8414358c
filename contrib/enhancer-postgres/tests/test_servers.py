"""Selection of the servers for the other tests."""

from __future__ import annotations

import postgres_server
import pytest


def test_the_folder_that_is_named_is_the_only_one(tmp_path, monkeypatch):
    for program in ("initdb", "postgres"):
        (tmp_path / program).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.7 (Somebody 14.7-1)'\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("ENHANCER_TEST_POSTGRES", str(tmp_path))
    (only,) = postgres_server.installed.__wrapped__()
    assert (only.folder, only.name) == (tmp_path, "named-14")


def test_a_folder_that_is_named_in_error_is_no_reason_to_take_another(tmp_path, monkeypatch):
    monkeypatch.setenv("ENHANCER_TEST_POSTGRES", str(tmp_path))
    with pytest.raises(pytest.UsageError, match="no initdb and postgres"):
        postgres_server.installed.__wrapped__()


def test_no_server_is_tested_twice(monkeypatch):
    monkeypatch.delenv("ENHANCER_TEST_POSTGRES", raising=False)
    found = postgres_server.installed.__wrapped__()
    assert len({each.folder.resolve() for each in found}) == len({each.name for each in found}) == len(found)
