"""The HTTP API: accepts tasks, answers with their results. aiohttp lives here alone."""
