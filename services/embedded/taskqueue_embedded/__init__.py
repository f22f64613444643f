"""API and worker in one process, around a memory broker and a SQLite file: the only package that imports the others."""
