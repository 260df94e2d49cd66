"""What quotas and limit ranges of the namespace make of a plan."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from cluster_model import ModelCluster
from glm_operator.kube.limits import limits_of
from glm_operator.plan.actions import CreatePod, DeletePod
from glm_operator.plan.claims import resources_of
from glm_operator.plan.limits import Resources, defaulted
from glm_operator.plan.observed import Hold
from glm_operator.plan.quota import Allowance, Limits
from plan_builders import FLAGSHIP, FLASH, GPU, OFF, cluster, condition, engine, settled

GPUS = "requests.nvidia.com/gpu"
MIB, GIB = 1 << 20, 1 << 30
SIZED = engine(cpu="8", memory="64Gi", tensor=4)


def quota(hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    status = {"hard": hard, "used": used or {}}
    return {"metadata": {"name": "gpus"}, "spec": {"hard": hard, **spec}, "status": status}


def scope(operator: str, *values: str, name: str = "PriorityClass") -> dict[str, Any]:
    expression = {"scopeName": name, "operator": operator, "values": list(values)}
    return {"scopeSelector": {"matchExpressions": [expression]}}


def limit_range(kind: str = "Container", **limit: Any) -> dict[str, Any]:
    return {"metadata": {"name": "cap"}, "spec": {"limits": [{"type": kind, **limit}]}}


def lack(limits: Limits, **changes: Any) -> str:
    spec = engine(**({"cpu": "8", "memory": "64Gi", "tensor": 4} | changes))
    found = Allowance(limits).lack(resources_of(spec))
    return found.sentence if found else ""


def more(limits: Limits) -> int:
    """How many replicas are admitted."""
    account, count, asked = Allowance(limits), 0, resources_of(SIZED)
    while account.lack(asked) is None and count < 99:
        account.take(asked)
        count += 1
    return count


QUOTAS: dict[str, tuple[dict[str, str], dict[str, str], int, str]] = {
    "GPUs": (
        {GPUS: "8"},
        {GPUS: "6"},
        0,
        f"needs 4 {GPUS}, and quota gpus allows 8, of which 6 are used",
    ),
    "GPUs, with room": ({GPUS: "16"}, {GPUS: "6"}, 2, ""),
    "of another kind": ({"requests.amd.com/gpu": "0"}, {}, 99, ""),
    "pods": (
        {"pods": "3"},
        {"pods": "3"},
        0,
        "needs 1 pods, and quota gpus allows 3, of which 3 are used",
    ),
    "counted pods": ({"count/pods": "2"}, {"count/pods": "1"}, 1, ""),
    "CPU": ({"cpu": "20"}, {"cpu": "3500m"}, 2, ""),
    "requested CPU": (
        {"requests.cpu": "10"},
        {"requests.cpu": "3500m"},
        0,
        "needs 8 requests.cpu, and quota gpus allows 10, of which 3500m are used",
    ),
    "memory": (
        {"requests.memory": "100Gi"},
        {"requests.memory": "50Gi"},
        0,
        "needs 64Gi requests.memory, and quota gpus allows 100Gi, of which 50Gi are used",
    ),
    "memory limits": ({"limits.memory": "130Gi"}, {}, 2, ""),
    "other objects": ({"count/services": "0", "persistentvolumeclaims": "0"}, {}, 99, ""),
    "CPU limits, which engines do not set": (
        {"limits.cpu": "100"},
        {},
        0,
        "sets no limits.cpu, which quota gpus counts: give the namespace a LimitRange with a"
        " default for it",
    ),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_a_quota_admits_as_many_replicas_as_it_has_left(case: str) -> None:
    hard, used, count, sentence = QUOTAS[case]
    limits = limits_of([quota(hard, used)], [])
    assert more(limits) == count
    assert (lack(limits) if count == 0 else "") == sentence


@pytest.mark.parametrize(
    ("spec", "priority", "counts"),
    [
        ({"scopes": ["NotTerminating"]}, "", True),
        ({"scopes": ["Terminating"]}, "", False),
        ({"scopes": ["NotBestEffort"]}, "", True),
        ({"scopes": ["BestEffort"]}, "", False),
        ({"scopes": ["NotTerminating", "BestEffort"]}, "", False),
        ({"scopes": ["CrossNamespacePodAffinity"]}, "", False),
        ({"scopes": ["PriorityClass"]}, "", False),
        ({"scopes": ["PriorityClass"]}, "gold", True),
        (scope("In", "gold", "silver"), "gold", True),
        (scope("In", "silver"), "gold", False),
        (scope("NotIn", "silver"), "gold", True),
        (scope("NotIn", "gold"), "gold", False),
        (scope("NotIn", "gold"), "", True),
        (scope("Exists"), "gold", True),
        (scope("Exists"), "", False),
        (scope("DoesNotExist"), "gold", False),
        (scope("DoesNotExist"), "", True),
    ],
)
def test_a_quota_counts_only_pods_in_its_scopes(
    spec: dict[str, Any], priority: str, counts: bool
) -> None:
    limits = limits_of([quota({GPUS: "0"}, **spec)], [])
    assert bool(lack(limits, priority_class=priority)) is counts


def test_a_pod_without_cpu_and_memory_is_best_effort_however_many_gpus_it_has() -> None:
    limits = limits_of([quota({"pods": "0"}, scopes=["BestEffort"])], [])
    assert lack(limits, cpu="", memory="")


RANGES: dict[str, tuple[dict[str, Any], str]] = {
    "at most": (
        limit_range(max={"memory": "32Gi"}),
        "asks for 64Gi of memory, and LimitRange cap allows each Container at most 32Gi",
    ),
    "at most, and enough": (limit_range(max={"memory": "64Gi"}), ""),
    "at most so many GPUs": (
        limit_range("Pod", max={"nvidia.com/gpu": "2"}),
        "asks for 4 of nvidia.com/gpu, and LimitRange cap allows each Pod at most 2",
    ),
    "a limit that engines do not set": (
        limit_range("Pod", max={"cpu": "64"}),
        "has no limit of cpu, and LimitRange cap allows each Pod at most 64: give a Container a"
        " default limit of it there",
    ),
    "a default limit below the request": (
        limit_range(max={"cpu": "2"}),
        "asks for 8 of cpu, and LimitRange cap allows each Container at most 2",
    ),
    "a default limit alone": (
        limit_range(default={"cpu": "500m"}),
        "requests 8 of cpu, and LimitRange cap gives a container without one a limit of 500m",
    ),
    "a default limit that is enough": (limit_range(default={"cpu": "16"}), ""),
    "at least": (
        limit_range(min={"cpu": "12"}),
        "requests 8 of cpu, and LimitRange cap asks of each Container at least 12",
    ),
    "at least of what is not requested": (
        limit_range("Pod", min={"ephemeral-storage": "1Gi"}),
        "requests no ephemeral-storage, and LimitRange cap asks of each Pod at least 1Gi",
    ),
    "a ratio": (
        limit_range(default={"cpu": "32"}, maxLimitRequestRatio={"cpu": "2"}),
        "requests 8 of cpu with a limit of 32, and LimitRange cap wants a limit of at most 2"
        " times the request",
    ),
    "a ratio without a limit": (
        limit_range(maxLimitRequestRatio={"cpu": "2"}),
        "has no limit of cpu, and LimitRange cap wants a limit of at most 2 times the request",
    ),
    "a claim": (limit_range("PersistentVolumeClaim", max={"storage": "1Gi"}), ""),
}


@pytest.mark.parametrize("case", RANGES)
def test_a_limit_range_refuses_what_is_outside_it(case: str) -> None:
    found, sentence = RANGES[case]
    assert lack(limits_of([], [found])) == sentence


def test_defaults_of_a_limit_range_fill_in_what_is_left_out() -> None:
    limits = limits_of([], [limit_range(max={"cpu": "9"}, min={"memory": "1Mi"})])
    found = defaulted(Resources(), limits.ranges)
    assert found.limits == {"cpu": Fraction(9)}
    assert found.requests == {"cpu": Fraction(9), "memory": Fraction(MIB)}


def test_a_default_lets_a_quota_count_what_engines_leave_out() -> None:
    limits = limits_of([quota({"limits.cpu": "20"})], [limit_range(default={"cpu": "10"})])
    assert more(limits) == 2


def test_the_same_limits_in_another_order_give_the_same_sentence() -> None:
    one, two = quota({GPUS: "1"}), quota({GPUS: "2"})
    two["metadata"] = {"name": "another"}
    assert limits_of([one, two], []) == limits_of([two, one], [])


# Whole plans.


def limited(hard: dict[str, str], *gpus: int, **given: Any) -> ModelCluster:
    made = cluster(*gpus, **given)
    made.limits = limits_of([quota(hard)], [])
    return made


def test_an_object_over_its_quota_creates_nothing_and_names_the_figures() -> None:
    made = limited({GPUS: "1"}, 8, flash=FLASH)
    made.settle()
    assert made.pods == {}
    planned = condition(made, "Planned")
    assert (planned["status"], planned["reason"]) == ("False", "QuotaExceeded")
    allows = "quota gpus allows 1, of which 0 are used"
    assert f"flagship needs 2 {GPUS}, and {allows}" in planned["message"]


def test_tiers_count_together() -> None:
    made = limited({GPUS: "2"}, 8, flash=FLASH | OFF)
    made.settle()
    assert made.pods == {}, "the flagship alone would have been admitted"
    made.limits = limits_of([quota({GPUS: "3"})], [])
    made.settle()
    assert len(made.pods) == 2


def test_an_object_that_its_quota_never_lets_begin_keeps_no_gpu_from_others() -> None:
    # The second replica would be too many, and not even the first has room.
    made = limited({GPUS: "2"}, 1, 2, flagship=FLAGSHIP | {"replicas": 2})
    made.set_node("node-2", holds=(Hold(GPU, 1, "other", "job", "uid-job"),))
    result = made.reconcile()
    assert result.claims == ()
    planned = condition(made, "Planned")
    assert planned["reason"] == "QuotaExceeded"
    assert "of which 0 are used and 2 planned for others" in planned["message"]


def test_no_more_is_kept_from_others_than_the_quota_admits() -> None:
    made = limited({GPUS: "4"}, 2)
    made.settle()
    made.edit(tiers__flagship__replicas=4)
    (claim,) = made.reconcile().claims
    assert claim.count == 1


def test_a_quota_ends_growth_and_says_so() -> None:
    made = limited({GPUS: "3"}, 8, flash=FLASH | OFF | {"replicas": 4})
    made.edit(tiers__flash__replicas=1)
    made.settle()
    made.edit(tiers__flash__replicas=3)
    made.settle()
    assert len(made.of("flash")) == 1
    planned = condition(made, "Planned")
    assert planned["reason"] == "QuotaExceeded"
    assert planned["message"].startswith("flash lacks 2 replicas: one needs 1 ")


def test_load_that_a_quota_does_not_admit_replicas_for_is_told() -> None:
    scaling = {"minReplicas": 0, "maxReplicas": 8}
    made = limited({GPUS: "2"}, 8, flash=FLASH | {"scaling": scaling, "replicas": 0})
    made.settle()
    made.held = {"flash": 50}
    made.arrivals = {"flash": 50}
    for _ in range(20):
        made.reconcile()
        made.advance(5)
    assert made.of("flash") == []
    found = condition(made, "FlashAvailable")
    assert found["reason"] == "QuotaExceeded"
    assert (
        found["message"] == f"flash needs 1 {GPUS}, and quota gpus allows 2, of which 2 are used."
    )


def test_a_rollout_within_a_full_quota_takes_the_predecessor_first() -> None:
    made = limited({GPUS: "2"}, 8)
    made.settle()
    made.edit(tiers__flagship__engine={"env": [{"name": "A", "value": "1"}]})
    before = made.of("flagship")[0].name
    made.settle()
    (now,) = made.of("flagship")
    assert now.name != before
    assert made.routable("flagship") == [now.name]


def test_a_rollout_that_a_quota_never_admits_leaves_what_serves() -> None:
    made = settled(8, 8)
    made.limits = limits_of([quota({GPUS: "2"})], [])
    before = made.routable("flagship")
    made.edit(tiers__flagship__parallelism={"tensor": "4"})
    for _ in range(10):
        result = made.reconcile()
        assert not [one for one in result.actions if isinstance(one, CreatePod | DeletePod)]
        made.advance(10)
    assert made.routable("flagship") == before
    assert condition(made, "Planned")["reason"] == "QuotaExceeded"


def test_a_lowered_quota_takes_nothing_away() -> None:
    made = settled(8, flash=FLASH | OFF)
    before = set(made.pods)
    made.limits = limits_of([quota({GPUS: "0"})], [])
    made.settle()
    assert set(made.pods) == before
    assert condition(made, "Planned")["status"] == "True"


def test_a_limit_range_is_told_before_anything_is_created() -> None:
    made = cluster(8, flagship=FLAGSHIP | {"engine": {"resources": {"memory": "128Gi"}}})
    made.limits = limits_of([], [limit_range(max={"memory": "64Gi"})])
    made.settle()
    assert made.pods == {}
    planned = condition(made, "Planned")
    assert planned["reason"] == "OutsideLimitRange"
    assert planned["message"] == (
        "flagship asks for 128Gi of memory, and LimitRange cap allows each Container at most 64Gi."
    )
