"""Bring your own model: a function that returns the loss and its gradient is enough.

Here it is quantile regression. The line for q = 0.9 is to have nine of ten points below it, and the
noise grows with x, so that the lines fan out.
"""

import numpy as np

import paramserver as ps

rng = np.random.default_rng(0)
x = rng.uniform(0, 10, 8_000)
X = np.column_stack([x / 10, np.ones_like(x)])
y = 2 * x + 5 + rng.standard_normal(len(x)) * (0.5 + 0.5 * x)


def pinball(q):
    def loss_and_gradient(w, X, y):
        below = y < X @ w
        slope = below - q  # of the loss in the prediction: 1 - q above the line, -q below it
        return np.mean(slope * (X @ w - y)), X.T @ slope / len(y)

    return loss_and_gradient


print("quantile        line        points below it")
with ps.LocalCluster(4) as cluster:
    for q in (0.1, 0.5, 0.9):
        learner = ps.FunctionLearner(pinball(q), start=np.zeros(2))
        mode = ps.Averaging(rounds=60, tail=0.5)  # the mean of the later weights is steadier
        slope, height = ps.fit(learner, (X, y), mode=mode, cluster=cluster, lr=0.5).weights
        line = f"{slope / 10:.2f} x + {height:.2f}"
        below = np.mean(y < X @ [slope, height])
        print(f"{q:8.0%}  {line:>16}  {below:12.1%}  {'▒' * round(40 * below)}")
