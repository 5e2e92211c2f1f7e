"""The live page of a real cluster, asked by real clients: by hand, and in a real browser."""

from __future__ import annotations

import gc
import http.client
import json
import re
import socket
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit
from urllib.request import urlopen

import numpy as np
import pytest

import paramserver as ps
from paramserver.errors import ClusterClosed, ConfigError
from paramserver.training.result import Progress, TrainingResult
from tests.integration.browser import Browser
from tests.integration.stripping_proxy import StrippingProxy
from tests.numerics.learners import Choking, LeastSquares


@pytest.fixture(scope="module")
def cluster() -> Iterator[ps.LocalCluster]:
    with ps.LocalCluster(2) as cluster:
        assert not cluster.has_dashboard
        assert cluster.dashboard_link
        yield cluster


def get(
    link: str, path: str = "", *, host: str | None = None, token: str | None = None
) -> tuple[int, dict[str, str], str]:
    """Ask for something next to the page; return status, headers and text."""
    place = urlsplit(link)
    query = place.query if token is None else f"token={token}"
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
    try:
        headers = {} if host is None else {"Host": host}
        connection.request("GET", f"/{path}?{query}", headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


class Events:
    """An open stream of server-sent events."""

    def __init__(self, link: str) -> None:
        place = urlsplit(link)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=10)
        self._connection.request("GET", f"/events?{place.query}")
        self.answer = self._connection.getresponse()

    def next(self) -> dict[str, str]:
        """Return the panels of the next event."""
        while True:
            line = self.answer.readline().decode()
            assert line, "the stream has ended"
            if line.startswith("data: "):
                told = json.loads(line.removeprefix("data: "))
                found: dict[str, str] = told["changed"]
                assert found.keys() <= set(told["order"])
                return found

    def rest(self) -> bytes:
        """Return what comes until the stream ends."""
        return self.answer.read()

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


@contextmanager
def live_page(link: str, folder: Path) -> Iterator[Browser]:
    """Open a page in a browser and wait until it is live; in the end nothing was complained of."""
    with Browser(folder) as browser:
        browser.open(link)
        browser.wait_for("document.getElementById('live').textContent === 'live'")
        yield browser
        assert browser.complaints == []


def train(cluster: ps.LocalCluster, on_progress: Any = None, **options: Any) -> TrainingResult:
    rng = np.random.default_rng(5)
    X = rng.standard_normal((120, 5))
    data = (X, X @ np.arange(1.0, 6.0))
    mode = ps.AsyncSGD(epochs=3, n_partitions=2)
    return ps.fit(
        LeastSquares(5), data, mode=mode, cluster=cluster, on_progress=on_progress, **options
    )


