"""The worker: takes ready tasks from the broker, performs them, records what came of them."""
