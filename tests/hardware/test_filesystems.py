"""What a path stands on, by the mount table; the lab's own folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit import hardware
from labkit.errors import UsageError
from labkit.hardware import filesystems

MOUNTS = """22 1 8:1 / / rw - ext4 /dev/sda1 rw
40 22 0:35 / /net rw shared:1 - nfs4 server:/net rw
41 40 0:36 / /net/local rw - xfs /dev/sdb rw
42 22 0:37 / /data/my\\040files rw - fuse.sshfs u@h:/ rw
43 22 0:38 / /auto rw - autofs x rw
44 43 0:39 / /auto rw - lustre x rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/etc/x", "ext4", False),
        ("/net/me/.labkit", "nfs4", True),
        ("/net/local/me", "xfs", False),
        ("/network", "ext4", False),
        ("/data/my files/x", "fuse.sshfs", True),
        ("/auto/x", "lustre", True),
    ],
)
def test_filesystems_by_the_longest_mount(tmp_path: Path, path: str, kind: str, network: bool) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)
    assert filesystems.filesystem_type(path, mountinfo=table) == kind
    assert filesystems.is_network_filesystem(path, mountinfo=table) is network


def test_free_space_also_of_what_does_not_exist_yet(tmp_path: Path) -> None:
    assert hardware.free_bytes(tmp_path / "a" / "b") > 0
    assert hardware.filesystem_type(tmp_path / "a" / "b") not in ("", "unknown")


def test_the_labs_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "lab"))
    assert hardware.lab_home() == tmp_path / "lab"
    assert hardware.lab_home().is_dir()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "file" / "lab"))
    with pytest.raises(UsageError, match=r"cannot be made.*Set LABKIT_HOME"):
        hardware.lab_home()


REMOTE = "nfs cifs smb3 smbfs gpfs beegfs 9p ceph afs glusterfs fuse.s3fs fuse.gcsfuse fuse.glusterfs"
LOCAL = "btrfs zfs tmpfs overlay apfs ntfs fuseblk fuse.fuse-overlayfs fuse.ntfs-3g virtiofs nfsd fuse.sshfsx"


@pytest.mark.parametrize(
    ("kind", "network"), [*((kind, True) for kind in REMOTE.split()), *((kind, False) for kind in LOCAL.split())]
)
def test_kinds_of_filesystems(tmp_path: Path, kind: str, network: bool) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 8:1 / / rw - {kind} source rw\na line that is no mount\n")
    assert filesystems.is_network_filesystem("/somewhere", mountinfo=table) is network


def test_a_link_leads_to_what_it_stands_on(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 8:1 / / rw - ext4 a rw\n23 22 0:9 / {real.resolve()} rw - nfs b rw\n")
    assert filesystems.is_network_filesystem(link / "not yet", mountinfo=table)
    assert not filesystems.is_network_filesystem(tmp_path, mountinfo=table)
