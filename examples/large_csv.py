"""Train from a CSV that is larger than memory: no process ever holds all of its rows.

    python examples/large_csv.py [MEGABYTES]

Workers parse the file piece by piece into binary files, which are mapped, not read: the system
keeps of them what there is room for. The same by one command: `paramserver train --data FILE`.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import paramserver as ps
from paramserver.data.readers import read_files

megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 16
rng = np.random.default_rng(0)
X = rng.integers(-999, 1000, (20_000, 16))
price = X @ rng.integers(-9, 10, 16) + rng.normal(0, 500, len(X)).astype(int)
block = "".join(",".join(map(str, row)) + "\n" for row in np.column_stack([X, price]).tolist())

with tempfile.TemporaryDirectory() as folder, ps.LocalCluster(4) as cluster:
    csv = Path(folder) / "prices.csv"
    with csv.open("w") as file:
        file.write(",".join(f"x{n}" for n in range(16)) + ",price\n")
        for _ in range(max(1, megabytes * 1_000_000 // len(block))):
            file.write(block)  # always the same rows: only their number matters here
    print(f"{csv.name}: {csv.stat().st_size / 1e6:.0f} MB")
    began = time.perf_counter()
    data = read_files(str(csv), label="price", cluster=cluster, large_bytes=0)
    print(f"{len(data.X_train):,} rows to train on, {len(data.X_test):,} held out,")
    print(f"parsed and mapped after {time.perf_counter() - began:.1f} s")
    mode, test = ps.Averaging(rounds=3), (data.X_test, data.y_test)
    result = ps.fit(ps.Linear(16), data, mode=mode, cluster=cluster, test=test, batch_size=256)
    print(
        f"R2 on the rows held out: {result.test_score:.4f} after {result.wall_s:.1f} s of training"
    )
