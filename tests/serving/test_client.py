from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import EndpointError
from labkit.launch import OwnedProcess, free_port
from labkit.serving.client import Served
from labkit.serving.client_stream import Answer, EventParser
from labkit.serving.endpoint import Endpoint
from labkit.serving.load import run_load
from labkit.serving.load_result import LoadResult
from labkit.serving.requests import Request

EVENTS = (
    b"\xef\xbb\xbf: a comment\n\ndata: one\n\n"
    b"event: x\r\nid: 7\r\ndata:two\r\ndata: and  more\r\n\r\n"
    b"data\ndata\n\n\n\ndata: caf\xc3\xa9\r\rdata: [DONE]\n\ndata: never ended\n"
)
WANTED = [b"one", b"two\nand  more", b"\n", b"caf\xc3\xa9", b"[DONE]"]


def events(*portions: bytes) -> list[bytes]:
    parser = EventParser()
    return [data for portion in portions for data in parser.feed(portion)]


def test_events_split_anywhere_are_the_same() -> None:
    assert events(EVENTS) == WANTED
    assert events(*(EVENTS[n : n + 1] for n in range(len(EVENTS)))) == WANTED
    for first in range(len(EVENTS) + 1):
        for second in range(first, len(EVENTS) + 1):
            assert events(EVENTS[:first], EVENTS[first:second], EVENTS[second:]) == WANTED


@given(st.lists(st.binary(max_size=12).map(lambda raw: raw.replace(b"\r", b"\n")), max_size=8))
def test_any_bytes_however_split(portions: list[bytes]) -> None:
    assert events(*portions) == events(b"".join(portions))


def event(choice: dict[str, Any] | None = None, **more: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [choice] if choice else [], **more}).encode() + b"\n\n"


def answer(*timed: tuple[float, bytes]) -> Answer:
    whole = Answer()
    for time_s, portion in timed:
        whole.feed(time_s, portion)
    whole.close()
    return whole


USAGE = {"prompt_tokens": 2, "completion_tokens": 7}
DONE = b"data: [DONE]\n\n"


def test_tokens_are_dated_by_the_read_that_completed_their_chunk() -> None:
    first = event({"text": "a", "token_ids": [1]})
    both = event({"text": "", "token_ids": [2, 3]}) + event({"text": "bc", "token_ids": [4], "finish_reason": "stop"})
    whole = answer((1.0, first[:9]), (2.0, first[9:]), (3.0, both), (4.0, event(usage=USAGE) + DONE))
    assert (whole.error, whole.text, whole.token_ids) == ("", "abc", (1, 2, 3, 4))
    assert (whole.times_s, whole.counts) == ([2.0, 3.0], [1, 3])


def test_without_token_ids_the_usage_counts() -> None:
    chunks = [(float(n), event({"text": "ab"})) for n in range(3)]
    assert answer(*chunks, (3.0, DONE)).counts == [1, 1, 1]
    assert answer(*chunks, (3.0, event(usage=USAGE) + DONE)).counts == [3, 2, 2]
    few = answer(*chunks, (3.0, event(usage=USAGE | {"completion_tokens": 2}) + DONE))
    assert (few.times_s, few.counts) == ([0.0, 1.0], [1, 1])


def test_an_answer_without_text_is_dated_by_its_finish() -> None:
    end = event({"text": "", "finish_reason": "stop"})
    only_end = answer((2.0, end), (3.0, event(usage=USAGE | {"completion_tokens": 1}) + DONE))
    assert (only_end.error, only_end.times_s, only_end.counts) == ("", [2.0], [1])
    assert answer((2.0, end + DONE)).error == "the answer has no token"


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b"3", b"null", b"\xff", b'{"choices": 1}', b'{"choices": [{"text": 3}]}', b"[" * 100_000]
)
def test_what_is_no_chunk(data: bytes) -> None:
    assert "no chunk of a completion" in answer((0.0, b"data: " + data + b"\n\n" + DONE)).error


def served(**changes: Any) -> Served:
    values: dict[str, Any] = {
        "index": 0, "prompt_tokens": 2, "token_ids": (), "text": "", "output_tokens": 6, "scheduled_s": 1.0,
        "sent_s": 1.5, "token_times_s": (2.0, 3.0, 5.0), "token_counts": (2, 1, 3), "finished_s": 5.5,
    }  # fmt: skip
    return Served(**values | changes)


