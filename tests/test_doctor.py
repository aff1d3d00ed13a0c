"""The doctor: one line each, and a reason wherever something is missing."""

from __future__ import annotations

import importlib.metadata
import os

import pytest
from numba import cuda

import sgdsim
from sgdsim.doctor import examine


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


class Device:
    name = b"NVIDIA H100"


class Driver:
    """Stands in for numba's: what it answers, and what it says of its failure."""

    def __init__(self, available: object, problem: str | None = None) -> None:
        self._available, self._problem = available, problem

    def is_available(self) -> object:
        if isinstance(self._available, Exception):
            raise self._available
        return self._available

    def cuda_error(self) -> str | None:
        return self._problem

    def get_current_device(self) -> Device:
        return Device()


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (Driver(True), "found NVIDIA H100; sgdsim has no CUDA target yet"),
        (Driver(False), "not found: no driver answers"),
        (Driver(False, ""), "not found: no driver answers"),
        (Driver(False, "Error at driver init: \n\n"), "not found: no driver answers"),
        (Driver(False, "\nCUDA driver library cannot be found.\nIf you are"), "not found: CUDA driver library cannot"),
        (Driver(RuntimeError("Error at driver init: \nno device:\n out of order")), "not found: out of order"),
        (Driver(RuntimeError()), "not found: no driver answers"),
    ],
)
def test_cuda_is_found_or_there_is_a_reason(driver, said, monkeypatch):
    for name in ("is_available", "cuda_error", "get_current_device"):
        monkeypatch.setattr(cuda, name, getattr(driver, name))
    assert lines()["CUDA"].startswith(said)
