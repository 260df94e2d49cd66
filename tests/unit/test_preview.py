"""`glm-operator plan`: files in, a report and an exit code out, the same planner."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from glm_operator import cli
from object_cases import FLAGSHIP, FLASH, REMOVED, base, changed

PRODUCTS = {"NVIDIA-H100-80GB-HBM3": "81559", "NVIDIA-L4": "23034"}


def node(name: str, product: str, gpus: int) -> dict[str, Any]:
    labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": PRODUCTS[product]}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {
            "allocatable": {"nvidia.com/gpu": str(gpus), "cpu": "64"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, on: str, gpus: int) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "team-a", "uid": name},
        "spec": {"nodeName": on, "containers": [{"name": "a", "resources": {"limits": limits}}]},
        "status": {"phase": "Running"},
    }


def named(kind: str, **metadata: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "odd", "namespace": "ml", **metadata}}


BIG = node("gpu-1", "NVIDIA-H100-80GB-HBM3", 8)
SMALL = node("edge-1", "NVIDIA-L4", 4)


class Files:
    """Writes the two files and runs the command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.object, self.nodes = folder / "object.yaml", folder / "nodes.yaml"
        self._capsys = capsys

    def write(self, obj: Any, *nodes: Any) -> None:
        self.object.write_text(yaml.safe_dump(obj))
        self.nodes.write_text(yaml.safe_dump({"kind": "List", "items": list(nodes)}))

    def plan(self, *more: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        code = cli.main(["plan", "-f", str(self.object), "--nodes", str(self.nodes), *more])
        shown = self._capsys.readouterr()
        return code, shown.out, shown.err


@pytest.fixture
def files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Files:
    return Files(tmp_path, capsys)


def test_an_object_that_fits_shows_its_nodes_and_ends_with_0(files: Files) -> None:
    files.write(base(), BIG)
    code, out, _ = files.plan("-o", "json")
    report = json.loads(out)
    assert (code, report["fits"]) == (0, True)
    assert report["tiers"]["flagship"]["tensor"] == 2
    assert report["tiers"]["flagship"]["nodes"] == ["gpu-1"]


def limits(kind: str, namespace: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "cap", "namespace": namespace}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}


def verdict(files: Files, *documents: Any) -> tuple[int, str]:
    files.write(base(), BIG, *documents)
    code, out, _ = files.plan("-o", "json")
    return code, json.loads(out)["reason"]


def test_a_quota_of_the_objects_namespace_counts(files: Files) -> None:
    hard = {"requests.nvidia.com/gpu": "1"}
    place = base()["metadata"]["namespace"]
    assert verdict(files, limits("ResourceQuota", place, hard=hard)) == (3, "QuotaExceeded")
    assert verdict(files, limits("ResourceQuota", "elsewhere", hard=hard))[0] == 0


def test_what_the_object_itself_uses_of_a_quota_does_not_count(files: Files) -> None:
    metadata = base()["metadata"]
    hard = {"pods": "8", "requests.nvidia.com/gpu": "3"}
    quota = limits("ResourceQuota", metadata["namespace"], hard=hard)
    quota["status"] = {"hard": hard, "used": {"pods": "1", "requests.nvidia.com/gpu": "2"}}
    mine = pod("a", "gpu-1", 2)
    labels = {"glm-operator.io/deployment": metadata["name"], "glm-operator.io/tier": "flagship"}
    mine["metadata"] |= {"namespace": metadata["namespace"], "labels": labels}
    assert verdict(files, quota)[1] == "QuotaExceeded"
    assert verdict(files, quota, mine)[0] == 0


def test_a_limit_range_of_the_objects_namespace_counts(files: Files) -> None:
    item = {"type": "Pod", "max": {"nvidia.com/gpu": "1"}}
    found = limits("LimitRange", base()["metadata"]["namespace"], limits=[item])
    assert verdict(files, found) == (3, "OutsideLimitRange")


def test_gpus_that_only_a_dra_driver_offers_are_told(files: Files) -> None:
    bare = node("gpu-1", "NVIDIA-H100-80GB-HBM3", 0)
    spec = {"driver": "gpu.nvidia.com", "nodeName": "gpu-1"}
    files.write(base(), bare, {"kind": "ResourceSlice", "metadata": {"name": "s"}, "spec": spec})
    code, out, _ = files.plan("-o", "json")
    assert (code, json.loads(out)["reason"]) == (3, "OnlyDRA")


