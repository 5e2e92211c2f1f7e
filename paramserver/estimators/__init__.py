"""The scikit-learn front: estimators that train on a cluster."""
