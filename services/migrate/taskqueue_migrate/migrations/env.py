"""Alembic's hook: runs migrations on the connection that the runner hands over, inside the runner's transaction."""  # noqa: INP001

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    render_as_batch=True,  # SQLite alters little: Alembic copies the table instead
    transactional_ddl=True,  # SQLite rolls DDL back; Alembic's default says that it does not
)
with context.begin_transaction():
    context.run_migrations()
