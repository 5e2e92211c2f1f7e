from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import zmq

from paramserver.errors import AuthenticationFailed, ConfigError
from paramserver.transport.security import (
    WORKER_USER,
    load_master_keys,
    load_worker_keys,
    make_keys,
)

FILES = ["master.public", "master.secret", "worker.public", "worker.secret"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_keys(tmp_path / "keys")


def test_keys_are_four_files_that_nobody_else_can_read(folder: Path) -> None:
    assert sorted(os.listdir(folder)) == FILES
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_keys_are_private_whatever_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = make_keys(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_the_halves_fit_each_other(folder: Path) -> None:
    master, worker = load_master_keys(folder), load_worker_keys(folder)
    assert master.public == worker.master_public == zmq.curve_public(master.secret)
    assert worker.public == zmq.curve_public(worker.secret)
    assert master.users == {worker.public: WORKER_USER}
    assert master.secret != worker.secret


def test_two_folders_share_no_key(folder: Path, tmp_path: Path) -> None:
    other = load_master_keys(make_keys(tmp_path / "other"))
    assert other.public != load_master_keys(folder).public
    assert other.users.keys().isdisjoint(load_master_keys(folder).users)


def test_a_worker_needs_only_its_half(folder: Path) -> None:
    for name in ("master.secret", "worker.public"):
        (folder / name).unlink()
    load_worker_keys(folder)
    with pytest.raises(AuthenticationFailed, match=r"master\.secret.*paramserver keys"):
        load_master_keys(folder)


@pytest.mark.parametrize("there", FILES)
def test_no_key_is_ever_overwritten(tmp_path: Path, there: str) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / there).write_text("precious")
    with pytest.raises(ConfigError, match="not overwritten"):
        make_keys(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "worker.secret").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="not overwritten"):
        make_keys(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_no_secret_is_put_into_an_open_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match=f"chmod 700 {tmp_path}"):
        make_keys(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
@pytest.mark.parametrize("name", ["master.secret", "worker.secret"])
def test_a_secret_that_others_can_reach_is_refused_with_the_command_to_type(
    folder: Path, name: str, mode: int
) -> None:
    (folder / name).chmod(mode)
    load = load_master_keys if name.startswith("master") else load_worker_keys
    with pytest.raises(AuthenticationFailed, match=f"chmod 600 {folder / name}"):
        load(folder)


def test_a_public_key_may_be_read_by_others_but_not_changed(folder: Path) -> None:
    (folder / "master.public").chmod(0o644)
    load_worker_keys(folder)
    (folder / "master.public").chmod(0o664)
    with pytest.raises(AuthenticationFailed, match=r"change the key file .*master\.public"):
        load_worker_keys(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only a comment\n",
        "curve-z85: \n",
        "curve-z85: tooshort\n",
        "curve-z85: " + "0" * 41 + "\n",
        "curve-z85: " + "~" * 40 + "\n",
        "curve-z85: " + "é" * 40 + "\n",
        "curve-z85: " + "#" * 40 + "\n",  # five of the last letter pass 2**32
        "0" * 40 + "\n",
    ],
)
def test_what_is_no_key_is_refused(folder: Path, text: str) -> None:
    (folder / "worker.secret").write_text(text, encoding="utf-8")
    with pytest.raises(AuthenticationFailed, match="holds no key"):
        load_worker_keys(folder)


def test_secrets_are_not_shown(folder: Path) -> None:
    master, worker = load_master_keys(folder), load_worker_keys(folder)
    for shown in (repr(master), str(master), repr(worker), f"{worker}"):
        assert master.secret.decode() not in shown
        assert worker.secret.decode() not in shown
        assert str(folder) in shown


def test_errors_about_keys_survive_pickling(tmp_path: Path) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        load_worker_keys(tmp_path)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
