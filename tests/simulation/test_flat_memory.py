"""Neither the file nor the memory of a run grows with the trajectories if nothing is kept of each."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sgdsim.app.simulate import simulate
from sgdsim.app.workflow import run_parts
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble, Rare, Variable
from sgdsim.input.loading import load_parts
from sgdsim.input.scenario import shipped
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.simulation import memory_needs, result_arrays
from sgdsim.simulation.simulator import Simulator

LOSS = Loss("a*x**4/4 + z*x", ("x", "y"), {"a": 1.0}, {"z": Noise.parse("normal")})
HOW: dict[str, Any] = {"learning_rate": 0.1, "steps": 4, "histograms": {"x": [-2, 2, 20]}, "covariances": True}


DIVERGING: dict[str, Any] = {"initial": {"x": "normal:0,1.6", "y": 0.0}, "steps": 40}
"""Those that start beyond the square root of 2/learning_rate run away, one in two hundred."""


def run(trajectories: int, path: Path, **options: Any) -> tuple[Ensemble, float]:
    """An ensemble, and the most memory that it took in MB."""
    tracemalloc.start()
    try:
        start: dict[str, Any] = {"x": 0.0, "y": 0.0}
        ensemble = simulate(LOSS, **{"initial": start, **HOW, **options}, trajectories=trajectories, output=path)
        return ensemble, tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_file_and_memory_do_not_grow_with_trajectories(tmp_path):
    """From 3e5 to 1.2e6; both are cut into blocks of the same size. A status and an index took 8 MB of a million."""
    run(1000, tmp_path / "first.h5")  # whatever is loaded with the first run
    _, few = run(300_000, tmp_path / "few.h5")
    _, many = run(1_200_000, tmp_path / "many.h5")
    assert many < few + 1, (many, few)
    sizes = [(tmp_path / name).stat().st_size for name in ("few.h5", "many.h5")]
    assert sizes[1] < sizes[0] + 1000


@pytest.mark.validate
def test_they_do_not_up_to_a_billion(tmp_path):
    run(1000, tmp_path / "first.h5")
    runs = {n: run(n, tmp_path / f"{n}.h5")[1] for n in (10**4, 10**6, 10**8, 10**9)}
    assert max(runs.values()) < runs[10**6] + 40  # of the billion, which tiles are done takes 4 MB, their numbers 32
    # A run of more than a minute has saved a checkpoint, and its file says of which run it is: 2 kB.
    sizes = {n: (tmp_path / f"{n}.h5").stat().st_size for n in runs}
    assert max(sizes.values()) < sizes[10**6] + 4096


@pytest.mark.validate
def test_a_hundred_million_trajectories_take_less_than_two_gigabytes():
    """Of the whole process, with everything that it loads: moments and histograms of a loss of two parameters."""
    program = (
        "import resource, sgdsim\n"
        "sgdsim.simulate('a*x**4/4 + z*x + y**2/2', constants={'a': 1.0}, noise={'z': 'normal'},\n"
        "    initial={'x': 0.0, 'y': 1.0}, learning_rate=0.1, trajectories=10**8, steps=4, every=2,\n"
        "    histograms={'x': [-2, 2, 100], 'y': [-2, 2, 100]})\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert int(done.stdout) * 1024 < 2e9  # on Linux it is in kB


def test_what_is_implied_is_read_back(tmp_path):
    """Status and index of every trajectory, as ever, and the same digest as with all of them in the file."""
    made, _ = run(2000, tmp_path / "run.h5")
    read = Ensemble.open(tmp_path / "run.h5")
    assert isinstance(read.variables["status"], Rare)
    assert read["status"].tolist() == [0] * 2000
    assert read["trajectory"].tolist() == list(range(2000))
    assert read["theta"].shape == (0, 2000, 2)
    assert read.sizes == made.sizes
    dense = {name: Variable(item.dimensions, item.data, item.attributes) for name, item in read.variables.items()}
    assert read.digest() == made.digest() == Ensemble(dense, made.attributes).digest()
    Ensemble(dense, made.attributes).save(tmp_path / "dense.h5")
    assert Ensemble.open(tmp_path / "dense.h5").digest() == made.digest()
    versions = [h5py.File(tmp_path / name).attrs["schema_version"] for name in ("run.h5", "dense.h5")]
    assert versions == [2, 1]
    read.save(tmp_path / "again.h5")
    assert Ensemble.open(tmp_path / "again.h5").digest() == made.digest()


def test_those_that_diverge_are_a_list(tmp_path):
    """At large noise some do: the list says which, and when, in the file and from it."""
    made, _ = run(3000, tmp_path / "run.h5", **DIVERGING)
    status = made["status"]
    with h5py.File(tmp_path / "run.h5") as file:
        if "status" in file:
            pytest.fail("more than an eighth of them diverged: nothing is tested")
        assert file["status_index"][:].tolist() == np.flatnonzero(status).tolist()
        assert file["status_value"][:].tolist() == status[status > 0].tolist()
    assert Ensemble.open(tmp_path / "run.h5")["status"].tolist() == status.tolist()
    assert 0 < np.count_nonzero(status) == made.variables["status"].nonzero == made["excluded"][-1, 0]


def test_xarray_opens_it(tmp_path):
    xarray = pytest.importorskip("xarray")
    run(2000, tmp_path / "run.h5")
    with xarray.open_dataset(tmp_path / "run.h5") as dataset:
        assert dataset["mean"].dims == ("record", "observable")
        assert dataset.sizes["status_index"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file["status_index"].__setitem__(0, 5000), "its places are not those of one value each"),
        (lambda file: file["status_index"].__setitem__(0, -1), "its places are not those of one value each"),
        (lambda file: file.attrs.__setitem__("implied_variables", "[1]"), "run.h5"),
        (lambda file: file.attrs.__setitem__("implied_variables", "no JSON"), "run.h5"),
        (
            lambda file: file.attrs.__setitem__(
                "implied_variables", file.attrs["implied_variables"].replace('"empty"', '"rare"')
            ),
            "run.h5",
        ),
    ],
)
def test_a_file_that_implies_nonsense_is_refused(change, message, tmp_path):
    run(3000, tmp_path / "run.h5", **DIVERGING)
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        change(file)
    with pytest.raises(InputError, match=message):
        Ensemble.open(tmp_path / "run.h5")


def test_snapshots_that_do_not_fit_are_kept_on_the_disk(tmp_path):
    """20 MB of snapshots, with 10 MB for everything: the same file, and less memory by what they are."""
    run(1000, tmp_path / "first.h5")
    options = {"snapshots": [1, 2, 3, 4], "memory_limit": "10MB"}
    kept, less = run(312_500, tmp_path / "less.h5", **options)
    whole, more = run(312_500, tmp_path / "more.h5", **{**options, "memory_limit": "1GB"})
    assert kept.digest() == whole.digest() == Ensemble.open(tmp_path / "less.h5").digest()
    assert less < more - 18, (less, more)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.h5", "less.h5", "more.h5"]


def test_what_cannot_fit_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(Simulator, "advance", lambda *_: pytest.fail("was computed"))
    with pytest.raises(InputError, match=r"needs .* GB of memory, and may take 1e-05 GB"):
        run(300_000, tmp_path / "run.h5", snapshots=[4], memory_limit="10 kB")  # the statistics alone are larger
    with pytest.raises(InputError, match=r"needs .* GB of memory, and may take 0\.004 GB"):  # without an output
        simulate(LOSS, initial={"x": 0.0, "y": 0.0}, **HOW, trajectories=300_000, snapshots=[4], memory_limit="4MB")
    with pytest.raises(InputError, match="memory_limit: '4 pounds', expected a size such as 500MB or 4GB"):
        run(1000, tmp_path / "run.h5", memory_limit="4 pounds")
    assert not list(tmp_path.iterdir())


def test_all_parts_of_a_scenario_keep_to_one_limit(tmp_path, monkeypatch):
    """Each part would fit on its own: their snapshots go to the disk, to the same bits, or the run is refused."""
    text = shipped()["river_valley"].read_text()
    (tmp_path / "two.toml").write_text(f'{text}\n[[part]]\nname = "one"\n[[part]]\nname = "two"\n')
    settings = {"run.trajectories": 20_000, "run.steps": 4, "record.every": 4, "record.snapshots": ["final"]}
    scenarios = load_parts(tmp_path / "two.toml", settings)
    whole = [memory_needs.output_bytes(one.runs) for one in scenarios]
    statistics = [size - memory_needs.snapshot_bytes(one.runs) for size, one in zip(whole, scenarios, strict=True)]
    spooled: list[Path] = []
    original = result_arrays._on_disk
    monkeypatch.setattr(result_arrays, "_on_disk", lambda *given: spooled.append(given[0]) or original(*given))
    digests = []
    for limit, on_disk in ((sum(whole), 0), (sum(whole) - 1, 2)):
        path = tmp_path / f"{limit}.h5"
        digests.append([one.digest() for one in run_parts(scenarios, path, memory_limit=limit)])
        assert len(spooled) == on_disk
    assert digests[0] == digests[1]
    monkeypatch.setattr(Simulator, "advance", lambda *_: pytest.fail("was computed"))
    with pytest.raises(InputError, match="memory_limit: the run needs"):
        run_parts(scenarios, tmp_path / "refused.h5", memory_limit=sum(statistics) - 1)
    assert sum(statistics) - 1 > max(statistics)
