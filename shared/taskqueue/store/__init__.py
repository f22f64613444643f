"""Where tasks are kept: the truth of this system. `tasks.TaskStore` is the door; the rest is behind it."""
