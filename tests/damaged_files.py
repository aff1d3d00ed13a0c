"""Results that somebody has changed, and what each command makes of them: `python -m tests.damaged_files`.

Each file is read in a process of its own, a fork of one that has loaded everything: one that crashes takes no other
with it. What is reported is every command that ended in a traceback, by a signal, of no memory or after `SECONDS`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import random
import resource
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sgdsim.app.cli import main as sgdsim

CHANGED = Path("changed.h5")
SECONDS = 60
MEMORY = 6 * 2**30
COMMANDS: dict[str, list[str]] = {
    "info": ["info", "changed.h5"],
    "compare": ["compare", "changed.h5"],
    "plot": ["plot", "changed.h5", "--overwrite", "-o", "density.svg"],
    "moments": ["plot", "changed.h5", "--overwrite", "-o", "moments.svg", "--kind", "moments"],
    "drift": ["plot", "changed.h5", "--overwrite", "-o", "drift.svg", "--kind", "drift"],
    "theory": ["theory", "changed.h5"],
    "schedule": ["schedule", "--measure", "changed.h5", "--peak", "0.1", "--steps", "20"],
    "from": [
        *("simulate", "--from", "changed.h5", "-o", "next.h5", "--overwrite", "--device", "python"),
        *("--loss", "(x - z)**2/2 + y**2/2", "--noise", "z=normal", "--parameter", "x=0", "--parameter", "y=0"),
        *("--learning-rate", "0.1", "--trajectories", "4", "--steps", "1", "--no-compare", "--quiet"),
    ],
}
_PAIR = np.dtype([("a", "f8"), ("b", "i4")])


def make(path: Path) -> None:
    """A small file that holds something of each kind that is recorded."""
    arguments = [
        *("simulate", "--loss", "a*(x - z)**2/2 + y**2/2", "--parameter", "x=0.5", "--parameter", "y=normal:0,0.1"),
        *("--constant", "a=1", "--noise", "z=normal", "--learning-rate", "0.1", "--trajectories", "64", "--steps", "8"),
        *("--every", "4", "--snapshot", "final", "--histogram", "x:-1,1,4", "--quantile", "0.5", "--covariances"),
        *("--observable", "q = x*y", "--autocorrelation", "x:0:1,2", "--drift", "x:-1,1,3", "--predict", "mean(x) = 0"),
        *("--predict", "variance(q) = a", "--predict", "covariance(x, y) = 0", "--device", "python", "--no-compare"),
        *("--quiet", "--seed", "5", "-o", str(path)),
    ]
    sgdsim(arguments, standalone_mode=False)


# Changes of one item.


def _replaced(group: Any, name: str, values: Any, **options: Any) -> None:
    """Other values in the place of a variable, on the same scales as far as it has as many axes."""
    old = group[name]
    attributes = {key: value for key, value in old.attrs.items() if key not in _SCALES}
    scales = [axis[0].name if len(axis) else None for axis in old.dims]
    uses = [
        (group[other], axis)
        for other in group
        for axis, dimension in enumerate(group[other].dims)
        if other != name and len(dimension) and dimension[0].name == old.name
    ]
    was_scale = old.is_scale
    for user, axis in uses:
        user.dims[axis].detach_scale(old)
    del group[name]
    new = group.create_dataset(name, data=values, **options)
    new.attrs.update(attributes)
    if was_scale:
        new.make_scale(name)
    for user, axis in uses:
        user.dims[axis].attach_scale(new)
    for axis, scale in enumerate(scales[: np.ndim(values)]):
        if scale is not None and scale != new.name:
            new.dims[axis].attach_scale(group[scale])


_SCALES = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST"}


def _values(group: Any, name: str) -> dict[str, Callable[[], object]]:
    """Ways to change a variable."""
    old = group[name][()]
    shape = np.shape(old)

    def put(make: Callable[[], Any], **options: Any) -> Callable[[], object]:
        return lambda: _replaced(group, name, make(), **options)

    reference = np.full(shape, group[name].ref, dtype=object)
    return {
        "delete": lambda: group.__delitem__(name),
        "strings": put(lambda: np.full(shape, "a", dtype=object), dtype=h5py.string_dtype()),
        "bytes": put(lambda: np.full(shape, b"\xff\x00\xfe")),
        "complex": put(lambda: np.zeros(shape, complex)),
        "compound": put(lambda: np.zeros(shape, _PAIR)),
        "references": put(lambda: reference, dtype=h5py.ref_dtype),
        "lists": put(lambda: _lists(shape), dtype=h5py.vlen_dtype(np.dtype("f8"))),
        "small": put(lambda: np.zeros(shape, "i1")),
        "big-endian": put(lambda: np.ones(shape, ">f4")),
        "half": put(lambda: np.ones(shape, "f2")),
        "scalar": put(lambda: 1.0),
        "empty": put(lambda: np.zeros(0)),
        "no rows": put(lambda: np.zeros((0, *shape[1:]))),
        "one axis more": put(lambda: np.ones((*shape, 2))),
        "shorter": put(lambda: np.ones(tuple(max(n - 1, 0) for n in shape))),
        "longer": put(lambda: np.ones(tuple(n + 1 for n in shape))),
        "null": lambda: _null(group, name),
        "nan": put(lambda: np.full(shape, np.nan)),
        "infinite": put(lambda: np.full(shape, -np.inf)),
        "huge": put(lambda: np.full(shape, 1e308)),
        "negative": put(lambda: np.full(shape, -1)),
        "largest": put(lambda: np.full(shape, 2**63 - 1)),
        "zero": put(lambda: np.zeros(shape)),
        "unwritten": put(lambda: None, shape=(10**12,), dtype="f8", chunks=(10**6,)),
        "virtual": lambda: _virtual(group, name),
        "external": put(lambda: None, shape=(4,), dtype="u1", external=[("/etc/passwd", 0, 4)]),
        "soft link": lambda: _linked(group, name, h5py.SoftLink("/theta")),
        "external link": lambda: _linked(group, name, h5py.ExternalLink("whole.h5", "/theta")),
        "group": lambda: _grouped(group, name),
        "no scale": lambda: group[name].attrs.pop("DIMENSION_LIST", None),
        "list of numbers": lambda: group[name].attrs.__setitem__("DIMENSION_LIST", [1, 2]),
        "itself": lambda: group[name].attrs.__setitem__("CLASS", np.bytes_("DIMENSION_SCALE")),
    }


def _lists(shape: tuple[int, ...]) -> Any:
    values = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        values[index] = np.ones(2)
    return values


def _null(group: Any, name: str) -> None:
    del group[name]
    group[name] = h5py.Empty("f8")


def _linked(group: Any, name: str, link: Any) -> None:
    del group[name]
    group[name] = link


def _grouped(group: Any, name: str) -> None:
    del group[name]
    group.create_group(name)


def _virtual(group: Any, name: str) -> None:
    del group[name]
    layout = h5py.VirtualLayout((64,), "f8")
    layout[:] = h5py.VirtualSource("whole.h5", "x", (64,))
    group.create_virtual_dataset(name, layout)


def _attributes(item: Any, name: str) -> dict[str, Callable[[], object]]:
    """Ways to change an attribute."""

    def put(value: Any, **options: Any) -> Callable[[], object]:
        return lambda: item.attrs.create(name, value, **options)

    return {
        "delete": lambda: item.attrs.__delitem__(name),
        "no text": put(""),
        "text": put("\x1b[31mred\n\u202e"),
        "bytes": put(np.bytes_(b"\xff\xfe")),
        "long text": put("9" * 60_000),
        "texts": put(["a", "b"], dtype=h5py.string_dtype()),
        "negative": put(-1),
        "half": put(0.5),
        "nan": put(np.nan),
        "infinite": put(np.inf),
        "huge": put(2**63),
        "numbers": put([1.0, 2.0]),
        "complex": put(1j),
        "compound": put(np.zeros((), _PAIR)),
        "boolean": put(True),
        "null": put(h5py.Empty("f8")),
        "reference": put(item.ref, dtype=h5py.ref_dtype),
        "list": put(_lists((1,)), dtype=h5py.vlen_dtype(np.dtype("f8"))),
        "none": put(np.zeros(0)),
    }


_SCENARIOS = ("run = 1", "[run]\nfrom = 2", "loss = []", "[loss]\nname = 3", "a." * 3000 + "b = 1", "x = " + "[" * 400)


def structured(path: Path) -> list[tuple[str, str, str]]:
    """Every change that can be made of every variable and attribute: item, attribute or nothing, change."""
    changes = []
    with h5py.File(path, "r") as file:
        for name in ("/", *file):
            if name != "/":
                changes += [(name, "", change) for change in _values(file, name)]
            for attribute in file[name].attrs:
                if attribute not in _SCALES and (name in ("/", "theta") or attribute not in ("units", "long_name")):
                    changes += [(name, attribute, change) for change in _attributes(file[name], attribute)]
    return [*changes, *(("/", "scenario", f"scenario {number}") for number in range(len(_SCENARIOS)))]


def change(path: Path, item: str, attribute: str, how: str) -> None:
    """Make one of the changes of `structured`."""
    with h5py.File(path, "r+") as file:
        if how.startswith("scenario "):
            file.attrs["scenario"] = _SCENARIOS[int(how.split()[1])]
        elif attribute:
            _attributes(file[item], attribute)[how]()
        else:
            _values(file, item)[how]()


def flip(content: bytes, seed: int) -> bytes:
    """Up to eight bytes that are others, or one run of them."""
    source = random.Random(seed)
    changed = bytearray(content)
    for _ in range(source.choice((1, 1, 2, 8))):
        changed[source.randrange(len(changed))] = source.choice((0, 1, 127, 128, 255, source.randrange(256)))
    return bytes(changed)


# Commands.


def tried(arguments: list[str], ends: Counter[int] | None = None) -> str:
    """Description of a wrong end of a command; empty for a documented end, which is counted."""
    process = os.fork()
    if process == 0:
        os._exit(_run(arguments))
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        return f"{signal.Signals(os.WTERMSIG(status)).name} {Path('said').read_text(errors='replace')[-2000:]}"
    said = Path("said").read_text(encoding="utf-8", errors="replace")
    code = os.WEXITSTATUS(status)
    if ends is not None:
        ends[code] += 1
    if code not in (0, 1, 2) or "Traceback" in said:
        return f"exit code {code}: {said[-3000:]}"
    error = said.partition("Error: ")[2].strip()
    if code == 2 and not error:
        return f"exit code 2 without a word: {said[-500:]}"
    if code == 1 and error:
        return f"exit code 1 for bad input: {said[-500:]}"
    if "\x1b" in said:
        return f"escapes: {said[-500:]}"
    return ""


def _run(arguments: list[str]) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.alarm(SECONDS)
    descriptor = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(descriptor, number)
    code = 70
    try:
        sgdsim(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 71
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def cases(path: Path, kinds: str, first: int, parts: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Cases to try, each a name and a function that changes the file; from ``first`` on every ``parts``-th case."""
    if kinds == "structured":
        every = structured(path)
        random.Random(0).shuffle(every)
        for case in every[first::parts]:
            yield repr(case), partial(change, CHANGED, *case)
    else:
        content = path.read_bytes()
        for number in itertools.count(first, parts):
            yield f"flip {number}", partial(_write_flipped, content, number)


def _write_flipped(content: bytes, seed: int) -> None:
    CHANGED.write_bytes(flip(content, seed))


def main() -> None:
    """Try changes in the working folder, and print a line of JSON for each command that ended as none may."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", choices=("structured", "flips"))
    parser.add_argument("--count", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    whole = Path("whole.h5")
    make(whole)
    content = whole.read_bytes()
    for command in options.commands:  # loads what it takes, and shows that the whole file can be used
        CHANGED.write_bytes(content)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            sgdsim(COMMANDS[command])
        if problem := tried(COMMANDS[command]):
            raise AssertionError(problem)
    ends: Counter[int] = Counter()
    for name, make_change in itertools.islice(cases(whole, options.kinds, options.first, options.parts), options.count):
        CHANGED.write_bytes(content)
        make_change()
        for command in options.commands:
            if problem := tried(COMMANDS[command], ends):
                print(json.dumps({"case": name, "command": command, "problem": problem}), flush=True)
    print(json.dumps({"ends": ends}), flush=True)


if __name__ == "__main__":
    main()
