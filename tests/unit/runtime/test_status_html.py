"""A status as HTML: whole, escaped, and without anything from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser

from paramserver.runtime.status import ClusterStatus, WorkerStatus
from paramserver.runtime.status_html import MAX_ROWS


class Tags(HTMLParser):
    """Checks that tags nest, and gathers the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.seen: set[str] = set()
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.seen.add(tag)
        assert {name for name, _ in attrs} <= {"class", "colspan"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def worker(
    name: str, host: str = "here", state: str = "ready", job: int | None = 3
) -> WorkerStatus:
    return WorkerStatus(name, 4711, host, 1, state, job, 2, 12345, 0.25)


def shown(*workers: WorkerStatus) -> Tags:
    jobs = {"ready": 5, "succeeded": 1234567, "failed": 0}
    status = ClusterStatus("ipc:///x/<y>", workers, jobs, {"workers_lost": 2, "stale": 0})
    return Tags(status._repr_html_())


def test_everything_of_note_is_shown() -> None:
    tags = shown(worker("a-1"), worker("a-2", state="suspect", job=None))
    for words in (
        "2 workers", "ipc:///x/<y>", "5 ready, 1,234,567 succeeded", "2 workers lost", "a-1",
        "4711", "suspect", "12,345", "0.2 s",
    ):  # fmt: skip
        assert words in tags.text
    assert "failed" not in tags.text
    assert "stale" not in tags.text


def test_names_cannot_bring_tags_along() -> None:
    tags = shown(worker("<script>alert(1)</script>", host='"><img src=x>'))
    assert not tags.seen & {"script", "img"}
    assert "<script>alert(1)</script>" in tags.text


def test_no_workers_and_too_many_are_shown_as_well() -> None:
    assert "table" not in shown().seen
    assert "0 workers" in shown().text
    many = shown(*(worker(f"a-{k}") for k in range(MAX_ROWS + 7)))
    assert "and 7 more" in many.text
    assert f"a-{MAX_ROWS}" not in many.text
