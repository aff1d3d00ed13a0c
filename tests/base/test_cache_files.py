"""Files of the kernel cache: whole or not there, and never read if they are not what was written."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest

from sgdsim.base import cache_files
from sgdsim.base.cache_files import DamagedError
from tests.base.test_cache_folder import give_away, posix_only

DATA = bytes(range(256)) + b"\n# sha256 of something else\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    cache_files.write(tmp_path / "a.nbc", DATA)
    return tmp_path / "a.nbc"


@pytest.mark.parametrize("data", [DATA, b"", b"\n# sha256 ", b"text"])
def test_what_is_written_is_read(tmp_path, data):
    cache_files.write(tmp_path / "a", data)
    cache_files.write(tmp_path / "a", data)
    assert cache_files.read(tmp_path / "a") == data
    assert os.listdir(tmp_path) == ["a"]


def test_every_bit_is_checked(path):
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
            with pytest.raises(DamagedError, match="is damaged"):
                cache_files.read(path)


def test_every_length_is_checked(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            cache_files.read(path)
    for more in (b"\n", b"\0", whole, random.Random(1).randbytes(100)):
        path.write_bytes(whole + more)
        with pytest.raises(DamagedError):
            cache_files.read(path)


def test_a_folder_in_its_place_is_replaced(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        cache_files.read(tmp_path / "a")
    cache_files.write(tmp_path / "a", DATA)
    assert cache_files.read(tmp_path / "a") == DATA


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    (tmp_path / "other").write_text("mine")
    (tmp_path / "a").symlink_to(tmp_path / "other")
    cache_files.write(tmp_path / "a", DATA)
    assert (tmp_path / "other").read_text() == "mine"
    assert not (tmp_path / "a").is_symlink()


@posix_only
def test_it_is_its_owner_s_alone(path, monkeypatch):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o620)
    with pytest.raises(PermissionError, match="others can write"):
        cache_files.read(path)
    path.chmod(0o600)
    give_away(path, monkeypatch)
    with pytest.raises(PermissionError, match="another user"):
        cache_files.read(path)


@pytest.mark.parametrize("step", ["fdopen", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing(path, monkeypatch, step, failure):
    def failing(*_: object) -> None:
        raise failure

    monkeypatch.setattr(os, step, failing)
    with pytest.raises(type(failure)):
        cache_files.write(path, b"other")
    assert os.listdir(path.parent) == [path.name]
    assert cache_files.read(path) == DATA
