"""PyTorch on a GPU: eager as on the CPU, `vmap` of `grad`, and a step that is captured once as a CUDA graph."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.jobs import Job
from benchmarks.peers import Models, Simulate, State, torch_eager
from benchmarks.peers.torch_losses import DTYPES


def gpu() -> str:
    """Its name."""
    return torch.cuda.get_device_name()


def river_valley(dtype: Any, gradient_by: str, graph: bool, job: Job, threads: int) -> Simulate:
    """Launched step by step, or replayed from a graph."""
    a0, k, c2, sigma = (job.constants[name] for name in ("a0", "k", "c2", "sigma"))
    x = torch.empty(job.trajectories, dtype=dtype, device="cuda")
    y = torch.empty_like(x)

    def loss(x: Any, y: Any, xi: Any) -> Any:
        return c2 * y**2 / 2 + a0 * (1 + k * y**2) * x**2 / 2 + sigma * xi * x

    def by_hand(x: Any, y: Any, xi: Any) -> Any:
        return a0 * (1 + k * y * y) * x + sigma * xi, c2 * y + a0 * k * y * x * x

    gradient = by_hand if gradient_by == "by hand" else torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))

    def step() -> None:
        gradient_x, gradient_y = gradient(x, y, torch.randn_like(x))
        x.sub_(gradient_x, alpha=job.learning_rate)
        y.sub_(gradient_y, alpha=job.learning_rate)

    advance = _captured(step) if graph else step

    def simulate() -> State:
        x.fill_(job.initial["x"])
        y.fill_(job.initial["y"])
        for _ in range(job.steps):
            advance()
        torch.cuda.synchronize()
        return {"x": x, "y": y}

    return simulate


def _captured(step: Any) -> Any:
    """CUDA graph of a step, captured as PyTorch's manual does it: after some steps on a separate stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


_EAGER = torch_eager.models("cuda")
MODELS: Models = {
    **_EAGER,
    "river_valley": {
        **_EAGER["river_valley"],
        **{
            f"{way}, {name}": partial(river_valley, dtype, way.split(" as ")[0], way.endswith("graph"))
            for way in ("vmap of grad", "by hand as a CUDA graph", "vmap of grad as a CUDA graph")
            for name, dtype in DTYPES.items()
        },
    },
}
