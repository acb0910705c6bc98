"""The phases of a start and the cause of a failure, from real logs, damaged ones and none."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from labkit.measure import Timeline
from labkit.serving.vllm_startup import failure_cause, log_lines, phase_now, startup_timeline, without_stamps

LOG = (Path(__file__).parent / "vllm_data/start-0.32.0.log").read_text()
STARTED_AT, HEALTHY_AFTER_S = 1795485196.688, 60.15


def phases(text: str, started_at: float = STARTED_AT, healthy_after_s: float = HEALTHY_AFTER_S) -> Timeline:
    return startup_timeline(text, started_at=started_at, healthy_after_s=healthy_after_s, title="t")


def names(timeline: Timeline) -> list[str]:
    return [span.name for span in timeline.of("vLLM")]


def covers(timeline: Timeline, healthy_after_s: float = HEALTHY_AFTER_S) -> bool:
    spans = timeline.of("vLLM")
    joined = all(one.end_s == next.start_s for one, next in itertools.pairwise(spans))
    return joined and timeline.start_s == 0 and timeline.end_s == healthy_after_s


def test_a_real_start() -> None:
    timeline = phases(LOG)
    assert covers(timeline)
    took = {span.name: span.duration_s for span in timeline.of("vLLM")}
    assert took == pytest.approx(
        {
            "process and imports": 16.026,
            "engine process": 15.076,
            "worker process": 18.700,
            "loading weights": 2.508,
            "profiling and KV cache": 1.736,
            "warm-up": 2.873,
            "API server": 3.231,
        },
        abs=1e-3,
    )


def test_a_compiled_start_has_its_phase() -> None:
    stamp = "1795485249.500 (Worker pid=6483) INFO 11-24 01:54:09 [cpu_model_runner.py:91] Warming up done.\n"
    ready = "1795485250.000 (Worker pid=1) INFO 11-24 01:54:10 [monitor.py:1] torch.compile took 5.00 s in total\n"
    for line in (stamp, ready):
        text = LOG.replace("1795485250.698", line + "1795485250.698")
        assert names(phases(text))[4:6] == ["compiling", "profiling and KV cache"]
        assert covers(phases(text))


def test_what_the_log_does_not_say_is_other() -> None:
    def without(*words: str) -> str:
        return "\n".join(line for line in LOG.splitlines() if not any(word in line for word in words))

    assert names(phases(without("Starting to load model")))[1:3] == ["engine process", "other"]
    assert names(phases(without("init engine")))[-2:] == ["profiling and KV cache", "other"]
    assert names(phases("")) == names(phases("no vLLM at all\n")) == ["other"]
    assert names(phases(LOG.replace("179548", "not "))) == ["other"]


def test_a_torn_log_still_covers_the_start() -> None:
    random_cut = random.Random(0)
    for _ in range(300):
        first, last = sorted(random_cut.randrange(len(LOG) + 1) for _ in range(2))
        assert covers(phases(LOG[first:last]))
        assert covers(phases(LOG[:first] + LOG[last:]))
    lines = LOG.splitlines()
    for _ in range(50):
        random_cut.shuffle(lines)
        assert covers(phases("\n".join(lines)))


def test_a_clock_that_was_set_does_no_harm() -> None:
    for offset_s in (-1e6, -30, 30, 1e6):
        assert covers(phases(LOG, started_at=STARTED_AT + offset_s))
    assert covers(phases(LOG, healthy_after_s=0.5), 0.5)


def test_what_goes_on() -> None:
    lines = LOG.splitlines()
    said = [phase_now("\n".join(lines[:count])).name for count in range(len(lines) + 1)]
    assert list(dict.fromkeys(said)) == [span.name for span in phases(LOG).of("vLLM")]
    compiled = "\n".join(line for line in lines if "Enforce eager" not in line and "KV cache size" not in line)
    assert phase_now(compiled.partition("init engine")[0]).name == "compiling"


def test_the_stamps_are_taken_off() -> None:
    plain = without_stamps(LOG)
    assert "1795485" not in plain
    assert plain.startswith("(APIServer pid=6384) INFO 11-24 01:53:32 [api_utils.py:347]")
    assert [stamp for stamp, _ in log_lines("12.5 x\n1795485212.714 \ny")] == [None, 1795485212.714, None]


ENGINE = "1795485212.714 (EngineCore pid=2) ERROR 11-24 01:53:32 [core.py:1] "
ECHO = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (f"{ENGINE}ValueError: too large\n{ENGINE}RuntimeError: after it\n{ECHO}", "ValueError: too large"),
        (f"(Worker pid=1) ValueError: no room\n{ECHO}", "ValueError: no room"),
        (
            "OSError: caught and printed\nTraceback\nmodule.sub.CustomError: the last",
            "module.sub.CustomError: the last",
        ),
        (ECHO, ECHO),
        ("KeyboardInterrupt\n", "KeyboardInterrupt"),
        (
            "api_server.py: error: argument --dtype: invalid choice: 'x'",
            "api_server.py: error: argument --dtype: invalid choice: 'x'",
        ),
        (
            f"{ENGINE}ValueError: No available memory for the cache blocks.",
            "ValueError: No available memory for the cache blocks. "
            "Give it more kv_cache_bytes, or a smaller max_model_len.",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. KV cache",
            "torch.OutOfMemoryError: CUDA out of memory. KV cache Take less kv_cache_bytes.",
        ),
        (LOG, ""),
        ("", ""),
    ],
)
def test_the_cause_of_a_failure(text: str, cause: str) -> None:
    assert failure_cause(text) == cause
