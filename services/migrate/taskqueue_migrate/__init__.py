"""The job that makes the database schema and exits. Alembic lives here alone; nothing else changes a table."""
