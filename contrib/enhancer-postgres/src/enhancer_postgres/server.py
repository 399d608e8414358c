"""The connection: made once, made anew when it drops, and never a password in what it says."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import psycopg
from psycopg import conninfo, errors
from psycopg.pq import TransactionStatus

from enhancer.errors import ConfigError, StoreCorruptError, StoreError
from enhancer_postgres.wire import Keys, KeysDumper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enhancer_postgres.options import PostgresOptions

T = TypeVar("T")
Connection = psycopg.Connection[Any]

_DEFAULTS: Final[dict[str, Any]] = {
    "application_name": "enhancer",
    # A peer that vanished without a word is noticed within a minute, not after the system's two hours.
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_SECRETS: Final = ("password", "sslpassword", "passfile")
_OURS_TO_REDO: Final = (errors.DeadlockDetected, errors.SerializationFailure)
_FIRST_PAUSE: Final = 0.1
_PAUSE: Final = 2.0


class Server:
    """One connection, which the threads of a process take turns with; a forked child gets its own.

    Args:
        options: Where the server is, and how patient to be.

    Raises:
        ConfigError: The environment variable is missing or holds no connection string.
        StoreError: The server cannot be reached.
    """

    def __init__(self, options: PostgresOptions) -> None:
        self._options = options
        self._parameters = _parameters(options)
        self._secrets = [str(self._parameters[name]) for name in _SECRETS if self._parameters.get(name)]
        self.name = _name(self._parameters, options)
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._inherited: list[Connection] = []
        self._closed = False
        self._connection: Connection | None = self._connect()

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            if not self._closed and self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._closed = True

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do ``work`` on the connection; again, from its start, if the connection drops or a deadlock is broken up.

        Args:
            work: One transaction, or statements each of which is one. Doing it twice must do no harm.

        Raises:
            StoreError: What PostgreSQL refused, or a server that did not come back in time.
            StoreCorruptError: PostgreSQL found its own files damaged.
        """
        if self._pid != os.getpid():
            # A child must not so much as hang up on what it inherited: the parent talks on that line.
            self._inherited += [self._connection] if self._connection is not None else []
            self._connection, self._lock, self._pid = None, threading.RLock(), os.getpid()
        with self._lock:
            if self._closed:
                raise StoreError(f"the store {self.name} is closed")
            deadline, pause = time.monotonic() + self._options.reconnect, _FIRST_PAUSE
            while True:
                try:
                    if self._connection is None:
                        self._connection = self._connect()
                    with _ending(self._connection):
                        return work(self._connection)
                except _UnreachableError as error:
                    failure: StoreError = error
                except psycopg.Error as error:
                    assert self._connection is not None
                    if self._connection.closed:
                        self._connection = None
                        failure = StoreError(
                            f"the connection to {self.name} dropped: {self._said(error)}",
                            hint="is the server up? What was being written is to be written again",
                        )
                    elif isinstance(error, _OURS_TO_REDO):
                        failure = self._translated(error)
                    else:
                        raise self._translated(error) from None
                if time.monotonic() + pause > deadline:
                    raise failure from None
                time.sleep(pause)
                pause = min(2 * pause, _PAUSE)

    def _connect(self) -> Connection:
        try:
            connection: Connection = psycopg.connect(**self._parameters, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise _UnreachableError(
                f"cannot connect to {self.name}: {self._said(error)}",
                hint=f"is the server up, and is {self._options.url_env} right?",
            ) from None
        try:
            self._prepare(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error):
                raise self._translated(error) from None
            raise
        return connection

    def _prepare(self, connection: Connection) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreError(
                f"the database of {self.name} is encoded in {encoding}", hint="make one with ENCODING 'UTF8'"
            )
        connection.adapters.register_dumper(Keys, KeysDumper)
        milliseconds = max(1, round(1000 * self._options.statement_timeout))
        connection.execute(
            "SET client_encoding = 'UTF8'; SET client_min_messages = warning; SET search_path = pg_catalog; "
            f"SET jit = off; SET statement_timeout = {milliseconds}; "
            # Every join here looks keys up. A fresh table's statistics make the planner read all of it instead.
            "SET enable_hashjoin = off; SET enable_mergejoin = off; "
            # What a returned put promises must survive a power cut, whatever the role's default is.
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )

    def pin(self) -> Pinned:
        """A connection of its own, on which the database stays as it is now."""
        return Pinned(self.name, self._connect(), self._translated)

    def _said(self, error: psycopg.Error) -> str:
        """PostgreSQL's own words in one line, without values of rows and without secrets."""
        words = error.diag.message_primary or str(error) or type(error).__name__
        words = " ".join(words.split())
        for secret in self._secrets:
            for form in (secret, quote(secret, safe="")):
                words = words.replace(form, "***")
        return words

    def _translated(self, error: psycopg.Error) -> StoreError:
        said = f"{self.name}: {self._said(error)}"
        if isinstance(error, errors.DiskFull):
            return StoreError(f"disk full: {said}", hint="nothing of this call was kept")
        if isinstance(error, errors.DataCorrupted | errors.IndexCorrupted):
            return StoreCorruptError(f"damaged: {said}", hint="restore the database, or REINDEX where it is an index")
        if isinstance(error, errors.QueryCanceled):
            return StoreError(said, hint="nothing of this call was kept; raise [store] statement_timeout")
        if isinstance(error, errors.InsufficientPrivilege):
            return StoreError(said, hint="GRANT this role USAGE on the schema and what it needs on both tables")
        if isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName):
            return StoreError(
                f"{self.name}: its table has been dropped or renamed since the store was opened",
                hint="open the store again; where the table is gone for good, `enhancer generate` makes a new one",
            )
        if isinstance(error, errors.ReadOnlySqlTransaction):
            return StoreError(said, hint="this server or role only reads; write to the primary")
        return StoreError(said)


