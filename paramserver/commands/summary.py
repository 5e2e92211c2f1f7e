"""The figures of a run, and the words that tell them. Pure: values in, values and lines out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from paramserver.commands.prepare import Prepared
from paramserver.observe.display import in_short
from paramserver.observe.words import amount, count
from paramserver.training import staleness
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
        "setup_s": result.setup_s,
        "wall_s": result.wall_s,
        "compute_s": result.compute_s,
        "wire_s": result.wire_s,
        "wait_s": result.wait_s,
        "apply_s": result.apply_s,
        "pushed_bytes": result.pushed_bytes,
        "pulled_bytes": result.pulled_bytes,
        "examples_per_s": _rate(result),
        "train_loss": result.history[-1].train_loss,
        "test_score": result.test_score,
        "metric": prepared.dataset.metric,
        "divergence": result.divergence,
        "staleness": None if is_averaging else result.staleness_summary,
        "rejected": {reason: n for reason, n in result.rejected.items() if n},
        "workers_lost": result.workers_lost,
        "weights_sha256": result.sha256,
        "baseline": None,
        "speedup": None,
    }


def describe(prepared: Prepared, result: TrainingResult) -> Iterator[tuple[str, str]]:
    """Yield what a training brought and where its time went: labels and lines."""
    score = ""
    if result.test_score is not None:
        score = f"held-out {prepared.dataset.metric} {in_short(result.test_score)}, "
    yield (
        "done",
        f"{score}loss {in_short(result.history[-1].train_loss)} after {result.epochs:.1f} epochs "
        f"in {result.wall_s:.2f} s ({_rate(result):,.0f} examples/s)",
    )
    yield "time", _where_the_time_went(prepared, result)
    yield "", f"{result.setup_s:.2f} s before that to make the workers ready"
    yield (
        "moved",
        f"{amount(result.pushed_bytes)} to the master, {amount(result.pulled_bytes)} from it",
    )
    if result.mode == "async":
        found = staleness.summarise(result.staleness)
        yield (
            "staleness",
            f"mean {found['mean']:.2f}, median {found['p50']}, p95 {found['p95']}, max "
            f"{found['max']} of {result.units:,} updates",
        )
    rejected = {reason: n for reason, n in result.rejected.items() if n}
    if rejected:
        yield "refused", ", ".join(f"{n} {reason}" for reason, n in rejected.items())
    if result.workers_lost:
        yield (
            "lost",
            f"{count(result.workers_lost, 'worker')}; what they held was done again by others",
        )


def _where_the_time_went(prepared: Prepared, result: TrainingResult) -> str:
    """Say what the workers did with their time, and the master with its own."""
    n = prepared.n_workers
    room_s = max(1e-9, n * result.wall_s)
    parts = {"computing": result.compute_s, "wire": result.wire_s, "waiting": result.wait_s}
    shares = {name: min(1.0, seconds / room_s) for name, seconds in parts.items()}
    shares["idle"] = max(0.0, 1.0 - sum(shares.values()))
    verb = "averaged" if result.mode == "avg" else "applied"
    told = ", ".join(f"{share:.0%} {name}" for name, share in shares.items())
    part = min(1.0, result.apply_s / max(1e-9, result.wall_s))
    return f"{count(n, 'worker')}: {told}; the master {verb} for {part:.0%}"


def _rate(result: TrainingResult) -> float:
    return result.examples / max(1e-9, result.wall_s)
