"""Run two commands at once on two cores: ``python tests/side_by_side.py FIRST... --- SECOND...``.

What the second one prints is seen as it comes; what the first one prints follows when both have
ended. The exit code is that of the first to have failed, in this order; 0 if both are good.
Both find the name of an empty folder in their environment, by which they can share tests
(`tests/sharing.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

BETWEEN = "---"
FOLDER = "SHARED_TESTS"


def main(words: list[str]) -> int:
    cut = words.index(BETWEEN)
    with tempfile.TemporaryFile() as kept, tempfile.TemporaryDirectory() as folder:
        env = os.environ | {FOLDER: folder}
        first = subprocess.Popen(words[:cut], stdout=kept, stderr=subprocess.STDOUT, env=env)
        try:
            second = subprocess.run(words[cut + 1 :], check=False, env=env).returncode
            codes = (first.wait(), second)
        finally:
            first.kill()  # only Ctrl-C finds it still there
            first.wait()
        kept.seek(0)
        sys.stdout.buffer.write(kept.read())
        sys.stdout.flush()
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
