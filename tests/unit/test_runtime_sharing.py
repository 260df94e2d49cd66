"""Objects that want the same GPUs: each gets them in its place, whatever the queue does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fake_cluster import refuse_kind, run_again
from glm_operator.api import names
from glm_operator.kube.convert import PriorityClass, priority_class_of
from glm_operator.kube.errors import RefusedError
from glm_operator.kube.resources import Resource
from glm_operator.kube.watch import Gone, Put, Snapshot
from glm_operator.plan.order import Claim, Rank
from glm_operator.runtime.claims import Claims
from glm_operator.runtime.priorities import Priorities
from glm_operator.runtime.roll import call_roll, may_wait
from plan_builders import engine
from shell import Shell, glm_deployment

OLDER, YOUNGER = ("ml", "older"), ("ml", "younger")
BORN = {"older": "2026-01-01T00:00:00Z", "younger": "2026-02-01T00:00:00Z"}


def only_flagship(name: str, **spec: Any) -> dict[str, Any]:
    """An object with a flagship on four GPUs, born at its time."""
    item = glm_deployment(**spec)
    item["metadata"] |= {"name": name, "creationTimestamp": BORN[name]}
    del item["spec"]["tiers"]["flash"]
    return item


def squatter(count: int = 4) -> dict[str, Any]:
    """Somebody else's pod on the only node."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "job", "namespace": "other"},
        "spec": {
            "nodeName": "gpu-1",
            "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": str(count)}}}],
        },
    }


def crowded(*objects: str) -> Shell:
    """One node of four GPUs that somebody else holds, and objects that want them."""
    shell = Shell.with_nodes("gpu-1", gpus=4)
    shell.cluster.put(squatter())
    for name in objects:
        shell.cluster.put(only_flagship(name))
    return shell


def owners(shell: Shell) -> list[str]:
    return [pod["metadata"]["labels"][names.LABEL_DEPLOYMENT] for pod in shell.cluster.pods()]


def leave(shell: Shell) -> None:
    """The other pod ends."""
    del shell.cluster.objects["Pod", "other", "job"]


@pytest.mark.parametrize("order", [(OLDER, YOUNGER), (YOUNGER, OLDER)])
def test_who_comes_first_gets_the_gpus_whichever_pass_is_first(order: Any) -> None:
    shell = crowded("older", "younger")
    for key in order:
        shell.once(key)
    leave(shell)
    for key in order:
        shell.once(key)
    assert owners(shell) == ["older"]
    assert shell.reconciler.waiting() == [YOUNGER]


def test_what_becomes_free_wakes_who_comes_first_first() -> None:
    shell = crowded("younger", "older")
    for key in (YOUNGER, OLDER):
        shell.once(key)
    assert shell.reconciler.waiting() == [OLDER, YOUNGER]


def test_what_nobody_claims_any_more_is_told_to_those_that_wait() -> None:
    shell = crowded("older", "younger")
    for key in (OLDER, YOUNGER):
        shell.once(key)
    leave(shell)
    shell.once(YOUNGER)
    assert owners(shell) == []
    assert "kept for ml/older flagship, which comes first (older)" in message(shell, "younger")
    del shell.cluster.objects[names.KIND, *OLDER]
    shell.woken.clear()
    shell.once(OLDER)
    assert shell.woken == [YOUNGER]
    shell.once(YOUNGER)
    assert owners(shell) == ["younger"]


def message(shell: Shell, name: str) -> str:
    stored = shell.cluster.objects[names.KIND, "ml", name]
    return next(
        str(one["message"]) for one in stored["status"]["conditions"] if one["type"] == "Planned"
    )


def test_who_may_not_have_pods_keeps_no_gpus_from_others() -> None:
    shell = Shell.with_nodes("gpu-1", gpus=4)
    for name in ("older", "younger"):
        shell.cluster.put(only_flagship(name))
    refuse_kind(shell.cluster, "Pod", RefusedError("a quota"))
    with pytest.raises(RefusedError):
        shell.once(OLDER)
    run_again(shell.cluster)
    shell.once(YOUNGER)
    assert owners(shell) == ["younger"]


def test_an_edit_that_wants_less_wakes_those_that_wait() -> None:
    shell = crowded("older", "younger")
    for key in (OLDER, YOUNGER):
        shell.once(key)
    shell.woken.clear()
    shell.cluster.edit_spec(*OLDER, only_flagship("older", mode="Plan")["spec"])
    shell.once(OLDER)
    assert shell.woken == [YOUNGER]


