"""Asynchronous SGD: workers push gradients when they have them, nobody waits for anybody.

While a worker computes a gradient others move the weights. By how many updates is its staleness:
with p workers p - 1 on average, as long as all are busy, and less at the ends of the epochs. With a
bound the fast wait for the slow; at 0 all wait for all, and the average gradient is applied.
"""

import numpy as np
from sklearn.datasets import load_digits

import paramserver as ps

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(X))
X, y = X[order] / 16, y[order]
train, test = (X[:1437], y[:1437]), (X[1437:], y[1437:])

with ps.LocalCluster(4) as cluster:
    for bound in (None, 1, 0):
        mode = ps.AsyncSGD(epochs=10, staleness_bound=bound)
        result = ps.fit(
            ps.Softmax(64, 10), train, mode=mode, cluster=cluster, test=test, lr=0.1, batch_size=8
        )
        pushes, mean = result.staleness.total(), result.staleness_summary["mean"]
        print(
            f"\nstaleness_bound={bound}: {result.test_score:.1%} of the held-out digits are right"
        )
        print(f"{pushes} gradients, mean staleness {mean:.2f}")
        for staleness in range(min(8, max(result.staleness)) + 1):
            part = result.staleness[staleness] / pushes
            print(f"{staleness:4}  {part:6.1%}  {'█' * round(60 * part)}")
