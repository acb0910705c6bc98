"""What a path stands on: the kind of filesystem, whether it is across a network, how much is free."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["Mount", "filesystem_type", "free_bytes", "is_network_filesystem", "mounts"]

MOUNTINFO = Path("/proc/self/mountinfo")

# SQLite's locks and shared memory cannot be trusted on any of these (sqlite.org/lockingv3.html, sqlite.org/wal.html).
NETWORK = re.compile(
    r"9p|acfs|afp|afpfs|afs|beegfs|beegfs_nodev|ceph|cifs|coda|davfs2?|fhgfs|gfs2?|glusterfs|gpfs|lustre|mmfs|ncpfs"
    r"|nfs[34]?|ocfs2|orangefs|panfs|pvfs2|quobyte|smb[23]?|smbfs|vastnfs|wekafs|webdav"
)
# FUSE names its program after the dot; the kernel knows no more than that.
NETWORK_FUSE = re.compile(
    r"fuse(blk)?\.(sshfs|s3fs|s3ql|gcsfuse|goofys|rclone|mount-?s3|mountpoint-s3|juicefs|blobfuse2?|glusterfs|ceph(-fuse|fs)?"
    r"|davfs2?|curlftpfs|hdfs|seaweedfs|weed|moosefs|mfs|quobyte|beegfs|smbnetfs|geesefs|alluxio(-fuse)?|cvmfs2?|lustre)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of the mount table; ``root`` is the part of the filesystem that shows at ``point``."""

    point: str
    root: str
    kind: str
    options: tuple[str, ...] = ()


def mounts(mountinfo: Path = MOUNTINFO) -> tuple[Mount, ...]:
    """The mounts that this process sees, in order; empty where there is no such table (macOS, Windows).

    Source: proc_pid_mountinfo(5). Fields before `` - ``: id, parent, device, root, point, options, tags; after: kind.
    """
    try:
        lines = mountinfo.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        before, separator, after = line.partition(" - ")
        left, right = before.split(" "), after.split(" ")
        if not separator or len(left) < 6 or not right[0]:
            continue
        options = tuple(right[2].split(",")) if len(right) > 2 else ()
        found.append(Mount(point=_plain(left[4]), root=_plain(left[3]), kind=right[0], options=options))
    return tuple(found)


def filesystem_type(path: Path | str, *, mountinfo: Path = MOUNTINFO) -> str:
    """``"ext4"``, ``"nfs4"``, ``"fuse.sshfs"``…: of the mount with the longest matching prefix; ``"unknown"`` if none.

    The path need not exist yet: links are followed as far as it does.
    """
    target = PurePosixPath(Path(path).expanduser().resolve())
    table = mounts(mountinfo) or _portable_mounts()
    best = None
    for mount in table:
        point = PurePosixPath(mount.point)
        # A later mount on the same point hides the earlier one (autofs, then the real one), so >= and not >.
        if target.is_relative_to(point) and (best is None or len(point.parts) >= len(PurePosixPath(best.point).parts)):
            best = mount
    return best.kind if best else "unknown"


def is_network_filesystem(path: Path | str, *, mountinfo: Path = MOUNTINFO) -> bool:
    """True where another machine may write the same files, so that locks cannot be trusted."""
    kind = filesystem_type(path, mountinfo=mountinfo).lower()
    return any(network.fullmatch(kind) for network in (NETWORK, NETWORK_FUSE))


def free_bytes(path: Path | str) -> int:
    """Bytes that this user may still write where ``path`` is, or will be."""
    place = Path(path).expanduser().absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def _plain(field: str) -> str:
    """mountinfo writes space, tab, newline and backslash as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _portable_mounts() -> tuple[Mount, ...]:
    import psutil

    return tuple(Mount(point=p.mountpoint, root="/", kind=p.fstype) for p in psutil.disk_partitions(all=True))
