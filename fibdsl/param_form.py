"""The form of the values of an objective in a file: models made of its declared parameters."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fibc.typed import TypedObjective, TypedParam
from fibdsl import schedules
from fibdsl.parameters import Value, holds


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


RAMPS = {"linear": schedules.linear, "cosine": schedules.cosine}
PIECES = {
    "piecewise": schedules.piecewise,
    "piecewise_linear": schedules.piecewise_linear,
}
FORMS = ("value", *RAMPS, *PIECES)


class Form(_Strict):
    """One value: a number, or a mapping that has one of these and perhaps its space."""

    @model_validator(mode="after")
    def _one(self) -> Form:
        if len(self._given()) != 1:
            raise PydanticCustomError("forms", "")
        return self

    def _given(self) -> list[str]:
        return [name for name in FORMS if getattr(self, name) is not None]

    def result(self) -> Value:
        [name] = self._given()
        content: Any = getattr(self, name)
        if name in RAMPS:
            return RAMPS[name](content.start, content.end, content.steps)
        result: Value = PIECES[name](content) if name in PIECES else content
        return result


def model_of(objective: TypedObjective) -> type[BaseModel]:
    """The form of a mapping of values. Fields have numbers for names, and names for aliases: not
    every name of a parameter may be that of a field."""
    fields: dict[str, Any] = {
        f"p{n}": (_form(param), Field(None, alias=param.name))
        for n, param in enumerate(objective.params)
    }
    return create_model("Values", __base__=_Strict, **fields)


def _form(param: TypedParam) -> Any:
    number = Annotated[float, AfterValidator(partial(_in_range, param))]
    space = Annotated[str, AfterValidator(partial(_in_space, param))]
    step = Annotated[int, Field(ge=0)]
    ramp = create_model(
        "Ramp",
        __base__=_Strict,
        start=(number, Field(alias="from")),
        end=(number, Field(alias="to")),
        steps=(Annotated[int, Field(ge=1)], Field(alias="over")),
    )
    pieces = Annotated[dict[step, number], AfterValidator(_from_the_start)]
    fields: dict[str, Any] = {
        "value": (number | None, None),
        **dict.fromkeys(RAMPS, (ramp | None, None)),
        **dict.fromkeys(PIECES, (pieces | None, None)),
        "space": (space | None, None),
    }
    form = create_model("Form", __base__=Form, **fields)
    return Annotated[form | None, BeforeValidator(_as_mapping)]


def _as_mapping(value: Any) -> Any:
    return value if isinstance(value, dict) else {"value": value}


def _in_range(param: TypedParam, value: float) -> float:
    if not holds(param, value):
        raise PydanticCustomError("range", "")
    return value


def _in_space(param: TypedParam, space: str) -> str:
    if space != param.space:
        raise PydanticCustomError("space", "")
    return space


def _from_the_start(pieces: dict[int, float]) -> dict[int, float]:
    if 0 not in pieces:
        raise PydanticCustomError("start", "")
    return pieces
