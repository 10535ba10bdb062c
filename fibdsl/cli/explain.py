"""`fib explain`: what is proved, and what is refuted, of an objective."""

from __future__ import annotations

import argparse

from fibdsl.cli.options import add_spec, load_at_step

_EPILOG = """\
examples:
  fib explain fiberpo
  fib explain mine.fib --set epsilon=0.05        at another parameter value
  fib explain ppo --witnesses shown              then:
  fib eval ppo --batch shown/ppo.bounded.safetensors

exit codes: 0 explained, whatever is proved or refuted; 1 a wrong spec, 2 wrong usage or a path that
cannot be read or written, 3 a bug of fibdsl

example: fib explain fiberpo
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "explain",
        help="what a spec does: its formula, regimes of its gates, range of G, every property",
        description="Analyses an objective: its formula, the regimes of each gate with their "
        "slopes and whether a batch gets there, the range of the gated ratio by the sign of the "
        "advantage, and every property that `require` knows, decided at the parameter values and "
        "over their ranges. "
        "Proved holds for every batch; refuted comes with a witness, a tiny batch that shows it; "
        "unknown is neither.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_spec(command, step=True)
    command.add_argument(
        "--witnesses", metavar="DIR", help="write the witness batches there, for `fib eval --batch`"
    )
    command.add_argument("--json", action="store_true", help="print the explanation as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from fibdsl.cli.witnesses import write
    from fibdsl.explanation import explain, table

    explanation, verdicts = explain(*load_at_step(options))
    if options.witnesses:
        named = {s.promise: s.at_values.witness for s in verdicts if s.at_values.witness}
        files = write(named, options.witnesses)
        properties = [
            p.model_copy(update={"witness_file": files.get(p.property)})
            for p in explanation.properties
        ]
        explanation = explanation.model_copy(update={"properties": properties})
    print(explanation.model_dump_json(indent=2) if options.json else table(explanation))
    return 0