def test_a_priority_class_that_the_file_has_not_is_told_where_it_has_any(files: Files) -> None:
    item = base()
    item["spec"]["tiers"]["flagship"]["placement"] = {"priorityClassName": "high"}
    known = {"kind": "PriorityClass", "metadata": {"name": "low"}, "value": 1}
    for documents, reason in (
        ((), "Fits"),
        ((known,), "PriorityClassMissing"),
        ((known, {**known, "metadata": {"name": "high"}}), "Fits"),
    ):
        files.write(item, BIG, *documents)
        assert json.loads(files.plan("-o", "json")[1])["reason"] == reason


@pytest.mark.parametrize("kind", ["ResourceQuota", "LimitRange", "ResourceSlice", "PriorityClass"])
def test_a_limit_that_cannot_be_read_is_named(files: Files, kind: str) -> None:
    broken = {"kind": kind, "metadata": {"namespace": "ml"}, "spec": {"limits": [{}]}}
    files.write(base(), BIG, broken)
    code, _, error = files.plan()
    assert code == 2
    assert f"{kind} number 1 is not as kubectl writes it" in error


def test_an_object_that_does_not_fit_says_why_and_ends_with_3(files: Files) -> None:
    files.write(base(), SMALL)
    code, out, _ = files.plan("-o", "yaml")
    report = yaml.safe_load(out)
    assert (code, report["fits"], report["reason"]) == (3, False, "DoesNotFit")
    options = [one["option"] for one in report["tiers"]["flagship"]["rejected"]]
    assert any("tensor 4" in option and "NVIDIA-L4" in option for option in options)


def test_gpus_held_by_pods_of_the_file_are_taken(files: Files) -> None:
    files.write(changed({FLASH: REMOVED}), BIG, pod("training", "gpu-1", 7))
    code, out, _ = files.plan()
    assert code == 3
    assert out.startswith("fits, and has no room now:")
    assert "7 held by team-a/training" in " ".join(out.split())


def test_nodes_that_a_node_autoscaler_would_make_are_sized_and_explained(files: Files) -> None:
    asked = {"provisioning": "NodeAutoscaler", "nodeAutoscaler": {"nodeShape": "8xH100-80GB"}}
    files.write(changed({FLASH: REMOVED, f"{FLAGSHIP}.placement": asked}), SMALL)
    code, out, _ = files.plan("--explain")
    assert code == 3
    assert out.startswith("fits, and has no room now: flagship would ask the node autoscaler")
    assert "flagship, taken: tensor 2 on 8 x NVIDIA-H100-80GB-HBM3" in out


def test_the_objects_own_replicas_do_not_stand_in_its_way(files: Files) -> None:
    mine = pod("vision-flagship-1-0", "gpu-1", 7)
    mine["metadata"] |= {"namespace": "default", "labels": {"glm-operator.io/deployment": "vision"}}
    files.write(changed({FLASH: REMOVED}), BIG, mine)
    assert files.plan()[0] == 0


def test_the_table_has_a_column_per_tier_and_the_rejections(files: Files) -> None:
    files.write(base(), BIG)
    code, out, _ = files.plan()
    lines = [line.split() for line in out.splitlines()]
    assert (code, lines[0][0]) == (0, "fits:")
    assert ["flagship", "flash"] in lines
    assert ["model", "GLM-4.6V", "FP8", "GLM-4.6V-Flash", "BF16"] in lines
    assert ["tensor", "1", "on", "8", "x"] in [line[:5] for line in lines]


@pytest.mark.parametrize("mode", ["Live", "Plan", "Paused"])
def test_the_mode_of_the_object_does_not_matter(files: Files, mode: str) -> None:
    files.write(changed({"spec.mode": mode}), BIG)
    code, out, _ = files.plan("-o", "json")
    assert (code, json.loads(out)["tiers"]["flash"]["nodes"]) == (0, ["gpu-1"])


