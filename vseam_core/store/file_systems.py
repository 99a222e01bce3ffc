"""On which file system a database file lies: what it may not be on where several machines write."""

from __future__ import annotations

import os
from pathlib import Path

from vseam_core.store.connection import Database

NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "9p", "orangefs", "pvfs2")
_MOUNTS = Path("/proc/mounts")


def sqlite_file(database: str | Path) -> Path | None:
    """The file of a SQLite database (`:memory:` for one in memory), or None for a server."""
    if "://" in str(database) and not str(database).startswith("sqlite"):
        # The driver of a server may not be installed here; a path with such a beginning is none.
        return None
    found = Database(database)
    return found.path or Path(":memory:")


def network_file_system(path: str | Path, mounts: Path = _MOUNTS) -> str:
    """The kind of network file system that a file is on, or will be on; empty where it is on none, or where that cannot be known."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    here, kind, longest = os.path.realpath(path), "", -1
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        # Spaces in a place are written as \040.
        place = fields[1].encode("utf-8").decode("unicode_escape").rstrip("/")
        if (here == place or here.startswith(place + "/")) and len(place) >= longest:
            kind, longest = fields[2], len(place)
    return kind if (kind.startswith("fuse.") and kind.split(".")[1] in ("sshfs", "glusterfs", "ceph")) or kind in NETWORK else ""
