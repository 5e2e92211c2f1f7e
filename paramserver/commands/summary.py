"""The figures of a run, and the words that tell them. Pure: values in, values and lines out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from paramserver.commands.prepare import Prepared
from paramserver.training.result import TrainingResult


def summarise(prepared: Prepared, result: TrainingResult) -> dict[str, Any]:
    """Return what ``summary.json`` holds; `baseline` and `speedup` are not known yet."""
    is_averaging = result.mode == "avg"
    return {
        "mode": result.mode,
        "n_workers": prepared.n_workers,
        "n_partitions": result.n_partitions,
        "n_examples": result.n_examples,
        "n_features": prepared.dataset.n_features,
        "n_parameters": int(result.weights.size),
        "kernel": prepared.kernel,
        "rounds": result.units if is_averaging else None,
        "updates": None if is_averaging else result.units,
        "epochs": result.epochs,
        "wall_s": result.wall_s,
        "compute_s": result.compute_s,
        "apply_s": result.apply_s,
        "examples_per_s": _rate(result),
        "train_loss": result.history[-1].train_loss,
        "test_score": result.test_score,
        "metric": prepared.dataset.metric,
        "staleness": None if is_averaging else summarise_staleness(result.staleness),
        "rejected": {reason: n for reason, n in result.rejected.items() if n},
        "workers_lost": result.workers_lost,
        "weights_sha256": result.sha256,
        "baseline": None,
        "speedup": None,
    }


def summarise_staleness(staleness: Mapping[int, int]) -> dict[str, Any]:
    """Return mean, percentiles and histogram of a count of updates by staleness.

    A percentile is the least staleness that so many percent of the updates do not pass.

    Examples
    --------
    >>> summarise_staleness({0: 98, 1: 1, 9: 1})["mean"]
    0.1
    """
    counts = sorted((value, n) for value, n in staleness.items() if n)
    total = sum(n for _, n in counts)
    if not total:
        return {"mean": 0.0, "p50": 0, "p95": 0, "max": 0, "histogram": {}}
    return {
        "mean": sum(value * n for value, n in counts) / total,
        "p50": _percentile(counts, 50, total),
        "p95": _percentile(counts, 95, total),
        "max": counts[-1][0],
        "histogram": {str(value): n for value, n in counts},
    }


def describe(prepared: Prepared, result: TrainingResult) -> Iterator[tuple[str, str]]:
    """Yield what a training brought and where its time went: labels and lines."""
    score = ""
    if result.test_score is not None:
        score = f"held-out {prepared.dataset.metric} {result.test_score:.4f}, "
    yield (
        "done",
        f"{score}loss {result.history[-1].train_loss:.4f} after {result.epochs:.1f} epochs in "
        f"{result.wall_s:.2f} s ({_rate(result):,.0f} examples/s)",
    )
    yield "time", _where_the_time_went(prepared, result)
    if result.mode == "async":
        found = summarise_staleness(result.staleness)
        yield (
            "staleness",
            f"mean {found['mean']:.2f}, median {found['p50']}, p95 {found['p95']}, max "
            f"{found['max']} of {result.units:,} updates",
        )
    rejected = {reason: n for reason, n in result.rejected.items() if n}
    if rejected:
        yield "refused", ", ".join(f"{n} {reason}" for reason, n in rejected.items())
    if result.workers_lost:
        yield "lost", f"{result.workers_lost} workers; what they held was done again by others"


def _where_the_time_went(prepared: Prepared, result: TrainingResult) -> str:
    """Say what part of the workers' time was computing; the rest is the wire and waiting."""
    n = prepared.n_workers
    computing = min(1.0, result.compute_s / max(1e-9, n * result.wall_s))
    applying = min(1.0, result.apply_s / max(1e-9, result.wall_s))
    verb = "averaged" if result.mode == "avg" else "applied"
    return (
        f"{n} workers computed for {computing:.0%} of it, {1 - computing:.0%} was wire and "
        f"waiting; the master {verb} for {applying:.0%}"
    )


def _rate(result: TrainingResult) -> float:
    return result.examples / max(1e-9, result.wall_s)


def _percentile(counts: list[tuple[int, int]], q: int, total: int) -> int:
    seen = 0
    for value, n in counts:
        seen += n
        if 100 * seen >= q * total:
            return value
    raise AssertionError("the counts add up to the total")
