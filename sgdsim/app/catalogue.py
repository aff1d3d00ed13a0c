"""Texts about the content of a file, and lists of losses, laws, optimizers and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sgdsim.app.flaws import known_flaw
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.ensemble import Ensemble

if TYPE_CHECKING:
    from sgdsim.model.symmetry import Symmetry
    from sgdsim.model.update_rules import Rule


def summary(ensemble: Ensemble) -> str:
    """One line about a run: its size, its speed, and how many trajectories diverged.

    Examples
    --------
    >>> from sgdsim.ensemble import Variable
    >>> attributes = {"wall_seconds": 2.0, "compile_seconds": 4.0, "trajectory_steps_per_second": 1e9}
    >>> summary(Ensemble({"status": Variable(("trajectory",), [0, 0])}, attributes))
    '2 trajectories in 2.0 s, 1.00e+09 trajectory-steps/s (kernels ready after 4.0 s)'
    """
    attributes, status = ensemble.attributes, ensemble.variables["status"]
    seconds, compiling = float(attributes["wall_seconds"]), float(attributes["compile_seconds"])
    rate = float(attributes["trajectory_steps_per_second"])
    count = " x ".join(f"{size:,}" for size in status.shape)  # points of a sweep first
    text = f"{count} trajectories in {seconds:.1f} s, {rate:.2e} trajectory-steps/s"
    text += f" (kernels ready after {compiling:.1f} s)"
    if attributes.get("target", "cpu") != "cpu":
        text += f" on {attributes['target']}"
    if "device_choice" in attributes:
        text += f"; device auto: {attributes['device_choice']}"
    return "; WARNING: ".join([text, *_lost(ensemble)])


def _lost(ensemble: Ensemble) -> list[str]:
    """Numbers of excluded trajectories, in words, with the reason."""
    diverged = ensemble.variables["status"].nonzero
    undefined = ensemble.variables["not_a_number"].nonzero if "not_a_number" in ensemble else 0
    ends = [(diverged - undefined, "diverged"), (undefined, f"became not a number ({_UNDEFINED})")]
    return [f"{number:,} {end} and are excluded" for number, end in ends if number]


_UNDEFINED = "a root, power or logarithm of a negative number, or a division by zero"


def describe(ensemble: Ensemble) -> str:
    """Text about an ensemble: known errors, dimensions, variables and provenance.

    Examples
    --------
    >>> from sgdsim.ensemble import Variable
    >>> print(describe(Ensemble({"status": Variable(("trajectory",), [0, 0])}, {"seed": "7"})))
    Dimensions: trajectory = 2
    ...
    """
    flaw = known_flaw(ensemble)
    lines = [
        *([f"WARNING: {flaw}", ""] if flaw else []),
        "Dimensions: " + ", ".join(f"{name} = {size}" for name, size in ensemble.sizes.items()),
        "",
        "Variables:",
    ]
    for name in ensemble.names:
        variable = ensemble.variables[name]
        axes = ", ".join(variable.dimensions)
        lines.append(f"  {name} ({axes}): {variable.attributes.get('long_name', '')}")
    lines += ["", "Provenance:"]
    lines += [f"  {key}: {value}" for key, value in ensemble.attributes.items() if key != "scenario"]
    lines += [
        "",
        "Scenario:",
        *(f"  {line}" for line in str(ensemble.attributes.get("scenario", "")).splitlines()),
    ]
    return "\n".join(lines)


def contents(ensemble: Ensemble) -> dict[str, Any]:
    """Content of `describe` as data.

    Examples
    --------
    >>> from sgdsim.ensemble import Variable
    >>> contents(Ensemble({"status": Variable(("trajectory",), [0, 0])}, {"seed": "7"}))["dimensions"]
    {'trajectory': 2}
    """
    return {
        "warning": known_flaw(ensemble),
        "dimensions": ensemble.sizes,
        "variables": {
            name: {"dimensions": one.dimensions, "long_name": one.attributes.get("long_name", "")}
            for name, one in ensemble.variables.items()
        },
        "attributes": ensemble.attributes,
    }


def _losses() -> dict[str, str]:
    from sgdsim.model.losses import CATALOGUE

    return {name: _first_line(family) for name, family in CATALOGUE.items()}


def _scenarios() -> dict[str, str]:
    import tomllib

    from sgdsim.input.scenario import shipped

    return {name: tomllib.loads(path.read_text(encoding="utf-8"))["title"] for name, path in shipped().items()}


def _predictions() -> dict[str, str]:
    from sgdsim.theory import LAWS

    return {name: f"{law.title}. Holds for: {law.holds}. Source: {law.source}" for name, law in LAWS.items()}


def _optimizers() -> dict[str, str]:
    from sgdsim.model.update_rules import OPTIMIZERS

    return {
        _with_defaults(name, rule): "; ".join(
            [*(f"{n} = {f}" for n, f in (*rule.scalars, *rule.assignments)), _step(rule)]
        )
        for name, rule in OPTIMIZERS.items()
    }


def _schedules() -> dict[str, str]:
    from sgdsim.model.schedules import SCHEDULES

    return {
        f"{name}:{','.join(family.arguments)}": family.formula
        + (f"; stage = {family.stage}, rounded down" if family.stage else "")
        for name, family in SCHEDULES.items()
    }


def _distributions() -> dict[str, str]:
    from sgdsim.model.noise import FAMILIES, TABLE

    families = {
        f"{name}:{','.join(family.arguments)}" if family.arguments else name: family.formula
        for name, family in FAMILIES.items()
    }
    return {**families, f"{TABLE}:value@probability,…": "each value with its probability"}


def _symmetries() -> dict[str, str]:
    from sgdsim.model.symmetry import KINDS, Symmetry

    return {short: _moves(Symmetry.parse(short)) for short in KINDS.values()}


def _samplings() -> dict[str, str]:
    from sgdsim.model.data import SAMPLINGS

    return dict(SAMPLINGS)


def _functions() -> dict[str, str]:
    from sgdsim.formulas.names import FUNCTIONS

    meanings = {
        "step": "1 for x > 0, else 0",
        "relu": "max(x, 0)",
        "softplus": "log(1 + exp(x))",
        "sigmoid": "1/(1 + exp(-x))",
        "where": "x where a < b, else y; with <, <=, > or >=",
        "sum": "of all coordinates of a vector or a matrix",
        "dot": "sum(v*w)",
        "norm2": "sum(w*w)",
        "transpose": "of a matrix, A.T",
        "outer": "the matrix of all v[i]*w[j]",
        "trace": "sum(diag(A))",
        "diag": "the diagonal of a matrix; of a vector, the matrix that has it",
        "eye": "the identity, 3 by 3",
        "alignment": "dot(K, L)/sqrt(norm2(K)*norm2(L)), the cosine between two kernels",
        "cka": "the alignment of the kernels of two linear representations, of inputs with the covariance S",
    }
    return {usage: meanings.get(name, "of numbers, or of each coordinate") for name, usage in FUNCTIONS.items()}


def _figures() -> dict[str, str]:
    from sgdsim.plots.drawing import KINDS

    return dict(KINDS)


KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "losses": _losses,
    "symmetries": _symmetries,
    "scenarios": _scenarios,
    "predictions": _predictions,
    "optimizers": _optimizers,
    "schedules": _schedules,
    "distributions": _distributions,
    "samplings": _samplings,
    "functions": _functions,
    "figures": _figures,
}


def catalogue(kind: str | None = None) -> str:
    """Text that lists everything of one kind, or of all kinds, with a line for each.

    Raises
    ------
    InputError
        For an unknown kind.

    Examples
    --------
    >>> print(catalogue("schedules"))
    schedules:
      constant:rate                          rate
      ...
    """
    sections = []
    for name, found in entries(kind).items():
        width = max(map(len, found), default=0)
        sections.append("\n".join([f"{name}:", *(f"  {key:{width}}  {text}" for key, text in found.items())]))
    return "\n\n".join(sections)


def entries(kind: str | None = None) -> dict[str, dict[str, str]]:
    """Descriptions of everything of one kind, or of all kinds, by kind and name.

    Raises
    ------
    InputError
        For an unknown kind.

    Examples
    --------
    >>> list(entries("samplings")["samplings"])
    ['replacement', 'batch', 'epoch']
    """
    if kind is not None and kind not in KINDS:
        raise InputError(unknown_name("kind", kind, KINDS))
    return {name: KINDS[name]() for name in ((kind,) if kind else KINDS)}


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0].replace("``", "")


def _moves(symmetry: Symmetry) -> str:
    if symmetry.layers:
        first, second, *_ = symmetry.layers
        return f"{first} -> A@{first}, {second} -> {second}@B, of matrices with A@B = 1"
    if symmetry.is_continuous:
        return "generator " + ", ".join(f"{name}: {formula}" for name, formula in symmetry.generator.items())
    return ", ".join(f"{name} -> {image}" for name, image in symmetry.image.items())


def _with_defaults(name: str, rule: Rule) -> str:
    """Name of an optimizer with its arguments and their defaults, as the command line takes it."""
    values = [f"{key}={'…' if value is None else value}" for key, value in rule.hyperparameters.items()]
    return f"{name}:{','.join(values)}" if values else name


def _step(rule: Rule) -> str:
    if rule.step:
        return f"{rule.step}; gradient at {rule.point}"
    kick = f" + {rule.kick}" if rule.kick else ""
    gradient = rule.direction.replace("gradient", "population_gradient") if rule.population else rule.direction
    return f"theta - learning_rate*({gradient}){kick}"
