"""A worker that is let in and answers with what must not be opened: its job fails, and no more.

The forms themselves are tried out in `tests/unit/protocol/test_arrays.py`; here they come over a
real connection into a real future.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

import paramserver as ps
from paramserver.errors import ProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import (
    GrantJobs,
    JobResult,
    JobsEnded,
    Outcome,
    Payload,
    PayloadKind,
)
from paramserver.transport.security import make_keys
from tests.integration import remote_jobs as jobs
from tests.integration.remote import PATIENCE_S, Puppet
from tests.unit.protocol.test_arrays import large, small

pytestmark = pytest.mark.usefixtures("no_lending_thread")


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_a_hostile_result_is_an_error_of_its_job_and_nothing_is_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    keys = make_keys(tmp_path / "keys")
    canary = tmp_path / "canary"
    bomb = pickle.dumps(Bomb(str(canary)))
    plain, raw = PayloadKind.PLAIN, (bytes(8),)
    answers = {
        "a pickle": Payload(PayloadKind.PICKLE, bomb),
        "code": Payload(PayloadKind.CODE, bomb),
        "a pickle in an array": Payload(plain, small(kind=b"O", data=bomb)),
        "object pointers": Payload(plain, small(type="|O")),
        "a structured type with objects": Payload(plain, small(kind=b"V", type=[["a", "|O"]])),
        "void of no size": Payload(plain, small(type="V0", data=b"", shape=[5])),
        "a type with a shape": Payload(plain, small(type="(1000000,)f8")),
        "big-endian": Payload(plain, large(">f8", [1]), raw),
        "objects in a frame": Payload(plain, large("|O", [1]), raw),
        "more than there is": Payload(plain, large("<f8", [10**9]), raw),
        "noise": Payload(plain, b"\xc1\xff"),
    }
    with (
        ps.Cluster("tcp://127.0.0.1:0", keys, verbose=False) as cluster,
        Puppet.join(cluster.address, keys, "a"),
        Puppet.join(cluster.address, keys, "a-0", agent_id="a") as worker,
    ):
        for name, answer in answers.items():
            future = cluster.submit(jobs.add, 1, 2)
            (grant,) = worker.hear(GrantJobs).grants
            worker.say(JobsEnded((JobResult(grant.job, 1, Outcome.OK, 1, answer),)))
            error = future.exception(PATIENCE_S)
            assert isinstance(error, ProtocolError), (name, error)
        assert not canary.exists()
        future = cluster.submit(jobs.add, 1, 2)
        (grant,) = worker.hear(GrantJobs).grants
        good = calls.encode_value(3, trusted=False)
        worker.say(JobsEnded((JobResult(grant.job, 1, Outcome.OK, 1, good),)))
        assert future.result(PATIENCE_S) == 3, "the worker is served as before"
