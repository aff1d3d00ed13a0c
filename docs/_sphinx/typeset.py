"""Formulas as docstrings write them, ``v = eta*sigma^2/(2*T_eff)``, in LaTeX."""

from __future__ import annotations

import re

_GREEK = {
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "pi",
}
_GREEK |= {
    "rho",
    "sigma",
    "tau",
    "phi",
    "chi",
    "psi",
    "omega",
    "Delta",
    "Gamma",
    "Lambda",
    "Omega",
    "Phi",
    "Psi",
    "Sigma",
}
_FUNCTIONS = {"ln", "log", "exp", "sin", "cos", "tanh", "min", "max", "det"}
_NAMED = {
    "sum": r"\sum",
    "grad": r"\nabla",
    "inf": r"\infty",
    "Laplacian": r"\Delta ",
    "int": r"\int",
    "sqrt": r"\surd",
}
_UPRIGHT = {"Var", "Cov", "Tr", "tr", "E", "diag", "sign", "step", "erf", "KL", "trace"}
_TOKEN = re.compile(r"\\?[A-Za-z]+|\d+(?:\.\d+)?(?:e-?\d+)?|->|<->|>=|<=|!=|\s+|.")
_SIGNS = {"*": r"\,", "->": r"\to ", "<->": r"\leftrightarrow ", ">=": r"\ge ", "<=": r"\le ", "!=": r"\ne "}
_SIGNS |= {
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "#": r"\#",
    "&": r"\&",
    "|": "|",
    "~": r"\sim ",
    "·": r"\cdot ",
    "…": r"\ldots ",
    "⋆": "*",
}
_ESCAPED = re.compile(r"[<>_$\\|\[\]](?![^\s]*[*^])")
# In plain text: what has a product or a power within it.
_BARE = re.compile(r"(?<![\w*])[\w(][^\s,;:*^]*[*^][\w(](?:[^\s,;:]*[\w)'])?")
_CLOSING = {"(": ")", "[": "]"}


def latex(formula: str) -> str:
    """A formula of a docstring in LaTeX; words in it stay words.

    Parameters
    ----------
    formula
        With ``*``, ``^``, ``_``, names of Greek letters, ``<x>`` for a mean and ``sqrt``.
    """
    starred = re.sub(r"(?<=\w)\*(?=[\s,;]|$)", "^⋆", formula)
    numbered = re.sub(r"(?<![\w.])([A-Za-z]|alpha|beta)(\d)(?!\d)", r"\1_\2", starred)
    return re.sub(r" \} +\\text\{ ", " ", _join(_TOKEN.findall(numbered)))


def _join(tokens: list[str]) -> str:
    text, at = "", 0
    while at < len(tokens):
        token = tokens[at]
        if token in "^_" and at + 1 < len(tokens):
            inner, at = _group(tokens, at + 1)
            text += f"{token}{{{inner}}}"
            continue
        if token == "sqrt" and tokens[at + 1 : at + 2] == ["("]:
            inner, at = _group(tokens, at + 1)
            text += rf"\sqrt{{{inner}}}"
            continue
        text += _one(tokens, at)
        at += 1
    return text


def _group(tokens: list[str], at: int) -> tuple[str, int]:
    """Argument of a sign, without the brackets around it, and the position of its end."""
    if tokens[at] in "+-":
        inner, end = _group(tokens, at + 1)
        return tokens[at] + inner, end
    token = tokens[at]
    if token not in _CLOSING:
        if _is_word(token) and len(token) == 2:
            return token, at + 1
        return (rf"\mathrm{{{token}}}" if _is_word(token) else _one(tokens, at)), at + 1
    depth = 0
    for end in range(at, len(tokens)):
        depth += (tokens[end] == tokens[at]) - (tokens[end] == _CLOSING[tokens[at]])
        if not depth:
            return _join(tokens[at + 1 : end]), end + 1
    return _one(tokens, at), at + 1


def _is_word(token: str) -> bool:
    return len(token) > 1 and token.isalpha() and token.isascii() and token not in _GREEK | _FUNCTIONS | set(_NAMED)


def _one(tokens: list[str], at: int) -> str:
    token = tokens[at]
    before, after = tokens[at - 1] if at else " ", tokens[at + 1] if at + 1 < len(tokens) else " "
    if token.isspace():
        return r"\qquad " if len(token) > 1 else " "
    if token in "<>":
        comparison, mean = (r"< ", r"\langle ") if token == "<" else (r"> ", r"\rangle ")
        return comparison if (after if token == "<" else before).isspace() else mean
    if token in _UPRIGHT:
        return rf"\mathrm{{{token}}}" + r"\," * after.isspace()
    return _name(token) or (_words(token, before, after) if _is_word(token) else _SIGNS.get(token, token))


def _name(token: str) -> str:
    """A name that LaTeX knows, also as a differential; nothing for others."""
    if token in _GREEK | _FUNCTIONS:
        return rf"\{token} "
    if token[:1] == "d" and token[1:] in _GREEK:
        return rf"d\{token[1:]} "
    return _NAMED.get(token, token if re.fullmatch("d[A-Za-z]", token) else "")


def _words(token: str, before: str, after: str) -> str:
    return rf"\text{{{' ' * before.isspace()}{token}{' ' * after.isspace()}}}"


def markdown(docstring: str) -> str:
    """A docstring as MyST: indented blocks and double backticks become formulas.

    Parameters
    ----------
    docstring
        Its text, without the indentation.
    """
    blocks = re.split(r"\n\s*\n", docstring.strip())
    return "\n\n".join(_display(block) if re.match(r"\s", block) else _prose(block) for block in blocks)


def _display(block: str) -> str:
    lines = [latex(line.strip()) for line in block.splitlines()]
    if len(lines) == 1:
        return f"$$\n{lines[0]}\n$$"
    return "$$\n\\begin{aligned}\n" + " \\\\\n".join(f"& {line}" for line in lines) + "\n\\end{aligned}\n$$"


def _prose(block: str) -> str:
    pieces = re.split(r"(``[^`]+``|`[^`]+`)", block)
    return "".join(_inline(piece) for piece in pieces)


def _inline(piece: str) -> str:
    if not piece.startswith("`"):
        return _BARE.sub(lambda found: f"${latex(found[0])}$", _ESCAPED.sub(r"\\\g<0>", piece))
    inner = " ".join(piece.strip("`").split())
    named = any(name not in _GREEK for name in re.findall(r"([a-z]{2,})_[a-z]{2,}", inner))
    is_code = not piece.startswith("``") or named or re.search(r"\"|--|^[a-z]+$", inner)
    return f"`{inner}`" if is_code else f"${latex(inner)}$"
