"""The catalogue: every row sourced, its rates those of the specifications, errors that name what exists."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import pytest

from labkit.calibrate import published
from labkit.errors import UsageError
from labkit.hardware.interconnect import pcie_bytes_per_s
from labkit.parallel import catalogue
from labkit.units import GIB


@pytest.mark.parametrize("table", ["accelerators", "links", "prices"])
def test_every_row_has_its_source_and_month(table: str) -> None:
    with (catalogue.TABLES / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == len(rows) >= 8
    assert all(row["source"].strip() and re.fullmatch(r"20\d\d-[01]\d", row["date"]) for row in rows)


def test_the_two_lists_of_published_peaks_agree() -> None:
    for ours, theirs in (("a100-80gb", "a100-80gb"), ("h100-sxm", "h100-sxm")):
        device = catalogue.accelerator(ours)
        assert device.peak("bfloat16") == published(f"{theirs}-bf16").value
        assert device.memory_bandwidth_bytes_per_s == published(f"{theirs}-bandwidth").value


def test_pcie_by_its_specification() -> None:
    for generation in (4, 5):
        wanted = pcie_bytes_per_s(generation, 16)
        assert catalogue.link(f"pcie-{generation}").bandwidth_bytes_per_s == pytest.approx(wanted, rel=0.001)


def test_a_node_of_a_dgx_a100() -> None:
    node = catalogue.node("a100-80gb")
    assert (node.devices_per_node, node.price_usd_per_device_h) == (8, None)
    assert node.accelerator.memory_bytes == 80 * GIB
    assert node.share_bytes_per_s == catalogue.link("infiniband-hdr").bandwidth_bytes_per_s == 25e9


def test_priced_nodes_come_cheapest_device_hour_first() -> None:
    prices = [node.price_usd_per_device_h for node in catalogue.nodes()]
    assert prices == sorted(prices)
    assert len(prices) >= 8
    assert {node.accelerator.id for node in catalogue.nodes("a100-80gb")} == {"a100-80gb"}
    assert catalogue.node("aws-p5").price_usd_per_device_h == pytest.approx(98.32 / 8)


def test_a_v100_trains_in_float16() -> None:
    assert catalogue.accelerator("v100-32gb").half_dtype == "float16"
    with pytest.raises(
        UsageError, match=r"v100-32gb has no peak in 'bfloat16' in the catalogue. It has: float16, float32"
    ):
        catalogue.accelerator("v100-32gb").peak("bfloat16")


def test_what_is_not_in_it() -> None:
    with pytest.raises(UsageError, match=r"No accelerator is named 'b300'. There are: v100-32gb, a100-40gb, a100-80gb"):
        catalogue.accelerator("b300")
    with pytest.raises(UsageError, match="No accelerator is named 'b300'"):
        catalogue.nodes("b300")
    with pytest.raises(UsageError, match=r"No link is named 'string'. There are: nvlink-2"):
        catalogue.link("string")
    with pytest.raises(UsageError, match=r"'cray'\. Nodes with a price: aws-p3dn, .* Accelerators: v100-32gb"):
        catalogue.node("cray")
    good = catalogue.node("aws-p5")
    for wrong in ({"devices_per_node": 0}, {"network_bytes_per_s": 0.0}, {"price_usd_per_node_h": -1.0}):
        with pytest.raises(UsageError, match="got"):
            replace(good, **wrong)
