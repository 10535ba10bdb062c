"""Files of parameter values, in YAML, for one objective

    epsilon: 0.2
    c_plus: { value: 0.2, space: log }     # in this space, or it is an error
    c_minus: { linear: { from: 0.1, to: 0.05, over: 1000 } }

or such mappings by the names of objectives. A `cosine` is written as a `linear`; a `piecewise` and
a `piecewise_linear` map steps to values.

Numbers are those of specs, and may have a sign: by YAML's own rules 1e-3 is a text and 1:30 is 90.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from fibc.driver import Checked
from fibc.typed import TypedObjective
from fibdsl.diagnostics.diagnostic import Diagnostics, nearest
from fibdsl.diagnostics.errors import FibError
from fibdsl.param_form import FORMS, PIECES, RAMPS, model_of
from fibdsl.parameters import Value
from fibdsl.source import Source, Span
from fibdsl.types import Space

if TYPE_CHECKING:
    from fibdsl.objective import Objective

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)


def read(path: str | Path) -> ParamFile:
    """A file of values, before it is known whose they are.

    Raises:
        FibError: it is no YAML, or no mapping; a key stands twice.
        OSError: it cannot be read, or is not UTF-8 text.
    """
    try:
        source = Source(str(path), Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise OSError(f"{path} is not UTF-8 text (byte {error.start})") from None
    found = Diagnostics(source)
    try:
        root: yaml.Node | None = yaml.compose(source.text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = mark.index if mark is not None else getattr(error, "position", 0)
        problem = getattr(error, "problem", None) or getattr(error, "reason", "") or str(error)
        found.add("FIB107", f"this cannot be read: {problem}", Span(at, at + 1))
        raise FibError(found.found) from None
    except RecursionError:
        found.add("FIB107", "this cannot be read: it is nested too deeply", None)
        raise FibError(found.found) from None
    if not isinstance(root, yaml.MappingNode) or not root.value:
        found.add(
            "FIB107",
            "there are no values in this file",
            None if root is None else _span(root),
            "write a line `NAME: NUMBER` for each parameter that is not to have its default",
        )
        raise FibError(found.found)
    _refuse_duplicates(root, found)
    if found.found:
        raise FibError(found.in_order())
    return ParamFile(source, root)


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not used here", problem_mark=mark)
        return super().compose_node(parent, index)


class ParamFile:
    """The tree of such a file."""

    def __init__(self, source: Source, root: yaml.MappingNode) -> None:
        self.source = source
        self.root = root

    def values(self, objectives: Sequence[Objective]) -> list[dict[str, Value]]:
        """What each objective is set to. Where several take one mapping, each takes what it
        declares, and at least one has to.

        Raises:
            FibError: an unknown name, a value that does not fit; everything at once, also about
                other objectives of these files.
        """
        found = Diagnostics(self.source)
        files = {id(o.checked): o.checked for o in objectives}.values()
        known = [(checked, typed) for checked in files for typed in checked.objectives]
        names = dict.fromkeys(typed.name for _, typed in known)
        params = {param.name for _, typed in known for param in typed.params}
        of: dict[int, dict[str, Value]] = {}
        if any(key.value in names.keys() - params for key, _ in self.root.value):
            for key, node in self.root.value:
                if key.value not in names:
                    message = f"there is no objective `{key.value}`"
                    found.add("FIB107", message, _span(key), nearest(str(key.value), names))
                elif not isinstance(node, yaml.MappingNode):
                    message = f"the values of `{key.value}` are no mapping"
                    help = f"write `{key.value}: {{ NAME: NUMBER }}`"
                    found.add("FIB107", message, _span(node), help)
                else:
                    for checked, typed in known:
                        if typed.name == key.value:
                            of[id(typed)] = self._checked(node, checked, typed, found)
            if not any(id(o.typed) in of for o in objectives) and not found.found:
                message = f"there is nothing about objective `{objectives[0].name}` in this file"
                found.add("FIB107", message, None, f"write `{objectives[0].name}: {{}}`, if so")
        else:
            skip: set[str] = set()
            if len(objectives) > 1:
                declared = dict.fromkeys(p.name for o in objectives for p in o.declared)
                for key, _ in self.root.value:
                    if key.value not in declared:
                        message = f"no objective here has a parameter `{key.value}`"
                        found.add("FIB107", message, _span(key), nearest(key.value, declared))
                skip = {key.value for key, _ in self.root.value}
            for o in objectives:
                of[id(o.typed)] = self._checked(self.root, o.checked, o.typed, found, skip)
        if found.found:
            raise FibError(dict.fromkeys(found.in_order()))
        return [dict(of.get(id(o.typed), {})) for o in objectives]

    def _checked(
        self,
        node: yaml.MappingNode,
        checked: Checked,
        objective: TypedObjective,
        found: Diagnostics,
        skip: Collection[str] = (),
    ) -> dict[str, Value]:
        """The values of one objective; names in `skip` it need not declare."""
        own = {param.name: param for param in objective.params}
        entries = {key.value: _data(value) for key, value in node.value}
        entries = {n: v for n, v in entries.items() if n in own or n not in skip}
        try:
            values = model_of(objective).model_validate(entries)
        except ValidationError as error:
            for problem in error.errors():
                _Problem(self.source, node, checked, objective, problem).add(found)
            return {}
        forms = ((name, getattr(values, f"p{n}")) for n, name in enumerate(own))
        return {name: form.result() for name, form in forms if form is not None}


# --- the text -----------------------------------------------------------------------------------


def _span(node: yaml.Node) -> Span:
    return Span(node.start_mark.index, node.end_mark.index)


def _data(node: yaml.Node) -> Any:
    """A node's content: numbers, and texts for whatever else is no mapping or list."""
    if isinstance(node, yaml.MappingNode):
        return {_data(key): _data(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_data(value) for value in node.value]
    text = str(node.value)
    if not _plain(node) or not _NUMBER.fullmatch(text):
        return text
    return int(text) if re.fullmatch(r"[-+]?\d{1,18}", text) else float(text)


def _plain(node: yaml.Node) -> bool:
    """Whether a text has no quotes."""
    return isinstance(node, yaml.ScalarNode) and node.style is None


def _refuse_duplicates(node: yaml.Node, found: Diagnostics) -> None:
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicates(value, found)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                found.add("FIB107", "this is no name", _span(key))
                continue
            if _data(key) in seen:
                found.add("FIB107", f"`{key.value}` stands twice", _span(key), "delete one of them")
            seen.add(_data(key))
            _refuse_duplicates(value, found)


class _Problem:
    """What pydantic finds wrong with a value, in our words and at its place."""

    def __init__(
        self,
        source: Source,
        root: yaml.MappingNode,
        checked: Checked,
        objective: TypedObjective,
        problem: Mapping[str, Any],
    ) -> None:
        self.source = source
        self.checked = checked
        self.objective = objective
        self.type = str(problem["type"])
        self.loc: Sequence[str | int] = problem["loc"]
        self.message = str(problem["msg"])
        *_, (self.key, self.node) = _way(root, self.loc)

    def add(self, found: Diagnostics) -> None:
        name, key = str(self.loc[0]), f"`{self.key.value}`"
        params = {param.name: param for param in self.objective.params}
        if self.type == "extra_forbidden" and len(self.loc) == 1:
            message = f"objective `{self.objective.name}` has no parameter `{name}`"
            found.add("FIB107", message, _span(self.key), nearest(name, params))
            return
        param = params[name]
        if self.type == "range":
            line = self.checked.source.position(param.span.start)[0]
            found.add(
                "FIB403",
                f"{name} = {self._written()} is not in {param.range}",
                _span(self.node),
                "choose a value inside the declared range",
                notes=(f"declared in {self.checked.source.path}:{line}",),
            )
        elif self.type == "space" and self.node.value in set(Space):
            found.add(
                "FIB301",
                f"`{name}` is a {param.space}, and this says {self._written()}",
                _span(self.node),
                f"write `space: {param.space}`, and the value as one",
            )
        else:
            found.add("FIB107", *self._malformed(name, key))

    def _malformed(self, name: str, key: str) -> tuple[str, Span, str | None]:
        """Message, place and help of a value that is not written like one."""
        at = _span(self.node)
        match self.type:
            case "extra_forbidden":
                parts = [*FORMS, "space"] if len(self.loc) == 2 else ["from", "to", "over"]
                return f"unknown entry {key}", _span(self.key), nearest(self.key.value, parts)
            case "missing":
                return f"{key} lacks `{self.loc[-1]}`", _span(self.key), _usage(self.key.value)
            case "forms":
                forms = ", ".join(f"`{form}`" for form in FORMS)
                return f"{key} needs exactly one of {forms}", _span(self.key), None
            case "space":
                help = nearest(self.node.value, Space)
                return f"unknown space `{self.node.value}`", at, help
            case "start":
                return f"{key} does not say what is at step 0", _span(self.key), None
            case "model_type" | "dict_type" if len(self.loc) == 2:
                return f"{key} is a mapping, not {self._written()}", at, _usage(self.key.value)
            case "float_type":
                what = f"`{name}`" if self.key.value == "value" else key
                if not self._written():
                    return f"{what} has no value", _span(self.key), None
                return f"{what} is a number, not {self._written()}", at, None
            case "int_type" | "greater_than_equal" if self.loc[-1] == "[key]":
                return f"a step is a whole number, not {key}", _span(self.key), None
            case "int_type" | "greater_than_equal":
                return f"{key} is a whole number above 0, not {self._written()}", at, None
            case _:
                return f"{key}: {self.message}", at, None

    def _written(self) -> str:
        if isinstance(self.node, yaml.ScalarNode):
            span = _span(self.node)
            return " ".join(self.source.text[span.start : span.end].split())
        return "a mapping" if isinstance(self.node, yaml.MappingNode) else "a list"


def _way(node: yaml.Node, loc: Sequence[str | int]) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """The keys and values on the way to a place, as far as it goes."""
    for name in loc:
        entries = node.value if isinstance(node, yaml.MappingNode) else ()
        for key, value in entries:
            if name in (key.value, _data(key), str(_data(key))):
                yield key, value
                node = value
                break
        else:
            return


def _usage(form: str) -> str | None:
    if form in RAMPS:
        return f"write `{form}: {{ from: 0.3, to: 0.1, over: 1000 }}`"
    return f"write `{form}: {{ 0: 0.3, 500: 0.1 }}`" if form in PIECES else None
