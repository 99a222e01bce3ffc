"""What a PostgreSQL server is told so that it behaves as an SQLite file does: writers take turns, a reader sees one state.

Writers wait for one another at the start of their transaction (an advisory lock, per database). So none ever reads what another is about
to change: no transaction fails to serialise, two processes never insert the same key, and nothing has to be retried. Each says which
isolation it needs, whatever the server's default is: a snapshot that was taken before the wait would be that of before the others wrote.
"""

from __future__ import annotations

from sqlalchemy import URL, Connection, Engine, create_engine, event

_TURN = 0x767365616D  # "vseam"


def with_driver(url: URL) -> URL:
    """A URL with the driver that vseam is tested with, where it names none."""
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def postgresql_engine(url: URL, busy_seconds: float, writing_option: str) -> Engine:
    """An engine whose transactions read one state, or write in turn; `busy_seconds` is how long a writer waits for its turn.

    A connection that the server has closed meanwhile is made again before it is used.
    """
    engine = create_engine(url, pool_pre_ping=True)

    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get(writing_option, False):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {max(1, round(busy_seconds * 1000))}")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TURN})")
        else:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    event.listen(engine, "begin", begin)
    return engine