def test_times_of_a_request() -> None:
    one = served()
    assert (one.first_token_s, one.ttft_s, one.total_s, one.lag_s) == (2.0, 1.0, 4.5, 0.5)
    assert one.inter_token_s == pytest.approx((1.0, 2 / 3, 2 / 3, 2 / 3))
    none = served(token_times_s=(), token_counts=())
    assert none.first_token_s is None
    assert none.ttft_s != none.ttft_s
    assert none.inter_token_s == ()


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    port = free_port()
    program = Path(__file__).with_name("fake_server.py")
    with OwnedProcess([sys.executable, program, str(port)], name="fake server", kind="test", deadline_s=250) as server:
        url = f"http://127.0.0.1:{port}/v1"
        until = time.monotonic() + 60
        while True:
            try:
                run_load(Endpoint(base_url=url, model="good"), [Request(prompt=(1,), max_tokens=1)], timeout_s=10)
                break
            except EndpointError:
                assert server.poll() is None, server.log_tail()
                assert time.monotonic() < until
                time.sleep(0.1)
        yield url


def ask(base_url: str, model: str, *, num_requests: int = 1, stall_s: float = 30.0, max_tokens: int = 6) -> LoadResult:
    request = Request(prompt=(1, 2, 3), max_tokens=max_tokens)
    endpoint = Endpoint(base_url=base_url, model=model, api_key="a key")
    return run_load(endpoint, [request] * num_requests, concurrency=1, stall_s=stall_s, timeout_s=60)


@pytest.mark.parametrize("model", ["good", "good:gap_s=0.002", "good:per_chunk=4", "good:per_chunk=4,gap_s=0.002"])
def test_a_whole_answer(base_url: str, model: str) -> None:
    (one,) = ask(base_url, model).served
    assert one.error == ""
    assert (one.prompt_tokens, one.output_tokens, one.token_ids) == (3, 6, (6, 7, 8, 9, 10, 11))
    assert one.text == " 6 7 8 9 10 11"
    assert sum(one.token_counts) == 6
    assert 0 <= one.scheduled_s <= one.sent_s < one.token_times_s[0]
    assert list(one.token_times_s) == sorted(set(one.token_times_s))
    assert one.finished_s >= one.token_times_s[-1]


def test_a_server_without_token_ids(base_url: str) -> None:
    (one,) = ask(base_url, "plain:per_chunk=4,gap_s=0.01").served
    assert (one.error, one.token_ids, one.output_tokens) == ("", (), 6)


def test_a_server_that_refuses_the_extras_is_asked_without_them(base_url: str) -> None:
    result = ask(base_url, "unknown_field_400", num_requests=3)
    assert [(one.error, one.output_tokens, one.token_ids) for one in result.served] == [("", 6, ())] * 3
    assert len(result.notes) == 1
    assert "refused ignore_eos and return_token_ids (HTTP 400)" in result.notes[0]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("http_500", "HTTP 500: 'EngineDeadError: the engine has died'"),
        ("http_404", "HTTP 404: .*does not exist.*Does it serve a model called 'http_404'.*/v1/models lists the names"),
        ("html", "answer is text/html where text/event-stream was wanted; it begins '<html>.*/v1 at its end"),
        ("wrong_content_type", "answer is application/json where text/event-stream was wanted"),
        ("garbage", r"no chunk of a completion: '{this is not JSON'"),
        ("chat", "no chunk of a completion: .*delta"),
        ("not_http", "the answer is not HTTP"),
        ("endless", "the answer went on past"),
        ("drop:after=2,gap_s=0.01", r"closed the connection before the answer was finished \(2 of at most 6 tokens"),
        ("end_early:after=2", r"ended the stream before the answer was finished \(2 of at most 6 tokens"),
        ("mid_error", r"the server reported an error: 'out of KV blocks' \(1 of"),
    ],
)
def test_what_a_server_can_do_wrong(base_url: str, model: str, said: str) -> None:
    with pytest.raises(EndpointError, match="1 of 1; the first: ") as caught:
        ask(base_url, model)
    (one,) = caught.value.result.served
    assert re.search(said, one.error), one.error
    assert one.error in str(caught.value)


def test_a_stalled_answer_keeps_what_came(base_url: str) -> None:
    with pytest.raises(EndpointError, match=r"stalled: no byte for 0\.3 s \(2 of at most 6") as caught:
        ask(base_url, "stall:after=2", stall_s=0.3)
    (one,) = caught.value.result.served
    assert one.token_ids == (6, 7)
    with pytest.raises(EndpointError, match=r"stalled: no byte for 0\.3 s"):
        ask(base_url, "good:first_s=600", stall_s=0.3)
