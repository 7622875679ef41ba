"""Alembic's migrations; `karkas.storage.schema` runs them."""