def test_the_page_shows_the_cluster_and_loads_nothing_from_elsewhere(
    cluster: ps.LocalCluster,
) -> None:
    status, headers, text = get(cluster.dashboard_link)
    assert status == 200
    for worker in cluster.status().workers:
        assert f"<td>{worker.pid}</td>" in text
    assert re.findall(r'(?:src|href)="([^"?]*)', text) == ["live.js", "data:,"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    status, headers, text = get(cluster.dashboard_link, "live.js")
    assert (status, headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert 'new EventSource("events"' in text


def test_the_link_stays_the_same_and_the_cluster_knows_that_it_is_shown(
    cluster: ps.LocalCluster,
) -> None:
    assert cluster.dashboard_link == cluster.open_dashboard(port=1)
    assert cluster.has_dashboard
    assert urlsplit(cluster.dashboard_link).hostname == "127.0.0.1"


def test_who_does_not_know_the_token_sees_nothing_but_from_this_machine(
    cluster: ps.LocalCluster,
) -> None:
    link = cluster.dashboard_link
    (token,) = parse_qs(urlsplit(link).query)["token"]
    for path in ("", "events", "metrics", "live.js"):
        status, _, text = get(link, path, host="evil.example", token="guess")
        assert (status, token in text) == (403, False), path
    assert get(link, "", host="evil.example", token="%C3%BC")[0] == 403
    assert get(link, "", host="hub.example")[0] == 200  # a proxy that passes the link on
    assert get(link, "", token="")[0] == 200
    assert get(link, "", host="localhost", token="")[0] == 200
    assert get(link, "elsewhere")[0] == 404


def test_beyond_this_machine_everybody_needs_the_token() -> None:
    with ps.LocalCluster(1) as cluster:
        link = cluster.open_dashboard("0.0.0.0")
        place = urlsplit(link)
        assert place.hostname == socket.gethostname().lower()
        here = f"http://127.0.0.1:{place.port}/?{place.query}"
        assert get(here, "", token="")[0] == 403
        assert get(here)[0] == 200


def test_the_numbers_can_be_scraped(cluster: ps.LocalCluster) -> None:
    status, headers, text = get(cluster.dashboard_link, "metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert 'paramserver_workers{state="ready"} 2.0' in text
    assert "# TYPE paramserver_events_total counter" in text
    memory = re.findall(r"^paramserver_workers_resident_memory_bytes (\S+)$", text, re.M)
    assert float(memory[0]) > 10e6


def test_a_training_is_seen_while_it_goes_on_and_after_it(cluster: ps.LocalCluster) -> None:
    events = Events(cluster.dashboard_link)
    first = events.next()
    assert "cluster" in first
    seen: list[dict[str, str]] = []
    plain = train(cluster, verbose=False)

    def look(progress: Progress) -> None:
        while not seen or "progress" not in seen[-1]:
            seen.append(events.next())

    train(cluster, look)
    assert "LeastSquares on arrays" in seen[-1]["progress"]
    while ">done</span>" not in seen[-1].get("progress", ""):
        seen.append(events.next())
    events.close()
    text = get(cluster.dashboard_link)[2]
    assert f"<dd>{plain.units:,}" in text
    for words in (
        "Where the time goes", "120 rows in 2 partitions", "Throughput", "time computing",
        "ps.fit(LeastSquares(...), data, mode=AsyncSGD(epochs=3,", "<td>3.00</td>",
    ):  # fmt: skip
        assert words in text, words
    assert "epoch 2, partition 1" in text
    assert "updates by others on average" in text
    assert "paramserver_training_epochs_total 3.0" in get(cluster.dashboard_link, "metrics")[2]


def test_what_ends_a_training_is_seen_with_its_traceback_once(cluster: ps.LocalCluster) -> None:
    rows = np.arange(20)
    with pytest.raises(ValueError, match="row 7 cannot be digested"):
        ps.fit(
            Choking(20, bad_row=7), (rows[:, None].astype(float), rows), lr=1.0,
            mode=ps.Averaging(rounds=3, n_partitions=2), cluster=cluster,
        )  # fmt: skip
    text = get(cluster.dashboard_link)[2]
    assert '<span class="badge bad">failed</span>' in text
    assert text.count("in gradient\n") == 1
    assert "ValueError: row 7 cannot be digested</b>" in text
    assert "4 times, last on local" in text
    assert "raised an error" in text  # on the timeline
    metrics = get(cluster.dashboard_link, "metrics")[2]
    assert "paramserver_training_failed_attempts_total 4.0" in metrics


def test_what_fails_on_the_page_reaches_neither_the_training_nor_the_rest_of_it(
    cluster: ps.LocalCluster,
) -> None:
    class Broken:
        name, rank = "broken", 1

        def html(self) -> str:
            raise SystemError("broken on purpose")

        def readings(self) -> Any:
            raise SystemError("broken on purpose")

    panels = cluster.internals().panels
    broken = Broken()
    panels.append(broken)
    try:
        events = Events(cluster.dashboard_link)
        while "broken" not in (shown := events.next()):
            pass
        events.close()
        assert "broken on purpose" in shown["broken"]
        assert train(cluster).epochs == 3.0
        assert get(cluster.dashboard_link, "metrics")[0] == 200
    finally:
        panels.remove(broken)


def test_open_pages_do_not_hold_up_the_end_of_a_cluster() -> None:
    with ps.LocalCluster(1) as cluster:
        link = cluster.dashboard_link
        events = Events(link)
        events.next()
    events.rest()
    events.close()
    with pytest.raises(ConnectionRefusedError):
        get(link)
    with pytest.raises(ClusterClosed):
        cluster.dashboard_link  # noqa: B018


def test_who_drops_a_cluster_ends_it_though_it_has_a_dashboard() -> None:
    cluster = ps.LocalCluster(1)
    assert cluster.dashboard_link
    dropped = weakref.ref(cluster)
    del cluster
    gc.collect()
    assert dropped() is None  # that nothing is left of it, each test is asked


def test_a_place_where_nothing_can_listen_is_said_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, ps.LocalCluster(1) as cluster:
        with pytest.raises(ConfigError, match="cannot listen at 127"):
            cluster.open_dashboard(port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match="cannot listen at"):
            cluster.open_dashboard("no.such.host.invalid")
        assert not cluster.has_dashboard
        assert get(cluster.dashboard_link)[0] == 200


def test_below_the_prefix_of_a_proxy_the_page_finds_its_parts() -> None:
    with (
        ps.LocalCluster(1) as cluster,
        StrippingProxy(cluster.dashboard_link, "/user/ann/proxy/8787", "hub.example") as proxy,
    ):
        with urlopen(proxy.link, timeout=10) as answer:
            page = answer.read().decode()
        (script,) = re.findall(r'<script src="([^"]*)"', page)
        with urlopen(urljoin(proxy.link, unescape(script)), timeout=10) as answer:
            (stream,) = re.findall(r'new EventSource\("([^"]*)"', answer.read().decode())
        events = f"{urljoin(proxy.link, stream)}?{urlsplit(proxy.link).query}"
        with urlopen(events, timeout=10) as answer:
            first = answer.readline().decode()
            cluster.shutdown()  # ends the stream
            answer.read()
        assert "Workers" in json.loads(first.removeprefix("data: "))["changed"]["cluster"]


@pytest.mark.full
def test_a_real_browser_shows_the_page_below_the_prefix_of_a_proxy(tmp_path: Path) -> None:
    with (
        ps.LocalCluster(1) as cluster,
        StrippingProxy(cluster.dashboard_link, "/user/ann/proxy/8787", "hub.example") as proxy,
        live_page(proxy.link, tmp_path),
    ):
        pass  # all its parts have been found


@pytest.mark.full
def test_a_real_browser_shows_what_happens_while_it_happens(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    with live_page(cluster.dashboard_link, tmp_path) as browser:
        train(cluster, lambda _: None)
        browser.wait_for("document.body.textContent.includes('in all')")
        words = browser.evaluate("document.body.textContent")
        for heading in ("LeastSquares", "Convergence", "Timeline", "Staleness", "Workers"):
            assert heading in words, heading
        order = "[...document.getElementById('panels').children].map((each) => each.id)"
        assert browser.evaluate(order) == [
            "panel-progress", "panel-training", "panel-wire", "panel-jobs", "panel-cluster",
            "panel-configuration",
        ]  # fmt: skip
        assert browser.evaluate("document.querySelectorAll('svg').length") > 6


@pytest.mark.full
def test_what_a_reader_has_marked_stays_until_it_is_copied(
    cluster: ps.LocalCluster, tmp_path: Path
) -> None:
    with live_page(cluster.dashboard_link, tmp_path) as browser:
        browser.evaluate(
            "getSelection().selectAllChildren(document.querySelector('#panel-cluster h2'))"
        )
        counter = "document.querySelector('#panel-cluster tbody').textContent"
        before = browser.evaluate(counter)
        for _ in range(3):
            cluster.submit(pow, 2, 2).result()
        is_told = "document.getElementById('panel-jobs')?.textContent.includes('submit')"
        browser.wait_for(f"{is_told} && late.has('cluster')")
        assert browser.evaluate("String(getSelection())") == "Workers"
        assert browser.evaluate(counter) == before
        browser.evaluate("getSelection().removeAllRanges()")
        browser.wait_for(f"{counter} !== {json.dumps(before)}")
