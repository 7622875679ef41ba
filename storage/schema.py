"""The schema's version: quick to check at every start, migrated by Alembic only where it is behind."""

from typing import TYPE_CHECKING

from sqlalchemy import Connection, column, inspect, select, table

from karkas.policies.errors import StorageError
from karkas.storage.database import Database
from karkas.storage.tables import Table

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0008"
"""The newest revision in `migrations/versions`."""

VERSION_TABLE = "karkas_schema"
"""Not Alembic's own name for it, so that karkas can share a PostgreSQL database with others."""


def migrate(database: Database) -> None:
    """Brings the schema to `HEAD`; refuses one that is newer than this karkas."""
    with database.connection() as connection:
        if version(connection) == HEAD:
            return
    with database.connection(write=True) as connection:
        # Where another process migrated while this one waited to write, Alembic finds nothing left to do.
        _upgrade(connection, database)


def version(connection: Connection) -> str | None:
    """The revision that the database is at; `None` where karkas never wrote to it."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()


def alembic_config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "karkas.storage:migrations")
    return config


def _upgrade(connection: Connection, database: Database) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current, where = version(connection), database.url.render_as_string()
    if current is not None and current not in known:
        raise StorageError(
            f"the database {where} was written by a newer karkas (schema {current}, this one knows {HEAD});"
            " upgrade karkas, or restore a backup from before"
        )
    if current is None and (
        foreign := set(inspect(connection).get_table_names()) & set(Table.metadata.tables)
    ):
        raise StorageError(
            f"the database {where} has tables of another program ({', '.join(sorted(foreign))}); give karkas its own"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
