"""Devices of a run: what may be asked for, what `auto` chooses, and the messages without a GPU."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sgdsim.app.cli import main
from sgdsim.base.errors import InputError, RunError
from sgdsim.simulation import devices
from sgdsim.simulation.devices import Device, choose
from tests.conftest import gpu

no_gpu = pytest.mark.skipif(gpu() is not None, reason="there is a GPU")


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("cpu", Device()),
        ("cuda", Device("cuda", 0)),
        ("cuda:3", Device("cuda", 3)),
        ("auto", Device("auto")),
        (Device("cuda", 2), Device("cuda", 2)),
    ],
)
def test_devices_are_read(text, device):
    assert Device.parse(text) == device


def test_devices_are_named_as_they_are_read():
    assert [str(Device.parse(text)) for text in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda:0", "cuda:1"]


@pytest.mark.parametrize("text", ["cud", "gpu", "cuda:x", "cuda:", "cuda:-1", "cpu:0", "", "auto:1"])
def test_others_are_refused(text):
    with pytest.raises(InputError, match="--device"):
        Device.parse(text)


class FakeGpu:
    """Stands in for `kernels.gpu`."""

    def __init__(self, name: str | None) -> None:
        self._name = name

    def select(self, number: int) -> str:
        if self._name is None:
            raise RunError("no GPU can be used: none answers")
        return self._name


def test_auto_takes_the_cpu_for_small_runs_without_looking_for_a_gpu(monkeypatch):
    monkeypatch.setattr(devices, "_gpu", lambda: pytest.fail("looked"))
    chosen, reason = choose(Device("auto"), 1e8, 2)
    assert chosen == Device("cpu")
    assert reason == "took the CPU, without looking for a GPU: it needs about 0.065 s, a GPU 1 s to start"


def test_auto_takes_a_gpu_for_large_runs_where_there_is_one(monkeypatch):
    monkeypatch.setattr(devices, "_gpu", lambda: FakeGpu("NVIDIA H100"))
    chosen, reason = choose(Device("auto"), 1e12, 2)
    assert chosen == Device("cuda")
    assert reason.startswith("took NVIDIA H100, since the CPU needs about ")
    monkeypatch.setattr(devices, "_gpu", lambda: FakeGpu(None))
    chosen, reason = choose(Device("auto"), 1e12, 2)
    assert chosen == Device("cpu")
    assert reason.startswith("took the CPU, which needs about ")
    assert "none answers" in reason


def test_what_is_asked_for_stands():
    assert choose(Device("cuda", 1), 1.0, 1) == (Device("cuda", 1), "")


def run(*options: str, folder: str) -> tuple[int, str]:
    arguments = ["run", "river_valley", "--trajectories", "100", "--steps", "8", "-o", f"{folder}/run.h5", *options]
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


def test_a_driver_older_than_the_toolkit_is_refused():
    from sgdsim.kernels.gpu import refuse_older

    with pytest.raises(RunError, match=r"driver is for CUDA 12\.4, older than the toolkit here, 13\.0\.48.*\[cu12\]"):
        refuse_older("12.4", "13.0.48")
    refuse_older("13.1", "12.9.1")
    refuse_older("12.4", "")


@no_gpu
def test_no_gpu_is_one_sentence_with_a_remedy_and_no_file(tmp_path):
    code, output = run("--device", "cuda", folder=str(tmp_path))
    assert code == 1
    assert output.startswith("Error: no GPU can be used: ")
    assert "--device cpu" in output or "pip install" in output
    assert len(output.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_device_is_bad_input(tmp_path):
    code, output = run("--device", "cud", folder=str(tmp_path))
    assert (code, output) == (2, "Error: --device: unknown device 'cud': did you mean 'cuda'?\n")


SAID = {
    "[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY": "its memory is full",
    "[222] Call to cuLinkAddData results in CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "older than the CUDA toolkit",
    "ptxas fatal: Unsupported .version 9.5; current version is '9.0'": "older than the CUDA toolkit",
    "[701] Call to cuLaunchKernel results in CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": "needs more registers or memory",
    "[100] Call to cuInit results in CUDA_ERROR_NO_DEVICE": "finds no device",
    "libNVVM cannot be found. Do `conda install cudatoolkit`": "pip install 'sgdsim[cuda]'",
    "Error at driver init: \nCUDA driver library cannot be found.": "no NVIDIA driver answers",
    "something else": "something else",
}


@pytest.mark.parametrize("said", SAID)
def test_failures_of_a_gpu_come_with_a_remedy(said):
    from numba.cuda.cudadrv.error import CudaSupportError

    from sgdsim.kernels.gpu import explained

    with pytest.raises(RunError, match="the GPU failed: ") as caught, explained():
        raise CudaSupportError(said)
    assert SAID[said] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bugs_and_messages_of_ours_pass_as_they_are():
    from sgdsim.kernels.gpu import explained

    for error in (ZeroDivisionError("a bug"), InputError("bad input"), RunError("said already")):
        with pytest.raises(type(error), match=str(error)), explained():
            raise error


def test_a_missing_extra_is_named_beside_a_missing_driver(monkeypatch):
    from sgdsim.kernels import gpu as module

    def version(name):
        raise module.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.cuda, "cuda_error", lambda: "CUDA driver library cannot be found.")
    monkeypatch.setattr(module.importlib.metadata, "version", lambda name: "0.20")
    assert module.absence().startswith("no NVIDIA driver answers: install one")
    monkeypatch.setattr(module.importlib.metadata, "version", version)
    both = "numba-cuda is not installed, pip install 'sgdsim[cuda]', and no NVIDIA driver answers: install one"
    assert module.absence().startswith(both)


def test_packages_that_are_missing_are_named(monkeypatch):
    import builtins

    original = builtins.__import__

    def without(name, *rest):
        if name == "sgdsim.kernels" and "gpu" in (rest[2] or ()):
            raise ImportError("No module named 'cuda'")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RunError, match=r"No module named 'cuda'; pip install 'sgdsim\[cuda\]'"):
        devices._gpu()
