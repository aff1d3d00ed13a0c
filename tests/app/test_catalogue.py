"""Text for people: the summary of a run, what a file holds, what there is to choose from."""

from __future__ import annotations

import numpy as np
import pytest

from sgdsim.app.catalogue import KINDS, catalogue, describe, summary
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble, Variable
from sgdsim.input.scenario import shipped
from sgdsim.model.data import SAMPLINGS
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import FAMILIES, TABLE
from sgdsim.model.schedules import SCHEDULES
from sgdsim.model.symmetry import KINDS as SYMMETRIES
from sgdsim.model.update_rules import OPTIMIZERS
from sgdsim.theory import LAWS


def ensemble(status: list[int]) -> Ensemble:
    return Ensemble(
        {"status": Variable(("trajectory",), np.array(status), {"long_name": "when it diverged"})},
        {
            "wall_seconds": 2.0,
            "compile_seconds": 4.0,
            "trajectory_steps_per_second": 1.5e9,
            "seed": "7",
            "scenario": 'title = "x"\n[run]\n',
        },
    )


def test_a_run_in_one_line():
    line = "2 trajectories in 2.0 s, 1.50e+09 trajectory-steps/s (kernels ready after 4.0 s)"
    assert summary(ensemble([0, 0])) == line
    assert summary(ensemble([0, 8])).endswith("; WARNING: 1 diverged and are excluded")
    both = ensemble([0, 8, 4])
    both.variables["not_a_number"] = Variable(("trajectory",), np.array([0, 0, 1], np.int8))
    assert "; WARNING: 1 diverged and are excluded; WARNING: 1 became not a number (a root" in summary(both)
    sweep = ensemble([0] * 1200)
    sweep.variables["status"] = Variable(("point", "trajectory"), np.zeros((3, 1200)))
    assert summary(sweep).startswith("3 x 1,200 trajectories in ")


def test_what_a_file_holds():
    text = describe(ensemble([0, 0, 8]))
    assert "Dimensions: trajectory = 3" in text
    assert "status (trajectory): when it diverged" in text
    assert "seed: 7" in text
    assert text.endswith('Scenario:\n  title = "x"\n  [run]')
    assert "scenario: " not in text


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("losses", CATALOGUE),
        ("scenarios", shipped()),
        ("predictions", LAWS),
        ("optimizers", OPTIMIZERS),
        ("schedules", SCHEDULES),
        ("distributions", [*FAMILIES, TABLE]),
        ("symmetries", SYMMETRIES),
        ("samplings", SAMPLINGS),
    ],
)
def test_all_of_a_kind_with_a_line_on_each(kind, names):
    heading, *lines = catalogue(kind).splitlines()
    assert heading == f"{kind}:"
    assert [line.split()[0].partition(":")[0] for line in lines] == list(names)
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)


def test_what_is_said_of_each():
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in catalogue().splitlines() if line.startswith("  ")}
    assert lines["rescale:u:1,w:-1"] == "generator u: 1*u, w: -1*w"
    assert lines["permutation:u,w"] == "u -> w, w -> u"
    assert lines["step:start,factor,every"] == "start*factor**stage; stage = t/every, rounded down"
    assert lines["table:value@probability,…"] == "each value with its probability"
    assert lines["epoch"].startswith("rows are shuffled anew for each epoch")
    velocity = "velocity = momentum*velocity + gradient"
    assert lines["momentum:momentum=0.9"] == f"{velocity}; theta - learning_rate*(velocity)"
    assert lines["langevin:temperature=…"].endswith(" + sqrt(2*learning_rate*temperature)*xi")
    assert lines["gradient_descent"] == "theta - learning_rate*(population_gradient)"
    assert lines["quadratic"].startswith("Quadratic bowl x.H.x/2 + b.x in any dimension")
    assert not any("``" in line for line in lines.values())


def test_all_kinds():
    assert catalogue() == "\n\n".join(catalogue(kind) for kind in KINDS)


def test_an_unknown_kind_has_a_near_match():
    with pytest.raises(InputError, match="unknown kind 'loses': did you mean 'losses'"):
        catalogue("loses")
