"""vLLM's own OpenAI-compatible server as a child that this process owns."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from labkit.errors import EndpointError, LaunchError, ServerError, UsageError
from labkit.hardware import model_dtype
from labkit.launch import free_port, port_is_free
from labkit.measure import OnProgress, Timeline
from labkit.serving.endpoint import Endpoint
from labkit.serving.metrics import Metrics, fetch_metrics
from labkit.serving.vllm_command import HOST, VLLMOptions, found_preload, vllm_command
from labkit.serving.vllm_http import get_text
from labkit.serving.vllm_model import checked_max_model_len, checked_model, vllm_folder
from labkit.serving.vllm_process import VLLMProcess, allowed_cores, vllm_device
from labkit.serving.vllm_startup import phase_now, startup_timeline

__all__ = ["VLLMServer"]

MAX_MODEL_LEN = 2048
POLL_S = 0.2
ANSWER_S = 5.0
LOST_PORT = "Address already in use"


class VLLMServer:
    """``with VLLMServer(folder) as server:`` starts it, waits until it is healthy, and ends all of it with the block.

    model: a Hugging Face folder, used as it is and offline, or a model id, which vLLM downloads. served_model_name: by
    default the folder's name. max_model_len (tokens): by default 2048, or the model's own where that is less. dtype:
    by default `hardware.model_dtype`'s. kv_cache_bytes, enforce_eager, threads: None takes what suits the device
    (``vllm_command`` says what); the memory share is for CUDA. preload: libraries for LD_PRELOAD on the CPU (None:
    those that vLLM recommends, where they are). port: None takes a free one. env is laid over the environment,
    extra_args come last in the command.

    Before the start: MissingPackageError, ModelError, UsageError. At the start: ServerError with the cause.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        served_model_name: str | None = None,
        dtype: str | None = None,
        max_num_seqs: int = 32,
        max_model_len: int | None = None,
        kv_cache_bytes: int | None = None,
        gpu_memory_utilization: float = 0.9,
        enforce_eager: bool | None = None,
        threads: int | None = None,
        preload: tuple[Path, ...] | None = None,
        port: int | None = None,
        extra_args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        startup_timeout_s: float = 300,
        on_progress: OnProgress | None = None,
    ) -> None:
        checked = checked_model(model, vllm=vllm_folder(), any_architecture="--model-impl" in extra_args)
        self._options = VLLMOptions(
            model=str(checked.folder or checked.name),
            served_model_name=served_model_name or checked.name,
            offline=checked.folder is not None,
            max_model_len=checked_max_model_len(max_model_len, checked, MAX_MODEL_LEN),
            dtype=dtype or model_dtype(vllm_device()),
            max_num_seqs=max_num_seqs,
            kv_cache_bytes=kv_cache_bytes,
            gpu_memory_utilization=gpu_memory_utilization,
            enforce_eager=enforce_eager,
            threads=threads,
            preload=found_preload(Path(sys.prefix)) if preload is None else preload,
            extra_args=tuple(extra_args),
            env=dict(env or {}),
        )
        if port is not None and not 0 < port < 65536:
            raise UsageError(f"A port lies between 1 and 65535; got {port}. None takes a free one.")
        if not startup_timeout_s > 0:
            raise UsageError(f"startup_timeout_s must be positive; got {startup_timeout_s}.")
        self._asked_port, self._timeout_s = port, startup_timeout_s
        self._report = on_progress or (lambda fraction, what: None)
        self._process: VLLMProcess | None = None
        self._stack = ExitStack()
        self._command(port or 1)  # what is wrong with the options is said now
        self.command: tuple[str, ...] = ()
        self.endpoint = Endpoint(base_url=f"http://{HOST}:{port or 1}/v1", model=self._options.served_model_name)
        self.startup: Timeline = Timeline(spans=())

    def __enter__(self) -> Self:
        if self._process is not None:
            raise LaunchError(f"The {self.name} has been started before. Make a new one for every with statement.")
        if self._asked_port is not None:
            if not port_is_free(self._asked_port):
                raise UsageError(
                    f"Port {self._asked_port} is taken: another server listens on it. Use port=None, which takes a "
                    "free one, or see what the lab runs with `labkit ps`."
                )
            self._start(self._asked_port)
            return self
        try:
            self._start(free_port())
        except ServerError as error:
            if LOST_PORT not in str(error):
                raise
            self._start(free_port())  # another process took the port between our look and vLLM's bind
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def name(self) -> str:
        return f"vLLM server of {self._options.served_model_name}"

    @property
    def pid(self) -> int:
        """The process group that holds the server and its workers, as `labkit ps` lists it."""
        return self._started().pid

    def log_tail(self, num_lines: int = 20) -> str:
        """The last lines that the server wrote, also after its end."""
        return self._started().log_tail(num_lines)

    def check(self) -> None:
        """ServerError, with the cause and its last lines, when the server has ended."""
        self._started().check()

    def metrics(self) -> Metrics:
        """What the server counts about itself, now. ServerError when it has gone, EndpointError when it is stuck."""
        self.check()
        try:
            return fetch_metrics(self.endpoint, ANSWER_S)
        except EndpointError:
            self.check()
            raise

    def _command(self, port: int) -> tuple[tuple[str, ...], dict[str, str]]:
        return vllm_command(vllm_device(), self._options, port=port, cores=allowed_cores())

    def _start(self, port: int) -> None:
        self.command, env = self._command(port)
        self.endpoint = Endpoint(base_url=f"http://{HOST}:{port}/v1", model=self._options.served_model_name)
        started_at, started = time.time(), time.perf_counter()
        with ExitStack() as stack:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="labkit-vllm-"))
            self._process = VLLMProcess(self.command, name=self.name, env=env, scratch=Path(scratch))
            stack.enter_context(self._process)
            self._wait_until_healthy(self._process)
            healthy_after_s = time.perf_counter() - started
            title = f"Start of the {self.name}"
            self.startup = startup_timeline(
                self._process.text(), started_at=started_at, healthy_after_s=healthy_after_s, title=title
            )
            self._report(1.0, "healthy")
            self._stack = stack.pop_all()

    def _wait_until_healthy(self, process: VLLMProcess) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            process.check("ended before it was healthy")
            phase = phase_now(process.text())
            self._report(phase.begins, phase.name)
            left = deadline - time.monotonic()
            if left <= 0:
                raise process.failure(
                    f"was not healthy within {self._timeout_s:g} s and was ended while at: {phase.name}. "
                    "Give it more with startup_timeout_s"
                )
            if self._is_healthy(min(ANSWER_S, left)):
                return
            time.sleep(min(POLL_S, left))

    def _is_healthy(self, timeout_s: float) -> bool:
        """Whether it answers, and as the model that was asked for: a stranger may hold a port that was free."""
        try:
            get_text(self.endpoint, self.endpoint.root + "/health", timeout_s)
            models = json.loads(get_text(self.endpoint, self.endpoint.base_url + "/models", timeout_s))["data"]
            return self.endpoint.model in [model["id"] for model in models]
        except (EndpointError, ValueError, KeyError, TypeError):
            return False

    def _started(self) -> VLLMProcess:
        if self._process is None:
            raise LaunchError(f"The {self.name} has not been started. Use it in a with statement.")
        return self._process
