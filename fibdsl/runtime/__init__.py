"""The only torch code. `fused.py` is also written into every module that `fib compile` makes."""
