"""One figure against its bar, and tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """One figure against its bar.

    Parameters
    ----------
    figure, bar
        What is compared, and the bound: at least where `at_least`, else at most.
    measured
        None where it was not.
    unit
        Follows both numbers.
    """

    figure: str
    bar: float
    measured: float | None
    at_least: bool = True
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """True if the bar is met; None if nothing was measured."""
        if self.measured is None:
            return None
        return self.measured >= self.bar if self.at_least else self.measured <= self.bar

    def row(self) -> list[str]:
        """The cells of a table."""
        sign = "≥" if self.at_least else "≤"
        measured = "not measured" if self.measured is None else f"{self.measured:.3g}{self.unit}"
        verdict = {None: "", True: "yes", False: "**no**"}[self.met]
        return [self.figure, f"{sign} {self.bar:g}{self.unit}", measured, verdict]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
