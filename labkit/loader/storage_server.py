"""The far end of a throttled storage, a process of its own: ``python -m labkit.loader.storage_server SOCKET RATE LAG``.

It stops when its owner does.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

from labkit.loader.storage import ANSWER, REQUEST

__all__ = ["SharedLink", "main"]

LATE_S = 0.0003  # a sleep ends about so much too late; the rest of a wait is spun
PORTION = 32 * 1024  # bytes paced at once: at 1 MB/s a reader waits 33 ms for another's


class SharedLink:
    """One wire for all connections: a portion begins when the one before it is through."""

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s, self.free_at = bytes_per_s, 0.0
        self._lock = threading.Lock()

    def reserve(self, num_bytes: int, earliest: float) -> float:
        """When the last of these bytes is through, if the first may not start before ``earliest``."""
        with self._lock:
            self.free_at = max(self.free_at, earliest) + num_bytes / self.bytes_per_s
            return self.free_at


def _serve(connection: socket.socket, link: SharedLink, latency_s: float) -> None:
    with connection:
        while request := connection.recv(REQUEST.size, socket.MSG_WAITALL):
            path_size, offset, num_bytes = REQUEST.unpack(request)
            path = os.fsdecode(connection.recv(path_size, socket.MSG_WAITALL))
            ready = time.monotonic() + latency_s
            try:
                with open(path, "rb", buffering=0) as file:
                    size = os.fstat(file.fileno()).st_size
                    wanted = size - offset if num_bytes < 0 else min(num_bytes, size - offset)
                    content = memoryview(os.pread(file.fileno(), max(0, wanted), offset))
            except OSError as error:
                connection.sendall(ANSWER.pack(-(error.errno or 5)))
                continue
            _wait_until(ready)
            connection.sendall(ANSWER.pack(len(content)))
            for start in range(0, len(content), PORTION):
                portion = content[start : start + PORTION]
                ready = link.reserve(len(portion), ready)  # from the portion before, not from now: no drift
                _wait_until(ready)
                connection.sendall(portion)


def _wait_until(when: float) -> None:
    if (left := when - time.monotonic() - LATE_S) > 0:
        time.sleep(left)
    while time.monotonic() < when:
        pass


def main(address: str, bytes_per_s: str, latency_s: str) -> None:
    link = SharedLink(float(bytes_per_s))
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(address + ".new")
    listening.listen(64)
    os.rename(address + ".new", address)  # whoever sees the name can connect
    while True:
        connection, _ = listening.accept()
        threading.Thread(target=_quietly, args=(connection, link, float(latency_s)), daemon=True).start()


def _quietly(connection: socket.socket, link: SharedLink, latency_s: float) -> None:
    try:
        _serve(connection, link, latency_s)
    except (BrokenPipeError, ConnectionResetError):
        return  # the reader went away, which is its right


if __name__ == "__main__":
    main(*sys.argv[1:])
