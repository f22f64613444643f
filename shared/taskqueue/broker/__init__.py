"""Where ready tasks wait: `contract` says what every driver promises, `connect` finds the driver for a URL."""
