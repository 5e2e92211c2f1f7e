"""Train scikit-learn's SGDClassifier on all cores, inside a pipeline and a search.

python examples/estimator.py
"""

from __future__ import annotations

from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import paramserver as ps

X, y = make_classification(8_000, 20, n_informative=10, class_sep=3.0, flip_y=0, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# `cluster=` may be left out: estimators then share a local one. The same rows, seed and number of
# partitions give the same weights, whatever the number of workers, and whoever dies.
with ps.LocalCluster(2) as cluster:
    model = ps.DistributedSGDClassifier(
        loss="log_loss", n_partitions=2, random_state=0, cluster=cluster
    )
    pipe = make_pipeline(StandardScaler(), model)
    search = GridSearchCV(pipe, {"distributedsgdclassifier__alpha": [1e-4, 1e-3]}, cv=3)
    search.fit(X_train, y_train)

best = search.best_estimator_[-1]
print(f"accuracy {search.score(X_test, y_test):.3f} with alpha={best.alpha:g}")
print(f"{best.n_iter_} rounds, loss {best.loss_curve_[0]:.3f} to {best.loss_curve_[-1]:.3f}")
print("the stock estimator:", best.to_sklearn())
