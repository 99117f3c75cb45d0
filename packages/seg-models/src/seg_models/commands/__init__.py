"""The subcommands of `seg` in this package: one module, or one folder, for each."""
