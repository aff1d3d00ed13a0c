"""Charges in one step, path by path, against the step itself; decay and balance against naive simulation."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from sgdsim.formulas.evaluation import evaluate
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.symmetry import Symmetry
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods.charge_balance import Balance, balances, known_changes, relaxation_time

NORMAL = Noise.parse("normal")
FALSE_ALARM = 5.0  # |z|: 6e-7 for each comparison

NETS = {
    "product": Loss(
        "(u*w*x - y)**2/2", ("u", "w"), {}, {"x": NORMAL, "y": NORMAL}, symmetries=(Symmetry.parse("rescale:u:1,w:-1"),)
    ),
    "powers": Loss("(u**2*w - z)**2", ("u", "w"), {}, {"z": NORMAL}, symmetries=(Symmetry.parse("rescale:u:1,w:-2"),)),
    "scale": Loss(
        "(z*u**2 + w*u)/(u**2 + w**2)", ("u", "w"), {}, {"z": NORMAL}, symmetries=(Symmetry.parse("scale:u,w"),)
    ),
    "translation": Loss(
        "(u - 2*w - z)**4", ("u", "w"), {}, {"z": NORMAL}, symmetries=(Symmetry("t", {"u": "2", "w": "1"}),)
    ),
    "mixed": Loss(
        "z*(u**2 - w**2) + u**4 + w**4 - 2*u**2*w**2", ("u", "w"), {}, {"z": NORMAL},
        symmetries=(Symmetry.linear("boost", ("u", "w"), [[0, 1], [1, 0]]),),
    ),
}  # fmt: skip


def charge_of(balance: Balance, theta: np.ndarray) -> float:
    assert balance.charge is not None
    values = dict(zip(balance.loss.parameters, theta, strict=True)) | balance.loss.constants
    return float(evaluate([balance.charge], values)[0])


def slope_of(loss: Loss, theta: np.ndarray, random: np.random.Generator) -> np.ndarray:
    values = dict(zip(loss.parameters, theta, strict=True)) | loss.constants
    values |= {name: random.normal() for name in loss.noise}
    return np.array(evaluate(loss.gradient, values), dtype=float)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", NETS)
def test_the_change_in_one_step_is_exact_on_every_path(name: str, decay: float, batch: int) -> None:
    loss, random, rate = NETS[name], np.random.default_rng(1), 0.17
    balance = Balance(loss, Optimizer("sgd", {"weight_decay": decay}, batch_size=batch), loss.symmetries[0])
    assert balance.change is not None
    for _ in range(20):
        theta = random.normal(size=2)
        g = np.mean([slope_of(loss, theta, random) for _ in range(batch)], axis=0)
        after = theta - rate * (g + decay * theta)
        pushed = evaluate([balance.change], {s.name: x for s, x in zip(balance.batch_gradient, g, strict=True)})[0]
        start, expected = charge_of(balance, theta), charge_of(balance, after)
        found = balance.kept(rate) * start + rate**2 * pushed
        scale = np.abs(after).max() ** 2 + np.abs(theta).max() ** 2 + (rate * g) @ (rate * g)
        assert found == pytest.approx(expected, abs=1e-12 * scale)
        if name in ("product", "powers", "scale", "mixed") and not decay and np.abs(rate * g).max() > 1e-2:
            assert start != pytest.approx(expected, abs=1e-9 * scale)  # the flow would conserve it


def test_nt4_the_factor_of_the_charge_of_a_product() -> None:
    """Q' = Q (1 - eta^2 s^2), with decay Q' = [(1 - eta lam)^2 - eta^2 s^2] Q."""
    loss, random = NETS["product"], np.random.default_rng(2)
    for decay in (0.0, 0.4):
        balance = Balance(loss, Optimizer("sgd", {"weight_decay": decay}), loss.symmetries[0])
        for u, w, s, rate in random.normal(size=(1000, 4)):
            pushed = evaluate([balance.change], {"gradient(u)": s * w, "gradient(w)": s * u})[0]
            charge = charge_of(balance, np.array([u, w]))
            expected = ((1 - rate * decay) ** 2 - rate**2 * s**2) * charge
            found = balance.kept(rate) * charge + rate**2 * pushed
            assert found == pytest.approx(expected, abs=1e-12 * (1 + s**2 * rate**2) * (u * u + w * w))


@pytest.mark.parametrize("name", ["product", "powers", "translation", "scale"])
def test_a_matrix_of_learning_rates_has_a_charge_of_its_own(name: str) -> None:
    """theta^T A P^-1 theta/2 changes by (eta^2/2) g^T A P g, z^T P^-1 theta not at all."""
    loss, random, rate = NETS[name], np.random.default_rng(3), 0.2
    metric = np.diag([4.0, 0.5])
    balance = Balance(loss, Optimizer(preconditioner=("4", "0.5")), loss.symmetries[0])
    plain = Balance(loss, Optimizer(), loss.symmetries[0])
    differ = 0.0
    for _ in range(20):
        theta = random.normal(size=2)
        g = slope_of(loss, theta, random)
        after = theta - rate * metric @ g
        pushed = evaluate([balance.change], {s.name: x for s, x in zip(balance.batch_gradient, g, strict=True)})[0]
        scale = np.abs(after).max() ** 2 + np.abs(theta).max() ** 2
        assert charge_of(balance, theta) + rate**2 * pushed == pytest.approx(
            charge_of(balance, after), abs=1e-12 * scale
        )
        pushed = evaluate([plain.change], {s.name: x for s, x in zip(plain.batch_gradient, g, strict=True)})[0]
        differ = max(differ, abs(charge_of(plain, theta) + rate**2 * pushed - charge_of(plain, after)) / scale)
    assert differ > 1e-3  # the charge of equal rates does not do it


def test_a_matrix_that_does_not_fit_the_generator_leaves_no_charge() -> None:
    loss = NETS["product"]
    assert Balance(loss, Optimizer(preconditioner=(("2", "0.5"), ("0.5", "1"))), loss.symmetries[0]).charge is None
    assert Balance(loss, Optimizer(preconditioner=("u**2 + 1", "1")), loss.symmetries[0]).charge is None
    assert Balance(loss, Optimizer("adam"), loss.symmetries[0]).change is None
    assert Balance(loss, Optimizer("momentum"), loss.symmetries[0]).change is None


@pytest.mark.parametrize("batch", [1, 2])
def test_the_drift_is_the_mean_over_all_batches(batch: int) -> None:
    """Over a data set, without replacement, by enumeration."""
    from itertools import combinations

    rows = np.array([[0.5, 1.0], [-1.0, 0.3], [2.0, -0.7]])
    data = Data({"x": tuple(rows[:, 0].tolist()), "y": tuple(rows[:, 1].tolist())})
    loss = Loss("(u*w*x - y)**2/2", ("u", "w"), data=data, symmetries=(Symmetry.parse("rescale:u:1,w:-1"),))
    optimizer = Optimizer("sgd", {"weight_decay": 0.1}, batch_size=batch, sampling="batch")
    balance, (u, w), rate = Balance(loss, optimizer, loss.symmetries[0]), (1.2, -0.4), 0.15
    changes = []
    for chosen in combinations(range(3), batch):
        s = np.mean([rows[i, 0] * (u * w * rows[i, 0] - rows[i, 1]) for i in chosen])
        after = np.array([u - rate * (s * w + 0.1 * u), w - rate * (s * u + 0.1 * w)])
        changes.append((after[0] ** 2 - after[1] ** 2 - u**2 + w**2) / 2)
    assert balance.drift({"u": u, "w": w}, rate) == pytest.approx(np.mean(changes), rel=1e-12)
    independent = Balance(loss, Optimizer("sgd", {"weight_decay": 0.1}, batch_size=batch), loss.symmetries[0])
    if batch > 1:  # the finite population's factor
        assert independent.drift({"u": u, "w": w}, rate) != pytest.approx(np.mean(changes), rel=1e-3)


def test_the_drift_with_a_matrix_of_learning_rates() -> None:
    loss = Loss(
        "(u*w - z)**2/2", ("u", "w"), {}, {"z": Noise.parse("rademacher")},
        symmetries=(Symmetry.parse("rescale:u:1,w:-1"),),
    )  # fmt: skip
    balance, (u, w), rate = Balance(loss, Optimizer(preconditioner=("4", "0.5")), loss.symmetries[0]), (1.2, -0.4), 0.1
    changes = []
    for z in (-1, 1):
        s = u * w - z
        after = u - rate * 4 * s * w, w - rate * 0.5 * s * u
        changes.append((after[0] ** 2 / 4 - after[1] ** 2 / 0.5 - u**2 / 4 + w**2 / 0.5) / 2)
    assert balance.drift({"u": u, "w": w}, rate) == pytest.approx(np.mean(changes), rel=1e-12)


def test_nt5_state_independent_slopes_make_the_charge_decay_exactly() -> None:
    """E Q_t = Q_0 (1 - eta^2 E s^2)^t, and 1/rate steps of relaxation."""
    loss = Loss("u*w*z", ("u", "w"), {}, {"z": NORMAL}, symmetries=(Symmetry.parse("rescale:u:1,w:-1"),))
    run = Run(loss, Optimizer(), Schedule("0.1"), {"u": 1.6, "w": 0.5}, 1000, 200)
    balance = balances(run)[0]
    share = 1 + balance.drift({"u": 1.6, "w": 0.5}, 0.1) / charge_of(balance, np.array([1.6, 0.5]))
    assert share == pytest.approx(1 - 0.01, rel=1e-13)
    assert relaxation_time(balance, run) == pytest.approx(100.0)
    random = np.random.default_rng(20251122)
    u, w = np.full(100_000, np.sqrt(2.0)), np.zeros(100_000)
    for _ in range(200):
        s = random.normal(size=u.shape)
        u, w = u - 0.1 * s * w, w - 0.1 * s * u
    charges = (u**2 - w**2) / 2
    mean, error = charges.mean(), charges.std() / np.sqrt(len(charges))
    assert abs(mean - share**200) < FALSE_ALARM * error
    assert share**200 * 2 == pytest.approx(0.26796, abs=1e-5)  # the handbook's figure, of u^2 - w^2 = 2
    assert abs(mean - np.exp(200 * np.log(1 - 0.01 / 2))) > FALSE_ALARM * error  # a rate of eta^2/2
    assert abs(mean - 1.0) > FALSE_ALARM * error  # the conserved charge of the flow


# Which symmetries are broken.

BROKEN = {
    "rescaling": True,
    "rescaling_vector": True,
    "rescaling_neurons": True,
    "diagonal_network": True,
    "relu_network": True,
    "rayleigh": True,
    "sphere": True,
    "rotation": False,
    "softmax": False,
}


@pytest.mark.parametrize("name", BROKEN)
def test_which_continuous_symmetries_of_the_catalogue_are_broken(name: str) -> None:
    loss = CATALOGUE[name]()
    found = [Balance(loss, Optimizer(), one).is_broken for one in loss.symmetries if one.is_continuous]
    assert found
    assert set(found) == {BROKEN[name]}


def test_every_continuous_symmetry_of_the_catalogue_is_in_the_list() -> None:
    continuous = {name for name, family in CATALOGUE.items() if any(one.is_continuous for one in family().symmetries)}
    assert continuous == set(BROKEN)


def test_unequal_rates_break_rotations_but_not_translations() -> None:
    """|g|^2 turns into g^T P g, which a rotation changes; a translation changes no gradient."""
    valley, shift = CATALOGUE["rotation"](), CATALOGUE["softmax"]()
    assert Balance(valley, Optimizer(preconditioner=("4", "1")), valley.symmetries[0]).is_broken
    assert not Balance(valley, Optimizer(preconditioner=("4", "4")), valley.symmetries[0]).is_broken
    assert not Balance(shift, Optimizer(preconditioner=("4", "1", "1")), shift.symmetries[0]).is_broken


@pytest.mark.parametrize("matrix", [(), ("4", "1")])
@pytest.mark.parametrize("name", ["rotation", "rescaling"])
def test_the_force_along_the_orbit(name: str, matrix: tuple[str, ...]) -> None:
    """-v . grad S is 2 E g^T J P g: by differences of S along v."""
    from sgdsim.theory.methods.entropic_loss import EntropicLoss

    loss = CATALOGUE[name]()
    optimizer = Optimizer(batch_size=3, preconditioner=matrix)
    balance, entropic = Balance(loss, optimizer, loss.symmetries[0]), EntropicLoss(loss, optimizer)
    theta, names = np.array([0.9, -1.4]), loss.parameters
    at = dict(zip(names, theta, strict=True))
    v = np.array(evaluate(list(balance.generator), {**at, **loss.constants}), dtype=float)
    h = 1e-4
    ahead, behind = (entropic.square(dict(zip(names, theta + s * h * v, strict=True))) for s in (1, -1))
    expected = -(ahead - behind) / (2 * h)
    found = 2 * balance.imbalance.at(at).value[0]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_balance_of_anisotropic_inputs() -> None:
    """E g_u^2 = E |g_w|^2 on the valley gives u*^4 = m^T S m/Tr S; norms are balanced for no S but S = I."""
    loss = Loss(
        "(u*(w[0]*x + w[1]*y) - x - 0.5*y - e)**2/2", ("u", "w[0]", "w[1]"), {},
        {"x": NORMAL, "y": Noise.parse("normal:0,2"), "e": NORMAL},
        symmetries=(Symmetry.parse("rescale:u:1,w[0]:-1,w[1]:-1"),),
    )  # fmt: skip
    balance = Balance(loss, Optimizer(), loss.symmetries[0])

    def at(u: float) -> float:
        return float(balance.imbalance.at({"u": u, "w[0]": 1 / u, "w[1]": 0.5 / u}).value[0])

    s = np.diag([1.0, 4.0])
    m = np.array([1.0, 0.5])
    best = (m @ s @ m / np.trace(s)) ** 0.25
    assert best**2 == pytest.approx(0.63246, abs=1e-5)
    assert (m @ m) / best**4 == pytest.approx(3.125)
    assert at(best) == pytest.approx(0.0, abs=1e-12)
    equal = (m @ m) ** 0.25
    assert abs(at(equal)) > 0.1


def test_nt11_two_layers_of_matrices() -> None:
    """C = U^T U - W W^T, C' = C + eta^2 (W G^T G W^T - U^T G G^T U), entry by entry of one generator each."""
    random, rate = np.random.default_rng(5), 0.07
    names = [f"u[{k}]" for k in range(4)] + [f"w[{k}]" for k in range(4)]
    noise = {f"{kind}[{i}]": NORMAL for kind in "xy" for i in range(2)}
    rows = []
    for i in range(2):
        model = " + ".join(f"u[{2 * i + k}]*w[{2 * k + j}]*x[{j}]" for k in range(2) for j in range(2))
        rows.append(f"({model} - y[{i}])**2/2")
    for a in range(2):
        for b in range(a + 1):
            # U -> U exp(c E), W -> exp(-c E) W with E = e_a e_b^T + e_b e_a^T, over 2
            e = np.zeros((2, 2))
            e[a, b] += 0.5
            e[b, a] += 0.5
            generator = np.block(
                [[np.kron(np.eye(2), e.T), np.zeros((4, 4))], [np.zeros((4, 4)), -np.kron(e, np.eye(2))]]
            )
            symmetry = Symmetry.linear("gl", names, generator.tolist())
            loss = Loss(" + ".join(rows), tuple(names), {}, noise, symmetries=(symmetry,))
            balance = Balance(loss, Optimizer(), symmetry)
            u, w, x, y = (
                random.normal(size=(2, 2)),
                random.normal(size=(2, 2)),
                random.normal(size=2),
                random.normal(size=2),
            )
            big = np.outer(u @ w @ x - y, x)
            expected = (u.T @ u - w @ w.T)[a, b] + rate**2 * (w @ big.T @ big @ w.T - u.T @ big @ big.T @ u)[a, b]
            g = np.concatenate([(big @ w.T).ravel(), (u.T @ big).ravel()])
            pushed = evaluate([balance.change], {s.name: v for s, v in zip(balance.batch_gradient, g, strict=True)})[0]
            charge = charge_of(balance, np.concatenate([u.ravel(), w.ravel()]))
            assert 2 * (charge + rate**2 * pushed) == pytest.approx(expected, rel=1e-12)
            after_u, after_w = u - rate * big @ w.T, w - rate * u.T @ big
            assert (after_u.T @ after_u - after_w @ after_w.T)[a, b] == pytest.approx(expected, rel=1e-10)


