"""A program that starts, fails and ends as vLLM's server does, in milliseconds: ``fake_vllm.py MODE PORT MODEL``."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

DATA = Path(__file__).parent / "vllm_data"
ROOT_CAUSE = "torch.OutOfMemoryError: no room for 3 GiB"


def log(message: str, process: str = "APIServer", level: str = "INFO") -> None:
    now = time.time()
    day = time.strftime("%m-%d %H:%M:%S", time.localtime(now))
    print(f"{now:.3f} ({process} pid={os.getpid()}) {level} {day} [fake.py:1] {message}", flush=True)


def fail() -> None:
    """As the engine fails: its own traceback through the logger, then the API server's about the engine."""
    for line in ("EngineCore failed to start.", "Traceback (most recent call last):", ROOT_CAUSE):
        log(line, "EngineCore", "ERROR")
    log("Traceback (most recent call last):", "EngineCore", "ERROR")
    log("RuntimeError: WorkerProc initialization failed due to an exception in a background process.", level="ERROR")
    print("Traceback (most recent call last):\n  File 'core.py'")
    print("RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}")
    sys.exit(1)


class Handler(BaseHTTPRequestHandler):
    mode, model = "", ""

    def do_GET(self) -> None:
        answers = {
            "/health": "",
            "/v1/models": json.dumps({"data": [{"id": self.model}]}),
            "/metrics": (DATA / "metrics-0.32.0.txt").read_text() if self.mode != "torn metrics" else "vllm:prompt_tok",
        }
        if self.mode == "hangs":
            time.sleep(1000)
        body = answers.get(self.path)
        self.send_response(503 if self.mode == "unhealthy" else 200 if body is not None else 404)
        self.end_headers()
        self.wfile.write((body or "").encode())

    def log_message(self, *args: object) -> None:
        pass


def main(mode: str, port: int, model: str) -> None:
    if mode == "garbled":
        sys.stdout.buffer.write(b"\xff\xfe\x00 1795485212.714 (APIS\n\xc3\x28 ValueErr")
        sys.stdout.flush()
        sys.exit(3)
    log("non-default args: {}")
    if mode == "fails":
        fail()
    if mode == "bad argument":
        sys.exit(
            print("usage: api_server.py\napi_server.py: error: unrecognized arguments: --colour", file=sys.stderr) or 2
        )
    if mode == "out of memory":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "loses the port once" and not (seen := Path(os.environ["LABKIT_TEST_SEEN"])).exists():
        seen.touch()
        print("Traceback (most recent call last):\nOSError: [Errno 98] Address already in use")
        sys.exit(1)
    log("Initializing a V1 LLM engine", "EngineCore")
    subprocess.Popen(["sleep", "1000"], start_new_session=True)  # a worker that would outlive its parent
    if mode in ("never", "stuck"):
        if mode == "stuck":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    log("Starting to load model", "Worker")
    log("Loading weights took 0.62 seconds", "Worker")
    log("CPU KV cache size: 46,592 tokens", "EngineCore")
    log("init engine (profile, create kv cache, warmup model) took 2.88 s", "EngineCore")
    Handler.mode, Handler.model = mode, model if mode != "stranger" else "someone-else"
    with HTTPServer(("127.0.0.1", port), Handler) as server:
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
