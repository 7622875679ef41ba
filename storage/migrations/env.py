"""Alembic's entry: migrates the connection that `karkas.storage.schema` hands over, within its transaction."""

from alembic import context

from karkas.storage.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
context.run_migrations()
