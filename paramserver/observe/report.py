"""``report.html``: a run on one page that can be read years later. A record in, HTML out.

Rule 1: one file: style and pictures are inside; no script, nothing is loaded.
Rule 2: it says what is so, also where one process was faster; what was not measured is not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from paramserver.drawing.charts import (
    Mark,
    line_chart,
    shares_bar,
)
from paramserver.drawing.page import Html, figure, figures, html, page, section, table
from paramserver.drawing.scales import by_number
from paramserver.drawing.troubles import errors_section
from paramserver.observe.record import Moment, RunRecord, WorkerRecord
from paramserver.observe.settings import settings_section
from paramserver.observe.wire import wire_section
from paramserver.observe.words import amount, count, duration
from paramserver.training.sections import (
    barrier_figure,
    partitions_figure,
    staleness_figure,
    staleness_table,
    time_figure,
    time_table,
    timeline_section,
    work_section,
)

REPORT: Final = "report.html"
WORKERS_MAX: Final = 100
"""Lives of workers in the table; more are counted."""


class Against(NamedTuple):
    """An axis of x.

    Attributes
    ----------
    what, title : str
        In words, and with its unit.
    of : callable
        What of a moment stands there.
    whole : str
        "x" where that is a whole number.
    """

    what: str
    title: str
    of: Callable[[Moment], float]
    whole: str = ""


MEASURED: Final = (
    "n_workers", "compute_s", "wire_s", "wait_s", "apply_s", "pushed_bytes", "pulled_bytes"
)  # fmt: skip
"""Figures without which nobody knows where the time went."""

BADGES: Final = {
    "done": ("ok", "done"),
    "interrupted": ("odd", "interrupted"),
    "failed": ("bad", "failed"),
    "unfinished": ("odd", "no end was written"),
}


def report_html(run: RunRecord, command: str) -> str:
    """Return the report of a run.

    Parameters
    ----------
    run : RunRecord
    command : str
        What repeats the run when it is typed.
    """
    body = "".join(
        [
            _header(run),
            _convergence(run),
            _timeline(run),
            _errors(run),
            _time(run),
            wire_section(
                run.wire, "round" if run.is_averaging else "update", run.started.n_examples
            ),
            _workers(run),
            _rejected(run),
            settings_section(run.started, run.config, command, run.summary.get("kernel") or ""),
            _footer(run),
        ]
    )
    return page(f"{_title(run)} · paramserver", body)


# --- what it came to ------------------------------------------------------------------------------


def _title(run: RunRecord) -> str:
    return f"{run.started.model} on {run.started.data}"


def _header(run: RunRecord) -> str:
    mood, outcome = BADGES.get(run.outcome, ("odd", run.outcome))
    mode = "iterative averaging" if run.is_averaging else "asynchronous SGD"
    began = datetime.fromtimestamp(run.started_at, UTC)
    return (
        '<header>\n<div class="eyebrow">'
        f"<span>paramserver {html(run.started.version)}</span><span>{mode}</span>"
        f"<time>{began:%d %B %Y, %H:%M} UTC</time>"
        f'<span class="badge {mood}">{html(outcome)}</span></div>\n'
        f'<h1>{html(_title(run))}</h1>\n<p class="lede">{_lede(run)}</p>\n'
        f"{figures(_figures(run))}</header>\n"
    )


def _lede(run: RunRecord) -> str:
    """Say in a sentence or two what was done, and how it ended."""
    started = run.started
    work = (
        f"{count(started.n_workers, 'worker')} trained {started.n_parameters:,} weights on "
        f"{started.n_examples:,} examples in {count(started.n_partitions, 'partition')}"
    )
    reason = html(run.ended.reason.rstrip(".")) if run.ended is not None else ""
    if run.outcome == "failed":
        return f"{work}, until it failed: {reason}."
    if run.outcome == "interrupted":
        return f"{work}, until it was interrupted. It can be resumed from its newest checkpoint."
    if run.outcome == "unfinished":
        return f"{work}. No end was written: it goes on, or its process was killed."
    return f"{work}. {_against(run)}".rstrip()


def _against(run: RunRecord) -> str:
    """Say how the run compares with one scikit-learn process."""
    baseline, speedup = run.summary.get("baseline"), run.summary.get("speedup")
    if not baseline:
        return ""
    name = f"<b>{html(baseline['name'])}</b> of scikit-learn, in one process,"
    if speedup is None:
        return (
            f"{name} came to {baseline['score']:.4f} at best in {duration(baseline['wall_s'])} and "
            "did not reach the score of this run."
        )
    times = f"{speedup:.1f} times faster" if speedup >= 1 else f"{1 / speedup:.1f} times slower"
    return (
        f"{name} took {duration(baseline['wall_s'])} to the same score: this run was "
        f"<b>{times}</b>, training time alone on both sides."
    )


def _figures(run: RunRecord) -> Iterator[tuple[str, object, str]]:
    last = run.moments[-1] if run.moments else None
    summary = run.summary
    score = summary.get("test_score", last and last.test_score)
    loss = summary.get("train_loss", last and last.train_loss)
    wall_s = summary.get("wall_s", last and last.wall_s)
    epochs = summary.get("epochs", last and last.epochs)
    when = "at the end" if run.outcome == "done" else "when it was last evaluated"
    if score is not None:
        yield f"held-out {summary.get('metric') or 'score'}", f"{score:.4f}", when
    if loss is not None:
        losses = [moment.train_loss for moment in run.moments if moment.train_loss is not None]
        yield "training loss", f"{loss:.4g}", f"best {min([loss, *losses]):.4g}"
    if wall_s is not None:
        yield "training time", duration(wall_s), f"by {count(run.started.n_workers, 'worker')}"
    if last is not None and epochs is not None:
        unit = "rounds" if run.is_averaging else "updates"
        yield unit, f"{summary.get(unit) or last.unit:,}", f"{epochs:,.4g} epochs"
    if wall_s and epochs:
        yield "speed", f"{epochs * run.started.n_examples / wall_s:,.0f}", "examples a second"
    if summary.get("speedup") and summary.get("baseline"):
        yield "scikit-learn", duration(summary["baseline"]["wall_s"]), "to the same score"


# --- how it went ----------------------------------------------------------------------------------


def convergence_charts(run: RunRecord) -> str:
    """Return the pictures of loss and score, against time and updates, and of what goes with them.

    That is how far learners are from each other (averaging), or how stale gradients are (async).
    """
    unit = "rounds" if run.is_averaging else "updates"
    against = (
        Against("against time", "seconds of training", lambda moment: moment.wall_s),
        Against(f"against {unit}", unit, lambda moment: float(moment.unit), "x"),
    )
    drawn = []
    for i, x in enumerate(against):
        drawn.append(_losses(run, x))
        drawn.append(_scores(run, x, _marks(run) if i == 0 else ()))
        drawn.append(_drift(run, x))
    return f'<div class="charts">{"".join(drawn)}</div>\n'


def _losses(run: RunRecord, x: Against) -> str:
    losses = [(x.of(m), m.train_loss) for m in run.moments if m.train_loss is not None]
    is_log = bool(losses) and min(loss for _, loss in losses) > 0
    picture = line_chart(
        losses,
        x_title=x.title,
        y_title="training loss",
        colour="c1",
        is_log=is_log,
        whole=x.whole,
    )
    return figure("Training loss", f"{x.what}{', logarithmic' if is_log else ''}", picture)


def _scores(run: RunRecord, x: Against, marks: Sequence[Mark]) -> str:
    scores = [(x.of(m), m.test_score) for m in run.moments if m.test_score is not None]
    if not scores:
        return ""
    name = f"held-out {run.summary.get('metric') or 'score'}"
    picture = line_chart(
        scores, x_title=x.title, y_title=name, colour="c3", whole=x.whole, marks=marks
    )
    return figure(name.capitalize(), x.what, picture)


def _drift(run: RunRecord, x: Against) -> str:
    """Draw how far the learners of a round came from each other, or how stale gradients were."""
    if run.is_averaging:
        title, about = "Divergence of the learners", "distance from the mean of their weights"
        points = [(x.of(m), m.divergence) for m in run.moments if m.divergence is not None]
    else:
        title, about = "Mean staleness", "mean staleness of all updates so far"
        points = [(x.of(m), m.staleness) for m in run.moments if m.staleness is not None]
    if not points:
        return ""
    picture = line_chart(
        points, x_title=x.title, y_title=about, colour="c7", from_zero=True, whole=x.whole
    )
    return figure(title, x.what, picture)


def _marks(run: RunRecord) -> Sequence[Mark]:
    baseline = run.summary.get("baseline")
    if not baseline or run.summary.get("speedup") is None:
        return ()
    return (Mark(baseline["wall_s"], baseline["score"], "scikit-learn, one process"),)


def _convergence(run: RunRecord) -> str:
    about = (
        "Training loss on a sample of the rows on the way, on all of them at the end. The held-out "
        "rows were never trained on. Evaluation runs beside the training."
    )
    return section("Convergence", about, convergence_charts(run))


def _time(run: RunRecord) -> str:
    """Show where the time of the workers went, and what barrier or staleness cost."""
    staleness = run.summary.get("staleness") or run.staleness
    if run.is_averaging:
        price = barrier_figure(run.timeline)
    else:
        price = staleness_figure(_counts(staleness)) if staleness.get("histogram") else ""
    by_worker = {
        name: _counts(of_one) for name, of_one in (staleness.get("by_worker") or {}).items()
    }
    figures = (
        _measured_time(run) or time_figure(run.times), price, partitions_figure(run.partitions)
    )  # fmt: skip
    about = (
        "What the workers did while the training ran. On the wire: jobs, weights and gradients on "
        "their way, and the turn of a processor that others have. Idle: nothing to do, or not "
        "there."
    )
    tables = (time_table(run.times), staleness_table(by_worker))
    return work_section("Where the time went", about, figures, *tables)


def _measured_time(run: RunRecord) -> str:
    """Draw what the whole training has measured; nothing for a run that was broken off."""
    summary = run.summary
    if not summary.get("wall_s") or any(summary.get(name) is None for name in MEASURED):
        return ""
    wall_s, apply_s, n = summary["wall_s"], summary["apply_s"], summary["n_workers"]
    room_s = max(1e-9, n * wall_s)
    parts = (("computing", "compute_s", "c1"), ("on the wire", "wire_s", "c5"),
             ("waiting for others", "wait_s", "c4"))  # fmt: skip
    shares = [(name, min(1.0, summary[key] / room_s), colour) for name, key, colour in parts]
    shares.append(("idle", max(0.0, 1.0 - sum(share for _, share, _ in shares)), "c8"))
    verb = "averaged" if run.is_averaging else "applied gradients"
    caption = (
        f"{n} × {duration(wall_s)} of the workers. The master {verb} for "
        f"{duration(apply_s)} ({min(1.0, apply_s / wall_s):.1%} of its time); "
        f"{amount(summary['pushed_bytes'])} went to it, {amount(summary['pulled_bytes'])} came "
        "from it."
    )
    bar = shares_bar(shares, "where the time of the workers went")
    return figure("Workers' time", "", bar, caption)


def _timeline(run: RunRecord) -> str:
    if not run.timeline:
        return ""
    return timeline_section(run.timeline, "round" if run.is_averaging else "epoch")


def _errors(run: RunRecord) -> str:
    return errors_section(list(run.errors.values()))


# --- who worked -----------------------------------------------------------------------------------


def _workers(run: RunRecord) -> str:
    lives = sorted(run.workers, key=lambda life: (by_number(life.worker_id), life.incarnation))
    if not lives:
        return ""
    names = ("worker", "host", "pid", "memory", "attempts", "from", "to")
    is_whole = run.outcome != "unfinished"
    rows = [_life_cells(life, is_whole=is_whole) for life in lives[:WORKERS_MAX]]
    if len(lives) > WORKERS_MAX:
        rows.append([f"and {len(lives) - WORKERS_MAX} more", *[""] * (len(names) - 1)])
    return section(
        "Workers", _about_lives(lives, is_whole=is_whole), table(names, rows, left=(0, 1, 6))
    )


def _about_lives(lives: Sequence[WorkerRecord], *, is_whole: bool) -> str:
    """Say how to read the table of workers."""
    if not is_whole:
        return "As they were when the training began, and whatever was written of them since then."
    if not any(life.end or life.joined_s is not None for life in lives):
        return "All were there from the beginning to the end."
    lost = sum(life.end.startswith("lost") for life in lives)
    about = (
        "A line is one life of a worker: a process that comes back begins another one. Times count "
        "from the start of the run, with what came before the training."
    )
    if lost:
        about += f" {count(lost, 'life', 'lives')} ended by a loss; others did that work again."
    return about


def _life_cells(life: WorkerRecord, *, is_whole: bool) -> list[object]:
    begin = "start" if life.joined_s is None else duration(life.joined_s)
    end: object = "end" if is_whole else "not known"
    if life.gone_s is not None:
        mood = "bad" if life.end.startswith("lost") else "soft"
        end = Html(f'{duration(life.gone_s)} <span class="{mood}">{html(life.end)}</span>')
    return [
        life.worker_id,
        life.host,
        "" if life.pid is None else life.pid,
        "" if life.memory_bytes is None else amount(life.memory_bytes),
        ""
        if life.n_ended is None or life.gone_s is not None or not is_whole
        else f"{life.n_ended:,}",
        begin,
        end,
    ]


def _rejected(run: RunRecord) -> str:
    rejected = {reason: n for reason, n in (run.summary.get("rejected") or {}).items() if n}
    if not rejected:
        return ""
    about = "Results and gradients that came and were not applied, by reason."
    rows = [(reason.replace("_", " "), f"{n:,}") for reason, n in sorted(rejected.items())]
    return section("Refused", about, table(("reason", "how many"), rows))


def _footer(run: RunRecord) -> str:
    parts = [f"paramserver {html(run.started.version)}"]
    if run.resumed_at:
        parts.append(f"resumed {count(len(run.resumed_at), 'time')}")
    if run.summary.get("weights_sha256"):
        parts.append(f"SHA-256 of the weights <code>{html(run.summary['weights_sha256'])}</code>")
    return f"<footer>{' · '.join(parts)}</footer>"


# --- words ----------------------------------------------------------------------------------------


def _counts(staleness: Any) -> dict[int, int]:
    return {int(value): n for value, n in staleness["histogram"].items()}
