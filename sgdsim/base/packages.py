"""Optional libraries, which only some functions need."""

from __future__ import annotations

import importlib
from typing import Any

from sgdsim.base.errors import RunError


def imported(package: str, what: str) -> Any:
    """Module of an optional library.

    Raises
    ------
    RunError
        If the library is not installed; the message says what needs it.

    Examples
    --------
    >>> imported("math", "a sum").sqrt(4)
    2.0
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise RunError(f"{what} needs {package}, which is not installed: pip install {package}") from None
