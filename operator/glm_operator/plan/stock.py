"""Which weights are where: what the Jobs of an object brought, bring, and could not bring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from glm_operator.api import reasons
from glm_operator.api.enums import WeightsCache
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.weights_task import TaskKind, WeightsTask
from glm_operator.plan.holders import EVERYWHERE, Holders
from glm_operator.plan.observed import JobPhase, Node, Replica, Revision, WeightsJob
from glm_operator.plan.resolve import read_record

RETRY_BASE_SECONDS, RETRY_LIMIT_SECONDS = 30.0, 600.0
"""How long a weights Job that failed waits for its next try: doubling, at most."""
START_SECONDS = 10.0
"""Until then Kubernetes may still say that something is missing that is only being made, such as
the volume of a claim."""
STALLED_SECONDS = 30.0
"""A pod starts within seconds. What keeps it longer is in its events, which are not read."""
LOST_SECONDS = 45.0
"""The kubelet tries a container that lacks its copy this often; sooner it is not fetched again."""
BLOCKED_SECONDS = 60.0
"""A pod that cannot start keeps replicas from other nodes no longer than this."""
FORGET_SECONDS = 600.0
"""How long a node that failed comes after others, once it may be tried again: forgotten at once,
two nodes that both fail would take turns without ever waiting longer."""
HUB, NODE_PATH, CLAIM_PATH = "hf://", "file://", "pvc://"


class Stock:
    """The weights Jobs of one object, by what they are asked to do.

    Args:
        jobs: all weights Jobs of the object.
        nodes: the cluster's nodes by name.
        bare: places and keys of copies that replicas do not find; see `bare_places`.
        now: seconds since the epoch.
        assumed: take all weights to be where they are needed.
    """

    def __init__(
        self,
        jobs: Iterable[WeightsJob],
        nodes: Mapping[str, Node],
        bare: frozenset[tuple[str, str]],
        now: float,
        *,
        assumed: bool = False,
    ) -> None:
        self._now, self._assumed, self._nodes = now, assumed, nodes
        self._newest: dict[WeightsTask, WeightsJob] = {}
        for job in sorted(jobs, key=lambda one: (one.task.attempt, one.created_at)):
            if not job.terminating and _is_of_node(job.task, nodes):
                self._newest[job.task.identity] = job
        self._bare = bare

    @property
    def jobs(self) -> tuple[WeightsJob, ...]:
        """The newest Job of every task."""
        return tuple(self._newest.values())

    def job(self, task: WeightsTask) -> WeightsJob | None:
        """The newest Job of a task, whatever its attempt."""
        return self._newest.get(task.identity)

    def due(self, task: WeightsTask) -> WeightsTask:
        """The task as its Job should be now: the present attempt, or the next one."""
        job = self.job(task)
        if job is None:
            return task
        over = self._is_lost(job) or self._is_stranded(job) or self._may_retry(job)
        again = over or _is_corrected(job, task.secret)
        return replace(task, attempt=job.task.attempt + 1) if again else job.task

    def retry_at(self, task: WeightsTask) -> float | None:
        """When a task that failed is tried again; None where it did not fail."""
        job = self.job(task)
        return _retry_at(job) if job is not None and job.phase is JobPhase.FAILED else None

    def changes_at(self, task: WeightsTask) -> float | None:
        """When time alone changes what becomes of a task; None: it does not any more."""
        job = self.job(task)
        if job is None:
            return None
        times = [_retry_at(job)] if job.phase is JobPhase.FAILED else []
        times += [_lost_at(job)] if self._lacks(job) else []
        times += [_waiting_since(job) + BLOCKED_SECONDS] if self._is_blocked(job) else []
        return min((at for at in times if at > self._now), default=None)

    def is_done(self, task: WeightsTask) -> bool:
        """Whether a task is done, and what it brought is still there."""
        job = self.job(task)
        return job is not None and job.phase is JobPhase.DONE and not self._is_lost(job)

    def holders(self, engine: EngineSpec) -> Holders:
        """Where the weights of an engine are."""
        if self._assumed or not is_fetched(engine):
            return EVERYWHERE
        if not is_on_node(engine):
            task = fetch_task(engine)
            return EVERYWHERE if self.is_done(task) else Holders(everywhere=False)
        jobs = [job for job in self.jobs if brings(job.task, engine)]
        held = frozenset(job.task.node for job in jobs if self.is_done(job.task))
        moving = frozenset(job.task.node for job in jobs if self._is_moving(job))
        refused = frozenset(job.task.node for job in jobs if self._is_refused(job))
        return Holders(False, held, moving - held - refused, refused)

    def looked_at(self, task: WeightsTask) -> float | None:
        """When a Job that waits for its pod counts as blocked; None where it does not wait."""
        job = self.job(task)
        since = None if job is None else job.waiting_since
        if since is None:
            return None
        times = (since + START_SECONDS, since + STALLED_SECONDS)
        return next((at for at in times if at > self._now), None)

    def blocked(self, job: WeightsJob) -> str:
        """Why the pod of a Job does not start, as a sentence; empty: it will, or it has."""
        since = job.waiting_since
        if since is not None and self._now < since + START_SECONDS:
            return ""
        if job.blocked or since is None or self._now < since + STALLED_SECONDS:
            return job.blocked
        if not job.pod:
            return (
                f"no pod has been created for Job {job.name}: kubectl describe job {job.name} says"
                " why, such as a quota of the namespace"
            )
        return (
            f"pod {job.pod} has not started yet: kubectl describe pod {job.pod} says what it waits"
            " for, such as its image, or the node agent that makes the folder of its volume"
        )

    def is_over(self, job: WeightsJob) -> bool:
        """Whether nothing is learnt any more from a Job that failed, or cannot start."""
        if job.phase is JobPhase.FAILED:
            return self._now >= _retry_at(job) + FORGET_SECONDS
        return self._is_stuck(job) and self._now >= _waiting_since(job) + FORGET_SECONDS

    def _may_retry(self, job: WeightsJob) -> bool:
        return job.phase is JobPhase.FAILED and self._now >= _retry_at(job)

    def _is_stuck(self, job: WeightsJob) -> bool:
        return self._is_blocked(job) and self._now >= _waiting_since(job) + BLOCKED_SECONDS

    def _is_blocked(self, job: WeightsJob) -> bool:
        waits = job.phase is JobPhase.WAITING and bool(job.task.node)
        return waits and bool(self.blocked(job))

    def _is_moving(self, job: WeightsJob) -> bool:
        """Whether a copy comes to a node; on a node that is not well it may never come."""
        node = self._nodes.get(job.task.node)
        return job.phase is not JobPhase.FAILED and node is not None and node.ready

    def _is_refused(self, job: WeightsJob) -> bool:
        """Whether another node may fare better than the one of a Job."""
        own = job.reason == reasons.DISK_TOO_SMALL or job.task.kind is TaskKind.CHECK
        return (job.phase is JobPhase.FAILED and own) or self._is_stuck(job)

    def _is_stranded(self, job: WeightsJob) -> bool:
        """Whether a Job that any node could run waits for one that is lost.

        Kubernetes makes no other pod before the first is known to have ended: maybe never.
        """
        if job.task.node or not job.node or job.phase not in (JobPhase.WAITING, JobPhase.RUNNING):
            return False
        node = self._nodes.get(job.node)
        return node is None or not node.ready

    def _is_lost(self, job: WeightsJob) -> bool:
        """Whether a copy that was brought has vanished from its node since."""
        return self._lacks(job) and self._now >= _lost_at(job)

    def _lacks(self, job: WeightsJob) -> bool:
        """Whether a replica does not find what a Job brought; for a while it may only look late."""
        done = job.phase is JobPhase.DONE and job.task.kind is not TaskKind.READ
        return done and (job.task.claim or job.task.node, job.task.key) in self._bare


def _is_corrected(job: WeightsJob, secret: str) -> bool:
    """Whether a Job came to nothing with a Secret that is not the tier's any more."""
    return job.task.secret != secret and job.phase in (JobPhase.FAILED, JobPhase.WAITING)


