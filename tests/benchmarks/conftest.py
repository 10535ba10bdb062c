"""The run against an installed wheel has no benchmarks to test."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("benchmarks") else ["test_*.py"]
