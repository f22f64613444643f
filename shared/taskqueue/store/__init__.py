"""Where tasks are kept: the truth of this system. `tasks` opens it, and `doors` is what callers may do."""