@pytest.mark.parametrize(
    ("obj", "nodes", "sentence"),
    [
        (changed({"spec.mode": "On"}), [BIG], "spec.mode is 'On'"),
        ({"kind": "Service"}, [BIG], "has 0 objects of kind GLMDeployment: give one"),
        (base(), [], "is not a node list: it has no object; write `kubectl get nodes,pods -A"),
        (base(), [{"kind": "Service"}, pod("a", "gpu-1", 1)], "it has 1 x Pod, 1 x Service; write"),
        (base(), ["gpu-1"], "is not a node list: it has no object"),
        (base(), [BIG, {"kind": "Node", "metadata": {}}], "Node number 2 is not as kubectl writes"),
        (base(), [BIG | {"status": "Ready"}], "Node number 1 is not as kubectl writes it (a field"),
        (base(), [BIG, {"kind": "Pod", "spec": None}], "Pod number 1 is not as kubectl writes it"),
        (base(), [BIG, named("Node", labels={"a": ["b"]})], "Node number 2 is not as kubectl"),
        (base(), [BIG, named("Pod", labels=["a"])], "Pod number 1 is not as kubectl writes it"),
        (base(), [BIG, {"kind": "PriorityClass", "value": 5}], "it lacks 'metadata'"),
    ],
)
def test_bad_input_is_one_sentence_and_ends_with_2(
    files: Files, obj: Any, nodes: list[Any], sentence: str
) -> None:
    files.write(obj, *nodes)
    code, out, err = files.plan()
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


