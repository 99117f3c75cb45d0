"""The config of a run: its schema, its loading, and its checks, which report all problems at once."""