def test_nt7_the_stationary_law_is_balanced() -> None:
    """The balance with weight decay, by naive simulation: E g^T A g = (2/eta^2)(1 - (1 - eta lam)^2) E Q.

    The time average over 400 chains after 7 relaxation times; the standard error is over chains.
    """
    loss = Loss(
        "(u*(w[0]*x + w[1]*y) - x - e)**2/2", ("u", "w[0]", "w[1]"), {}, {"x": NORMAL, "y": NORMAL, "e": NORMAL},
        symmetries=(Symmetry.parse("rescale:u:1,w[0]:-1,w[1]:-1"),),
    )  # fmt: skip
    rate, decay, chains = 0.05, 0.05, 400
    balance = Balance(loss, Optimizer("sgd", {"weight_decay": decay}), loss.symmetries[0])
    random = np.random.default_rng(7)
    u, w = np.ones(chains), np.tile([[1.0], [0.0]], chains)
    pushes, charges, batches = np.zeros(chains), np.zeros(chains), 0
    for step in range(6000):
        x, e = random.normal(size=(2, chains)), random.normal(size=chains)
        slip = u * (w * x).sum(0) - x[0] - e
        gu, gw = slip * (w * x).sum(0), slip * u * x
        if step >= 2000:
            pushes += gu**2 - (gw**2).sum(0)
            charges += (u**2 - (w**2).sum(0)) / 2
            batches += 1
        u, w = u - rate * (gu + decay * u), w - rate * (gw + decay * w)
    right = 2 / rate**2 * (1 - balance.kept(rate))
    slack = (pushes - right * charges) / batches
    error = slack.std() / np.sqrt(chains)
    assert abs(slack.mean()) < FALSE_ALARM * error
    without = pushes / batches  # equipartition, as if there were no decay
    assert abs(without.mean()) > FALSE_ALARM * without.std() / np.sqrt(chains)


