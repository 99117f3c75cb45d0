"""The config of a run: its schema, and the loader that reports every problem at once."""
