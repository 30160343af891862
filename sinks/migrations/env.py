"""Alembic's entry: run the migrations on the connection that `sinks.migrate` opened."""

from alembic import context

from sinks.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
