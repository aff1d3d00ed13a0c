"""What single values of a scenario may be: a reader gives what it makes of a value, or None."""

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
    """A whole number between bounds, also written 1e6."""

    def read(value: Any) -> int | None:
        found = take.as_whole(value)
        return found if found is not None and low <= found <= high else None

    return read


def finite(value: Any) -> float | None:
    """A number that is finite."""
    found = take.as_number(value)
    return None if found is None else float(found)


def between(low: float, high: float) -> Callable[[Any], float | None]:
    """A number between bounds, both excluded."""

    def read(value: Any) -> float | None:
        number = finite(value)
        return number if number is not None and low < number < high else None

    return read


def _start(value: Any) -> str | float | dict[str, Any] | None:
    """A number, a text, or what stands for values in a file."""
    return value if isinstance(value, str) or (isinstance(value, dict) and "digest" in value) else finite(value)


def _nested(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Reads a value, a list of such, or rows of such."""

    def read_all(value: Any) -> Any:
        if not isinstance(value, list):
            return read(value)
        found = list(map(read_all, value))
        return None if not found or None in found else found

    return read_all


def formula(value: Any) -> str | None:
    """A number is a formula too."""
    return value if isinstance(value, str) else None if finite(value) is None else repr(value)


def formulas(value: Any) -> str | list[str] | None:
    """A formula or a list of them."""
    if not isinstance(value, list):
        return formula(value)
    texts = [text for text in map(formula, value) if text is not None]
    return texts if texts and len(texts) == len(value) else None


def resolution(value: Any) -> str | float | None:
    """A positive number, or a percentage."""
    if isinstance(value, str):
        return value if _PERCENTAGE.fullmatch(value) and between(0, inf)(float(value.strip()[:-1])) else None
    return between(0, inf)(value)


def _step(value: Any) -> int | str | None:
    return value if value == "final" else whole(0)(value)


def _constant(value: Any) -> str | float | dict[str, Any] | None:
    """As a start, but for a text that is clearly none."""
    return None if isinstance(value, str) and not is_start(value) else _start(value)


def takes(expected: str, read: Callable[[Any], Any]) -> PlainValidator:
    """A value that a reader takes; what is expected stands in the message."""

    def validate(value: Any) -> Any:
        made = read(value)
        if made is None:
            raise PydanticCustomError("expected", "{expected}", {"expected": expected})
        return made

    return PlainValidator(validate)


def one_of(kind: str, known: Collection[str]) -> AfterValidator:
    """A name that is known; a near match stands in the message."""

    def validate(name: str) -> str:
        if name not in known:
            raise PydanticCustomError("unknown", "{problem}", {"problem": unknown_name(kind, name, known)})
        return name

    return AfterValidator(validate)


class Made(NamedTuple):
    """A value as it is written, and what is made of it."""

    plain: Any
    value: Any


@dataclass(frozen=True)
class Makes:
    """A value of a kind that something is made of, once: what is kept is a `Made`, what is written the value.

    Parameters
    ----------
    kind
        Of the value.
    build
        Makes it; its problems name their own keys.
    """

    kind: Any
    build: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """As pydantic asks for it."""
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
