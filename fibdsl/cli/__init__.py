"""The `fib` command, one file a subcommand."""
