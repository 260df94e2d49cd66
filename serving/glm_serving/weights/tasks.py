"""What `glm-weights` can do, each as a function from its arguments to a result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glm_serving.weights.copy import Copier, Place, checkpoint_key
from glm_serving.weights.disk import Free, free_bytes
from glm_serving.weights.folder import Folder
from glm_serving.weights.hub import Access, Repository, repository_of
from glm_serving.weights.inspect import read_checkpoint
from glm_serving.weights.patience import Patience
from glm_serving.weights.progress import Progress, Stage
from glm_serving.weights.result import Result


@dataclass(frozen=True, slots=True)
class World:
    """What a task needs beyond its arguments."""

    access: Access
    progress: Progress
    pause: Callable[[float], None] = time.sleep
    free: Free = free_bytes

    @property
    def patience(self) -> Patience:
        """How transient errors of the hub are waited out."""
        progress = self.progress
        return Patience(lambda: progress.moved, progress.suffer, self.pause)


def read_hub(source: str, revision: str, world: World) -> Result:
    """Tell what a revision of a repository is. Raises WeightsError."""
    name = repository_of(source)

    def attempt() -> Mapping[str, Any]:
        repository = Repository(name, revision, world.access)
        return read_checkpoint(repository, repository.commit)

    return _done(world.patience(attempt), world)


def read_folder(path: Path, world: World) -> Result:
    """Tell what a folder holds, and that nothing of it is missing or cut. Raises WeightsError."""
    return _done(read_checkpoint(Folder(path), ""), world)


def fetch(source: str, commit: str, into: Path, world: World) -> Result:
    """Bring a commit of a repository to `into/weights/<key>`. Raises WeightsError."""
    name = repository_of(source)
    copier = Copier(
        Place(into, checkpoint_key(name, commit)),
        commit,
        lambda: Repository(name, commit, world.access),
        world.progress,
        world.patience,
        world.free,
    )
    return _done(copier.run(), world)


def _done(facts: Mapping[str, Any], world: World) -> Result:
    world.progress.enter(Stage.DONE)
    return Result(bytes=facts["bytes"], facts=facts)
