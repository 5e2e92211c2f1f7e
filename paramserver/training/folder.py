"""The folder of one training on the master's machine, and who is near enough to use it.

Rule 1: a worker is near when it has read there what only a process of this user on this machine can
        read (`runtime.scratch.read_nonce`). No host name and no address proves anything.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from paramserver.runtime import relay
from paramserver.runtime.internals import Internals
from paramserver.runtime.scratch import read_nonce

_HERE: Final = "here"
"""Name of the file that only the master's own machine has."""


def make_folder(internals: Internals) -> Path:
    """Make a folder for the shared files of one training."""
    folder = internals.fast_folder / f"training{internals.next_phase()}"
    folder.mkdir(mode=0o700)
    (folder / _HERE).write_text(secrets.token_hex(16), encoding="ascii")
    return folder


def proof_of(folder: Path) -> str:
    """Return what only a process of this user on this machine can read in such a folder."""
    return read_nonce(folder / _HERE)


def is_near(folder: Path, proof: str) -> bool:
    """Say whether this process shares a training's folder with the master that gives the proof."""
    return bool(proof) and relay.is_here(str(folder)) and proof_of(folder) == proof