def test_discrete_symmetries_have_no_charge() -> None:
    loss = CATALOGUE["sign"]()
    with pytest.raises(NotApplicable, match="discrete"):
        Balance(loss, Optimizer(), loss.symmetries[0])


def test_shuffled_epochs_have_no_drift_of_their_own() -> None:
    data = Data({"y": (0.0, 1.0)})
    loss = Loss("(u*w - y)**2/2", ("u", "w"), data=data, symmetries=(Symmetry.parse("rescale:u:1,w:-1"),))
    balance = Balance(loss, Optimizer(sampling="epoch"), loss.symmetries[0])
    with pytest.raises(NotApplicable, match="epoch"):
        balance.drift({"u": 1.0, "w": 0.5}, 0.1)


def test_without_drift_nothing_relaxes() -> None:
    loss = CATALOGUE["softmax"]()
    run = Run(loss, Optimizer(), Schedule("0.1"), dict.fromkeys(loss.parameters, 0.5), 1000, 10)
    assert np.isnan(relaxation_time(balances(run)[0], run))
    assert balances(run)[0].charge == sympy.Add(*loss.theta)


def test_the_rates_of_a_matrix_leave_a_charge_its_name() -> None:
    """The charge is another one, ``u^2/8 - w^2/2``, and was found by the loss's."""
    symmetry = Symmetry.parse("rescale:u:1,w:-1")
    loss = Loss("u*w*z", ("u", "w"), {}, {"z": Noise.parse("normal")}, symmetries=(symmetry,))
    run = Run(loss, Optimizer(preconditioner=("4", "1")), Schedule("0.1"), {"u": 1.0, "w": 0.0}, 1000, 10)
    assert [(name, str(one.charge)) for name, one in known_changes(run)] == [("rescale", "u**2/8 - w**2/2")]
