"""What joins ranks: loopback, network cards, InfiniBand, NVLink and PCIe, with the bandwidth that each is built for.

These are nominal rates in one direction, before any protocol: what a collective reaches has to be measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Link", "nvlink_bytes_per_s", "pcie_bytes_per_s", "system_links"]

# Giga-transfers a second and the share of them that carries data, a lane (PCI-SIG base specifications 1 to 6).
PCIE_LANE = {
    1: (2.5, 8 / 10),
    2: (5, 8 / 10),
    3: (8, 128 / 130),
    4: (16, 128 / 130),
    5: (32, 128 / 130),
    6: (64, 242 / 256),
}
# GB/s a link and direction by NVML's nvmlNvlinkVersion_t: 1 is NVLink 1.0, 2 2.0, 3 2.2, 4 3.0, 5 3.1, 6 4.0, 7 5.0.
NVLINK_GB_PER_S = {1: 20, 2: 25, 3: 25, 4: 25, 5: 25, 6: 25, 7: 50}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """``kind`` is loopback, ethernet, infiniband, nvlink or pcie; no bandwidth where nothing states one."""

    kind: str
    name: str
    bandwidth_bytes_per_s: float | None


def pcie_bytes_per_s(generation: int, width: int) -> float | None:
    """One direction of a PCIe link: generation 4 at width 16 -> 31.5e9."""
    lane = PCIE_LANE.get(generation)
    return lane and lane[0] * 1e9 * lane[1] / 8 * width


def nvlink_bytes_per_s(version: int | None) -> float | None:
    """One direction of one link, by NVML's number for the version."""
    gigabytes = NVLINK_GB_PER_S.get(version or 0)
    return gigabytes and gigabytes * 1e9


def system_links(root: Path = Path("/")) -> tuple[Link, ...]:
    """Loopback, real network cards and InfiniBand ports, as sysfs shows them under ``root``."""
    found = [Link(kind="loopback", name="lo", bandwidth_bytes_per_s=None)]
    for card in sorted((root / "sys/class/net").glob("*")):
        # A physical or virtual card has a device; bridges, tunnels and lo have none.
        if (card / "device").exists():
            speed = _text(card / "speed")  # Mbit/s; -1 or an error where the card does not know
            rate = int(speed) * 1e6 / 8 if speed.isdigit() and int(speed) > 0 else None
            found.append(Link(kind="ethernet", name=card.name, bandwidth_bytes_per_s=rate))
    for port in sorted((root / "sys/class/infiniband").glob("*/ports/*")):
        match = re.match(r"([\d.]+) Gb/sec", _text(port / "rate"))  # "200 Gb/sec (4X HDR)"
        name = f"{port.parents[1].name} port {port.name}"
        found.append(
            Link(kind="infiniband", name=name, bandwidth_bytes_per_s=float(match[1]) * 1e9 / 8 if match else None)
        )
    return tuple(found)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
