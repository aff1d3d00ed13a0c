"""The folder of the kernel cache: where it is, and that nobody else decides what is in it."""

from __future__ import annotations

import os
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdsim.base import cache_folder

SOMEBODY = 65534
ROOT = getattr(os, "geteuid", lambda: None)() == 0

fresh_folder: Callable[[], Path] = cache_folder.cache_folder.__wrapped__

posix_only = pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes say nothing here")


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file another user's: root may, others pretend to be somebody else."""
    if ROOT:
        os.chown(path, SOMEBODY, SOMEBODY, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "getuid", lambda: SOMEBODY)


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that is chosen, in one of its own; neither is there yet."""
    folder = tmp_path / "home" / "kernels"
    monkeypatch.setenv("SGDSIM_CACHE_DIR", str(folder))
    yield folder
    cache_folder._temporary_folder.cache_clear()
    cache_folder.warn_once.cache_clear()


def refusal() -> str:
    """Why the chosen folder is not used."""
    with pytest.warns(RuntimeWarning, match=r"^the kernel cache cannot be used \(.*set SGDSIM_CACHE_DIR to a") as found:
        temporary = fresh_folder()
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o700
    assert not str(temporary).startswith(os.environ.get("SGDSIM_CACHE_DIR", "none"))
    (warning,) = found
    return str(warning.message)


def test_folder_is_the_chosen_one(chosen):
    assert fresh_folder() == chosen
    assert chosen.is_dir()


def test_folder_is_the_user_s_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("SGDSIM_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fresh_folder() == tmp_path / "sgdsim"
    monkeypatch.delenv("SGDSIM_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert fresh_folder() == tmp_path / "home" / ".cache" / "sgdsim"


def test_folder_does_not_move_with_the_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SGDSIM_CACHE_DIR", "kernels")
    assert fresh_folder() == tmp_path / "kernels"


def test_folder_that_cannot_be_written_is_replaced_with_a_warning(chosen):
    chosen.parent.write_text("")
    assert "File exists" in refusal()


@pytest.mark.skipif(ROOT, reason="root may write anywhere")
def test_folder_without_permission_is_replaced_with_a_warning(chosen):
    chosen.mkdir(parents=True)
    chosen.chmod(0o500)
    assert "Permission denied" in refusal()


def test_user_without_a_home_gets_a_temporary_folder(monkeypatch):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("SGDSIM_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert "home directory" in refusal()


# Whom it may belong to.


@posix_only
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_what_is_made_is_closed_to_others(chosen, umask):
    before = os.umask(umask)
    try:
        assert fresh_folder() == chosen
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (chosen, chosen.parent)] == [0o700, 0o700]


@posix_only
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_folder_that_others_can_write_is_refused(chosen, mode):
    chosen.mkdir(parents=True)
    chosen.chmod(mode)
    assert f"others can write to {chosen})" in refusal()


@posix_only
@pytest.mark.parametrize("mode", [0o755, 0o750, 0o700])
def test_a_folder_that_others_can_only_read_is_used(chosen, mode):
    chosen.mkdir(parents=True)
    chosen.chmod(mode)
    assert fresh_folder() == chosen


@posix_only
def test_a_folder_of_another_user_is_refused(chosen, monkeypatch):
    chosen.mkdir(parents=True)
    chosen.chmod(0o777)
    give_away(chosen, monkeypatch)
    assert "belongs to another user)" in refusal()


@posix_only
def test_a_folder_below_one_that_others_can_write_is_refused(chosen):
    chosen.mkdir(parents=True, mode=0o700)
    chosen.parent.chmod(0o777)
    assert f"others can write to {chosen.parent})" in refusal()


@posix_only
def test_a_folder_below_one_where_others_cannot_rename_it_is_used(chosen):
    chosen.parent.mkdir()
    chosen.parent.chmod(0o1777)
    assert fresh_folder() == chosen


@posix_only
@pytest.mark.skipif(not ROOT, reason="only root can give a folder away")
def test_a_folder_below_another_user_s_is_refused(chosen):
    chosen.mkdir(parents=True, mode=0o700)
    os.chown(chosen.parent, SOMEBODY, SOMEBODY)
    assert f"{chosen.parent} belongs to another user)" in refusal()


@posix_only
def test_links_are_followed_and_looked_at(chosen, tmp_path):
    """A link is safe where it stands, or not; so is what it points to, by way of other links."""
    real, shared = tmp_path / "real", tmp_path / "shared"
    real.mkdir(mode=0o700)
    shared.mkdir()
    (tmp_path / "second").symlink_to(Path("shared", "..", "real"))
    chosen.parent.symlink_to(tmp_path / "second", target_is_directory=True)
    assert fresh_folder() == chosen
    assert (real / "kernels").is_dir()
    shared.chmod(0o777)
    assert f"others can write to {shared})" in refusal()  # what is behind the dots is on the way
    shared.chmod(0o755)
    real.chmod(0o777)
    assert f"others can write to {real})" in refusal()


@posix_only
@pytest.mark.skipif(not ROOT, reason="only root can give a link away")
def test_a_link_of_another_user_is_refused(chosen, tmp_path):
    """In a folder like /tmp: he can have it point elsewhere at any time."""
    shared, real = tmp_path / "shared", tmp_path / "real"
    for folder, mode in ((shared, 0o1777), (real, 0o700)):
        folder.mkdir()
        folder.chmod(mode)
    (shared / "link").symlink_to(real)
    chosen.parent.symlink_to(shared / "link")
    assert fresh_folder() == chosen
    os.chown(shared / "link", SOMEBODY, SOMEBODY, follow_symlinks=False)
    assert f"{shared / 'link'} belongs to another user)" in refusal()


def test_links_in_a_circle_are_refused(chosen, tmp_path):
    chosen.parent.symlink_to(tmp_path / "second")
    (tmp_path / "second").symlink_to(chosen.parent)
    assert "kernels" in refusal()


def test_without_owners_nobody_is_refused(chosen, monkeypatch):
    """Modes say nothing on Windows."""
    chosen.mkdir(parents=True)
    chosen.chmod(0o777)
    monkeypatch.delattr(os, "getuid", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fresh_folder() == chosen


def test_the_temporary_folder_is_one_a_process(chosen):
    chosen.parent.write_text("")
    with pytest.warns(RuntimeWarning) as found:
        folders = {fresh_folder(), fresh_folder(), cache_folder.temporary_folder(OSError("full"))}
    (folder,) = folders
    assert len(found) == 2  # of each reason once
    shutil.rmtree(folder)
