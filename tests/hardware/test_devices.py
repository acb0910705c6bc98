"""Accelerators through a stand-in for NVML; dtypes on the real machine; links."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from labkit import hardware
from labkit.hardware import accelerators, interconnect
from labkit.hardware.attached import examine
from labkit.units import GIB


class NVMLError(Exception):
    pass


class Nvml:
    """As pynvml, over devices given as (name, GiB, uuid, active NVLinks)."""

    NVMLError = NVMLError
    NVML_NVLINK_MAX_LINKS = 18

    def __init__(self, *devices: tuple[str, int, str, int], driver: bool = True) -> None:
        self.devices, self.driver = devices, driver
        self.open = 0

    def nvmlInit(self) -> None:
        if not self.driver:
            raise NVMLError("NVML Shared Library Not Found")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> tuple[str, int, str, int]:
        return self.devices[index]

    def nvmlDeviceGetName(self, handle: tuple[str, int, str, int]) -> str:
        return handle[0]

    def nvmlDeviceGetMemoryInfo(self, handle: tuple[str, int, str, int]) -> SimpleNamespace:
        return SimpleNamespace(total=handle[1] * GIB)

    def nvmlDeviceGetUUID(self, handle: tuple[str, int, str, int]) -> bytes:
        return handle[2].encode()

    def nvmlDeviceGetCudaComputeCapability(self, handle: object) -> tuple[int, int]:
        return (9, 0)

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"

    def nvmlDeviceGetNvLinkState(self, handle: tuple[str, int, str, int], number: int) -> int:
        if number >= handle[3]:
            raise NVMLError("Not Supported")
        return 1

    def nvmlDeviceGetNvLinkVersion(self, handle: object, number: int) -> int:
        return 6

    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: object) -> int:
        return 5

    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: object) -> int:
        return 16


H100 = ("NVIDIA H100 80GB HBM3", 80, "GPU-aaaa-1", 18)
H100_2 = ("NVIDIA H100 80GB HBM3", 80, "GPU-bbbb-2", 18)


def find(nvml: Nvml, visible: str | None = None, torch_version: str = "2.13.0") -> tuple[list[str], str]:
    env = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found, reason = accelerators.find_accelerators(nvml, env=env, torch_version=torch_version)
    assert nvml.open == 0  # whatever came, NVML was closed again
    return [device.uuid for device in found], reason


def test_devices_are_described_with_their_links() -> None:
    found, reason = accelerators.find_accelerators(Nvml(H100), env={}, torch_version="2.13.0")
    device = found[0]
    assert (reason, device.index, device.compute_capability, device.driver) == ("", 0, (9, 0), "580.65.06")
    assert device.memory_bytes == 80 * GIB
    nvlink, pcie = device.links
    assert (nvlink.kind, nvlink.bandwidth_bytes_per_s) == ("nvlink", 18 * 25e9)  # H100: 450 GB/s a direction
    assert pcie.bandwidth_bytes_per_s == pytest.approx(63e9, rel=0.01)


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, ["GPU-aaaa-1", "GPU-bbbb-2"]),
        ("1", ["GPU-bbbb-2"]),
        ("1,0", ["GPU-bbbb-2", "GPU-aaaa-1"]),
        ("GPU-bbbb", ["GPU-bbbb-2"]),
        ("0,7,1", ["GPU-aaaa-1"]),  # CUDA stops at the first that it does not know
        ("", []),
    ],
)
def test_cuda_visible_devices(visible: str | None, uuids: list[str]) -> None:
    found, reason = find(Nvml(H100, H100_2), visible)
    assert found == uuids
    assert bool(reason) == (not uuids)


@pytest.mark.parametrize(
    ("nvml", "version", "words"),
    [
        (Nvml(driver=False), "2.13.0", "no NVIDIA driver answers here"),
        (Nvml(), "2.13.0", "the NVIDIA driver is here, but no device"),
        (Nvml(H100), "2.13.0+cpu", "CPU build. Run `make setup ACCELERATOR=gpu`"),
    ],
)
def test_why_there_is_none(nvml: Nvml, version: str, words: str) -> None:
    found, reason = find(nvml, torch_version=version)
    assert found == []
    assert words in reason


def test_one_device_shares_itself_and_several_use_nccl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "_torch_version", lambda: "2.13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    one, two = examine(tmp_path, nvml=Nvml(H100)), examine(tmp_path, nvml=Nvml(H100, H100_2))
    none = examine(tmp_path, nvml=Nvml(driver=False))
    assert (none.device, none.backend) == ("cpu", "gloo")
    assert (one.device, one.backend) == ("cuda", "gloo")
    assert (two.device, two.backend, two.num_ranks_hint) == ("cuda", "nccl", 2)
    assert len({none.id, one.id, two.id}) == 3


def test_dtypes_are_tried() -> None:
    supported = hardware.supported_dtypes()
    assert supported["float32"] is True
    assert set(supported) >= {"float32", "bfloat16", "float16", "int8", "float8_e4m3fn"}
    assert all(answer is True or (isinstance(answer, str) and answer) for answer in supported.values())
    for name in (name for name, answer in supported.items() if answer is True and name.startswith(("float3", "bf"))):
        x = torch.eye(32, dtype=getattr(torch, name))
        assert torch.equal(hardware.dtypes.matmul(x, x), x)


def test_links_of_the_system(tmp_path: Path) -> None:
    card = tmp_path / "sys/class/net/eth0"
    (card / "device").mkdir(parents=True)
    (card / "speed").write_text("25000\n")
    (tmp_path / "sys/class/net/docker0").mkdir()
    port = tmp_path / "sys/class/infiniband/mlx5_0/ports/1"
    port.mkdir(parents=True)
    (port / "rate").write_text("200 Gb/sec (4X HDR)\n")
    found = {(link.kind, link.name, link.bandwidth_bytes_per_s) for link in interconnect.system_links(tmp_path)}
    assert found == {("loopback", "lo", None), ("ethernet", "eth0", 25e9 / 8), ("infiniband", "mlx5_0 port 1", 25e9)}
    assert any(link.kind == "loopback" for link in hardware.links())


def test_a_driver_that_fails_midway_is_no_crash() -> None:
    nvml = Nvml(H100)

    def lost(handle: object) -> str:
        raise NVMLError("GPU is lost")

    nvml.nvmlDeviceGetName = lost  # type: ignore[method-assign]
    assert find(nvml) == ([], "the NVIDIA driver is here but would not describe its devices (GPU is lost)")


def test_without_pynvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "nvidia-ml-py) is not installed. Run `make setup`" in hardware.accelerator_reason()


def test_a_dtype_that_multiplies_wrongly_or_not_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.dtypes, "matmul", lambda a, b: (a @ b) * 1.05)
    assert "wrong result" in str(hardware.supported_dtypes()["float32"])

    def refuse(a: object, b: object) -> None:
        raise NotImplementedError("no kernel for it\nC++ trace follows")

    monkeypatch.setattr(hardware.dtypes, "matmul", refuse)
    assert set(hardware.supported_dtypes().values()) == {"no kernel for it"}


def test_a_model_is_served_in_what_the_processor_multiplies_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hardware.model_dtype("cuda") == "bfloat16"
    for answer, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda answer=answer: answer)
        assert hardware.model_dtype("cpu") == dtype
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert hardware.model_dtype("cpu") == "float32"
