"""Tick labels. This is the only module that imports matplotlib at its top; it is imported only to draw."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, ScalarFormatter

from sgdsim.plots.panel import superscript

if TYPE_CHECKING:
    from matplotlib.axis import Axis

_TIMES = "\N{MULTIPLICATION SIGN}"


class Scientific(ScalarFormatter):
    """Formatter of plain numbers with a common power of ten, without TeX, whose layout takes seconds for a figure.

    Numbers are written in full: one that is to be added to all of them is overlooked, and unreadable beside a power.
    """

    def __init__(self) -> None:
        super().__init__(useOffset=False)

    def get_offset(self) -> str:
        """Text of the common power of ten.

        Examples
        --------
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().add_subplot()
        >>> _ = axes.set_ylim(0.0, 3e-9)
        >>> axes.yaxis.set_major_formatter(Scientific())
        >>> axes.yaxis.get_major_formatter().format_ticks([0.0, 1e-9]), axes.yaxis.get_major_formatter().get_offset()
        (['0', '1'], '×10⁻⁹')
        >>> _ = axes.set_ylim(0.984165, 0.984191)
        >>> axes.yaxis.get_major_formatter().format_ticks([0.98417, 0.98418])
        ['0.98417', '0.98418']
        """
        number, power, exponent = super().get_offset().partition("1e")
        return f"{number}{_TIMES}10{superscript(exponent)}" if power else number


def linear_ticks(axis: Axis) -> None:
    """Label the ticks of an axis by numbers with a common power of ten."""
    axis.set_major_formatter(Scientific())


def logarithmic_ticks(axis: Axis, most: float = 200.0) -> None:
    """Put ticks at powers of ten; also at 2 and 5 if the axis spans a factor below ``most``."""
    low, high = sorted(axis.get_view_interval())
    axis.set_minor_formatter(NullFormatter())
    if high < most * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(power_of_ten))


def power_of_ten(value: float, _: object = None) -> str:
    """Text of a tick on a logarithmic axis.

    Examples
    --------
    >>> power_of_ten(0.05), power_of_ten(2e-6), power_of_ten(1e9), power_of_ten(0.0)
    ('0.05', '2×10⁻⁶', '10⁹', '0')
    """
    if not isfinite(value):  # a tick beyond the axis
        return ""
    if value == 0 or 1e-2 <= abs(value) < 1e4:
        return f"{value:g}"
    digit, exponent = f"{value:.0e}".split("e")
    power = f"10{superscript(int(exponent))}"
    return power if digit == "1" else f"{digit}{_TIMES}{power}".replace("-", "\N{MINUS SIGN}")
