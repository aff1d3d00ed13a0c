"""The sections of `sgdsim theory`: numbers against closed forms, reasons where something does not apply."""

from __future__ import annotations

import json
import re

import pytest

from sgdsim.app.theory_entries import Entry, Section, to_json, to_text
from sgdsim.app.theory_report import report, report_of, section
from sgdsim.app.theory_sections import SECTIONS
from sgdsim.base.errors import InputError
from sgdsim.input.loading import load_scenario
from sgdsim.input.subject import scenario_of


def entries(title: str, subject: str, **options: object) -> dict[str, Entry]:
    found = section(title, scenario_of(subject, **options).runs[0])
    assert not found.reason, found.reason
    return {entry.name: entry for entry in found.entries}


def reason(title: str, subject: str, **options: object) -> str:
    return section(title, scenario_of(subject, **options).runs[0]).reason


QUADRATIC = {"noise": ["z=normal"], "learning_rate": "0.5"}


def test_entropic_loss_and_force_are_formulas() -> None:
    found = entries("Entropic loss", "a*x**2/2 + s*z*x", constants=["a=2", "s=3"], noise=["z=normal"])
    assert found["E|g|^2"].value == "a**2*x**2 + s**2"
    assert found["phi"].value == "a*x**2/2 + learning_rate*(a**2*x**2 + s**2)/4"
    assert found["entropic force on x"].value == "-a**2*learning_rate*x/2"
    assert found["gradient noise covariance(x, x)"].value == "s**2"


def test_what_has_no_closed_form_is_numerical() -> None:
    found = entries("At the start", "log(1 + (x - z)**2)", noise=["z=normal"])
    assert found["L"].note == "numerical"
    # E log(1 + (1 - z)^2), by mpmath.quad to 15 digits.
    mpmath = pytest.importorskip("mpmath")
    exact = mpmath.quad(lambda z: mpmath.log(1 + (1 - z) ** 2) * mpmath.npdf(z), [-mpmath.inf, 0, mpmath.inf])
    assert float(found["L"].value) == pytest.approx(float(exact), rel=1e-9)
    assert "no closed form" in str(entries("Entropic loss", "log(1 + (x - z)**2)", noise=["z=normal"])[""].value)


@pytest.mark.parametrize("title", ["Exact moments of the stationary law", "Exact chain, stationary law"])
def test_the_stationary_variance_is_exact(title: str) -> None:
    found = entries(title, "x**2/2 + z*x", **QUADRATIC)
    assert float(found["variance(x)"].value) == pytest.approx(1 / 3, rel=1e-8)


def test_a_small_matrix_has_exact_moments_by_entries() -> None:
    """Each entry is the quadratic with additive noise, of its own."""
    found = entries(
        "Exact moments of the stationary law", "norm2(W - V)/2 + dot(W, Z)", noise=["Z[1,2]=normal"],
        constants=["V=[[1,3]]"], parameters=["W[1,2]"], learning_rate="0.5",
    )  # fmt: skip
    assert float(found["mean(W[0,1])"].value) == pytest.approx(3, rel=1e-8)
    assert float(found["variance(W[0,1])"].value) == pytest.approx(1 / 3, rel=1e-8)


def test_sections_of_matrices_that_are_too_large_say_so_at_once() -> None:
    """By operations, and by terms; in no section is anything expanded first."""
    for size, message in ((6, "about [0-9,]+ operations"), (3, "about [0-9,]+ terms")):
        subject = "norm2(W2@W1@W2@x)" if size == 3 else "norm2(W2@W1@x)"
        parameters = [f"W1[{size},{size}]", f"W2[{size},{size}]"]
        run = scenario_of(subject, noise=[f"x[{size}]=normal"], parameters=parameters).runs[0]
        found = [section(title, run) for title in SECTIONS]
        assert all(re.search(message, one.reason) for one in found), [one.reason for one in found]


def test_the_gibbs_law_stands_beside_its_leading_order() -> None:
    found = entries("Gibbs law", "x**2/2 + z*x", noise=["z=normal"], learning_rate="0.1")
    assert float(found["variance(x)"].value) == pytest.approx(0.0525)
    assert float(found["variance(x), uncorrected"].value) == pytest.approx(0.05)


