"""The records of rules: their examples are examples, and what they say is in one form."""

from __future__ import annotations

import re

import pytest

from fibc import driver
from fibdsl.diagnostics.catalogue import catalogue
from fibdsl.diagnostics.rules import RULES, Fix, Rule, Severity
from fibdsl.source import Source

NOT_OF_A_FILE = {"FIB107"}


def codes(text: str) -> set[str]:
    return {d.code for d in driver.check(Source("<string>", text)).diagnostics}


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.code)
def test_an_example_is_wrong_in_that_way_only(rule: Rule) -> None:
    assert codes(rule.example) == ({rule.code} if rule.example else {"FIB004"})


@pytest.mark.parametrize("rule", catalogue().values(), ids=lambda rule: rule.code)
def test_a_mended_example_is_clean(rule: Rule) -> None:
    assert (rule.mended == "") == (rule.fix is Fix.NONE)
    if rule.mended:
        assert codes(rule.mended) == set()


@pytest.mark.parametrize("rule", catalogue().values(), ids=lambda rule: rule.code)
def test_a_record_is_whole(rule: Rule) -> None:
    assert re.fullmatch(r"FIB\d\d\d", rule.code)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)
    assert re.fullmatch(r"(?![A-Z][a-z]).+[^.]", rule.summary)  # no sentence
    assert re.fullmatch(r".+\.\)?", rule.why)  # sentences
    assert (rule.example == "") == (rule.code in NOT_OF_A_FILE)
    assert ("not about a file" in rule.why) == (rule.code in NOT_OF_A_FILE)
    for text in (rule.example, rule.mended):
        assert text == "" or text.endswith("\n")
    assert rule.severity is (Severity.WARNING if rule.code >= "FIB600" else Severity.ERROR)


def test_names_are_unique() -> None:
    names = [rule.name for rule in catalogue().values()]
    assert sorted(set(names)) == sorted(names)


def test_families_are_where_their_codes_say() -> None:
    assert list(RULES) == sorted(RULES)
    assert {code[3] for code in RULES} == set("012345")
