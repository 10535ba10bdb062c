"""`fib diff`: what a change of a spec does to the loss."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

from fibc import driver
from fibdsl.api import read_source
from fibdsl.cli.options import add_values, assignment
from fibdsl.source import Source

_EPILOG = """\
examples:
  fib diff ppo mine.fib                          a shipped spec and one made from it
  fib diff old.fib new.fib --witnesses shown     write the batch that shows the difference
  fib diff --against main specs/mine.fib         a spec and itself at a commit, branch or tag
  fib diff ppo mine.fib --set epsilon=0.3        both with this value, whatever their defaults

exit codes: 0 SAME, 1 a difference or a wrong spec, 2 wrong usage or a file or commit that cannot be
read, 3 a bug of fibdsl

example: fib diff ppo mine.fib
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "diff",
        help="what a change of a spec does: to the loss, its gradient, its parameters, its metrics",
        description="Compares two specs by what they mean. VALUE: the loss changes. GRADIENT: only "
        "its gradient does. INTERFACE: the same loss at the values given, but parameters, "
        "ranges, keys or normalizers differ. METRICS: only metrics do. SAME: none of these; layout "
        "and comments never matter. UNKNOWN: not known to be the same, and no batch shows a "
        "difference. What differs is shown by a batch, with the regimes in which it does.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "specs", nargs="+", metavar="SPEC", help="two specs; with --against one or more"
    )
    command.add_argument(
        "--against",
        metavar="GITREF",
        help="compare each spec with itself at this commit, branch or tag",
    )
    command.add_argument(
        "--witnesses", metavar="DIR", help="write the batches that show differences there"
    )
    command.add_argument("--json", action="store_true", help="print the comparison as JSON")
    add_values(command, step=True)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from fibdsl.comparison import diff_files, table

    if options.against is None:
        if len(options.specs) != 2:
            raise ValueError("give two specs, or --against GITREF and the specs to compare with it")
        sources = [(read_source(options.specs[0]), read_source(options.specs[1]))]
    else:
        sources = [(_at(options.against, path), read_source(path)) for path in options.specs]
    pairs = [(driver.check(old), driver.check(new)) for old, new in sources]
    diffs = diff_files(pairs, assignment(options), options.step)
    if options.witnesses:
        from fibdsl.cli.witnesses import write

        named = {d.objective: d.comparison.witness for d in diffs if d.comparison.witness}
        files = write(named, options.witnesses)
        diffs = [d.with_file(files.get(d.objective)) for d in diffs]
    if options.json:
        print(json.dumps([d.as_data() for d in diffs], indent=2))
    else:
        print("\n\n".join(table(d) for d in diffs))
    return 0 if all(d.comparison.change == "SAME" for d in diffs) else 1


def _at(ref: str, path: str) -> Source:
    """The file as it was at a commit; empty if it was not there yet.

    Raises:
        OSError: no such commit, or no repository.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise OSError(f"{path}: --against compares files; there is none of this name")

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(file.parent), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise OSError("--against needs git, which is not installed") from None

    commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if commit.returncode:
        reason = git("rev-parse", "--git-dir")
        what = f"no commit {ref!r} in its repository" if not reason.returncode else "not in git"
        raise OSError(f"{path}: {what}")
    old = git("show", f"{commit.stdout.strip()}:./{file.name}")
    return Source(f"{ref}:{path}", "" if old.returncode else old.stdout)
