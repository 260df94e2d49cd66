"""Why a weights Job failed; each also stands in the operator's catalogue, and a test compares."""

from __future__ import annotations

TOKEN_REFUSED = "TokenRefused"
CHECKPOINT_NOT_FOUND = "CheckpointNotFound"
HUB_UNREACHABLE = "HubUnreachable"
FILE_MISSING = "FileMissing"
FILE_DAMAGED = "FileDamaged"
DISK_TOO_SMALL = "DiskTooSmall"
CHECKPOINT_UNREADABLE = "CheckpointUnreadable"

ALL = (
    TOKEN_REFUSED,
    CHECKPOINT_NOT_FOUND,
    HUB_UNREACHABLE,
    FILE_MISSING,
    FILE_DAMAGED,
    DISK_TOO_SMALL,
    CHECKPOINT_UNREADABLE,
)
