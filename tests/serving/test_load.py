from __future__ import annotations

import asyncio
import gc
import json
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from labkit.errors import EndpointError, LoadError, UsageError
from labkit.launch import OwnedProcess, free_port
from labkit.serving import load_sender
from labkit.serving.arrivals import uniform_arrivals, with_arrivals
from labkit.serving.endpoint import Endpoint
from labkit.serving.load import EVENTS_AT_A_TIME, Load, _FewAtATime, run_load
from labkit.serving.load_result import LoadResult
from labkit.serving.requests import Request


@contextmanager
def fake_server(*more: str) -> Iterator[tuple[str, OwnedProcess]]:
    port = free_port()
    command: list[str | Path] = [sys.executable, Path(__file__).with_name("fake_server.py"), str(port), *more]
    with OwnedProcess(command, name="fake server", kind="test", deadline_s=280) as server:
        yield f"http://127.0.0.1:{port}/v1", server


def stats(base_url: str) -> dict[str, Any]:
    with urllib.request.urlopen(base_url.removesuffix("/v1") + "/stats", timeout=10) as response:
        return dict(json.load(response))


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if condition():
                return True
        except OSError:
            pass
        time.sleep(0.02)
    return False


@pytest.fixture
def base_url() -> Iterator[str]:
    with fake_server() as (url, _):
        assert wait_for(lambda: stats(url))
        yield url


def requests(num: int, *, max_tokens: int = 4, rate_per_s: float = 1000.0) -> tuple[Request, ...]:
    plain = [Request(prompt=(index, 5), max_tokens=max_tokens) for index in range(num)]
    return with_arrivals(plain, uniform_arrivals(rate_per_s, num))


def at(base_url: str, model: str = "good") -> Endpoint:
    return Endpoint(base_url=base_url, model=model, api_key="secret")


def test_an_open_loop_does_not_wait_for_answers(base_url: str) -> None:
    result = run_load(at(base_url, "good:first_s=1"), requests(20, rate_per_s=200.0))
    assert [one.scheduled_s for one in result.served] == list(uniform_arrivals(200.0, 20))
    assert len(result.ok) == 20
    assert all(one.sent_s >= one.scheduled_s for one in result.served)
    # The first answer takes a second, and all were due in the first tenth: a client that waited would have one.
    assert stats(base_url)["max_in_flight"] == 20
    assert {one.token_ids for one in result.served} == {tuple(range(5 + n, 9 + n)) for n in range(20)}
    assert result.endpoint.model == "good:first_s=1"
    assert (result.concurrency, result.num_unsent, result.deadline_hit, result.notes) == (None, 0, False, ())


def test_an_open_loop_goes_by_arrivals_and_keeps_the_order_of_the_requests(base_url: str) -> None:
    late, soon = requests(1)[0], requests(1)[0]
    late = Request(prompt=(1,), max_tokens=1, arrival_s=0.3)
    result = run_load(at(base_url), [late, soon])
    assert [one.index for one in result.served] == [0, 1]
    assert result.served[0].sent_s >= 0.3 > result.served[1].scheduled_s == 0.0


def test_a_closed_loop_keeps_to_its_concurrency(base_url: str) -> None:
    told: list[tuple[float, str]] = []
    asked = with_arrivals(requests(18), [1e6] * 18)
    result = run_load(
        at(base_url, "good:gap_s=0.02"), asked, concurrency=3, on_progress=lambda done, what: told.append((done, what))
    )
    seen = stats(base_url)
    assert (seen["max_in_flight"], seen["requests"], len(result.ok)) == (3, 18, 18)
    assert told[-1] == (1.0, "18 of 18 requests")
    assert len(result.timeline().lanes) == 3
    last = seen["bodies"][-1]
    assert last["prompt"] == [17, 5]
    wanted = {
        "model": "good:gap_s=0.02", "max_tokens": 4, "temperature": 0, "stream": True, "ignore_eos": True,
        "return_token_ids": True, "stream_options": {"include_usage": True}, "authorization": "Bearer secret",
    }  # fmt: skip
    assert wanted.items() <= last.items()


