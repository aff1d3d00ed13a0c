"""Readers of single values of a scenario: a reader returns the value in its final form, None if it is not allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, GetCoreSchemaHandler, PlainValidator
from pydantic_core import PydanticCustomError, core_schema

from sgdsim.base import take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.problems import Problems
from sgdsim.model.starts import is_start

_PERCENTAGE = re.compile(r"\s*\d+(\.\d*)?([eE]-?\d+)?\s*%\s*")


class Section(BaseModel):
    """A table with known keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def whole(low: int, high: float = inf) -> Callable[[Any], int | None]:
    """Reader of whole numbers between bounds, 1e6 too."""

    def read(value: Any) -> int | None:
        found = take.as_whole(value)
        return found if found is not None and low <= found <= high else None

    return read


def finite(value: Any) -> float | None:
    """Finite number that a value is; None for any other value."""
    found = take.as_number(value)
    return None if found is None else float(found)


def between(low: float, high: float) -> Callable[[Any], float | None]:
    """Reader of numbers between bounds, both excluded."""

    def read(value: Any) -> float | None:
        number = finite(value)
        return number if number is not None and low < number < high else None

    return read


def _start(value: Any) -> str | float | dict[str, Any] | None:
    """Start or constant: a number, a text, or a table that describes values in a file; None for any other value."""
    return value if isinstance(value, str) or (isinstance(value, dict) and "digest" in value) else finite(value)


def _nested(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Reader of a value, a list of values or rows of values, each of which the given reader reads."""

    def read_all(value: Any) -> Any:
        if not isinstance(value, list):
            return read(value)
        found = list(map(read_all, value))
        return None if not found or None in found else found

    return read_all


def formula(value: Any) -> str | None:
    """Text of a formula, which may be a number; None for any other value."""
    return value if isinstance(value, str) else None if finite(value) is None else repr(value)


def formulas(value: Any) -> str | list[str] | None:
    """Text of a formula or a list of texts; None for any other value."""
    if not isinstance(value, list):
        return formula(value)
    texts = [text for text in map(formula, value) if text is not None]
    return texts if texts and len(texts) == len(value) else None


def resolution(value: Any) -> str | float | None:
    """Resolution: a positive number, or a percentage such as ``"2 %"``; None for any other value."""
    if isinstance(value, str):
        return value if _PERCENTAGE.fullmatch(value) and between(0, inf)(float(value.strip()[:-1])) else None
    return between(0, inf)(value)


def _step(value: Any) -> int | str | None:
    return value if value == "final" else whole(0)(value)


def _constant(value: Any) -> str | float | dict[str, Any] | None:
    """Constant: a number, or a text or table that describes its values; None for any other value."""
    return None if isinstance(value, str) and not is_start(value) else _start(value)


def takes(expected: str, read: Callable[[Any], Any]) -> PlainValidator:
    """Validator that accepts a value if the reader does; the message says what is expected."""

    def validate(value: Any) -> Any:
        made = read(value)
        if made is None:
            raise PydanticCustomError("expected", "{expected}", {"expected": expected})
        return made

    return PlainValidator(validate)


def one_of(kind: str, known: Collection[str]) -> AfterValidator:
    """Validator that accepts known names; the message has a near match."""

    def validate(name: str) -> str:
        if name not in known:
            raise PydanticCustomError("unknown", "{problem}", {"problem": unknown_name(kind, name, known)})
        return name

    return AfterValidator(validate)


class Made(NamedTuple):
    """A value as it is written, and the object built from it."""

    plain: Any
    value: Any


@dataclass(frozen=True)
class Makes:
    """Annotation of a field whose value is turned into an object once: the field holds a `Made`, a file the value.

    Parameters
    ----------
    kind
        Type of the value.
    build
        Function that builds the object; its error messages name the keys.
    """

    kind: Any
    build: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Schema of the field, in the form that pydantic needs."""
        return core_schema.no_info_after_validator_function(
            self._make,
            handler.generate_schema(self.kind),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda made: made.plain),
        )

    def _make(self, value: Any) -> Made:
        try:
            return Made(value, self.build(value))
        except InputError as error:
            each = error.each if isinstance(error, Problems) else [str(error)]
            raise PydanticCustomError("refused", "refused", {"each": each}) from None


Count = Annotated[int, takes("a whole number from 1", whole(1))]
Step = Annotated[int | str, takes('a step count, or "final"', _step)]
Seed = Annotated[int, takes("a whole number of at most 64 bits, 0 to 18446744073709551615", whole(0, 2**64 - 1))]
Number = Annotated[float, takes("a finite number", finite)]
Level = Annotated[float, takes("a number between 0 and 1", between(0, 1))]
StartValue = Annotated[
    Any,
    takes("a finite number or a distribution such as normal:0,1, or rows of them", _nested(_start)),
]
ConstantValue = Annotated[
    Any,
    takes("a finite number, a list or rows of them, V.csv, or a distribution such as normal:0,1", _nested(_constant)),
]
FormulaText = Annotated[str, takes("a formula", formula)]
FormulaTexts = Annotated[str | list[str], takes("a formula or a list of formulas", formulas)]
Seconds = Annotated[float, takes("a positive number of seconds", between(0, inf))]
Time = Annotated[float, takes("a positive number", between(0, inf))]
Resolution = Annotated[float | str, takes('a positive number, or a percentage such as "2%"', resolution)]