def _waiting_since(job: WeightsJob) -> float:
    return job.created_at if job.waiting_since is None else job.waiting_since


def _is_of_node(task: WeightsTask, nodes: Mapping[str, Node]) -> bool:
    """Whether the node of a task is there, and the same machine as then."""
    if not task.node:
        return True
    node = nodes.get(task.node)
    return node is not None and node.uid == task.node_uid


def _retry_at(job: WeightsJob) -> float:
    wait = min(RETRY_LIMIT_SECONDS, RETRY_BASE_SECONDS * 2.0 ** min(job.task.attempt, 10))
    return _finished(job) + wait


def _lost_at(job: WeightsJob) -> float:
    """When a copy that is not found counts as lost: later each time, it may be there after all."""
    wait = min(RETRY_LIMIT_SECONDS, LOST_SECONDS * 2.0 ** min(job.task.attempt, 10))
    return _finished(job) + wait


def _finished(job: WeightsJob) -> float:
    return job.created_at if job.finished_at is None else job.finished_at


def lacks_copy(replica: Replica) -> bool:
    """Whether the kubelet cannot mount the copy because it is not on the disk."""
    told = replica.waiting_reason == "CreateContainerConfigError"
    copy = "subPath" in replica.waiting_message and '"compile"' not in replica.waiting_message
    return told and copy and not replica.terminating


def bare_places(
    replicas: Iterable[Replica], revisions: Iterable[Revision]
) -> frozenset[tuple[str, str]]:
    """Node or claim, and key, of every copy that a replica does not find."""
    bare = [one for one in replicas if lacks_copy(one)]
    records = {(one.tier, one.hash): one for one in revisions} if bare else {}
    known = [(one, records.get((one.tier, one.revision))) for one in bare]
    found = [(one, fetch_task(read_record(record)[0])) for one, record in known if record]
    return frozenset((task.claim or one.node, task.key) for one, task in found)


def is_fetched(engine: EngineSpec) -> bool:
    """Whether a Job has to bring or check the weights before a pod of the engine may come."""
    return engine.uri.startswith(NODE_PATH) or (engine.uri.startswith(HUB) and bool(engine.cache))


def is_on_node(engine: EngineSpec) -> bool:
    """Whether each node needs weights of its own."""
    return engine.cache == WeightsCache.NODE_LOCAL or engine.uri.startswith(NODE_PATH)


def fetch_task(engine: EngineSpec, node: Node | None = None) -> WeightsTask:
    """What brings the weights of an engine to a node, or to its claim."""
    place = ("", "") if node is None else (node.name, node.uid)
    if engine.uri.startswith(NODE_PATH):
        return WeightsTask(TaskKind.CHECK, engine.uri, "", *place)
    claim = engine.cache_claim if node is None else ""
    return WeightsTask(
        TaskKind.FETCH, engine.uri, engine.model_revision, *place, engine.secret, claim
    )


def brings(task: WeightsTask, engine: EngineSpec) -> bool:
    """Whether a task brings the weights of an engine to some place."""
    wanted = fetch_task(engine)
    same = (task.kind, task.uri, task.revision) == (wanted.kind, wanted.uri, wanted.revision)
    return same and task.claim == wanted.claim
