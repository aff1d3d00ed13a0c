"""Wording of the problems of a scenario: the key, the value that was given, and what was expected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sgdsim.base import toml
from sgdsim.base.errors import unknown_name
from sgdsim.base.problems import Problems

M = TypeVar("M", bound=BaseModel)

_LONGEST_SHOWN = 60  # characters of a value that a message shows
# Texts of messages from `errors.unknown_name`, and of the prefix that `scenario` gives to messages of a part.
_MISSPELT = re.compile(r"(?P<table>(?:.*[.\s])?)[^.:\s]+: unknown key .*: did you mean '(?P<key>[^']+)'\?$")
_OF_PART = re.compile(r"^(?:every part|part \w+): ")
_MOST_PROBLEMS = 30  # problems that are listed; a sweep can have as many as it has points
_EXPECTED = {
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}


def validated(model: type[M], data: Any, keys: Mapping[str, Iterable[str]], prefix: tuple[str | int, ...] = ()) -> M:
    """The pydantic model of data.

    Parameters
    ----------
    model, data
        The class of the model, and the data.
    keys
        Known keys of each section by its name, for near matches.
    prefix
        Key of the data in the scenario.

    Raises
    ------
    InputError
        With all problems: the key, the value that was given, and what was expected.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise Problems(list(_described(error, keys, prefix))) from None


def _described(
    error: ValidationError, keys: Mapping[str, Iterable[str]], prefix: tuple[str | int, ...]
) -> Iterator[str]:
    for problem in error.errors():
        *path, last = place = (*prefix, *problem["loc"])
        where = dotted(place)
        if problem["type"] == "refused":
            yield from problem["ctx"]["each"]  # messages that name their keys already
        elif problem["type"] == "unknown":
            yield f"{where}: {problem['msg']}"
        elif problem["type"] == "missing":
            yield f"{where}: is missing"
        elif problem["type"] == "extra_forbidden":
            section = next((part for part in reversed(path) if part in keys), "")
            yield f"{where}: {unknown_name('key', str(last), keys[str(section)])}"
        else:
            yield f"{where}: {shown(problem['input'])}, expected {_EXPECTED.get(problem['type'], problem['msg'])}"


def listed(problems: Sequence[str]) -> str:
    """Problems one below the other, at most `_MOST_PROBLEMS`. A key that is missing because it is misspelt is left out.

    Examples
    --------
    >>> print(listed(["run: is missing", "runs: unknown key 'runs': did you mean 'run'?", "loss: is missing"]))
      runs: unknown key 'runs': did you mean 'run'?
      loss: is missing
    """
    meant = {f"{found['table']}{found['key']}: is missing" for found in map(_MISSPELT.match, problems) if found}
    problems = [text for text in problems if not {text, _OF_PART.sub("", text)} & meant]
    more = len(problems) - _MOST_PROBLEMS
    texts = [*problems[:_MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
    return "\n".join(f"  {line}" for text in texts for line in text.splitlines())


def dotted(path: Iterable[str | int]) -> str:
    """A key in dotted form, as it is written in a scenario.

    Examples
    --------
    >>> dotted(["predict", 0, "at"])
    'predict[0].at'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def shown(value: Any) -> str:
    """A value as it is written in TOML, cut short if it is long.

    Examples
    --------
    >>> shown({"x": True})
    '{ x = true }'
    """
    try:
        text = toml.dump_value(value)
    except ValueError:  # Python writes no more than 4,300 digits
        return "a number of very many digits"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