def test_it_works_where_an_event_loop_runs_already(base_url: str) -> None:
    async def cell() -> LoadResult:
        return run_load(at(base_url), requests(3))

    assert len(asyncio.run(cell()).ok) == 3


def test_it_leaves_the_interpreter_as_it_was(base_url: str) -> None:
    before = sys.getswitchinterval(), gc.isenabled()
    run_load(at(base_url), requests(2))
    with pytest.raises(EndpointError):
        run_load(at(base_url, "http_500"), requests(2))
    assert (sys.getswitchinterval(), gc.isenabled()) == before
    assert not [thread for thread in threading.enumerate() if thread.name == "labkit-load"]


def test_some_errors_are_in_the_result(base_url: str) -> None:
    result = run_load(at(base_url, "flaky"), requests(10), concurrency=1)
    assert (len(result.ok), len(result.errors)) == (5, 5)
    assert {one.error for one in result.errors} == {"HTTP 500: 'now and then'."}
    assert len(result.ttft_s) == len(result.lag_s) == len(result.total_s) == 5


def test_a_load_in_which_nothing_works_is_given_up(base_url: str) -> None:
    with pytest.raises(EndpointError, match=r"20 of 20; the first: HTTP 500: .*The 80 others were not sent") as caught:
        run_load(at(base_url, "http_500"), requests(100), concurrency=1)
    assert not isinstance(caught.value, LoadError)
    assert len(caught.value.result.served) == 20


def test_the_deadline_ends_it_with_what_was_served(base_url: str) -> None:
    asked = [*requests(3), Request(prompt=(1,), max_tokens=1, arrival_s=500.0)]
    result = run_load(at(base_url), asked, timeout_s=3.0)
    assert (len(result.ok), result.num_unsent, result.deadline_hit) == (3, 1, True)
    assert "timeout_s = 3 was over: 3 of 4 requests had been sent" in result.notes[0]
    slow = run_load(at(base_url, "stall"), requests(3), timeout_s=1.0)
    assert (len(slow.ok), slow.deadline_hit) == (0, True)
    assert {one.error for one in slow.served} == {
        "cut off: the load's timeout_s was over (1 of at most 4 tokens had come)"
    }
    assert wait_for(lambda: stats(base_url)["in_flight"] == stats(base_url)["connections"] == 0)


def test_a_request_is_prepared_before_it_is_due_and_sent_no_sooner(
    base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_sender, "AHEAD_S", 100.0)  # all are prepared at once
    before = stats(base_url)["requests"]
    asked = [*with_arrivals(requests(3), (0.1, 0.3, 0.3)), Request(prompt=(1,), max_tokens=1, arrival_s=50.0)]
    result = run_load(at(base_url), asked, timeout_s=3.0)
    assert (len(result.ok), result.num_unsent) == (3, 1)  # the last was held, and is neither sent nor an error
    assert stats(base_url)["requests"] == before + 3
    assert min(result.lag_s) >= 0


@pytest.mark.parametrize("concurrency", [None, 2])
def test_a_server_that_dies_ends_the_load(concurrency: int | None) -> None:
    with fake_server() as (url, server):
        assert wait_for(lambda: stats(url))
        asked = [*requests(8, rate_per_s=10.0), Request(prompt=(1,), max_tokens=1, arrival_s=500.0)]
        with pytest.raises(LoadError) as caught:
            run_load(at(url, "die:requests=4,after=2,gap_s=0.02"), asked, concurrency=concurrency, timeout_s=100)
        assert server.wait(20) == 3
    result, text = caught.value.result, str(caught.value)
    num_ok = len(result.ok)
    assert 1 <= num_ok <= 4
    assert f"{num_ok} of 9 requests were served, {9 - num_ok} were not ({result.num_unsent} of them not sent)" in text
    assert "Seen first: the server closed the connection before the answer was finished" in text
    assert "server's log" in text
    assert result.num_unsent >= 1


