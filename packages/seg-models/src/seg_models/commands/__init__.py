"""The subcommands of `seg` that this package brings, one file each."""