def test_flattening_and_sharpening() -> None:
    """The scalar net only flattens; anisotropic label noise sharpens beyond the flattest point."""
    title, name = "At the minimum below the start", "change of Tr H in a step, by the entropic force"
    flat = entries(title, "(u*w - 1 - z)**2/2", noise=["z=normal"], parameters=["u=2", "w=0.5"])[name]
    # dN/dk = -eta^2 sigma^2 Q^2/N with Q = u^2 - w^2 = 3.75 and N = u^2 + w^2 = 4.25.
    assert float(flat.value) == pytest.approx(-1e-4 * 3.75**2 / 4.25)
    assert "flattening" in flat.note
    toy = "((v*u - 1 - 0.4*y)**2 + (w*u - 1.2*z)**2)/2"
    sharp = entries(title, toy, noise=["y=normal", "z=normal"], parameters=["u=0.7", f"v={1 / 0.7}", "w=0"])[name]
    # PRH-8 with U = u^2: dU/dk = eta^2 (s1^2/U - U (s1^2 + s2^2))/(1 + 1/U^2), Tr H = 1/U + 2 U.
    drift = 1e-4 * (0.16 / 0.49 - 0.49 * 1.6) / (1 + 1 / 0.49**2)
    assert float(sharp.value) == pytest.approx((2 - 1 / 0.49**2) * drift)
    assert "sharpening" in sharp.note


def test_symmetries_say_what_breaks_them() -> None:
    found = entries(
        "Symmetries", "(u*w - z)**2/2", noise=["z=normal"], symmetries=["rescale:u:1,w:-1", "permutation:u,w"]
    )
    assert found["rescale"].value == "an entropic force breaks it"
    assert found["balance law of rescale"].value == "E[gradient(u)**2 - gradient(w)**2] = 0"
    assert str(found["permutation"].value).startswith("discrete")
    shift = entries("Symmetries", "(u - w - z)**2/2", noise=["z=normal"], symmetries=["translation:u,w"])
    assert str(shift["translation"].value).startswith("not broken")


def test_weight_decay_moves_the_balance() -> None:
    options = {"noise": ["z=normal"], "symmetries": ["rescale:u:1,w:-1"], "weight_decay": "0.1", "learning_rate": "0.5"}
    found = entries("Symmetries", "(u*w - z)**2/2", **options)
    # (2/eta^2)*(1 - (1 - 0.05)^2)
    assert found["balance law of rescale"].value == "E[gradient(u)**2 - gradient(w)**2] = 0.78*E[charge]"


def test_the_mean_of_the_modified_equation_is_not_the_flow_of_phi() -> None:
    found = entries("Flows, at the end of the run", "(u*w - z)**2/2", noise=["z=normal"], learning_rate="0.1", steps=10)
    assert float(found["mean(u)"].value) != pytest.approx(float(found["u by the flow of phi"].value), rel=1e-3)


def test_a_linear_response_is_refused_where_the_bottom_is_flat() -> None:
    found = entries("At the minimum below the start", "x**4/4 + z*x", noise=["z=normal"], parameters=["x=0.5"])
    assert "no linear response" in str(found[""].value)


def test_a_correction_out_of_its_range_is_not_printed() -> None:
    options = {"noise": ["z=normal"], "parameters": ["x=0.5"], "learning_rate": "0.05"}
    assert "too long a time" in str(entries("Flows, at the end of the run", "x**4/4 + z*x", **options)[""].value)


def test_the_last_rate_of_a_schedule_is_said() -> None:
    options = {"noise": ["z=normal"], "learning_rate": "cosine:0.1,0.001", "steps": 200}
    found = entries("Exact moments of the stationary law", "x**2/2 + z*x", **options)
    assert "may not come to rest" in found["learning rate"].note


