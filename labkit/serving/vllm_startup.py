"""What vLLM says while it starts, read: the phases of its start-up, and why it failed.

The lines and their order were read from vLLM 0.32, v1/engine/core.py and v1/worker/. The stamp is the prefix that
vllm_command.STAMP asks for. Whatever the log holds, or lacks, the timeline covers the start without a gap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from labkit.measure import Span, Timeline

__all__ = ["Phase", "failure_cause", "log_lines", "phase_now", "startup_timeline", "without_stamps"]

STAMPED = re.compile(r"^(\d{9,12}\.\d{3}) (.*)")
PREFIX = re.compile(r"^(\d{9,12}\.\d{3} )?(\([^()]* pid=\d+\) )?((?P<level>[A-Z]+) [\d-]+ [\d:]+ \[[^\]]*\] )?")
ERROR = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)(?::\s.*|\s*)$|^[\w.]+\.py: error: ")
# What vLLM raises in one process because another one failed.
ECHOES = re.compile(r"Engine core initialization failed|root cause|WorkerProc initialization failed|EngineDeadError")
# What to do, in the words of VLLMServer's own options, where vLLM names its flags; the first that fits is told.
CURES = (
    (
        re.compile(r"Available memory on node|Free memory on device|[Oo]ut ?[Oo]f ?[Mm]emory"),
        "Take less kv_cache_bytes.",
    ),
    (re.compile(r"cache blocks|max seq len|KV cache"), "Give it more kv_cache_bytes, or a smaller max_model_len."),
    (re.compile(r"trust_remote_code"), 'Where you trust the model\'s code: extra_args=("--trust-remote-code",).'),
)
EAGER = "Enforce eager set"
LANE = "vLLM"
OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """name: what goes on until the line ``ends`` (None: until healthy); begins: the share of a start before it."""

    name: str
    ends: re.Pattern[str] | None
    begins: float
    optional: bool = False


PHASES = (
    Phase(name="process and imports", ends=re.compile(r"\(APIServer pid=|non-default args|version \d"), begins=0.0),
    Phase(name="engine process", ends=re.compile(r"Initializing a V\d LLM engine"), begins=0.25),
    Phase(name="worker process", ends=re.compile(r"Starting to load model"), begins=0.5),
    Phase(name="loading weights", ends=re.compile(r"Loading weights took|Model loading took"), begins=0.85),
    # Nothing is compiled when eager; the CPU's worker says the one, the GPU's the other.
    Phase(
        name="compiling",
        ends=re.compile(r"Warming up done\.|torch\.compile (and initial profiling/warmup run )?took "),
        begins=0.88,
        optional=True,
    ),
    Phase(name="profiling and KV cache", ends=re.compile(r"KV cache size: "), begins=0.9),
    Phase(name="warm-up", ends=re.compile(r"init engine \(.*took"), begins=0.92),
    Phase(name="API server", ends=None, begins=0.95),
)


def log_lines(text: str) -> list[tuple[float | None, str]]:
    """Each line with its stamp (s since 1970), None for one that vLLM's logger did not write."""
    matches = [(STAMPED.match(line), line) for line in text.splitlines()]
    return [(float(match[1]), match[2]) if match else (None, line) for match, line in matches]


def startup_timeline(text: str, *, started_at: float, healthy_after_s: float, title: str = "") -> Timeline:
    """The phases as spans on one lane, from 0 to healthy_after_s (s since the start), without gaps.

    started_at: the start, in seconds since 1970. A phase is named when both its beginning and its end were found in
    the log; what lies between the others is ``"other"``. Resolution: a millisecond. A clock that was set between
    cannot make a span leave the start or end before it begins.
    """
    lines = [(stamp, line) for stamp, line in log_lines(text) if stamp is not None]
    spans: list[Span] = []
    reached, known = 0.0, True
    for phase in PHASES:
        if phase.ends is None:
            end: float | None = healthy_after_s
        else:
            stamp = next((stamp for stamp, line in lines if phase.ends.search(line)), None)
            end = None if stamp is None else min(max(stamp - started_at, reached), healthy_after_s)
        if end is None:
            known = known and phase.optional
            continue
        if end > reached:
            name = phase.name if known else OTHER
            spans.append(Span(lane=LANE, name=name, start_s=reached, end_s=end, category=name))
        reached, known = end, True
    return Timeline(spans=tuple(spans), title=title)


def phase_now(text: str) -> Phase:
    """What a server that is still starting is at: the phase after the last one whose end its log holds."""
    done = [index for index, phase in enumerate(PHASES) if phase.ends is not None and phase.ends.search(text)]
    following = max(done, default=-1) + 1
    return PHASES[following + (PHASES[following].optional and EAGER in text)]


def without_stamps(text: str) -> str:
    """The log as vLLM itself would have written it."""
    return "\n".join(line for _, line in log_lines(text))


def failure_cause(text: str) -> str:
    """The exception, or the complaint about an argument, that made vLLM fail, with a cure where there is one; "" when
    the log shows none.

    The first one that was logged as an error, since vLLM's other processes then fail for its sake; else the last one.
    """
    logged: list[str] = []
    printed: list[str] = []
    echoes: list[str] = []
    for line in text.splitlines():
        prefix = PREFIX.match(line)
        assert prefix is not None  # every part of it is optional
        said = line[prefix.end() :].strip()
        if ERROR.match(said):
            kind = echoes if ECHOES.search(said) else logged if prefix["level"] == "ERROR" else printed
            kind.append(said)
    cause = logged[0] if logged else printed[-1] if printed else echoes[0] if echoes else ""
    cure = next((cure for sign, cure in CURES if sign.search(cause)), "")
    return f"{cause} {cure}".strip()
