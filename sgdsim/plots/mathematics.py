r"""Formulas in the texts of a figure: they are marked when a text is made, and typeset when it is drawn.

A mark is a pair of control characters, which no user's text contains. A formula that SymPy cannot print as LaTeX, or
that matplotlib cannot typeset, stays as the user wrote it.
"""

from __future__ import annotations

import math
import re
import textwrap
from functools import lru_cache

from sgdsim.base.errors import InputError
from sgdsim.formulas.calls import Call, WithCalls
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.vectors import base_name
from sgdsim.plots.as_written import NoTex, tex
from sgdsim.prediction import STATISTICS

LETTER = 0.54
"""Mean width of a letter of DejaVu Sans, relative to the size of the font."""
_SIZE = 10  # size in points at which the width of formulas is measured
_BEGIN, _END = "\x02", "\x03"
_MARKED = re.compile(f"{_BEGIN}([^{_END}]*){_END}")
_PLACE = re.compile(f"{_BEGIN}{_END}*")
_SPACE = "\N{NO-BREAK SPACE}"  # space at which a line is not broken
_LONGEST = 240  # characters of the longest formula that is typeset; a figure has no room for longer ones
_SMALL_DENOMINATOR = 100
_DECIMAL = re.compile(r"(?<![\w.])\d*\.\d+")
_STATISTICS = (*STATISTICS, "covariance", "median", "quantile", "slope", "density", "tail", "expect")
_OURS = {"learning_rate": r"\eta", "weight_decay": r"\lambda", "steps": "N", "t": "t", "time": "T"}


def mark(formula: object) -> str:
    """Text in which a formula is marked, so that it will be typeset."""
    return f"{_BEGIN}{formula}{_END}"


def plain(text: str) -> str:
    """Text without marks, as the user would write it.

    Examples
    --------
    >>> plain(f"mean of {mark('x**2')}")
    'mean of x**2'
    """
    return _MARKED.sub(r"\1", text)


def wrapped(text: str, most: int) -> str:
    """Text in lines of at most ``most`` letters; no formula that fits into a line is broken."""
    formulas: list[str] = []

    def kept(found: re.Match[str]) -> str:
        width = letters(found[0])
        if width >= most or not is_typeset(found[0]):
            return found[1] if len(found[1]) >= most else found[1].replace(" ", _SPACE)
        formulas.append(found[0])
        return _BEGIN + _END * (width - 1)

    lines = textwrap.wrap(_MARKED.sub(kept, text), most, break_on_hyphens=False)
    whole = iter(formulas)
    return _PLACE.sub(lambda _: next(whole), "\n".join(lines)).replace(_SPACE, " ")


def letters(text: str) -> int:
    """Approximate width of a text in letters when it is typeset.

    Examples
    --------
    >>> letters("mean of x"), letters(mark("learning_rate*s")), letters(mark("sqrt(weight_decay) + 1"))
    (9, 3, 7)
    """
    parts = _MARKED.split(text)
    return sum(_width(_math(part)) if place % 2 else len(part) for place, part in enumerate(parts))


@lru_cache(maxsize=512)
def _width(formula: str) -> int:
    if not formula.startswith("$"):
        return len(formula)
    from matplotlib.font_manager import FontProperties
    from matplotlib.mathtext import MathTextParser

    width, *_ = MathTextParser("path").parse(formula, 72, FontProperties(size=_SIZE))
    return math.ceil(width / (LETTER * _SIZE))


def is_typeset(text: str) -> bool:
    """True if every formula in a text can be typeset."""
    return all(_math(found[1]).startswith("$") for found in _MARKED.finditer(text))


def is_marked(text: str) -> bool:
    """True if a text contains a marked formula."""
    return bool(_MARKED.search(text))


