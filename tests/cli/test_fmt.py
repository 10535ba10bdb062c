"""`fib fmt`: what is written, what is printed, exit codes, through the command's own entry."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fibc
import fibdsl
from fibdsl.cli.main import main
from fibdsl.diagnostics.errors import InternalError
from fibdsl.resources import shipped_specs
from fibdsl.source import Source

MESSY = "objective o { signal ratio # ε\nlevels token\n\n\n at token{base clip(0.20)} }"
NEAT = """\
objective o {
  signal ratio  # ε
  levels token

  at token { base clip(0.20) }
}
"""
BROKEN = "objective o { signal ratio levels token < }\n"
DIFF = """\
--- {0}
+++ {0}
@@ -1,5 +1,6 @@
-objective o {{ signal ratio # ε
-levels token
+objective o {{
+  signal ratio  # ε
+  levels token
.
-
- at token{{base clip(0.20)}} }}
\\ No newline at end of file
+  at token {{ base clip(0.20) }}
+}}
""".replace("\n.\n", "\n \n")  # a line that stays, and is blank

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Pipes bytes into standard input."""

    def pipe(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return pipe


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def read(path: Path) -> str:
    return path.read_bytes().decode()


# --- files --------------------------------------------------------------------------------------


def test_rewrites(capsys: Capture) -> None:
    messy, neat = write("messy.fib", MESSY), write("neat.fib", NEAT)
    before = neat.stat().st_mtime_ns
    assert main(["fmt", "messy.fib", "neat.fib"]) == 0
    assert capsys.readouterr() == ("", "1 file reformatted, 1 left unchanged\n")
    assert read(messy) == read(neat) == NEAT
    assert neat.stat().st_mtime_ns == before
    assert main(["fmt", "messy.fib", "neat.fib"]) == 0
    assert capsys.readouterr() == ("", "no files reformatted, 2 left unchanged\n")
    assert sorted(os.listdir()) == ["messy.fib", "neat.fib"]


def test_folders(capsys: Capture) -> None:
    paths = [write("specs/a.fib", MESSY), write("specs/deep/b.fib", MESSY), write("c.fib", MESSY)]
    notes = write("specs/notes.txt", MESSY)
    # A file that is named twice is one file.
    assert main(["fmt", "specs", "c.fib", "specs/a.fib"]) == 0
    assert capsys.readouterr().err == "3 files reformatted, 0 left unchanged\n"
    assert {read(path) for path in paths} == {NEAT}
    assert read(notes) == MESSY


def test_what_a_project_excludes_is_not_searched(capsys: Capture) -> None:
    draft, other = write("drafts/a.fib", MESSY), write("b.fib", MESSY)
    write("pyproject.toml", '[tool.fibdsl]\nexclude = ["drafts"]\n')
    assert main(["fmt", "."]) == 0
    assert (read(draft), read(other)) == (MESSY, NEAT)
    assert main(["fmt", "drafts/a.fib"]) == 0
    assert read(draft) == NEAT
    capsys.readouterr()


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_line_ends(line_end: str, capsys: Capture) -> None:
    path = write("a.fib", NEAT.replace("\n", line_end))
    assert main(["fmt", "--check", "a.fib"]) == 1
    assert capsys.readouterr().out == "a.fib\n"
    assert main(["fmt", "a.fib"]) == 0
    assert read(path) == NEAT


@pytest.mark.parametrize("name", sorted(shipped_specs()))
def test_shipped_specs_are_left_unchanged(name: str, capsys: Capture) -> None:
    assert main(["fmt", "--check", str(shipped_specs()[name])]) == 0
    assert capsys.readouterr() == ("", "no files would be reformatted, 1 left unchanged\n")


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_mode_and_link_stay() -> None:
    path = write("real/a.fib", MESSY)
    path.chmod(0o640)
    os.symlink("real/a.fib", "link.fib")
    assert main(["fmt", "link.fib"]) == 0
    assert os.path.islink("link.fib")
    assert read(path) == NEAT
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir("real") == ["a.fib"]


# --- check and diff -----------------------------------------------------------------------------


def test_check(capsys: Capture) -> None:
    paths = [write(name, MESSY) for name in ("a.fib", "b.fib")]
    write("c.fib", NEAT)
    assert main(["fmt", "--check", "."]) == 1
    out, err = capsys.readouterr()
    assert out == "a.fib\nb.fib\n"
    assert err == "2 files would be reformatted, 1 left unchanged\n"
    assert {read(path) for path in paths} == {MESSY}
    assert main(["fmt", "--check", "c.fib"]) == 0


@pytest.mark.parametrize("options", [["--diff"], ["--diff", "--check"]])
def test_diff(options: list[str], capsys: Capture) -> None:
    path = write("a.fib", MESSY)
    write("b.fib", NEAT)
    assert main(["fmt", *options, "."]) == 1
    out, err = capsys.readouterr()
    assert out == DIFF.format("a.fib")
    assert err == "1 file would be reformatted, 1 left unchanged\n"
    assert read(path) == MESSY
    assert main(["fmt", *options, "b.fib"]) == 0
    assert capsys.readouterr().out == ""


# --- standard input -----------------------------------------------------------------------------


@pytest.mark.parametrize("paths", [[], ["-"]])
def test_standard_input(paths: list[str], pipe: Callable[[bytes], None], capsys: Capture) -> None:
    pipe(MESSY.encode())
    assert main(["fmt", *paths]) == 0
    assert capsys.readouterr() == (NEAT, "")
    pipe(MESSY.encode())
    assert main(["fmt", *paths, "--check", "--stdin-filename", "mine.fib"]) == 1
    assert capsys.readouterr() == ("mine.fib\n", "")
    pipe(MESSY.encode())
    assert main(["fmt", *paths, "--diff"]) == 1
    assert capsys.readouterr() == (DIFF.format("<stdin>"), "")
    pipe(NEAT.encode())
    assert main(["fmt", *paths, "--diff", "--check"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_syntax_error_in_standard_input(pipe: Callable[[bytes], None], capsys: Capture) -> None:
    pipe(BROKEN.encode())
    assert main(["fmt", "-", "--stdin-filename", "mine.fib"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "error[FIB001]: a level is missing after `<`\n  --> mine.fib:1:42\n" in err


def test_an_empty_file(pipe: Callable[[bytes], None], capsys: Capture) -> None:
    pipe(b"")
    assert main(["fmt", "-"]) == 0
    assert capsys.readouterr() == ("", "")


def test_nothing_to_format(pipe: Callable[[bytes], None], capsys: Capture) -> None:
    pipe(b"")
    assert main(["fmt"]) == 2
    expected = "fib fmt: nothing to format: name a file or a folder, or pipe a spec in\n"
    assert capsys.readouterr() == ("", expected)


def test_a_terminal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(io.BytesIO(MESSY.encode())))
    assert main(["fmt"]) == 2
    assert main(["fmt", "-"]) == 0
    assert capsys.readouterr().out == NEAT


# --- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "written"), [([], NEAT), (["--check"], MESSY)])
def test_a_syntax_error_leaves_its_file(options: list[str], written: str, capsys: Capture) -> None:
    broken, messy = write("a.fib", BROKEN), write("b.fib", MESSY)
    assert main(["fmt", *options, "a.fib", "b.fib"]) == 1
    assert (read(broken), read(messy)) == (BROKEN, written)
    out, err = capsys.readouterr()
    assert out == ("b.fib\n" if options else "")
    assert "error[FIB001]: a level is missing after `<`\n  --> a.fib:1:42\n" in err
    assert err.endswith("reformatted, 0 left unchanged, 1 with syntax errors\n")


def test_wrong_names_are_not_a_syntax_error() -> None:
    path = write("a.fib", MESSY.replace("clip", "clap"))
    assert main(["check", "a.fib"]) == 1
    assert main(["fmt", "a.fib"]) == 0
    assert read(path) == NEAT.replace("clip", "clap")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.fib"], "gone.fib: no such file or directory"),
        (["latin.fib"], "latin.fib is not UTF-8 text (byte 2)"),
        (["empty"], "empty: no .fib file in this folder"),
        (["-", "-"], "`-` is standard input and stands alone"),
        (["--stdin-filename", "x.fib"], "--stdin-filename is for standard input, and a path is"),
        (
            ["ppo"],
            "ppo: no such file, and a shipped spec is not rewritten; start from ",
        ),
    ],
)
def test_usage(arguments: list[str], message: str, capsys: Capture) -> None:
    """Exit code 2, and nothing is written, the files that could be included."""
    path = write("a.fib", MESSY)
    Path("latin.fib").write_bytes("# é".encode("latin-1"))
    Path("empty").mkdir()
    assert main(["fmt", "a.fib", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fib fmt: {message}")
    assert read(path) == MESSY


def no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_write_that_fails(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    paths = [write(name, MESSY) for name in ("a.fib", "b.fib")]
    write("c.fib", BROKEN)
    monkeypatch.setattr(os, "replace", no_space)
    assert main(["fmt", "."]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "fib fmt: a.fib: no space left on device\nfib fmt: b.fib: no space" in err
    assert err.endswith(
        "no files reformatted, 0 left unchanged, 1 with syntax errors, 2 not written\n"
    )
    assert {read(path) for path in paths} == {MESSY}
    assert sorted(os.listdir()) == ["a.fib", "b.fib", "c.fib"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes anywhere")
@pytest.mark.parametrize("locked", ["a", "a/a.fib"])
def test_what_may_not_be_written(locked: str, capsys: Capture) -> None:
    path, other = write("a/a.fib", MESSY), write("b.fib", MESSY)
    mode = Path(locked).stat().st_mode
    Path(locked).chmod(mode & ~0o222)
    try:
        assert main(["fmt", "."]) == 2
    finally:
        Path(locked).chmod(mode)
    assert (read(path), read(other)) == (MESSY, NEAT)
    assert os.listdir("a") == ["a.fib"]
    err = (
        "fib fmt: a/a.fib: permission denied\n1 file reformatted, 0 left unchanged, 1 not written\n"
    )
    assert capsys.readouterr().err == err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_rewritten(capsys: Capture) -> None:
    os.mkfifo("pipe.fib")
    with subprocess.Popen(["sh", "-c", "cat > pipe.fib"], stdin=subprocess.PIPE) as writer:
        assert writer.stdin
        writer.stdin.write(MESSY.encode())
        writer.stdin.close()
        assert main(["fmt", "pipe.fib"]) == 2
    assert "fib fmt: pipe.fib: not a regular file; pipe it in\n" in capsys.readouterr().err


def test_a_bug_writes_nothing(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    paths = [write(name, MESSY) for name in ("a.fib", "b.fib")]

    def wrong(source: Source) -> str:
        if source.path == "b.fib":
            raise InternalError("formatted text has another syntax tree")
        return NEAT

    monkeypatch.setattr("fibdsl.cli.fmt.format_source", wrong)
    assert main(["fmt", "a.fib", "b.fib"]) == 3
    assert {read(path) for path in paths} == {MESSY}
    assert "this is a bug of fibdsl" in capsys.readouterr().err


# --- as a process -------------------------------------------------------------------------------


ROOTS = [str(Path(package.__path__[0]).parent) for package in (fibdsl, fibc)]


def process(code: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS), "PYTHONIOENCODING": "ascii"}
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        input=content,
        capture_output=True,
        env=environment,
        timeout=60,
    )


def test_the_output_is_utf_8_on_any_terminal() -> None:
    code = "import sys; sys.argv = ['fib', 'fmt', '-']; from fibdsl.cli.main import entry; entry()"
    done = process(code, MESSY.encode())
    assert (done.returncode, done.stdout, done.stderr) == (0, NEAT.encode(), b"")


def test_it_needs_no_number_library() -> None:
    write("a.fib", MESSY)
    done = process(
        "import sys; from fibdsl.cli.main import main; assert main(['fmt', 'a.fib']) == 0; "
        "print(sorted({'torch', 'numpy', 'pydantic', 'safetensors'} & set(sys.modules)))"
    )
    assert (done.returncode, done.stdout.strip()) == (0, b"[]")
