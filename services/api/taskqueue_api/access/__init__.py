"""Who may ask for what: keys with scopes, and how often each of them may ask."""
