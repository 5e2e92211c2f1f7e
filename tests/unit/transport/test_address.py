from __future__ import annotations

import os
from pathlib import Path

import pytest

from paramserver.errors import ConfigError
from paramserver.transport.address import (
    MAX_IPC_PATH_BYTES,
    Address,
    check_private_folder,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "expected", "endpoint"),
    [
        ("tcp://127.0.0.1:5555", Address("tcp", "", "127.0.0.1", 5555), "tcp://127.0.0.1:5555"),
        ("tcp://localhost:0", Address("tcp", "", "localhost", 0), "tcp://localhost:*"),
        ("tcp://0.0.0.0:*", Address("tcp", "", "0.0.0.0", 0), "tcp://0.0.0.0:*"),
        ("tcp://[::1]:80", Address("tcp", "", "::1", 80), "tcp://[::1]:80"),
        ("ipc:///run/x/s", Address("ipc", "/run/x/s", "", 0), "ipc:///run/x/s"),
        ("unix:///run/x/s", Address("unix", "/run/x/s", "", 0), "unix:///run/x/s"),
    ],
)
def test_an_address_is_taken_apart_and_put_together(
    text: str, expected: Address, endpoint: str
) -> None:
    assert parse_address(text) == expected
    assert parse_address(text).endpoint == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:5555",
        "http://127.0.0.1:5555",
        "tcp:/127.0.0.1:5555",
        "tcp://127.0.0.1",
        "tcp://:5555",
        "tcp://host:",
        "tcp://host:65536",
        "tcp://host:-1",
        "tcp://host:٣",
        "tcp://::1:5555",
        "tcp://[host]:5555",
        "ipc://relative/s",
        "unix://relative/s",
        "ipc://",
        "ipc://@abstract",
    ],
)
def test_what_is_no_address_is_refused_in_words(text: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        parse_address(text)
    assert caught.value.field == "address"
    assert caught.value.value == text


def test_a_path_too_long_for_a_unix_socket_is_refused_with_both_numbers() -> None:
    fitting = "/" + "é" * ((MAX_IPC_PATH_BYTES - 1) // 2)
    assert parse_address(f"ipc://{fitting}").path == fitting
    with pytest.raises(ConfigError, match=rf"{MAX_IPC_PATH_BYTES + 2} bytes.*{MAX_IPC_PATH_BYTES}"):
        parse_address(f"ipc://{fitting}é")


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("[::]", False),
        ("10.0.0.1", False),
        ("*", False),
        ("example.org", False),
    ],
)
def test_loopback_is_told_from_the_network(host: str, is_loopback: bool) -> None:
    assert parse_address(f"tcp://{host}:1").is_loopback is is_loopback


def test_a_folder_of_mode_0700_is_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    check_private_folder(Address("ipc", f"{tmp_path}/s", "", 0))


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o720, 0o777])
def test_a_folder_that_others_can_enter_is_refused_with_the_command_to_type(
    tmp_path: Path, mode: int
) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 700 {tmp_path}"):
        check_private_folder(Address("ipc", f"{tmp_path}/s", "", 0))


def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="belongs to user id"):
        check_private_folder(Address("ipc", f"{tmp_path}/s", "", 0))


def test_a_folder_that_is_missing_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        check_private_folder(Address("ipc", f"{tmp_path}/missing/s", "", 0))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is not a folder"):
        check_private_folder(Address("ipc", f"{tmp_path}/file/s", "", 0))