def test_tails() -> None:
    found = entries("Collapse and tails", "(x*t - e)**2/2", noise=["x=normal", "e=normal"], learning_rate="0.8")
    assert float(found["tail exponent"].value) == pytest.approx(1.546, abs=1e-3)
    assert "variance does not" in found["tail exponent"].note


@pytest.mark.parametrize(
    ("title", "subject", "options", "why"),
    [
        ("At the minimum below the start", "exp(-x) + z*x", {"noise": ["z=normal"]}, "no minimum"),
        ("At the minimum below the start", "-x**2/2 + z*x", {"noise": ["z=normal"]}, "saddle"),
        ("Gibbs law", "(u*w - z)**2/2", {"noise": ["z=normal"]}, "depends on the parameters"),
        ("Gibbs law", "x**2/2", {}, "no noise"),
        ("Entropic loss", "x**2/2 + z*x", {"noise": ["z=normal"], "optimizer": "adam"}, "adam"),
        ("Exact chain, stationary law", "(u*v*w - z)**2/2", {"noise": ["z=normal"]}, "parameters"),
        ("Exact moments of the stationary law", "x**4 + z*x", {"noise": ["z=normal"]}, "affine"),
        ("Collapse and tails", "(u*w - z)**2/2", {"noise": ["z=normal"]}, "2 parameters"),
        ("Collapse and tails", "abs(x - z)", {"noise": ["z=laplace"]}, "jumps or kinks"),
        ("At the start", "log(x)", {"parameters": ["x=-1"]}, "nan"),
        ("Flows, at the end of the run", "sqrt(x)", {"parameters": ["x=-1"]}, "not finite at the start"),
        ("Flows, at the end of the run", "abs(x)", {"steps": 10000}, "slopes"),
        ("Gibbs law", "x**2/2 + z*x", {"noise": ["z=normal"], "learning_rate": "3"}, "not stable"),
        ("Identities of the symmetries, worst residual", "x**2", {}, "no symmetry"),
        ("At the start", "z*x**2", {"noise": ["z=student_t:0.5"]}, "does not exist"),
    ],
)
def test_every_section_says_why_it_does_not_apply(
    title: str, subject: str, options: dict[str, object], why: str
) -> None:
    assert why in reason(title, subject, **options)


def test_the_other_sections_still_appear() -> None:
    text = to_text(report(scenario_of("-x**2/2 + z*x", noise=["z=normal"]).runs[0]))
    assert "At the minimum below the start:\n  does not apply" in text
    assert "phi = " in text


def test_predictions_of_a_scenario_are_listed() -> None:
    last = report_of(load_scenario("river_valley"))[-1]
    assert any(entry.name == "valley: variance(x)" for entry in last.entries)
    with pytest.raises(InputError, match="--point: 3, expected 0 to 0"):
        report_of(load_scenario("river_valley"), 3)


def test_json_is_strict() -> None:
    sections = [Section("A", (Entry("x", float("inf"), 0.0), Entry("y", "f(x)")))]
    (section,) = json.loads(to_json(sections), parse_constant=pytest.fail)
    assert [entry["value"] for entry in section["entries"]] == [None, "f(x)"]


def test_symmetries_that_are_not_declared_have_their_charge_and_balance_law() -> None:
    options = {"noise": ["x=normal", "y=normal"], "parameters": ["u=1.6", "w=0.5"]}
    found = entries("Symmetries that are not declared", "(u*w*x - y)**2/2", **options)
    assert found["charge of rescale"].value == "u**2/2 - w**2/2"
    assert found["rescale"].value == "an entropic force breaks it"
    assert found["map of permutation"].value == "u -> w, w -> u"
    none = reason("Symmetries that are not declared", "(u*w*x - y)**2/2 + u*y", **options)
    assert none == "there are none"


@pytest.mark.validate
def test_symmetries_are_not_looked_for_where_nobody_wants_it() -> None:
    scenario = scenario_of("(u*w*x - y)**2/2", noise=["x=normal", "y=normal"])
    titles = [section.title for section in report_of(scenario, find_symmetries=False)]
    assert "Symmetries" in titles
    assert "Symmetries that are not declared" not in titles
