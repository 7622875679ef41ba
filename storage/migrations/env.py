"""Alembic's entry: migrates the connection that `schema` hands over, within its transaction."""

from alembic import context

from karkas.storage.schema import VERSION_TABLE
from karkas.storage.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
