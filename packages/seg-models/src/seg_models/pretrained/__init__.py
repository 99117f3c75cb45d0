"""Published weights and checkpoint files."""
