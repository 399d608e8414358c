"""Connections to the server, which are reopened when they drop. Messages contain no secrets."""

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
    # Detect a vanished peer within a minute, instead of the system's default of two hours.
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_SECRETS: Final = ("password", "sslpassword", "passfile")
_RETRIED: Final = (errors.DeadlockDetected, errors.SerializationFailure)
_FIRST_PAUSE: Final = 0.1
_PAUSE: Final = 2.0


class Server:
    """One connection, used by one thread at a time. A forked child opens its own connection.

    Args:
        options: Options of the store.

    Raises:
        ConfigError: The environment variable is missing or does not contain a connection string.
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
        """Close the connection."""
        with self._lock:
            if not self._closed and self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._closed = True

    def run(self, work: Callable[[Connection], T]) -> T:
        """Call ``work`` with the connection; call it again if the connection drops or a deadlock is resolved.

        Args:
            work: One transaction, or statements outside of a transaction. Must be safe to repeat.

        Raises:
            StoreError: PostgreSQL rejected a statement, or the server could not be reached in time.
            StoreCorruptError: PostgreSQL found its own files damaged.
        """
        if self._pid != os.getpid():
            # A child must not even close the inherited connection, which the parent still uses.
            self._inherited += [self._connection] if self._connection is not None else []
            self._connection, self._lock, self._pid = None, threading.RLock(), os.getpid()
        with self._lock:
            if self._closed:
                raise StoreError(f"the store {self.name} is closed")
            waiting = False
            deadline, pause = time.monotonic() + self._options.reconnect, _FIRST_PAUSE
            while True:
                try:
                    if self._connection is None:
                        self._connection = self._connect()
                    with _rollback_on_error(self._connection):
                        return work(self._connection)
                except _UnreachableError as error:
                    failure: StoreError = error
                except psycopg.Error as error:
                    assert self._connection is not None
                    if self._connection.closed:
                        self._connection = None
                        failure = StoreError(
                            f"the connection to {self.name} dropped: {self._message(error)}",
                            hint="check that the server is running, and repeat the last write",
                        )
                    elif isinstance(error, _RETRIED):
                        failure = self._translate(error)
                    else:
                        raise self._translate(error) from None
                if time.monotonic() + pause > deadline:
                    raise failure from None
                if not waiting:
                    self._begin_waiting(failure)
                    waiting = True
                time.sleep(pause)
                pause = min(2 * pause, _PAUSE)

    def _begin_waiting(self, failure: StoreError) -> None:
        """Do what is to be done when a call begins to be repeated."""

    def _connect(self) -> Connection:
        try:
            connection: Connection = psycopg.connect(**self._parameters, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise _UnreachableError(
                f"cannot connect to {self.name}: {self._message(error)}",
                hint=f"check that the server is running, and the value of {self._options.url_env}",
            ) from None
        try:
            self._prepare(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error):
                raise self._translate(error) from None
            raise
        return connection

    def _prepare(self, connection: Connection) -> None:
        encoding = connection.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise StoreError(
                f"the database of {self.name} has the encoding {encoding}", hint="create one with ENCODING 'UTF8'"
            )
        connection.adapters.register_dumper(Keys, KeysDumper)
        milliseconds = max(1, round(1000 * self._options.statement_timeout))
        connection.execute(
            "SET client_encoding = 'UTF8'; SET client_min_messages = warning; SET search_path = pg_catalog; "
            f"SET jit = off; SET statement_timeout = {milliseconds}; "
            # All joins are look-ups by key. Without statistics the planner would read the whole table instead.
            "SET enable_hashjoin = off; SET enable_mergejoin = off; "
            # A completed put must survive a power failure, whatever the default of the role is.
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )

    def pin(self) -> Pinned:
        """Open a separate connection that sees the current state of the database."""
        return Pinned(self.name, self._connect(), self._translate)

    def _message(self, error: psycopg.Error) -> str:
        """Return PostgreSQL's message as one line, without row values and secrets."""
        text = error.diag.message_primary or str(error) or type(error).__name__
        text = " ".join(text.split())
        for secret in self._secrets:
            for form in (secret, quote(secret, safe="")):
                text = text.replace(form, "***")
        return text

    def _translate(self, error: psycopg.Error) -> StoreError:
        text = f"{self.name}: {self._message(error)}"
        if isinstance(error, errors.DiskFull):
            return StoreError(f"disk full: {text}", hint="this call wrote nothing")
        if isinstance(error, errors.DataCorrupted | errors.IndexCorrupted):
            return StoreCorruptError(f"damaged: {text}", hint="restore the database, or REINDEX a damaged index")
        if isinstance(error, errors.QueryCanceled):
            return StoreError(text, hint="this call wrote nothing; raise [store] statement_timeout")
        if isinstance(error, errors.InsufficientPrivilege):
            return StoreError(text, hint="GRANT this role USAGE on the schema, and the required rights on both tables")
        if isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName):
            return StoreError(
                f"{self.name}: its table was dropped or renamed after the store was opened",
                hint="open the store again; if the table was dropped, `enhancer generate` creates a new one",
            )
        if isinstance(error, errors.ReadOnlySqlTransaction):
            return StoreError(text, hint="the server or role is read-only; write to the primary")
        return StoreError(text)


class _UnreachableError(StoreError):
    """No connection could be opened."""


class Pinned:
    """A connection in one transaction, which sees one state of the database.

    Args:
        name: Name of the store, for messages.
        connection: A new connection.
        translate: Converts an error of PostgreSQL to a StoreError.
    """

    def __init__(self, name: str, connection: Connection, translate: Callable[[psycopg.Error], StoreError]) -> None:
        self.name = name
        self._connection = connection
        self._translate = translate
        self._lock = threading.Lock()
        self.run(
            lambda line: line.execute(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
                "SET LOCAL idle_in_transaction_session_timeout = 0; SELECT 1"  # the first SELECT determines the state
            )
        )

    def run(self, work: Callable[[Connection], T]) -> T:
        """Call ``work``, which only reads.

        Raises:
            StoreError: The snapshot is closed, or its connection was lost. A new connection would see another state.
        """
        with self._lock:
            if self._connection.closed:
                raise StoreError(f"this snapshot of {self.name} is closed")
            try:
                return work(self._connection)
            except psycopg.Error as error:
                self._connection.close()
                failure = self._translate(error)
                failure.message = f"this snapshot is lost: {failure.message}"
                failure.hint = failure.hint or "open a new one"
                raise failure from None

    def close(self) -> None:
        """End the transaction."""
        with self._lock:
            self._connection.close()


@contextlib.contextmanager
def _rollback_on_error(connection: Connection) -> Iterator[None]:
    """Roll back an open transaction after an error."""
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
            hint=f"export {options.url_env}=postgresql://user@host/database, or postgresql:// to use PG* variables",
        )
    try:
        given = conninfo.conninfo_to_dict(text)
    except psycopg.Error:
        # The message of libpq may contain the password.
        raise ConfigError(
            f"{options.url_env} is not a valid connection string (its value is not shown)",
            hint="the form is postgresql://user:password@host:5432/database; encode special characters as %XX",
        ) from None
    return {**_DEFAULTS, "connect_timeout": options.connect_timeout, **given}


def _name(parameters: dict[str, Any], options: PostgresOptions) -> str:
    """Return host, database and table, for messages."""
    host = parameters.get("host") or parameters.get("hostaddr") or parameters.get("service") or "(default host)"
    port = f":{parameters['port']}" if parameters.get("port") else ""
    database = f"/{parameters['dbname']}" if parameters.get("dbname") else ""
    return f"postgres {host}{port}{database} {options.table}"
