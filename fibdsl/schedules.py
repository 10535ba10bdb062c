"""Values that change from step to step, for `load`, `with_params` and `set_params`:

    loss_fn.set_params(epsilon=fibdsl.schedules.linear(0.3, 0.1, steps=1000))
    loss_fn.set_step(n)

They are part of the runtime, which a generated module carries along: there `from loss import
linear` does the same.
"""

from fibdsl.runtime.schedules import Schedule, cosine, linear, piecewise, piecewise_linear

__all__ = ["Schedule", "cosine", "linear", "piecewise", "piecewise_linear"]
