"""Problems of what the user wrote: all of them are found before any is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sgdsim.base.errors import InputError

T = TypeVar("T")


class Problems(InputError):
    """Several at once.

    Parameters
    ----------
    each
        One text a problem.
    """

    def __init__(self, each: Sequence[str]) -> None:
        super().__init__("\n".join(each))
        self.each = each


def attempt(problems: list[str], build: Callable[[], T]) -> T | None:
    """What `build` makes; where it refuses, None, with the problem noted.

    Examples
    --------
    >>> from sgdsim.base.numbers import read_number
    >>> problems = []
    >>> attempt(problems, lambda: read_number("1e-400", "--constant a"))
    >>> problems
    ['--constant a: 1e-400 is below the smallest float, expected 0 or a number from 5e-324']
    """
    try:
        return build()
    except Problems as error:
        problems.extend(error.each)
    except InputError as error:
        problems.append(str(error))
    return None


def attempt_all(builds: Iterable[Callable[[], T]]) -> list[T]:
    """What all of them make, without None.

    Raises
    ------
    InputError
        With the problems of all, each once.

    Examples
    --------
    >>> from sgdsim.base.numbers import read_number
    >>> attempt_all([lambda: read_number("1", "here"), lambda: read_number("5e3", "there")])
    [1, 5000.0]
    """
    problems: list[str] = []
    made = [attempt(problems, build) for build in builds]
    if problems:
        raise Problems(list(dict.fromkeys(problems)))
    return [part for part in made if part is not None]
