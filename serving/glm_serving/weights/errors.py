"""The one way in which a task fails."""

from __future__ import annotations

import errno

from glm_serving.weights import reasons

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class WeightsError(Exception):
    """A task cannot be done; `str()` is one sentence that names the way out."""

    def __init__(self, reason: str, message: str, *, file: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        """One of `reasons.ALL`."""
        self.file = file
        """File of the checkpoint that it is about; empty: none."""

    @property
    def transient(self) -> bool:
        """Whether the same task may succeed later without anybody's help."""
        return self.reason == reasons.HUB_UNREACHABLE


def missing(file: str, where: str) -> WeightsError:
    """The checkpoint lacks a file; `where` says in which repository or folder."""
    return WeightsError(
        reasons.FILE_MISSING,
        f"{where} holds no {file}: choose a complete checkpoint or another revision.",
        file=file,
    )


def damaged(file: str, why: str) -> WeightsError:
    """A file is not what it should be; `why` says what was found."""
    return WeightsError(
        reasons.FILE_DAMAGED,
        f"{file} is damaged: {why}; upload the file again, or choose another revision.",
        file=file,
    )


def unreadable(file: str, why: str) -> WeightsError:
    """A file that describes the checkpoint cannot be understood."""
    return WeightsError(
        reasons.CHECKPOINT_UNREADABLE,
        f"{file} cannot be understood: {why}; choose another checkpoint or revision.",
        file=file,
    )


def of_the_disk(error: OSError, file: str = "") -> WeightsError:
    """The disk does not let itself be read or written; `file` is the one of the checkpoint."""
    where = str(error.filename or file or "the folder")
    if error.errno in FULL:
        return WeightsError(
            reasons.DISK_TOO_SMALL,
            f"The disk became full while {where} was written: free space on it, or use a larger "
            "one.",
            file=file,
        )
    forbidden = error.errno in FORBIDDEN
    way_out = "let group 10001 use it" if forbidden else "see whether the disk is in order"
    return WeightsError(
        reasons.CHECKPOINT_UNREADABLE,
        f"{where} cannot be used: {error.strerror}; {way_out}.",
        file=file,
    )