def test_no_server_then_a_slow_one() -> None:
    with fake_server("--delay_s", "1.5") as (url, _):
        with pytest.raises(EndpointError, match=r"No server accepts connections at http://.*efused.*Start it"):
            run_load(at(url), requests(1))
        assert wait_for(lambda: stats(url))
        assert len(run_load(at(url), requests(1)).ok) == 1


CHILD = """
import sys
from labkit.serving.endpoint import Endpoint
from labkit.serving.load import Load
from labkit.serving.requests import Request

requests = [Request(prompt=(n,), max_tokens=1) for n in range(5)]
load = Load(Endpoint(base_url=sys.argv[1], model=sys.argv[2]), requests, concurrency=4)
try:
    load.run()
except KeyboardInterrupt as error:
    result = error.result
    assert len(result.served) == len(load.result.served)
    print(len(result.ok), [one.error for one in result.errors], result.num_unsent, result.notes, error.__notes__)
"""


def test_control_c_ends_it_at_once_and_keeps_what_was_served(base_url: str) -> None:
    command = [sys.executable, "-W", "error", "-c", CHILD, base_url, "good:first_s=500"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert wait_for(lambda: stats(base_url)["in_flight"] == 4)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=20)
        finally:
            child.kill()
    assert (child.returncode, err) == (0, "")
    assert out.startswith("0 ['cut off: the load was interrupted', ")
    assert "it was interrupted: 4 of 5 requests had been sent" in out
    assert "0 of 5 requests had been served" in out
    assert wait_for(lambda: stats(base_url)["in_flight"] == stats(base_url)["connections"] == 0)
    assert stats(base_url)["cancelled"] == 4


def test_few_sockets_are_taken_in_at_a_time_and_each_has_its_turn() -> None:
    pairs = [socket.socketpair() for _ in range(3 * EVENTS_AT_A_TIME + 1)]
    with _FewAtATime() as selector:
        for number, (there, here) in enumerate(pairs):
            selector.register(here, selectors.EVENT_READ, number)
            there.send(b"x")
        turns = []
        while ready := selector.select(0):
            turns.append([key.data for key, _ in ready])
            for key, _ in ready:
                pairs[key.data][1].recv(1)
    assert [len(turn) for turn in turns] == [EVENTS_AT_A_TIME] * 3 + [1]
    assert sorted(number for turn in turns for number in turn) == list(range(len(pairs)))
    for there, here in pairs:
        there.close()
        here.close()


def test_an_error_while_progress_is_told_ends_it_too(base_url: str) -> None:
    def broken(done: float, what: str) -> None:
        raise ZeroDivisionError

    load = Load(at(base_url, "stall"), requests(2), on_progress=broken)
    with pytest.raises(ZeroDivisionError):
        load.run()
    assert len(load.result.errors) == 2
    with pytest.raises(UsageError, match="runs once"):
        load.run()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"requests": []}, "at least one request; got none"),
        ({"requests": requests(4), "max_requests": 3}, "at most max_requests = 3 requests; got 4"),
        ({"concurrency": 0}, "concurrency must be at least 1, or None"),
        ({"concurrency": -1}, "concurrency must be at least 1, or None"),
        ({"timeout_s": 0}, "timeout_s must be positive and finite; got 0"),
        ({"timeout_s": float("nan")}, "timeout_s must be positive"),
        ({"stall_s": -1.0}, "stall_s must be positive"),
    ],
)
def test_what_cannot_be_meant(changes: dict[str, Any], said: str) -> None:
    values: dict[str, Any] = {"requests": requests(1)} | changes
    with pytest.raises(UsageError, match=re.escape(said)):
        run_load(at("http://127.0.0.1:9/v1"), **values)
