"""Iterative averaging: five learners train apart, their weights are averaged, and again.

How long may they train apart? Each row below takes the same number of gradient steps. The longer a
learner goes on by itself, the less there is to send. That is a gift while all see the same kind of
data. Where each sees two digits only, they drift apart, and the average of what they know is less.
"""

import numpy as np
from sklearn.datasets import load_digits

import paramserver as ps

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(X))
X, y = X[order] / 16, y[order]
train, test = (X[:1437], y[:1437]), (X[1437:], y[1437:])
STEPS = 256

print("                                accuracy on held-out digits")
print("steps a round  rounds      sent    all see all   each sees two")
with ps.LocalCluster(5) as cluster:
    for local_steps in (1, 4, 16, 64, 256):
        mode = ps.Averaging(rounds=STEPS // local_steps, local_steps=local_steps)
        shuffled, by_digit = (
            ps.fit(
                ps.Softmax(64, 10), train, mode=mode, cluster=cluster, test=test, lr=0.3,
                partition=partition,
            )
            for partition in ("shuffled", train[1] // 2)
        )  # fmt: skip
        sent = (shuffled.pushed_bytes + shuffled.pulled_bytes) / 1e6
        print(
            f"{local_steps:13}{mode.rounds:8}{sent:7.2f} MB"
            f"{shuffled.test_score:15.1%}{by_digit.test_score:16.1%}"
        )
