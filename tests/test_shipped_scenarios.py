"""Shipped scenarios against their predictions: seven, small; in `make validate` all in full, and with other seeds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scipy.stats import poisson

from sgdsim.app.families import FAMILIES
from sgdsim.app.verdicts import Report, compare_file
from sgdsim.app.workflow import run_parts
from sgdsim.input.loading import load_parts
from sgdsim.input.scenario import shipped
from sgdsim.statistics.order_test import ASK_FOR_A_TERM
from tests.samples import daily

SMALL = 20_000
FEW = (
    "river_valley",
    "equipartition",
    "second_law",
    "rescaling",
    "discrete_symmetry",
    "entropic_loss",
    "feedback_alignment",
)
UNDECIDED = {"entropy": 1, "platonic": 1}
"""Rows that are not decided. Where an orbit has two points, each with half of all, the error of its entropy vanishes to
first order, and Student's t is not its law. The score that sees other teachers would need 0.7 of the learning rates,
and so twice the steps."""
FEW_PARTS = 1
"""The kernels of all parts take minutes to compile; they run in `make validate`."""


def report(folder: Path, name: str, predictions: tuple[str, ...] = (), parts: int | None = None, **run: int) -> Report:
    path = folder / f"{Path(name).stem}.h5"
    scenarios = load_parts(name, {f"run.{key}": value for key, value in run.items()}, predictions)
    run_parts(scenarios[:parts], path, overwrite=True)
    return compare_file(path)


@pytest.mark.parametrize("name", daily(FEW, "river_valley", "equipartition", "rescaling"))
def test_nothing_disagrees_in_a_small_run(name, tmp_path):
    """Family-wise false-alarm rate 1e-3 each, with fixed seeds; so few trajectories need not reject every control."""
    found = report(tmp_path, name, parts=FEW_PARTS, trajectories=SMALL)
    assert found.comparisons
    assert not found.skipped
    assert not any(row.verdict == "disagrees" for row in found.comparisons if row.expect == "agrees"), found.table()


def test_a_wrong_claim_is_rejected_and_the_right_one_is_not(tmp_path):
    """The negative control: 3 % off in the variance, 20 standard errors with 500,000 trajectories."""
    exact = "learning_rate*sigma**2/(a0*(2 - learning_rate*a0))"
    claims = (f"variance(x) = {exact}; resolution=3%", f"variance(x) = 1.03*{exact}", "mean(thermal_loss) = 0.025")
    found = report(tmp_path, "river_valley", claims, trajectories=500_000, steps=400)
    verdicts = [row.verdict for row in found.comparisons if row.id.startswith("user-")]
    assert verdicts[1:] == ["agrees", "disagrees", "disagrees"], found.table()


OTHER_SEEDS = (1, 2, 3, 4)
at_the_edge = pytest.mark.filterwarnings("ignore:.*trajectories may diverge:RuntimeWarning")
"""Of parts that start where gradient descent is unstable, which is what they are about."""
IN_TENTHS = (*FAMILIES["entropic"], *FAMILIES["networks"])
"""Whose other seeds have a tenth of the trajectories: these families take half an hour in full."""
FEWEST = 4096
"""Trajectories below which a tenth is not taken: 16 groups, the fewest that errors are had from."""


@pytest.mark.validate
@at_the_edge
@pytest.mark.parametrize(
    ("name", "seed"),
    [(name, seed) for name in shipped() for seed in (None, *OTHER_SEEDS) if seed is None or name not in IN_TENTHS],
)
def test_everything_agrees_in_full(name, seed, tmp_path):
    """As shipped and with four other seeds; family-wise false-alarm rate 1e-3 each. All controls are rejected.

    With other seeds a few rows may be inconclusive, no more than chance explains at 1e-3: the chi-square of an order
    test asks for one more power in one of twenty, and groups of other rows, at most one in a hundred (one of 645 in a
    run of all), happen to be so skewed that a bootstrap judges them; either sees less.
    """
    found = report(tmp_path, name, **({} if seed is None else {"seed": seed}))
    assert not found.skipped
    assert not found.disagrees, found.table()
    allowed = UNDECIDED.get(name, 0)
    undecided = sum(row.outcome == "inconclusive" for row in found.comparisons)
    of_order = sum(isinstance(row.order, int) for row in found.comparisons)
    by_chance = poisson.isf(1e-3, ASK_FOR_A_TERM * of_order + 0.01 * (len(found.comparisons) - of_order))
    assert undecided <= (allowed if seed is None else allowed + by_chance), found.table()


@pytest.mark.validate
@at_the_edge
@pytest.mark.parametrize("seed", OTHER_SEEDS)
@pytest.mark.parametrize("name", IN_TENTHS)
def test_a_tenth_with_other_seeds(name, seed, tmp_path):
    """Family-wise false-alarm rate 1e-3 each. No control is taken for the truth: it is rejected, or cannot be told."""
    text = shipped()[name].read_text(encoding="utf-8")
    text = re.sub(r"(?m)^trajectories = ([\d_]+)", lambda found: f"trajectories = {a_tenth(int(found[1]))}", text)
    small = tmp_path / f"{name}.toml"
    small.write_text(text, encoding="utf-8")
    found = report(tmp_path, str(small), seed=seed)
    assert not found.skipped
    wrong = {"agrees": "disagrees", "disagrees": "agrees"}
    assert not any(row.verdict == wrong[row.expect] for row in found.comparisons), found.table()


def a_tenth(trajectories: int) -> int:
    return max(trajectories // 10, min(trajectories, FEWEST))