BROKEN = {
    "an open list": b"a: [",
    "half a UTF-16 letter": b"\xff\xfe\x00",
    "an open object": b'{"kind": ',
    "no text": b"\x00\x01\x02",
    "a 13th month": b"at: 2026-13-01T00:00:00Z",
    "a number of 5,000 digits": b'{"a": ' + b"1" * 5000 + b"}",
    "100,000 lists in one another": b"[" * 100_000,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_yaml_is_named(files: Files, content: bytes) -> None:
    files.write(base(), BIG)
    files.object.write_bytes(content)
    code, _, err = files.plan()
    assert code == 2
    assert f"{files.object} is neither YAML nor JSON: " in err
    assert err.count("\n") == 1


def test_a_list_without_pods_says_that_all_gpus_count_as_free(files: Files) -> None:
    files.write(base(), BIG)
    note = "the list holds no pods, so all GPUs count as free"
    assert note in json.loads(files.plan("-o", "json")[1])["notes"][0]
    files.write(base(), BIG, pod("a", "gpu-1", 1))
    assert json.loads(files.plan("-o", "json")[1])["notes"] == []


def test_an_empty_list_is_a_cluster_whose_first_node_an_autoscaler_makes(files: Files) -> None:
    asked = {"provisioning": "NodeAutoscaler", "nodeAutoscaler": {"nodeShape": "8xH100-80GB"}}
    files.write(changed({FLASH: REMOVED, f"{FLAGSHIP}.placement": asked}))
    code, out, _ = files.plan("-o", "json")
    assert (code, json.loads(out)["reason"]) == (3, "WaitingForNodes")
    files.nodes.write_text("")
    assert files.plan()[0] == 2


def test_nodes_that_are_cordoned_or_not_ready_are_named(files: Files) -> None:
    cordoned, broken = node("a", "NVIDIA-L4", 4), node("b", "NVIDIA-L4", 4)
    cordoned["spec"] = {"unschedulable": True}
    broken["status"]["conditions"][0]["status"] = "False"
    files.write(base(), BIG, cordoned, broken, pod("a", "gpu-1", 1))
    notes = json.loads(files.plan("-o", "json")[1])["notes"]
    assert notes == ["not used now: a (cordoned), b (not ready)"]


def test_the_head_says_what_was_planned_on(files: Files) -> None:
    files.write(base(), BIG)
    head = " ".join(files.plan()[1].split())
    assert f"Planned on the nodes of {files.nodes} with glm-operator " in head
    assert "no figure was compared with a GPU yet (docs/sizing.md)." in head


def test_the_sum_is_told_where_tiers_fit_alone_and_not_together(files: Files) -> None:
    files.write(base(), node("gpu-1", "NVIDIA-H100-80GB-HBM3", 2), pod("a", "gpu-1", 0))
    code, out, _ = files.plan()
    assert code == 3
    asked = "together they need 3 GPUs (nvidia.com/gpu), and these nodes have 2 (2 free)"
    assert " ".join(out.split()).startswith(f"fits, and has no room now: {asked}")


def test_two_objects_of_one_name_are_refused(files: Files) -> None:
    files.write(base(), BIG)
    files.object.write_text(yaml.safe_dump_all([base(), changed({FLASH: REMOVED})]))
    code, _, err = files.plan()
    assert code == 2
    assert "has 2 objects of kind GLMDeployment: give one" in err


def test_a_missing_file_is_named(files: Files) -> None:
    code, _, err = files.plan()
    assert code == 2
    assert "object.yaml cannot be read: No such file or directory" in err


def listed(*items: Any) -> str:
    return json.dumps({"kind": "List", "apiVersion": "v1", "items": list(items)})


def bare(item: dict[str, Any]) -> dict[str, Any]:
    """An item of a typed list: the API server leaves its kind out."""
    return {key: value for key, value in item.items() if key not in ("kind", "apiVersion")}


ALL = json.dumps({"kind": "NodeList", "items": [bare(BIG)]})
FORMS = {
    "as kubectl writes JSON": listed(BIG).encode(),
    "two documents of JSON": f"{listed(BIG)}\n{listed(pod('a', 'gpu-1', 1))}\n".encode(),
    "two documents of YAML": yaml.safe_dump_all([BIG, pod("a", "gpu-1", 1)]).encode(),
    "a list without a kind": json.dumps([BIG]).encode(),
    "raw, as the API server answers": ALL.encode(),
    "a redirection on Windows": listed(BIG).encode("utf-16"),
    "with a byte order mark": listed(BIG).encode("utf-8-sig"),
    "with other objects": listed(BIG, base(), {"kind": "Service"}).encode(),
    "flow style that is no JSON": b"{kind: List, items: ["
    + yaml.safe_dump(BIG, default_flow_style=True, width=9999).encode().strip()
    + b"]}",
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_nodes_come_in_every_form_that_kubectl_has(files: Files, content: bytes) -> None:
    files.write(base(), BIG)
    files.nodes.write_bytes(content)
    code, out, err = files.plan("-o", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["tiers"]["flagship"]["nodes"] == ["gpu-1"]


def test_a_pod_that_two_lists_hold_takes_its_gpus_once(files: Files) -> None:
    files.write(changed({FLASH: REMOVED}), BIG)
    both = [listed(BIG, pod("a", "gpu-1", 4)), listed(pod("a", "gpu-1", 4))]
    files.nodes.write_text("\n".join(both))
    assert files.plan()[0] == 0


class Input:
    """Standard input with some content."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def test_the_object_may_come_from_standard_input(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write(base(), BIG)
    monkeypatch.setattr("sys.stdin", Input(files.object.read_bytes()))
    assert cli.main(["plan", "-f", "-", "--nodes", str(files.nodes)]) == 0
    assert capsys.readouterr().out.startswith("fits: ")


def test_the_nodes_may_come_from_standard_input(
    files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write(base(), BIG)
    monkeypatch.setattr("sys.stdin", Input(b"kind: Service"))
    assert cli.main(["plan", "-f", str(files.object), "--nodes", "-"]) == 2
    assert "standard input is not a node list: it has 1 x Service" in capsys.readouterr().err


def test_both_from_standard_input_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "-f", "-", "--nodes", "-"]) == 2
    assert "there is one standard input: give one as a file" in capsys.readouterr().err


def test_flags_of_a_live_cluster_go_with_no_file_of_nodes(files: Files) -> None:
    code, _, err = files.plan("--context", "prod")
    assert code == 2
    assert "--kubeconfig and --context are for planning on a live cluster" in err


@pytest.mark.parametrize(("written", "code"), [("default", 0), (REMOVED, 0), ("ml", 2)])
def test_a_namespace_that_contradicts_the_object_is_refused(
    files: Files, written: Any, code: int
) -> None:
    files.write(changed({"metadata.namespace": written}), BIG)
    found, _, err = files.plan("--namespace", "default")
    assert found == code
    assert ("metadata.namespace is ml, and --namespace is default" in err) == bool(code)


def test_gpus_without_bfloat16_are_left_out_with_the_reason(files: Files) -> None:
    old = node("old-1", "NVIDIA-L4", 8)
    old["metadata"]["labels"]["nvidia.com/gpu.compute.major"] = "7"
    old["metadata"]["labels"]["nvidia.com/gpu.compute.minor"] = "5"
    files.write(base(), old)
    code, out, _ = files.plan()
    assert code == 3
    assert "node old-1: NVIDIA-L4 has compute capability 7.5, and bfloat16 needs 8.0" in out
