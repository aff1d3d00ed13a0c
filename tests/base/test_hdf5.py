"""HDF5 files of strangers: nothing is read that stands elsewhere, is not there, or would never be read to its end."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from sgdsim.base import hdf5
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble, Variable, open_parts
from sgdsim.input.numeric_files import read_table

SECRET = "a secret of the user"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with what nobody is to read by way of another file, and a result."""
    (tmp_path / "secret.txt").write_text(SECRET)
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["theta"] = np.arange(4.0)
    names = {name: Variable((name,), ["x", "y"]) for name in ("parameter", "observable")}
    theta = Variable(("trajectory", "parameter"), np.ones((4, 2)))
    Ensemble({"record_step": Variable(("record",), [0, 1]), "theta": theta, **names}, {"title": "whole"}).save(
        tmp_path / "run.h5"
    )
    return tmp_path


def change(path: Path, make: Callable[[h5py.File], object]) -> Path:
    with h5py.File(path, "r+") as file:
        make(file)
    return path


def external_storage(file: h5py.File) -> None:
    size = len(SECRET)
    file.create_dataset("stolen", (size,), "u1", external=[(str(Path(file.filename).with_name("secret.txt")), 0, size)])


def external_link(file: h5py.File) -> None:
    file["stolen"] = h5py.ExternalLink(str(Path(file.filename).with_name("secret.h5")), "/theta")


def virtual_dataset(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(Path(file.filename).with_name("secret.h5")), "theta", (4,))
    file.create_virtual_dataset("stolen", layout)


@pytest.mark.parametrize("make", [external_storage, external_link, virtual_dataset])
def test_values_that_stand_in_other_files_are_refused(folder, make):
    """HDF5 itself reads them, from wherever the user may read."""
    with h5py.File(change(folder / "run.h5", make)) as file:
        assert len(file["stolen"][()])
    with pytest.raises(InputError, match=r"run.h5: 'stolen' stands in another file, expected all values in this one"):
        open_parts(folder / "run.h5")
    with h5py.File(folder / "table.h5", "w") as file:
        file["x"] = [1.0, 2.0, 3.0, 4.0]
        make(file)
    with pytest.raises(InputError, match=r"table.h5: 'stolen' stands in another file, expected all values in this one"):
        read_table(folder / "table.h5")


def test_soft_links_are_followed_nowhere(folder):
    """They may lead through an external link; a table has columns without them."""
    with h5py.File(folder / "table.h5", "w") as file:
        file["x"] = [1.0, 2.0]
        file["y"] = h5py.SoftLink("/x")
        file["outside"] = h5py.SoftLink("/x/../../secret")
    assert read_table(folder / "table.h5") == {"x": [1.0, 2.0]}
    change(folder / "run.h5", lambda file: file.__setitem__("again", h5py.SoftLink("/theta")))
    with pytest.raises(InputError, match=r"run.h5: 'again' is a link, expected the values themselves"):
        open_parts(folder / "run.h5")


@pytest.mark.parametrize("options", [{}, {"chunks": (10**6,), "compression": "gzip"}])
@pytest.mark.parametrize("size", [10**6, 10**12])
def test_values_that_the_file_does_not_hold_are_refused(options, size, folder):
    """A few bytes say that there are eight terabytes, or megabytes, of them."""

    def claim(file: h5py.File) -> None:
        file.create_dataset("claimed", (size,), "f8", **options).make_scale("claimed")

    change(folder / "run.h5", claim)
    message = f"run.h5: 'claimed' has {8 * size} bytes of values, of which the file holds 0"
    with pytest.raises(InputError, match=message):
        open_parts(folder / "run.h5")


def test_what_is_packed_is_read(folder):
    """A thousand times as large in memory as in the file, as a program that packs files leaves it."""
    zeros = np.zeros(10**6)

    def pack(file: h5py.File) -> None:
        packed = file.create_dataset("packed", data=zeros, chunks=zeros.shape, compression="gzip", compression_opts=9)
        packed.make_scale("packed")

    change(folder / "run.h5", pack)
    np.testing.assert_array_equal(open_parts(folder / "run.h5")[""]["packed"], zeros)


def test_axes_are_named_as_hdf5_names_them(folder):
    with h5py.File(folder / "run.h5") as file:
        for name, dataset in file.items():
            scales = (name,) if dataset.is_scale else tuple(axis[0].name.strip("/") for axis in dataset.dims)
            assert hdf5.axes(dataset) == scales
        assert hdf5.axes(file["theta"]) == ("trajectory", "parameter")


def heap_of(content: bytes) -> int:
    """Position of the first heap, which holds the texts."""
    return content.index(b"GCOL\x01")


@pytest.mark.parametrize("size", [2**56 + 7, 2**64 - 40, 2**13])
def test_a_damaged_heap_is_refused_before_it_is_read(size, folder):
    """HDF5 goes round for ever where a first object is said to be of such a size."""
    content = bytearray((folder / "run.h5").read_bytes())
    start = heap_of(content)
    struct.pack_into("<Q", content, start + 24, size)
    (folder / "run.h5").write_bytes(content)
    with pytest.raises(InputError, match=f"run.h5: a heap at byte {start} is damaged"):
        open_parts(folder / "run.h5")


def test_a_free_space_without_size_is_refused(folder):
    """The other way to go round for ever: the next object is this one."""
    content = bytearray((folder / "run.h5").read_bytes())
    start = heap_of(content)
    struct.pack_into("<HHIQ", content, start + 16, 0, 0, 0, 0)
    (folder / "run.h5").write_bytes(content)
    with pytest.raises(InputError, match="heap"):
        open_parts(folder / "run.h5")


def test_numbers_that_look_like_a_heap_are_none(folder):
    numbers = np.frombuffer(b"GCOL\x01\0\0\0" + struct.pack("<d", 1.5) + b"GCOL\x01\0\0\0" + bytes(8), "f8")
    change(folder / "run.h5", lambda file: file.create_dataset("numbers", data=numbers).make_scale("numbers"))
    np.testing.assert_array_equal(open_parts(folder / "run.h5")[""]["numbers"], numbers)
