"""The guard around whatever theory computes: an overflow, or want of memory, is a refusal, no traceback or warning."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from sgdsim.prediction import NotApplicable


@contextmanager
def guarded() -> Iterator[None]:
    """Refuse a computation that overflows or meets a singular system, and silence the warnings of NumPy and SciPy.

    Raises
    ------
    NotApplicable
        For arithmetic that fails, and for want of memory. Numbers that become infinite or NaN without failing are
        the caller's to refuse.

    Examples
    --------
    >>> with guarded():
    ...     float(np.exp(1000.0)), 1e200**2
    Traceback (most recent call last):
    sgdsim.prediction.NotApplicable: its numbers are beyond those of a computer (overflow)
    """
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    except ArithmeticError as error:
        raise NotApplicable(f"its numbers are beyond those of a computer ({_name(error)})") from error
    except MemoryError as error:
        raise NotApplicable(f"it takes more memory than there is ({error})") from error
    except np.linalg.LinAlgError as error:
        raise NotApplicable(f"its equations have no solution in numbers ({error})") from error


def _name(error: ArithmeticError) -> str:
    return "division by zero" if isinstance(error, ZeroDivisionError) else "overflow"
