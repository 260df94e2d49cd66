"""The whole engine: vLLM in its tree, and the tiny checkpoints of the three architectures."""

from __future__ import annotations

from glm_dev.engine.checkpoints import make_checkpoints
from glm_dev.engine.paths import Engine
from glm_dev.engine.tree import installed


def install() -> Engine:
    """The engine and its checkpoints; what is missing is made, what is there is kept.

    Raises:
        BuildError: not root on Linux, no space, an unknown machine, or a step that failed.
    """
    found = installed()
    make_checkpoints(found)
    return found
