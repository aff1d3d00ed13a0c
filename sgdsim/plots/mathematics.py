r"""Formulas in the texts of a figure: marked where a text is made, typeset where it is drawn.

A mark is a pair of control characters, which no user's text has. What SymPy's LaTeX or matplotlib's reader of it does
not know stays as the user wrote it.
"""

from __future__ import annotations

import re
import textwrap
from functools import lru_cache

from sgdsim.base.errors import InputError
from sgdsim.formulas.calls import Call, WithCalls
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.vectors import base_name
from sgdsim.prediction import STATISTICS

_BEGIN, _END = "\x02", "\x03"
_MARKED = re.compile(f"{_BEGIN}([^{_END}]*){_END}")
_SPACE = "\N{NO-BREAK SPACE}"  # where a formula must not be broken
_LONGEST = 120  # of a formula that is typeset; of longer ones nobody sees more
_SMALL_DENOMINATOR = 100
_STATISTICS = (*STATISTICS, "covariance", "median", "quantile", "slope", "density", "tail", "expect")
_OURS = {"learning_rate": r"\eta", "steps": "N", "t": "t", "time": "T"}


def mark(formula: object) -> str:
    """A formula as part of a text."""
    return f"{_BEGIN}{formula}{_END}"


def plain(text: str) -> str:
    """The text as the user would write it.

    Examples
    --------
    >>> plain(f"mean of {mark('x**2')}")
    'mean of x**2'
    """
    return _MARKED.sub(r"\1", text)


def wrapped(text: str, letters: int) -> str:
    """In lines of so many letters, of which none breaks a formula that fits into one."""
    kept = _MARKED.sub(lambda found: _kept(found, letters), text)
    lines = textwrap.wrap(kept, letters, break_on_hyphens=False)
    return "\n".join(lines).replace(_SPACE, " ")


def _kept(found: re.Match[str], letters: int) -> str:
    return found[0].replace(" ", _SPACE) if len(found[1]) < letters else found[1]


def is_marked(text: str) -> bool:
    """Whether there is a formula in it."""
    return bool(_MARKED.search(text))


def typeset(text: str) -> str:
    r"""What matplotlib typesets; a dollar sign of the user's is one.

    Examples
    --------
    >>> print(typeset(f"5$: {mark('q = sigma**2*w[0]/2')}"))
    5\$: ${q} = {\sigma}^{2}\,{{w}_{0}} / 2$
    >>> print(typeset(mark("log(mean(q))")))
    $\log{\left(\mathrm{mean}({q}) \right)}$
    """
    parts = _MARKED.split(text)
    return "".join(_math(part) if place % 2 else part.replace("$", r"\$") for place, part in enumerate(parts))


@lru_cache(maxsize=512)
def _math(formula: str) -> str:
    sides = [_latex(side.strip()) for side in formula.split(" = ")]
    if len(formula) > _LONGEST or None in sides:
        return formula.replace("$", r"\$")
    return f"${' = '.join(side for side in sides if side)}$"


def _latex(formula: str) -> str | None:
    """A formula in TeX; None where it cannot be had."""
    import sympy
    from matplotlib.mathtext import MathTextParser
    from sympy.printing.latex import LatexPrinter

    if re.search(r"\bwhere\(", formula):  # a function of four arguments to SymPy: its condition would be gone
        return None
    try:
        called = WithCalls.parse(formula, _STATISTICS)
        calls = {name: rf"\mathrm{{{call.function}}}({_arguments(call)})" for name, call in called.calls.items()}
        formula = called.formula.text
        names = Formula.parse(formula).names
        elements = set(re.findall(r"\b([^\W\d]\w*\[\d+\])", formula))
        vectors = {base_name(one) for one in elements}
        symbols = {name: sympy.Symbol(calls.get(name) or _name(name)) for name in names - vectors}
        for vector in vectors:
            last = max(int(one.partition("[")[2][:-1]) for one in elements if base_name(one) == vector)
            symbols[vector] = [sympy.Symbol(f"{{{_name(vector)}_{{{index}}}}}") for index in range(last + 1)]
        expression = Formula.parse(formula).expression(symbols)
        decimals = {one: sympy.Float(one, 7) for one in expression.atoms(sympy.Rational) if one.q > _SMALL_DENOMINATOR}
        expression = expression.xreplace(decimals)  # 2.6282 is easier to read than 13141/5000
        powers = (one for one in expression.atoms(sympy.Pow) if one.exp.could_extract_minus_sign())
        # Over a number alone, a slash is clear: s/2*a is not s/(2*a).
        short = all(one.base.is_number for one in powers)
        printer = LatexPrinter({"fold_short_frac": short, "fold_frac_powers": True, "mul_symbol": r"\,"})
        printer._settings["symbol_names"] = {symbol: symbol.name for symbol in expression.free_symbols}
        text = printer.doprint(expression)
        MathTextParser("path").parse(f"${text}$")
    except (InputError, ValueError, TypeError, RuntimeError):
        return None
    return str(text)


def _arguments(call: Call) -> str:
    """What a statistic is of; where that is no formula, its names stay as they are."""
    found = [_latex(one) for one in call.arguments]
    if None in found:
        raise InputError(call.text)
    return r",\,".join(one for one in found if one)


def _name(name: str) -> str:
    r"""A name as a physicist would set it.

    Examples
    --------
    >>> _name("sigma"), _name("a0"), _name("learning_rate"), _name("loss")
    ('{\\sigma}', '{a_{0}}', '{\\eta}', '{\\mathrm{loss}}')
    """
    from sympy.printing.latex import tex_greek_dictionary
    from sympy.printing.pretty.pretty_symbology import greek_letters

    if name in _OURS:
        return f"{{{_OURS[name]}}}"
    letters, digits = re.fullmatch(r"(.*?)_?(\d*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    if letters.lower() in (*greek_letters, "lambda"):
        base = tex_greek_dictionary.get(letters, rf"\{letters}")
    else:
        base = letters if len(letters) == 1 else rf"\mathrm{{{letters}}}".replace("_", r"\_")
    return f"{{{base}_{{{digits}}}}}" if digits else f"{{{base}}}"
