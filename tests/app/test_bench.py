"""`sgdsim bench`: what it times, and how it says so. Nothing here looks at the clock."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from sgdsim.app import bench
from sgdsim.app.bench import Size
from sgdsim.app.cli import main

FOUND = {
    "float64": [2e-9, 20e-9, 2e-9],
    "float32": [1e-9, 10e-9, 1e-9],
    "noise summed": [1.6e-9, 16e-9, 1.6e-9],
    "float64, 4 threads": [0.5e-9, 5e-9, 0.5e-9],
    "NumPy, float64": [24e-9, 240e-9, 24e-9],
}


@pytest.fixture
def asked(monkeypatch):
    """All that is asked of a simulation that takes two seconds."""
    calls = []

    def simulate(loss, **options):
        calls.append((loss.name, options))
        return SimpleNamespace(attributes={"wall_seconds": 2.0})

    monkeypatch.setattr(bench, "simulate", simulate)
    return calls


def test_on_the_cpu(asked, monkeypatch):
    monkeypatch.setattr(bench, "_processors", lambda: 4)
    found = bench.measure(size=Size(100, 10), rounds=2)
    assert list(found) == list(FOUND)
    assert found["float64"] == [2e-3, 2e-3]
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in found.values())
    assert len(asked) == 3 * 4  # a first call compiles
    assert all("device" not in options for _, options in asked)
    assert {options["threads"] for _, options in asked} == {1, 4}


def test_on_a_gpu(asked):
    found = bench.measure("cuda", Size(100, 10), rounds=1)
    assert list(found) == ["float64", "float32", "noise summed", "NumPy, float64"]
    assert all(options["device"] == "cuda" and "threads" not in options for _, options in asked)
    assert asked[2][0] == "noise_summed"
    assert asked[2][1]["dtype"] == "float32"  # as the full step that it is held against


def test_a_slow_round_changes_no_ratio():
    lines = bench.report(FOUND).splitlines()
    assert lines[-3:] == [
        "NumPy float64 / ours float64: 12 (the bar is 11)",
        "full step / noise drawn and summed: 1.25 (1: all is noise; the bar of make bench, 1.6, has noise thrown away)",
        "speed on 4 threads / on 1: 4",
    ]
    assert "full step / noise drawn and summed: 0.625" in bench.report(FOUND, "cuda")


def test_the_command(monkeypatch):
    devices = []
    monkeypatch.setattr(bench, "measure", lambda device: devices.append(device) or FOUND)
    done = CliRunner().invoke(main, ["bench", "--device", "cuda"])
    assert done.exit_code == 0
    assert devices == ["cuda"]
    assert "On the GPU" in done.output
    assert "On the GPU, cuda:1" in CliRunner().invoke(main, ["bench", "--device", "cuda:1"]).output


@pytest.mark.parametrize(("device", "message"), [("tpu", "unknown device 'tpu'"), ("auto", "one device is timed")])
def test_other_devices_are_refused(device, message):
    done = CliRunner().invoke(main, ["bench", "--device", device])
    assert (done.exit_code, message in done.output) == (2, True)


def test_a_second_gpu_is_timed(asked):
    bench.measure("cuda:1", Size(100, 10), rounds=1)
    assert {options["device"] for _, options in asked} == {"cuda:1"}


@pytest.mark.validate
def test_it_runs():
    found = bench.measure(size=Size(4096, 100), rounds=1)
    assert found["NumPy, float64"][0] > found["float64"][0]