def typeset(text: str) -> str:
    r"""Text in matplotlib's notation, with formulas between dollar signs; a dollar sign of the user's is escaped.

    Examples
    --------
    >>> print(typeset(f"5$: {mark('q = sigma**2*w[0]/2')}"))
    5\$: ${q} = {\sigma}^{2}\,{{w}_{0}} / 2$
    >>> print(typeset(mark("0.1*log(abs(x))")))  # as it was written, and not as 1/10
    $0.1\,\log{\left(\left|{{x}}\right| \right)}$
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
    """TeX of a formula; None if there is none."""
    from matplotlib.mathtext import MathTextParser

    text = _sorted(formula) or _as_written(formula)
    try:
        MathTextParser("path").parse(f"${text}$")
    except (ValueError, RuntimeError):
        return None
    return text


def _as_written(formula: str) -> str | None:
    try:
        return tex(formula, _name)
    except NoTex:
        return None


def _sorted(formula: str) -> str | None:
    """TeX of a formula as SymPy simplifies and sorts it; None unless it is plain arithmetic of numbers."""
    import sympy
    from sympy.printing.latex import LatexPrinter

    class _Printer(LatexPrinter):  # type: ignore[misc]
        def _as_ordered_terms(self, expr: sympy.Expr, order: str | None = None) -> list[sympy.Expr]:
            """Terms of a sum with negative ones last: 2 - x is easier to read than -x + 2."""
            terms = super()._as_ordered_terms(expr, order)
            return sorted(terms, key=lambda one: bool(one.could_extract_minus_sign()))

        def _print_ExpBase(self, expr: sympy.exp, exp: str | None = None) -> str:
            """TeX of an exponential; a fraction is not set as an exponent, where its letters would be too small."""
            text = self._print(expr.exp)
            if r"\frac" not in text:
                return str(super()._print_ExpBase(expr, exp))
            power = f"^{{{exp}}}" if exp else ""
            return rf"\exp{power}{{\left({text} \right)}}"

        _in_fraction = False

        def _print_Mul(self, expr: sympy.Mul) -> str:
            """Within a fraction beside each other: letters would be too small."""
            before, folds = self._in_fraction, self._settings["fold_short_frac"]
            self._settings["fold_short_frac"] = folds or before
            self._in_fraction = before or sympy.fraction(expr, exact=True)[1] != 1
            try:
                return str(super()._print_Mul(expr))
            finally:
                self._in_fraction, self._settings["fold_short_frac"] = before, folds

        def _print_abs(self, expr: sympy.Expr, exp: str | None = None) -> str:
            return str(self._print_Abs(expr, exp))

    if re.search(r"\bwhere\(", formula):  # SymPy has it as a function of four arguments, without the condition
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
        written = {sympy.Rational(found[0]) for found in _DECIMAL.finditer(formula)}
        fractions = [one for one in expression.atoms(sympy.Rational) if one.q > 1]
        long = (one for one in fractions if one.q > _SMALL_DENOMINATOR or {one, -one} & written)
        decimals = {one: sympy.Float(one, 7) for one in long}
        expression = expression.xreplace(decimals)  # 2.6282 is easier to read than 13141/5000
        powers = (one for one in expression.atoms(sympy.Pow) if one.exp.could_extract_minus_sign())
        # A slash is used before a single number only, where it is clear: s/2*a is not s/(2*a).
        short = all(one.base.is_number for one in powers)
        printer = _Printer({"fold_short_frac": short, "fold_frac_powers": True, "mul_symbol": r"\,"})
        printer._settings["symbol_names"] = {symbol: symbol.name for symbol in expression.free_symbols}
        return str(printer.doprint(expression))
    except (InputError, ValueError, TypeError, RuntimeError):
        return None


def _arguments(call: Call) -> str:
    """TeX of the arguments of a statistic; names that are not formulas stay as they are."""
    found = [_sorted(one) or _as_written(one) for one in call.arguments]
    if None in found:
        raise InputError(call.text)
    return r",\,".join(one for one in found if one)


def _name(name: str) -> str:
    r"""TeX of a name as a physicist would typeset it.

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
