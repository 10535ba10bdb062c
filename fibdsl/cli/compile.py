"""`fib compile`: the torch module of a spec, as text or compiled ahead of time."""

from __future__ import annotations

import argparse
import os
import sys

from fibdsl.cli.options import add_spec, load_spec
from fibdsl.diagnostics.errors import PackageError
from fibdsl.diagnostics.render.full import render
from fibdsl.objective import Objective

_DESCRIPTION = """\
Compiles a checked spec to a readable Python module that imports only torch and holds one class,
Loss: a torch.nn.Module that computes the loss and its gradient in one fused graph (torch.compile
runs at its first call, not here).

With --aot torch compiles that graph here, into a package from which fibdsl.load_compiled makes the
same module: for all sizes and parameter values, for one layout, number type and device, and for
processors (or GPUs) like the one it was built on.
"""

_EPILOG = """\
with --aot:
  fib compile fiberpo --aot -o loss.pt2
  fib compile fiberpo --aot -o loss.pt2 --layout packed --dtype bfloat16 --device cuda

and in a trainer, where nothing is compiled any more:
  loss_fn = fibdsl.load_compiled("loss.pt2")
  out = loss_fn(logp, old_logp, advantages, mask, keys)

example: fib compile fiberpo -o loss.py
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "compile",
        help="write the loss module of a spec",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_spec(command)
    command.add_argument(
        "-o", "--output", metavar="FILE", help="where to write it; without it, to standard output"
    )
    command.add_argument(
        "--aot", action="store_true", help="compile ahead of time, to -o FILE.pt2; takes a minute"
    )
    ahead = command.add_argument_group("with --aot")
    ahead.add_argument(
        "--layout",
        choices=("padded", "packed"),
        help="(B, T), or (N,) with cu_seqlens (default: padded)",
    )
    ahead.add_argument(
        "--dtype",
        choices=("float32", "float64", "bfloat16", "float16"),
        help="of logp, old_logp and advantages (default: float32)",
    )
    ahead.add_argument("--device", choices=("cpu", "cuda"), help="where it runs (default: cpu)")
    ahead.add_argument(
        "--metrics",
        metavar="NAME,...",
        help="which to compute, '' for none (default: all); others cost nothing",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    given = {
        name: value
        for name in ("layout", "dtype", "device", "metrics")
        if (value := getattr(options, name)) is not None
    }
    if given and not options.aot:
        raise ValueError(f"--{next(iter(given))} has no effect without --aot")
    if options.aot and options.output is None:
        raise ValueError("--aot writes a package; say where, -o FILE.pt2")
    if not options.aot and str(options.output).endswith(".pt2"):
        raise ValueError(f"{options.output} is the name of a package; compile it with --aot")
    objective = load_spec(options)
    # Others in the file are not what is compiled.
    findings = [d for d in objective.checked.diagnostics if d.about in (None, objective.name)]
    if findings:
        print(render(findings), file=sys.stderr)
    if options.aot:
        return _ahead(objective, options.output, given)
    text = objective.source()
    if options.output is None:
        print(text, end="")
    else:
        from fibdsl.atomic import write_text

        write_text(options.output, text)
        print(f"{options.output}: class Loss of objective {objective.name}", file=sys.stderr)
    return 0


def _ahead(objective: Objective, output: str, given: dict[str, str]) -> int:
    metrics = given.pop("metrics", None)
    names = None if metrics is None else [name for name in metrics.split(",") if name]
    print(f"{output}: compiling {objective.name} ...", file=sys.stderr, flush=True)
    try:
        objective.export(output, **given, metrics=names)
    except PackageError as error:
        print(f"fib compile: {error}", file=sys.stderr)
        return 2
    from fibdsl.packaged import read

    size = os.path.getsize(output) / 1e6
    print(f"{output}: objective {read(output)}, {size:.1f} MB", file=sys.stderr)
    return 0
