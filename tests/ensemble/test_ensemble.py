"""Files are whole, open anywhere, and hold exactly what the ensemble held."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import string
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sgdsim.base.errors import InputError, RunError
from sgdsim.ensemble import Ensemble, Variable, reading

SCENARIO = 'title = "Équipartition"\n[run]\nseed = 1\n'
NAMES = {
    "parameter": Variable(("parameter",), np.array(["x", "w[0]"]), {"long_name": "parameter", "units": "1"}),
    "observable": Variable(("observable",), np.array(["x", "w[0]", "énergie"])),
    "record_step": Variable(("record",), np.array([0, 10, 20])),
}


def example(**variables: Variable) -> Ensemble:
    theta = np.arange(10, dtype=np.float64).reshape(1, 5, 2) / 3
    theta[0, 3] = np.nan
    return Ensemble(
        {
            **NAMES,
            "theta": Variable(("snapshot", "trajectory", "parameter"), theta, {"units": "m", "long_name": "state"}),
            "status": Variable(("trajectory",), np.array([0, 0, 0, 12, 0], np.int64)),
            "diverged": Variable(("trajectory",), np.array([False, False, False, True, False])),
            "mean": Variable(("record", "observable"), np.ones((3, 3), np.float32)),
            **variables,
        },
        {
            "scenario": SCENARIO,
            "seed": 2**64 - 1,
            "wall_seconds": 1.5,
            "title": "Équipartition",
            "history": "before",
        },
    )


def sweep() -> Ensemble:
    theta = np.arange(12.0).reshape(3, 2, 2)
    return example(
        theta=Variable(("point", "trajectory", "parameter"), theta),
        status=Variable(("point", "trajectory"), np.arange(6).reshape(3, 2)),
        diverged=Variable(("trajectory",), [True, False]),
        sweep_learning_rate=Variable(("point",), [0.1, 0.2, 0.4]),
    )


def assert_same(one: Ensemble, two: Ensemble) -> None:
    assert one.names == two.names
    assert one.sizes == two.sizes
    for name in one:
        assert one.variables[name].dimensions == two.variables[name].dimensions
        assert one[name].dtype.kind == two[name].dtype.kind
        np.testing.assert_array_equal(one[name], two[name])
    assert one.digest() == two.digest()


def run_python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


# In memory


def test_missing_coordinates_count_from_zero() -> None:
    ensemble = example()
    assert ensemble["trajectory"].tolist() == [0, 1, 2, 3, 4]
    assert ensemble["snapshot"].tolist() == [0]
    assert ensemble.sizes == {"parameter": 2, "observable": 3, "record": 3, "snapshot": 1, "trajectory": 5}
    assert "theta" in ensemble
    assert "thetas" not in ensemble


def test_unknown_variable_names_a_near_match() -> None:
    with pytest.raises(InputError, match=r"unknown variable 'thta': did you mean 'theta'\?"):
        example()["thta"]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"a": Variable(("x",), [1, 2]), "b": Variable(("x",), [1])},
            "'b': length 1 along 'x', others have 2",
        ),
        ({"a": Variable(("x", "a"), [[1]])}, "'a' must be its only dimension"),
        ({"a/b": Variable((), 1)}, "'a/b' is no name"),
        ({"a": Variable(("",), [1])}, "'' is no name"),
        ({".": Variable((), 1)}, "is no name"),
        ({"\ud800": Variable((), 1)}, "expected text that UTF-8 can write"),
    ],
)
def test_variables_that_do_not_fit_are_refused(variables: dict[str, Variable], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Ensemble(variables, {})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Variable(("x",), [[1]]), "expected 2 different names"),
        (lambda: Variable(("x", "x"), [[1]]), "expected 2 different names"),
        (lambda: Variable(("x",), [1j]), "complex128 cannot be stored"),
        (lambda: Variable(("x",), np.zeros(1, "M8[s]")), "cannot be stored"),
        (lambda: Variable(("x",), [None]), "data: None, expected real numbers"),
        (lambda: Variable(("x",), ["a\0b"]), "without NUL"),
        (lambda: Variable(("x",), ["\ud800"]), "valid in UTF-8"),
        (lambda: Variable(("x",), [1], {"CLASS": "x"}), "reserves"),
        (lambda: Ensemble({}, {"REFERENCE_LIST": "x"}), "reserves"),
        (lambda: Ensemble({}, {"": "x"}), "cannot hold"),
        (lambda: Ensemble({}, {"seed": 2**64}), "at most 64 bits"),
        (lambda: Ensemble({}, {"versions": {"numpy": "2"}}), "'versions'"),  # type: ignore[dict-item]
    ],
)
def test_what_a_file_cannot_hold_is_refused_at_once(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_attributes_become_plain_python() -> None:
    attributes = Ensemble({}, {"a": np.uint64(2**64 - 1), "b": np.float32(0.5), "c": True, "d": "x\udcff"}).attributes
    assert attributes == {"a": 2**64 - 1, "b": 0.5, "c": 1, "d": "x\\udcff"}
    assert [type(value) for value in attributes.values()] == [int, float, int, str]


def test_a_parameter_has_its_shape() -> None:
    """A matrix, a coordinate of it, a number beside it; of a sweep too; and the near match of what there is not."""
    names = Variable(("parameter",), ["W[0,0]", "W[0,1]", "W[1,0]", "W[1,1]", "b"])
    theta = np.arange(30.0).reshape(1, 2, 3, 5)
    theta_of = Variable(("point", "snapshot", "trajectory", "parameter"), theta)
    swept = Ensemble({"parameter": names, "theta": theta_of}, {})
    found = swept.parameter("W")
    assert found.shape == (1, 2, 3, 2, 2)
    np.testing.assert_array_equal(found[..., 1, 0], theta[..., 2])
    np.testing.assert_array_equal(swept.parameter("W[0, 1]"), theta[..., 1])
    np.testing.assert_array_equal(swept.parameter("b"), theta[..., 4])
    with pytest.raises(InputError, match=r"unknown parameter 'W\[2,2\]'.*W\[1,1\]"):
        swept.parameter("W[2,2]")


def test_statistics_of_a_matrix_have_its_shape():
    """Of all points and records; one entry and a number as they were."""
    names = ["W[0,0]", "W[0,1]", "W[1,0]", "W[1,1]", "b", "a,  b"]
    mean = np.arange(36.0).reshape(2, 3, 6)
    variables = {
        "mean": Variable(("point", "record", "observable"), mean),
        "observable": Variable(("observable",), names),
    }
    swept = Ensemble(variables, {})
    np.testing.assert_array_equal(swept.mean("W"), mean[..., :4].reshape(2, 3, 2, 2))
    np.testing.assert_array_equal(swept.mean("W[1, 0]"), mean[..., 2])
    np.testing.assert_array_equal(swept.mean("b"), mean[..., 4])
    np.testing.assert_array_equal(swept.mean("a,  b"), mean[..., 5])
    with pytest.raises(InputError, match="unknown observable 'V': known are W, a,  b, b"):
        swept.mean("V")


def test_a_parameter_without_snapshots_says_how_to_have_them():
    names = Variable(("parameter",), ["x"])
    theta = Variable(("snapshot", "trajectory", "parameter"), np.zeros((0, 5, 1)))
    with pytest.raises(InputError, match=r"x: no snapshots, expected some, of snapshots=.*final.* or --snapshot final"):
        Ensemble({"parameter": names, "theta": theta}, {}).parameter("x")


@pytest.mark.parametrize("stored", [False, True])
def test_select_gives_one_point(tmp_path: Path, stored: bool) -> None:
    ensemble = sweep()
    if stored:
        ensemble.save(tmp_path / "sweep.h5")
        ensemble = Ensemble.open(tmp_path / "sweep.h5")
    chosen = ensemble.select(1)
    assert "point" not in chosen.sizes
    assert chosen["theta"].tolist() == [[4, 5], [6, 7]]
    assert chosen["status"].tolist() == [2, 3]
    assert chosen["sweep_learning_rate"] == 0.2
    assert chosen["diverged"].tolist() == [True, False]
    assert chosen.variables["theta"].dimensions == ("trajectory", "parameter")
    assert chosen.digest() == sweep().select(1).digest() != sweep().select(2).digest()
    chosen.save(tmp_path / "chosen.h5")
    assert_same(chosen, Ensemble.open(tmp_path / "chosen.h5"))
    for wrong in (-1, 3):
        with pytest.raises(InputError, match=f"point {wrong}: expected 0 to 2"):
            ensemble.select(wrong)
    with pytest.raises(InputError, match="not a sweep"):
        chosen.select(0)


# Round trip


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    ensemble = example()
    ensemble.save(path)
    again = Ensemble.open(path)
    assert_same(ensemble, again)
    assert again["diverged"].dtype == np.bool_
    assert again.variables["theta"].attributes == {"units": "m", "long_name": "state"}
    assert again.variables["mean"].attributes == {"units": "1", "long_name": "mean"}
    assert {key: again.attributes[key] for key in ("scenario", "seed", "wall_seconds")} == {
        "scenario": SCENARIO,
        "seed": 2**64 - 1,
        "wall_seconds": 1.5,
    }
    assert type(again.attributes["seed"]) is int
    assert again.attributes["Conventions"] == "CF-1.10"
    assert again.attributes["schema_version"] == 1
    assert again.attributes["source"] == "sgdsim"
    assert str(again.attributes["history"]).startswith("before\n20")
    again.save(path, overwrite=True)
    assert_same(ensemble, Ensemble.open(path))
    assert os.listdir(tmp_path) == ["run.h5"]


NAME = st.text(string.ascii_letters + string.digits + "_-.[]() ²é", min_size=1, max_size=6).filter(
    lambda name: name != "." and name not in NAMES
)
DTYPE = st.sampled_from(["?", "i1", "<i4", ">i8", "u1", "<u8", "<f4", ">f4", "<f8", "U"])
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
ATTRIBUTE = st.one_of(TEXT, st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False))


@st.composite
def ensembles(draw: st.DrawFn) -> Ensemble:
    names = draw(st.lists(NAME, min_size=4, max_size=7, unique=True))
    sizes = {name: draw(st.integers(0, 3)) for name in names[:3]} | {"trajectory": 4}
    variables = dict(NAMES)
    for name in names[3:]:
        dimensions = tuple(draw(st.lists(st.sampled_from(list(sizes)), unique=True, max_size=3)))
        dtype = draw(DTYPE)
        elements = TEXT if dtype == "U" else None
        shape = tuple(sizes[dimension] for dimension in dimensions)
        data = draw(hnp.arrays(object if dtype == "U" else dtype, shape, elements=elements))
        attributes = {"long_name": draw(TEXT), "units": "1"}
        variables[name] = Variable(dimensions, data.astype(np.str_) if dtype == "U" else data, attributes)
    return Ensemble(variables, draw(st.dictionaries(NAME, ATTRIBUTE, max_size=3)))


@settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(ensemble=ensembles())
def test_any_ensemble_makes_the_round_trip(tmp_path: Path, ensemble: Ensemble) -> None:
    ensemble.save(tmp_path / "any.h5", overwrite=True)
    again = Ensemble.open(tmp_path / "any.h5")
    assert_same(ensemble, again)
    assert ensemble.attributes.items() <= again.attributes.items()
    for name, variable in ensemble.variables.items():
        labels = {"units": "1", "long_name": name}
        assert {**labels, **variable.attributes} == again.variables[name].attributes


def test_theta_is_read_when_asked_for_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example().save(tmp_path / "run.h5")
    read: list[str] = []
    original = reading._values
    monkeypatch.setattr(reading, "_values", lambda item, index: read.append(item.name) or original(item, index))
    monkeypatch.chdir(tmp_path)
    ensemble = Ensemble.open("run.h5")
    monkeypatch.chdir("/")
    assert "/mean" in read
    assert not {"/theta", "/status", "/trajectory"} & set(read)
    np.testing.assert_array_equal(ensemble["theta"], example()["theta"])
    assert ensemble["theta"] is ensemble["theta"]
    assert read.count("/theta") == 1
    moved = pickle.loads(pickle.dumps(ensemble))
    assert_same(moved, ensemble)


def test_a_file_replaced_after_opening_is_not_mixed_with_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    example().save(path)
    ensemble = Ensemble.open(path)
    example().save(path, overwrite=True)
    with pytest.raises(InputError, match="has changed since it was opened"):
        ensemble["theta"]
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        ensemble["status"]


# Other readers


def test_xarray_opens_it_with_no_further_argument(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    covariance = Variable(("parameter", "parameter_2"), np.eye(2))
    second = Variable(("parameter_2",), ["x", "w[0]"])
    ensemble = example(covariance=covariance, parameter_2=second, none=Variable(("nothing", "record"), np.ones((0, 3))))
    ensemble.save(tmp_path / "run.h5")
    with xarray.open_dataset(tmp_path / "run.h5") as dataset:
        assert dict(dataset.sizes) == ensemble.sizes
        assert set(dataset.coords) == set(ensemble.sizes)
        assert dataset.theta.dims == ("snapshot", "trajectory", "parameter")
        assert dataset.covariance.dims == ("parameter", "parameter_2")
        assert dataset.parameter.values.tolist() == ["x", "w[0]"]
        assert dataset.theta.attrs == {"units": "m", "long_name": "state"}
        assert float(dataset.theta.sel(parameter="w[0]", trajectory=2)[0]) == ensemble["theta"][0, 2, 1]
        assert dataset.diverged.dtype == np.int8
        assert dataset.diverged.attrs["flag_meanings"] == "false true"
        assert dataset.attrs["seed"] == 2**64 - 1
        assert dataset.attrs["scenario"] == SCENARIO
        for name in ensemble:
            np.testing.assert_array_equal(dataset[name].values, ensemble[name])
        same = Ensemble.open(tmp_path / "run.h5").to_xarray()
        xarray.testing.assert_identical(same.drop_vars("diverged"), dataset.drop_vars("diverged"))


def test_every_axis_has_one_scale_of_its_length(tmp_path: Path) -> None:
    sweep().save(tmp_path / "run.h5")
    with h5py.File(tmp_path / "run.h5") as file:
        assert list(file) == list(sweep())
        for name, dataset in file.items():
            assert {"units", "long_name"} <= set(dataset.attrs)
            assert dataset.dtype != np.bool_
            if not dataset.is_scale:
                scales = [axis[0] for axis in dataset.dims]
                assert [scale.name.strip("/") for scale in scales] == list(sweep().variables[name].dimensions)
                assert [scale.size for scale in scales] == list(dataset.shape)
        assert h5py.check_string_dtype(file["parameter"].dtype).encoding == "utf-8"


def test_to_xarray_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(RunError, match="pip install xarray"):
        example().to_xarray()


# Files that are not ours


def rewrite(path: Path, change: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def unlabelled(file: h5py.File) -> None:
    file["loose"] = np.ones(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.__delitem__("source"), "not one written by sgdsim"),
        (lambda file: file.attrs.__delitem__("schema_version"), "not one written by sgdsim"),
        (
            lambda file: file.attrs.__setitem__("schema_version", 7),
            "unknown schema_version 7, this sgdsim reads 1",
        ),
        (lambda file: file.__delitem__("record_step"), "the variable 'record_step' is missing"),
        (unlabelled, "'loose' has an axis without a dimension scale"),
    ],
)
def test_hdf5_that_is_not_a_run_is_refused(tmp_path: Path, change: Callable[[h5py.File], object], message: str) -> None:
    path = tmp_path / "run.h5"
    example().save(path)
    rewrite(path, change)
    with pytest.raises(InputError, match=message) as caught:
        Ensemble.open(path)
    assert str(path) in str(caught.value)


def test_what_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with pytest.raises(InputError, match="no such file"):
        Ensemble.open(path)
    with pytest.raises(InputError, match="a folder, expected a file"):
        Ensemble.open(tmp_path)
    for content in (b"", b"title = 1\n", bytes(range(256)) * 40):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not an HDF5 file"):
            Ensemble.open(path)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    example().save(path)
    whole = path.read_bytes()
    for size in (4, 8, 40, 96, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"truncated or damaged|not an HDF5 file") as caught:
            Ensemble.open(path)
        assert "\n" not in str(caught.value)


def test_attributes_of_other_tools_are_borne(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    example().save(path)

    def annotate(file: h5py.File) -> None:
        file.attrs["range"] = [1.0, 2.0]
        file.attrs["tool"] = np.bytes_("editor")
        file.attrs["nothing"] = h5py.Empty("S1")
        file["theta"].attrs["_Netcdf4Dimid"] = 3

    rewrite(path, annotate)
    again = Ensemble.open(path)
    assert again.attributes["range"] == "[1. 2.]"
    assert again.attributes["tool"] == "editor"
    assert "_Netcdf4Dimid" not in again.variables["theta"].attributes
    assert again.digest() == example().digest()


# Paths


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "run.h5"
    link.symlink_to("disk/real.h5")
    example().save(link)
    example().save(link, overwrite=True)
    assert link.is_symlink()
    assert_same(Ensemble.open(tmp_path / "disk" / "real.h5"), example())


def test_an_ensemble_that_could_not_be_opened_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'parameter' is missing"):
        Ensemble({"mean": Variable(("record",), [1.0])}, {}).save(tmp_path / "run.h5")
    assert os.listdir(tmp_path) == []


# Whole files


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), MemoryError(), OSError(errno.EIO, "Input/output error")])
@pytest.mark.parametrize(
    "place", ["sgdsim.ensemble.writing.labelled", "sgdsim.ensemble.writing._provenance", "sgdsim.base.files._sync"]
)
def test_a_failed_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, place: str
) -> None:
    path = tmp_path / "run.h5"
    example().save(path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(place, fail)
    expected = RunError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        sweep().save(path, overwrite=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.h5"]


def test_a_full_disk_is_told_before_hdf5_meets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.h5"
    example().save(path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(RunError, match=r"run.h5: .*nothing was changed: No space left on device \(1.* MiB needed\)"):
        sweep().save(path, overwrite=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.h5"]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_disk_that_cannot_reserve_space_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def unable(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", unable, raising=False)
    example().save(tmp_path / "run.h5")
    assert_same(Ensemble.open(tmp_path / "run.h5"), example())


@pytest.mark.parametrize("trajectories", [10, 500_000])
def test_what_was_reserved_suffices_and_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trajectories: int
) -> None:
    reserved: list[int] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda _, start, size: reserved.append(start + size), raising=False)
    many = {f"mean_{index}": Variable(("record", "observable"), np.ones((3, 3))) for index in range(200)}
    names = {"label": Variable(("word",), np.array(["é" * 30] * 3000))}
    ensemble = example(
        **many,
        **names,
        theta=Variable(("trajectory",), np.ones(trajectories)),
        status=Variable(("trajectory",), np.ones(trajectories)),
        diverged=Variable((), False),
    )
    ensemble.attributes["scenario"] = "é" * 100_000
    ensemble.save(tmp_path / "run.h5")
    size = (tmp_path / "run.h5").stat().st_size
    monkeypatch.undo()
    ensemble.save(tmp_path / "run.h5", overwrite=True)
    assert (tmp_path / "run.h5").stat().st_size == size < reserved[0]


def test_a_file_that_the_system_cuts_short_is_not_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    example().save(path)
    before = path.read_bytes()
    code = """
        import sys
        import numpy as np
        from sgdsim.ensemble import Ensemble, Variable
        from sgdsim.base.errors import RunError
        old = Ensemble.open(sys.argv[1])
        big = Ensemble({**old.variables, "big": Variable(("n",), np.ones(2**20))}, old.attributes)
        try:
            big.save(sys.argv[1], overwrite=True)
        except RunError as error:
            print(error)
    """
    limit = (2**22, 2**22)
    process = run_python(code, path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "nothing was changed: File too large" in output
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.h5"]


@pytest.mark.parametrize("place", ["sgdsim.ensemble.writing.labelled", "sgdsim.base.files._sync"])
def test_a_killed_save_leaves_the_old_file_whole(tmp_path: Path, place: str) -> None:
    path = tmp_path / "run.h5"
    example().save(path)
    before = path.read_bytes()
    code = """
        import importlib, sys, time
        from sgdsim.ensemble import Ensemble
        def stall(*_):
            print("writing", flush=True)
            time.sleep(60)
        home, _, name = sys.argv[2].rpartition(".")
        setattr(importlib.import_module(home), name, stall)
        Ensemble.open(sys.argv[1]).save(sys.argv[1], overwrite=True)
    """
    process = run_python(code, path, place)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert path.read_bytes() == before
    assert [Path(name).suffix for name in sorted(os.listdir(tmp_path))] == [".h5", ".part"]
    sweep().save(path, overwrite=True)
    assert_same(Ensemble.open(path), sweep())
    assert os.listdir(tmp_path) == ["run.h5"]


# Digest


def test_digest_ignores_provenance_order_and_byte_order() -> None:
    ensemble = example()
    turned = Ensemble(dict(reversed(ensemble.variables.items())), {"scenario": SCENARIO, "wall_seconds": 99.0})
    assert turned.digest() == ensemble.digest()
    swapped = Variable(("record", "observable"), np.ones((3, 3), ">f4"))
    assert example(mean=swapped).digest() == ensemble.digest()
    assert (
        example(mean=Variable(("record", "observable"), np.ones((3, 3), "f4", order="F"))).digest() == turned.digest()
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"mean": Variable(("record", "observable"), np.ones((3, 3)))},
        {"mean": Variable(("record", "observable"), np.nextafter(np.ones((3, 3), "f4"), np.float32(2)))},
        {"mean": Variable(("observable", "record"), np.ones((3, 3), "f4"))},
        {"mean": Variable(("record", "other"), np.ones((3, 3), "f4"))},
        {"status": Variable(("trajectory",), np.array([0, 0, 0, 12, 0], np.uint64))},
        {"diverged": Variable(("trajectory",), np.array([0, 0, 0, 1, 0], np.int8))},
        {"observable": Variable(("observable",), ["x", "w[0]é", "nergie"])},
        {"more": Variable((), 1)},
        {"more": Variable(("nothing",), np.zeros(0))},
    ],
)
def test_digest_sees_every_change(changed: dict[str, Variable]) -> None:
    assert example(**changed).digest() != example().digest()


def test_digest_sees_the_scenario_and_names() -> None:
    ensemble = example()
    assert Ensemble(ensemble.variables, {"scenario": SCENARIO + "#"}).digest() != ensemble.digest()
    renamed = {("means" if name == "mean" else name): item for name, item in ensemble.variables.items()}
    assert Ensemble(renamed, ensemble.attributes).digest() != ensemble.digest()


def test_digest_of_a_file_reads_it_in_parts_and_keeps_nothing(tmp_path: Path) -> None:
    rows = 3 * 2**20 + 5
    ensemble = Ensemble(
        {**NAMES, "theta": Variable(("trajectory", "parameter"), np.arange(2.0 * rows).reshape(rows, 2))}, {}
    )
    ensemble.save(tmp_path / "run.h5")
    again = Ensemble.open(tmp_path / "run.h5")
    assert again.digest() == ensemble.digest()
    assert "data" not in vars(again.variables["theta"])
    assert again["theta"][-1, -1] == 2 * rows - 1
    assert again.digest() == ensemble.digest()
