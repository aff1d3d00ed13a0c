"""Problems in the user's input: all are found before any is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sgdsim.base.errors import InputError

T = TypeVar("T")


class Problems(InputError):
    """Several problems of the user's input, reported together.

    Parameters
    ----------
    each
        One text for each problem.
    """

    def __init__(self, each: Sequence[str]) -> None:
        super().__init__("\n".join(each))
        self.each = each


def attempt(problems: list[str], build: Callable[[], T]) -> T | None:
    """Result of `build`; or None, with its problem added to the list, if it refuses the input.

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
    """Results of all functions, without those that are None.

    Raises
    ------
    InputError
        With the problems of all functions, each problem once.

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
