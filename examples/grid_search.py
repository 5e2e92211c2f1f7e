"""A grid search of scikit-learn on a cluster: what runs through joblib survives a killed worker."""

import os
import signal
import threading
import time

import joblib
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV

import paramserver as ps


def kill_the_first(cluster):
    """Kill the worker that is the first to have fitted something."""
    while not (busy := [worker for worker in cluster.status().workers if worker.n_ended]):
        time.sleep(0.01)
    os.kill(busy[0].pid, signal.SIGKILL)
    print(f"killed worker {busy[0].worker_id} in the midst of the search\n")


X, y = load_digits(return_X_y=True)
search = GridSearchCV(
    SGDClassifier(random_state=0), {"alpha": [1e-4, 1e-3, 1e-2, 0.1, 1, 10]}, cv=4
)

ps.register_joblib()
with ps.LocalCluster(2) as cluster, joblib.parallel_config("paramserver", cluster=cluster):
    threading.Thread(target=kill_the_first, args=[cluster]).start()
    search.fit(X / 16, y)
    lost = cluster.status().counters["workers_lost"]

found = search.cv_results_
for params, score in zip(found["params"], found["mean_test_score"], strict=True):
    mark = "  <- best" if params == search.best_params_ else ""
    print(f"alpha {params['alpha']:<8g}{score:6.1%}  {'█' * round(40 * score)}{mark}")
print(f"\n{len(found['params'])} candidates, 4 fits each; workers lost on the way: {lost}")