class _UnreachableError(StoreError):
    """No connection could be made."""


class Pinned:
    """A connection inside of one transaction, which sees one state of the database.

    Args:
        name: Of the store, for messages.
        connection: A new one.
        translated: Makes the project's error of PostgreSQL's.
    """

    def __init__(self, name: str, connection: Connection, translated: Callable[[psycopg.Error], StoreError]) -> None:
        self.name = name
        self._connection = connection
        self._translated = translated
        self._lock = threading.Lock()
        self.run(
            lambda line: line.execute(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
                "SET LOCAL idle_in_transaction_session_timeout = 0; SELECT 1"  # the state is that of the first SELECT
            )
        )

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do ``work``, which only reads.

        Raises:
            StoreError: The snapshot is closed, or lost with its connection: no other one would be of this state.
        """
        with self._lock:
            if self._connection.closed:
                raise StoreError(f"this snapshot of {self.name} is closed")
            try:
                return work(self._connection)
            except psycopg.Error as error:
                self._connection.close()
                failure = self._translated(error)
                failure.message = f"this snapshot is lost: {failure.message}"
                failure.hint = failure.hint or "take another one"
                raise failure from None

    def close(self) -> None:
        """Let the state go."""
        with self._lock:
            self._connection.close()


@contextlib.contextmanager
def _ending(connection: Connection) -> Iterator[None]:
    """Leave no transaction open, whatever happens."""
    try:
        yield
    except BaseException:
        if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
            with contextlib.suppress(psycopg.Error):
                connection.rollback()
        raise


def _parameters(options: PostgresOptions) -> dict[str, Any]:
    text = os.environ.get(options.url_env, "").strip()
    if not text:
        raise ConfigError(
            f"no PostgreSQL server: {options.url_env} is not set",
            hint=f"export {options.url_env}=postgresql://user@host/database, or postgresql:// to go by PG* variables",
        )
    try:
        given = conninfo.conninfo_to_dict(text)
    except psycopg.Error:
        # libpq quotes the part that it could not read, and that may be the password.
        raise ConfigError(
            f"{options.url_env} holds no connection string that PostgreSQL can read (it is not shown here)",
            hint="it looks like postgresql://user:password@host:5432/database; write odd characters as %XX",
        ) from None
    return {**_DEFAULTS, "connect_timeout": options.connect_timeout, **given}


def _name(parameters: dict[str, Any], options: PostgresOptions) -> str:
    """Host, database and table: what a message may say of where the store is."""
    host = parameters.get("host") or parameters.get("hostaddr") or parameters.get("service") or "(default host)"
    port = f":{parameters['port']}" if parameters.get("port") else ""
    database = f"/{parameters['dbname']}" if parameters.get("dbname") else ""
    return f"postgres {host}{port}{database} {options.table}"
