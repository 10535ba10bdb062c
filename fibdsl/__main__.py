"""`python -m fibdsl`: the same as `fib`."""

from fibdsl.cli.main import entry

entry()
