"""Bit-identical results: states of the shipped scenarios after twelve steps, on every target that promises them.

A GPU agrees to rounding alone: its compiler fuses what the text does not, and numba-cuda has no option against it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from llvmlite import binding
from numba import config

from sgdsim.app.families import FAMILIES
from sgdsim.input.loading import load_parts
from sgdsim.model.recorder import Recorder
from sgdsim.simulation.run_loop import simulate_runs
from tests.samples import daily

DIGESTS = {
    "anisotropic_balance": "3b5dfa87ae679f7512d60f4b300b263b941cd3dd49d665772146e95788f0e6c0",
    "collapse": "77cd4ba57a808a435558d071e91142771bbf5209e0b3c5a967bd09811a26eee4",
    "compression": "98060117e89e31e1999ddd6bf326f7ac92d85de1d6c1afbf6fa63d0d82245dbd",
    "cooling": "6df8dc6773fca109d37de154d7f58579b1f4c0314bd9cca4915c5f4adade16c5",
    "delayed_error": "00c5ae97499917337c1dadad98b05553ca5c20ca3cd6c415c9cd187e00cf5b23",
    "discrete_symmetry": "76208f5b6d5af017811c390f3e0d4d9295d6d708ae27fb99be3a95ee2d277563",
    "entropic_force": "e9de8b4733a2a2bfd6063bda70e7db47d0282ece1c995773ea165049bc44c7b4",
    "entropic_loss": "cb0eb4a57bdf1fe34cc1aac98a8edd22d989e31208a2ae554d9975234f57e757",
    "entropic_trapping": "c731f5db9f07334bc165e5a5fab51c545c92462c0f1abac8ee7f4d04fb4c2684",
    "entropy": "02864f0765075d20074754c5f9f5aa6336859c3f1ad3978664d082e78fda405b",
    "equipartition": "276e0162f8de63907512863cd838bcab0bc63676ad5a9f2a9aa4714991d0fc5c",
    "equivariance": "8852c60c0a1bbd368d46e4f03652f9e4abd286ab986b2093b689cd5ef02acae4",
    "feedback_alignment": "415aeba6abf63bf7ea2eed24aa069808097f934ab93a97b9c9ff017eff5fad49",
    "first_law": "547f18e242a4e1e289b45c003868bde9a50aa487a61042895758e632d84658db",
    "heat_capacity": "fdc987554853236bb3e17cb8a7a608a8c3fafaee952ec1a7656e3c0423a110cf",
    "hebbian": "c94df9a538df6ebbf05a00a9376b106fb4021fbc2ceb2955b621c4b46bd55ff4",
    "heterosynaptic": "036c78b5ba6068b472e19f0237b5f4817841cfadfc97d7f3f1123993277cc645",
    "ideal_gas": "b146c4b68d7932d93e90b58a1378c63743d6c74404a6a0bbf96de3c0b8a295d6",
    "irreversibility": "42c13495b99cff2725a40cef2facb6dba2979affe0fced2b42950db8f8a7a738",
    "kolen_pollack": "d4278c0bb9b7f40b348a5f6924591535bba4d4cb3187937aa4ce5e9b944a76ea",
    "langevin_contrast": "02b06a10e22da160597efe2c26e0f986be56b6715d7b8d17bd39f5069ecbc1f4",
    "multimodal": "f54ee9291e22ef1b7862b851b4b13129dddb711363ad85e767c477c17552044d",
    "optimizers_temperature": "fbfe142742098ba42a362a0ea0d304c279d044a3e1d5a3a83a3f3793db5f4a24",
    "plasticity_timescale": "b782b66f0a7a0aa423034cc83a45cbb38ca5f39a5d07313c322d724d0c877b23",
    "platonic": "d8bec591096e91be11ee67ddcc4d6ecb83e0c6d40f6e4c73f1d82a8bf28daf75",
    "platonic_breakers": "5e8176691853a01e1181435aecb61850268519141ce8fb89363842c295965c06",
    "platonic_rates": "00d2975003bd88e2bbdc5e8e14a4e3da968106f0adb1d22496ead2ec8937cdb4",
    "platonic_sharpening": "0ad10cb71e14abd11812388e6b2a60c1c24db46b41e370cbe5b3e0c587c557ab",
    "preconditioned_balance": "548947387f8ff6b99c8d05bdafb6b5c5d940de785cf4a8567b6973645dc102ee",
    "referee_of_sampling": "f1e7902a103cdc62d22ac48e614b077e5ca86ae08992baf6f6dd66aa074630d9",
    "rescaling": "934754573473b33f5a17c194ac1afa16c1482b67477667fee56197b465d044b5",
    "restoration": "323959c35818ed2a239babf3ed7368d948c927daeaff1bb1ea374d1266ced664",
    "river_valley": "a75e6994829c5b29be85e74ae90bc00db1f7a2fd5a3eb567d337e0653e784bb1",
    "scale_invariance": "56af5ddf93259f3c243cc3bdc341b4d7be28d1dfbefc81e55400587e67101eb1",
    "schedule_design": "21c288f1ce44d487bb1479a8f786e8f09624d80a133f5a0f100d5c4af6fc1dd4",
    "second_law": "3e2791b44705e0e091f79c75eb67c0dc8d41bd0982df07e8d8ed2e13aa4d0067",
    "sharpen_then_flatten": "3018bea5da1043abd0616a1f2cdaa437045ae931ae8aafebb55ebbc5067d7ab1",
    "sharpness": "3e8259ff198dbfb8bd908c7ee85230f22b508b48bc8a9525ef74a10c7443643e",
    "staircase": "1243aada016f336238ae74b0c77ee278ad6315f89832e3863807674c8a7fcc4d",
    "stationary_laws": "df49179069d368fc72f96c774dbdda614a39755eda6c9bb1125049266c744752",
    "unbroken_symmetries": "4abec0af9791788a34be77ab4ba48c3f46832727cf2bd692a14691ee054848d1",
}
"""SHA-256 of the last states of the first part at its largest learning rate. Whoever changes one says in the change log
why, and from which version files differ."""

PROCESSORS = {"x86-64-v3": "avx2", "x86-64-v4": "avx512f"}
"""Of x86, with what each needs. Below, a fused product is a call of the C library, which is slow."""


def digest(name: str, device: str, dtype: str | None = None) -> str:
    """Digest of the final states of 20 trajectories on a device."""
    run = load_parts(name)[0].runs[-1]
    small = replace(run, trajectories=20, steps=12, recorder=Recorder(snapshots=(12,)), dtype=dtype or run.dtype)
    theta = simulate_runs([small], scenario="", device=device)["theta"]
    return hashlib.sha256(np.ascontiguousarray(theta).tobytes()).hexdigest()


LONG = {*FAMILIES["entropic"], *FAMILIES["networks"]} - {"feedback_alignment"}
QUICK = [name for name in DIGESTS if name not in LONG]
"""To compile all would double the time."""


@pytest.mark.parametrize("name", daily(DIGESTS, *QUICK[::3]))
def test_states_are_the_same_on_every_target(target, name):
    if target == "cuda" and not config.ENABLE_CUDASIM:
        pytest.skip("a GPU agrees to rounding")
    assert digest(name, target) == DIGESTS[name]


@pytest.mark.parametrize("name", daily(QUICK[::3], QUICK[0]))
def test_states_of_32_bits_are_the_same_compiled_and_not(name):
    assert digest(name, "cpu", "float32") == digest(name, "python", "float32")


@pytest.mark.validate
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="of other processors")
@pytest.mark.parametrize("processor", PROCESSORS)
def test_states_are_the_same_on_every_processor(processor, tmp_path):
    """Compiled for another processor, with vectors of another width, in a process of its own."""
    if not binding.get_host_cpu_features().get(PROCESSORS[processor]):
        pytest.skip(f"this processor has no {PROCESSORS[processor]}")
    settings = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "SGDSIM_CACHE_DIR": str(tmp_path)}
    code = "from tests.test_digests import *; print({name: digest(name, 'cpu') for name in DIGESTS})"
    output = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True, text=True, check=True
    ).stdout
    assert output.strip() == str(DIGESTS)
