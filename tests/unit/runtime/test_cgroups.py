"""What the control groups of a process allow it, from files as Linux shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from paramserver.runtime.cgroups import UNIFIED, Groups, group_folders, n_by_quota, n_listed

DOCKER = "31 23 0:28 / {point} ro,nosuid shared:9 - cgroup2 cgroup rw,nsdelegate\n"
OTHERS = """\
22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
24 28 0:5 / /dev rw - devtmpfs udev rw,size=12000000k,mode=755
"""


def made(folder: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> Groups:
    """Write the files of a made-up process and of its groups, and read them."""
    proc = folder / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup)
    (proc / "mountinfo").write_text(OTHERS + mountinfo)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return Groups.read(proc)


def test_a_container_is_allowed_what_its_own_group_says(tmp_path: Path) -> None:
    files = {
        "cg/memory.max": "536870912",
        "cg/memory.high": "max",
        "cg/cpu.max": "150000 100000",
        "cg/cpuset.cpus.effective": "0-63",
    }
    groups = made(tmp_path, "0::/\n", DOCKER.format(point=tmp_path / "cg"), files)
    assert (groups.memory_bytes(), groups.n_processors()) == (512 << 20, 2)


def test_a_group_is_allowed_no_more_than_those_around_it(tmp_path: Path) -> None:
    files = {
        "cg/user/memory.max": "4000",
        "cg/user/session/memory.max": "max",
        "cg/user/session/memory.high": "3000",
        "cg/user/session/job/memory.max": "9000",
        "cg/user/cpu.max": "800000 100000",
        "cg/user/session/cpuset.cpus.effective": "2-4,8",
        "cg/user/session/job/cpu.max": "max 100000",
        "cg/other/memory.max": "1",
    }
    mount = DOCKER.format(point=tmp_path / "cg")
    groups = made(tmp_path, "0::/user/session/job\n", mount, files)
    assert (groups.memory_bytes(), groups.n_processors()) == (3000, 4)


def test_of_version_1_each_controller_has_groups_of_its_own(tmp_path: Path) -> None:
    cgroup = "9:memory:/batch/7\n4:cpu,cpuacct:/batch\n3:cpuset:/\n1:name=systemd:/x:y\n0::/\n"
    mounts = "".join(
        f"3{k} 23 0:{k} / {tmp_path}/{name} rw - cgroup cgroup rw,{name}\n"
        for k, name in enumerate(["cpu,cpuacct", "cpuset", "memory", "name=systemd"])
    )
    files = {
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "memory/batch/memory.limit_in_bytes": "9223372036854771712",
        "memory/batch/7/memory.limit_in_bytes": "2000",
        "cpu,cpuacct/batch/cpu.cfs_quota_us": "250000",
        "cpu,cpuacct/batch/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "cpuset/cpuset.effective_cpus": "0-7",
    }
    groups = made(tmp_path, cgroup, mounts, files)
    assert (groups.memory_bytes(), groups.n_processors()) == (2000, 3)


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert Groups.read(tmp_path / "no-such-process") == Groups({})
    groups = made(tmp_path, "0::/\n", DOCKER.format(point=tmp_path / "cg"), {})
    assert groups.folders == {UNIFIED: (tmp_path / "cg",)}
    assert (groups.memory_bytes(), groups.n_processors()) == (None, None)


@pytest.mark.parametrize(
    ("group", "root", "expected"),
    [
        ("/docker/3f", "/docker/3f", ["cg"]),
        ("/docker/3f/inner", "/docker/3f", ["cg/inner", "cg"]),
        ("/a/b", "/", ["cg/a/b", "cg/a", "cg"]),
        ("/../outside", "/", ["cg"]),
        ("/elsewhere", "/docker/3f", ["cg"]),
    ],
)
def test_only_what_is_mounted_is_looked_at(group: str, root: str, expected: list[str]) -> None:
    mount = f"31 23 0:28 {root} /mnt/my\\040disk/cg rw - cgroup2 cgroup2 rw\n"
    folders = tuple(Path("/mnt/my disk") / name for name in expected)
    assert group_folders(f"0::{group}\n", mount) == {UNIFIED: folders}


def test_what_is_no_such_file_limits_nothing() -> None:
    assert group_folders("garbage\n0:\n", "garbage\n - cgroup2\n") == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 1), ("0-3", 4), ("0-1,4,8-9", 5), ("", None), ("0-", None), ("all", None)],
)
def test_a_list_of_processors_is_counted(text: str, expected: int | None) -> None:
    assert n_listed(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("0 100000", 1),
        ("max 100000", None),
        ("-1 100000", None),
        ("100000 0", None),
        (" ", None),
    ],
)
def test_a_quota_is_rounded_up_to_processors(text: str, expected: int | None) -> None:
    assert n_by_quota(text) == expected
