"""A cluster's status as one HTML fragment, for notebooks. Values in, text out.

Rule 1: everything that comes from elsewhere (names of hosts and workers) is escaped.
Rule 2: it stands alone: no script, no file, no font from anywhere; light and dark by the reader's
        own setting.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paramserver.runtime.status import ClusterStatus, WorkerStatus

MAX_ROWS = 50
"""Workers shown; more are counted."""

_STYLE = """\
<style>
.paramserver { --line: #d0d0d0; --soft: #666; --ok: #1a7f37; --odd: #9a6700; color: inherit; }
@media (prefers-color-scheme: dark) {
  .paramserver { --line: #444; --soft: #aaa; --ok: #57ab5a; --odd: #d4a72c; }
}
.paramserver table { border-collapse: collapse; margin: .4em 0; }
.paramserver th, .paramserver td { padding: .15em .7em; text-align: right;
  border-bottom: 1px solid var(--line); background: none; color: inherit; }
.paramserver th { color: var(--soft); font-weight: 600; }
.paramserver td:first-child, .paramserver th:first-child { text-align: left; }
.paramserver .soft { color: var(--soft); }
.paramserver .ready { color: var(--ok); }
.paramserver .odd { color: var(--odd); }
</style>
"""


def status_html(status: ClusterStatus) -> str:
    """Return the status as an HTML fragment."""
    workers = status.workers
    noun = "worker" if len(workers) == 1 else "workers"
    head = f"<b>{len(workers)} {noun}</b> at <code>{escape(status.address)}</code>"
    jobs = _sentence((n, state) for state, n in status.jobs.items() if n)
    counters = _sentence((n, name.replace("_", " ")) for name, n in status.counters.items() if n)
    parts = [
        f'{_STYLE}<div class="paramserver">',
        f"<div>{head}</div>",
        f'<div><span class="soft">jobs:</span> {jobs}</div>',
        _table(workers) if workers else "",
        f'<div><span class="soft">since the start:</span> {counters}</div>',
        "</div>",
    ]
    return "\n".join(part for part in parts if part)


def _sentence(pairs: Iterable[tuple[int, str]]) -> str:
    return ", ".join(f"{n:,} {escape(name)}" for n, name in pairs) or "none"


def _table(workers: tuple[WorkerStatus, ...]) -> str:
    rows = [_row(worker) for worker in workers[:MAX_ROWS]]
    if len(workers) > MAX_ROWS:
        rows.append(
            f'<tr><td colspan="8" class="soft">and {len(workers) - MAX_ROWS} more</td></tr>'
        )
    names = ("worker", "host", "pid", "state", "job", "held", "ended", "silent")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(worker: WorkerStatus) -> str:
    mood = "ready" if worker.state == "ready" else "odd"
    cells = (
        escape(worker.worker_id),
        escape(worker.host),
        str(worker.pid),
        f'<span class="{mood}">{escape(worker.state)}</span>',
        "" if worker.job is None else str(worker.job),
        str(worker.n_held),
        f"{worker.n_ended:,}",
        f"{worker.silent_s:.1f} s",
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
