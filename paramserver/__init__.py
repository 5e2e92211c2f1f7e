"""Train numpy and scikit-learn models on many cores and many machines.

The names below are the public ones; everything is loaded when it is first used.

Clusters
    `LocalCluster`, `Cluster`: executors of the standard library's kind that survive lost workers.
    `register_joblib` lets scikit-learn run what it runs in parallel on one.
Map-reduce
    `MapReduce` runs a mapper and a reducer over files or items, and returns a `MapReduceResult`;
    `count_words` and `count_letters` are fast mappers for text.
Models
    `Linear`, `Softmax` and `MLP`; `SklearnLearner` makes a learner of an estimator of
    scikit-learn, `FunctionLearner` of a function.
Estimators
    `DistributedSGDClassifier`, `DistributedSGDRegressor`, `DistributedMLPClassifier` and
    `DistributedMLPRegressor` are those of scikit-learn, trained on all cores; `AveragedEstimator`
    does the same for anything that has `partial_fit`.
Training
    `fit` trains a learner on a cluster, by `Averaging` or `AsyncSGD`, and returns a
    `TrainingResult`. `Checkpoints` keep it across the death of the master; `EarlyStopping`,
    `TargetScore` and `TimeLimit` end it. `load_model` reads what the command line has trained.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paramserver.cluster import Cluster as Cluster
    from paramserver.estimators.averaged import AveragedEstimator as AveragedEstimator
    from paramserver.estimators.mlp_classifier import (
        DistributedMLPClassifier as DistributedMLPClassifier,
    )
    from paramserver.estimators.mlp_regressor import (
        DistributedMLPRegressor as DistributedMLPRegressor,
    )
    from paramserver.estimators.sgd_classifier import (
        DistributedSGDClassifier as DistributedSGDClassifier,
    )
    from paramserver.estimators.sgd_regressor import (
        DistributedSGDRegressor as DistributedSGDRegressor,
    )
    from paramserver.joblib_backend import register_joblib as register_joblib
    from paramserver.local_cluster import LocalCluster as LocalCluster
    from paramserver.mapreduce.result import MapReduceResult as MapReduceResult
    from paramserver.mapreduce.run import MapReduce as MapReduce
    from paramserver.mapreduce.tokens import count_letters as count_letters
    from paramserver.mapreduce.tokens import count_words as count_words
    from paramserver.models.adapter import SklearnLearner as SklearnLearner
    from paramserver.models.function import FunctionLearner as FunctionLearner
    from paramserver.models.linear import Linear as Linear
    from paramserver.models.mlp import MLP as MLP
    from paramserver.models.softmax import Softmax as Softmax
    from paramserver.observe.fit import fit as fit
    from paramserver.observe.trained_model import load_model as load_model
    from paramserver.training.callbacks import EarlyStopping as EarlyStopping
    from paramserver.training.callbacks import TargetScore as TargetScore
    from paramserver.training.callbacks import TimeLimit as TimeLimit
    from paramserver.training.checkpoint import Checkpoints as Checkpoints
    from paramserver.training.modes import AsyncSGD as AsyncSGD
    from paramserver.training.modes import Averaging as Averaging
    from paramserver.training.result import TrainingResult as TrainingResult

__version__ = "0.1.0"

_HOMES = {
    "Cluster": "paramserver.cluster",
    "LocalCluster": "paramserver.local_cluster",
    "register_joblib": "paramserver.joblib_backend",
    "MapReduce": "paramserver.mapreduce.run",
    "MapReduceResult": "paramserver.mapreduce.result",
    "count_words": "paramserver.mapreduce.tokens",
    "count_letters": "paramserver.mapreduce.tokens",
    "Linear": "paramserver.models.linear",
    "Softmax": "paramserver.models.softmax",
    "MLP": "paramserver.models.mlp",
    "SklearnLearner": "paramserver.models.adapter",
    "FunctionLearner": "paramserver.models.function",
    "DistributedSGDClassifier": "paramserver.estimators.sgd_classifier",
    "DistributedSGDRegressor": "paramserver.estimators.sgd_regressor",
    "DistributedMLPClassifier": "paramserver.estimators.mlp_classifier",
    "DistributedMLPRegressor": "paramserver.estimators.mlp_regressor",
    "AveragedEstimator": "paramserver.estimators.averaged",
    "fit": "paramserver.observe.fit",
    "load_model": "paramserver.observe.trained_model",
    "Averaging": "paramserver.training.modes",
    "AsyncSGD": "paramserver.training.modes",
    "TrainingResult": "paramserver.training.result",
    "Checkpoints": "paramserver.training.checkpoint",
    "EarlyStopping": "paramserver.training.callbacks",
    "TargetScore": "paramserver.training.callbacks",
    "TimeLimit": "paramserver.training.callbacks",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'paramserver' has no attribute '{name}'")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
