"""The schema's version: quick to check at every start, migrated by Alembic only where it is behind."""

import warnings
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from karkas.policies.errors import StorageError
from karkas.storage.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0001"
"""The newest revision in `migrations/versions`."""


def migrate(database: Database) -> None:
    """Brings the schema to `HEAD`; refuses one that is newer than this karkas."""
    with database.connection() as connection:
        if version(connection) == HEAD:
            return
    with database.connection(write=True) as connection:
        # Another process may have migrated while this one waited to write.
        if version(connection) != HEAD:
            _upgrade(connection, database)


def version(connection: Connection) -> str | None:
    """The revision that the database is at; `None` where karkas never wrote to it."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


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
    current = version(connection)
    if current is not None and current not in known:
        raise StorageError(
            f"the database {database.url.render_as_string()} was written by a newer karkas (schema {current}, this one"
            f" knows {HEAD}); upgrade karkas, or restore a backup from before"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
