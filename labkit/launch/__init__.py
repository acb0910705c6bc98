"""Processes: a function over N ranks, servers as owned children, and the list of what runs."""

from labkit.launch.guarded import Guarded
from labkit.launch.ports import free_port, port_is_free
from labkit.launch.process import OwnedProcess
from labkit.launch.registry import ProcessInfo, processes, stop
from labkit.launch.run import Launched, run
from labkit.launch.waiting import thread_waiting

__all__ = [
    "Guarded",
    "Launched",
    "OwnedProcess",
    "ProcessInfo",
    "free_port",
    "port_is_free",
    "processes",
    "run",
    "stop",
    "thread_waiting",
]
