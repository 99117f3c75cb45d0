"""The command `seg datasets`, one module per action."""
