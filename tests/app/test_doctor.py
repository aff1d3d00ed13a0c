"""The doctor: one line each, and a reason wherever something is missing."""

from __future__ import annotations

import importlib.metadata
import os

import pytest
from numba import cuda
from numba.cuda.cudadrv.error import CudaSupportError

import sgdsim
from sgdsim.app.doctor import examine


def lines() -> dict[str, str]:
    return {line[:12].strip(): line[12:].strip() for line in examine().splitlines()}


def test_what_is_said(tmp_path):
    said = lines()
    assert list(said) == [
        *("sgdsim", "Python", "libraries", "extras", "threads", "threading", "SIMD", "kernel cache", "CUDA"),
    ]
    assert said["sgdsim"] == sgdsim.__version__
    assert f"numba {importlib.metadata.version('numba')}" in said["libraries"]
    assert "not installed" in said["extras"] or "torch" in said["extras"]
    assert said["threads"].endswith(f" of {os.cpu_count()} processors")
    assert said["SIMD"].split()[0] in {"128", "256", "512"}
    assert "kernels" in said["kernel cache"]


class Driver:
    """Stands in for numba's: what it answers, and what it says of its failure."""

    def __init__(self, available: object, problem: str | None = None, gpus: tuple[str, ...] = ()) -> None:
        self._available, self._problem, self.gpus = available, problem, gpus

    def is_available(self) -> object:
        if isinstance(self._available, Exception):
            raise self._available
        return self._available

    def cuda_error(self) -> str | None:
        return self._problem


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (Driver(False), "a driver answers, but it finds no device"),
        (Driver(False, gpus=("a GPU",)), "the compiler of CUDA, NVVM, is missing"),
        (Driver(False, "\nCUDA driver library cannot be found.\nIf you are"), "no NVIDIA driver answers"),
        (Driver(False, "Call to cuInit results in CUDA_ERROR_NO_DEVICE (100)"), "the driver finds no device"),
        (Driver(CudaSupportError("Error at driver init: \nno device:\n out of order")), "out of order"),
    ],
)
def test_cuda_is_not_usable_for_a_reason(driver, said, monkeypatch):
    for name in ("is_available", "cuda_error", "gpus"):
        monkeypatch.setattr(cuda, name, getattr(driver, name))
    assert lines()["CUDA"].startswith("not usable: ")
    assert said in lines()["CUDA"]


def test_gpus_are_described(monkeypatch):
    from sgdsim.kernels import gpu

    monkeypatch.setattr(gpu, "describe", lambda: ["driver for CUDA 13.0", "cuda:0 NVIDIA H100"])
    assert lines()["CUDA"] == "driver for CUDA 13.0; cuda:0 NVIDIA H100"