def test_a_new_operator_hands_out_nothing_before_it_knows_who_waits() -> None:
    shell = crowded("older", "younger")
    for key in (OLDER, YOUNGER):
        shell.once(key)
    leave(shell)
    shell.restart()
    roll = asyncio.run(call_roll(shell.cluster, ()))
    assert roll == [OLDER, YOUNGER]
    shell.reconciler.hear_first(roll)
    assert shell.once(YOUNGER).waits
    assert owners(shell) == []
    assert shell.once(OLDER).waits
    assert shell.woken == [YOUNGER], "everybody is known: the first in line has its turn"
    shell.once(YOUNGER)
    assert owners(shell) == []
    shell.once(OLDER)
    assert owners(shell) == ["older"]


def test_an_object_that_cannot_be_passed_holds_up_nobody_after_the_roll_call() -> None:
    shell = Shell.with_nodes("gpu-1", gpus=4)
    shell.cluster.put(only_flagship("younger"))
    shell.reconciler.hear_first([OLDER, YOUNGER])
    assert shell.once(YOUNGER).waits
    assert not shell.once(OLDER).exists
    shell.once(YOUNGER)
    assert owners(shell) == ["younger"]


def stored(**status: Any) -> dict[str, Any]:
    good = [{"type": kind, "status": "True"} for kind in ("Planned", "Ready")]
    item = only_flagship("older")
    return item | {"status": {"conditions": good} | status}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (stored(), False),
        (stored(tiers={"flash": {"readyReplicas": 2, "desiredReplicas": 2}}), False),
        (stored(tiers={"flash": {"readyReplicas": 1, "desiredReplicas": 2}}), True),
        (stored(conditions=[{"type": "Planned", "status": "False"}]), True),
        (only_flagship("older"), True),
        (only_flagship("older", mode="Plan"), False),
    ],
)
def test_whoever_lacks_something_by_its_status_is_on_the_roll(
    item: dict[str, Any], expected: bool
) -> None:
    assert may_wait(item) is expected


def test_the_roll_is_called_in_the_watched_namespaces_only() -> None:
    shell = crowded("older")
    assert asyncio.run(call_roll(shell.cluster, ("ml", "empty"))) == [OLDER]
    assert asyncio.run(call_roll(shell.cluster, ("empty",))) == []


def test_a_watched_namespace_that_is_gone_with_its_rights_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shell = crowded("older")
    find = shell.cluster.find

    async def refuse(resource: Resource, namespace: str = "", **more: Any) -> Any:
        if namespace == "gone":
            raise RefusedError("glmdeployments is forbidden", status=403)
        return await find(resource, namespace, **more)

    monkeypatch.setattr(shell.cluster, "find", refuse)
    assert asyncio.run(call_roll(shell.cluster, ("gone", "ml"))) == [OLDER]
    with pytest.raises(RefusedError):
        asyncio.run(call_roll(shell.cluster, ("gone",)))


def claim(name: str, count: int = 1, created_at: float = 0.0) -> Claim:
    return Claim(Rank("ml", name, "flagship", created_at), engine(), count)


def test_claims_are_in_the_order_of_the_objects() -> None:
    claims = Claims(lambda key: None)
    claims.publish(YOUNGER, (claim("younger", created_at=2.0),))
    claims.publish(OLDER, (claim("older", created_at=1.0),))
    assert claims.waiting() == [OLDER, YOUNGER]
    assert [one.rank.name for one in claims.all()] == ["older", "younger"]


def test_a_created_replica_gives_nothing_back() -> None:
    woken: list[tuple[str, str]] = []
    claims = Claims(woken.append)
    claims.publish(YOUNGER, (claim("younger"),))
    claims.publish(OLDER, (claim("older", 2),))
    claims.created(OLDER, "flagship")
    claims.publish(OLDER, (claim("older"),))
    claims.created(OLDER, "flagship")
    claims.publish(OLDER, ())
    assert woken == []
    assert claims.waiting() == [YOUNGER]


def test_priority_classes_are_followed() -> None:
    told: list[int] = []
    priorities = Priorities(lambda: told.append(1))
    assert not priorities.current().complete
    raw = {"metadata": {"name": "high"}, "value": 1000, "globalDefault": True}
    priorities.change(Snapshot({("", "high"): priority_class_of(raw)}))
    assert priorities.current().complete
    assert priorities.current().value("") == 1000
    priorities.change(Put(("", "low"), PriorityClass(-1, is_default=False)))
    assert priorities.current().value("low") == -1
    priorities.change(Put(("", "low"), PriorityClass(-1, is_default=False)))
    priorities.change(Gone(("", "high")))
    assert priorities.current().value("high") == 0
    assert len(told) == 3


def test_a_priority_class_that_changes_puts_objects_in_another_order() -> None:
    shell = crowded("older", "younger")
    item = shell.cluster.objects[names.KIND, *YOUNGER]
    item["spec"]["tiers"]["flagship"]["placement"] = {"priorityClassName": "high"}
    shell.priorities.change(Snapshot({("", "high"): PriorityClass(1, is_default=False)}))
    for key in (OLDER, YOUNGER):
        shell.once(key)
    assert shell.reconciler.waiting() == [YOUNGER, OLDER]
