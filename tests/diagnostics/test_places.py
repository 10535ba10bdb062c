"""Of which file a finding is."""

from fibdsl.diagnostics.diagnostic import Diagnostics, Label
from fibdsl.source import Source, Span

OWN = Source("own.fib", "one\ntwo\n")
OTHER = Source("gates.fib", "three\nfour\nfive\n")


def test_a_finding_is_of_the_file_of_its_span() -> None:
    diagnostics = Diagnostics(OWN)
    diagnostics.add("FIB101", "in the other", Span(6, 10, OTHER))
    diagnostics.add("FIB101", "in the own", Span(4, 7))
    diagnostics.add("FIB004", "nowhere", None)
    found = diagnostics.in_order()
    assert [d.message for d in found] == ["nowhere", "in the own", "in the other"]
    assert [d.source for d in found] == [OWN, OWN, OTHER]
    assert [(d.line, d.column) for d in found] == [(1, 1), (2, 1), (2, 1)]


def test_labels_in_another_file_are_notes() -> None:
    diagnostics = Diagnostics(OWN)
    here, there = Label(Span(4, 7), "here"), Label(Span(11, 15, OTHER), "defined")
    diagnostics.add("FIB101", "m", Span(0, 3), labels=(here, there), notes=("a note",))
    diagnostics.add("FIB101", "m", Span(0, 5, OTHER), labels=(here, there))
    own, other = diagnostics.found
    assert (own.labels, own.notes) == ((here,), ("gates.fib:3: defined", "a note"))
    assert (other.labels, other.notes) == ((there,), ("own.fib:2: here",))
