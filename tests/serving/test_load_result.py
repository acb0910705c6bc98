from __future__ import annotations

import numpy as np
import pytest

from labkit.errors import UsageError
from labkit.serving.client import Served
from labkit.serving.endpoint import Endpoint
from labkit.serving.load_result import LoadResult


def served(index: int, start_s: float, *, error: str = "") -> Served:
    times = (start_s + 0.2, start_s + 0.3, start_s + 0.6)
    return Served(
        index=index, prompt_tokens=2, token_ids=(), text="", output_tokens=4, scheduled_s=start_s,
        sent_s=start_s + 0.1, token_times_s=times, token_counts=(1, 1, 2), finished_s=start_s + 0.7, error=error,
    )  # fmt: skip


def a_result(*several: Served) -> LoadResult:
    return LoadResult(
        endpoint=Endpoint(base_url="http://127.0.0.1:9/v1", model="m"), served=several, num_requests=5,
        concurrency=None, started_unix_s=1.7e9, duration_s=2.0,
    )  # fmt: skip


def test_figures_of_a_result() -> None:
    result = a_result(served(0, 0.0), served(1, 0.5), served(2, 0.7, error="cut off"))
    assert (result.output_tokens, result.tokens_per_s, result.requests_per_s, result.num_unsent) == (12, 6.0, 1.0, 2)
    assert result.ttft_s == pytest.approx([0.2, 0.2])
    assert result.inter_token_s == pytest.approx([0.1, 0.15, 0.15] * 2)
    assert result.percentile("total_s", 99) == pytest.approx(0.7)
    assert result.percentile("lag_s", 50) == pytest.approx(0.1)
    figures = result.measured(machine="here")
    assert list(figures) == ["ttft_s", "inter_token_s", "total_s", "tokens_per_s"]
    assert (figures["ttft_s"].n, figures["ttft_s"].unit, figures["ttft_s"].machine) == (2, "s", "here")
    assert figures["inter_token_s"].value == pytest.approx(0.4 / 3)
    assert (figures["tokens_per_s"].value, figures["tokens_per_s"].coverage) == (6.0, 0.0)
    with pytest.raises(UsageError, match=r"has the times .*; got 'speed'"):
        result.percentile("speed", 50)
    with pytest.raises(UsageError, match="q lies between"):
        result.percentile("ttft_s", 101)


def test_a_result_without_a_whole_answer_has_no_figures() -> None:
    for result in (a_result(), a_result(served(0, 0.0, error="cut off"))):
        assert len(result.ttft_s) == 0
        assert len(result.frame()) == len(result.served)
        with pytest.raises(UsageError, match="whole answer"):
            result.measured()
        with pytest.raises(UsageError, match="whole answer"):
            result.percentile("ttft_s", 50)
    assert a_result().timeline().spans == ()


def test_the_frame_has_a_row_a_request() -> None:
    frame = a_result(served(0, 0.0), served(1, 0.5, error="cut off")).frame()
    assert list(frame["index"]) == [0, 1]
    assert list(frame["error"]) == ["", "cut off"]
    assert frame["inter_token_s"].to_numpy() == pytest.approx([0.4 / 3] * 2)
    assert frame["first_token_s"].dtype == np.float64


def test_the_timeline_has_a_lane_a_slot() -> None:
    timeline = a_result(served(0, 0.0), served(1, 0.5), served(2, 0.7, error="cut off")).timeline("a load")
    assert timeline.lanes == ("slot 0", "slot 1")
    assert [span.args["request"] for span in timeline.of("slot 0")] == [0, 0, 0, 2, 2, 2]
    assert [span.name for span in timeline.of("slot 1")] == ["waiting", "prefill", "decode"]
    assert timeline.of("slot 0")[-1].args["error"] == "cut off"
    assert timeline.busy_s("slot 1") == pytest.approx(0.7)
