"""`glm-operator plan`: files in, a report and an exit code out, the same planner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from glm_operator import cli
from object_cases import FLASH, REMOVED, base, changed

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
    assert "7 held by team-a/training" in out


def test_the_objects_own_replicas_do_not_stand_in_its_way(files: Files) -> None:
    mine = pod("vision-flagship-1-0", "gpu-1", 7)
    mine["metadata"] |= {"namespace": "default", "labels": {"glm-operator.io/deployment": "vision"}}
    files.write(changed({FLASH: REMOVED}), BIG, mine)
    assert files.plan()[0] == 0


def test_the_table_has_a_row_per_tier_and_every_rejection(files: Files) -> None:
    files.write(base(), BIG)
    code, out, _ = files.plan()
    lines = out.splitlines()
    assert (code, lines[0][:5]) == (0, "fits:")
    assert lines[2].split()[:3] == ["TIER", "MODEL", "GPUS"]
    assert lines[3].split()[:4] == ["flagship", "GLM-4.6V", "FP8", "2"]
    assert lines[4].split()[:4] == ["flash", "GLM-4.6V-Flash", "BF16", "1"]
    assert any(line.startswith("  tensor 1 on 8 x NVIDIA-H100") for line in lines)


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
        (base(), [{"kind": "Service"}], "has no nodes"),
        (base(), [{"kind": "Node", "metadata": {}}], "has a node or pod that lacks 'name'"),
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


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"a: [", "is not YAML"), (b"\xff\xfe\x00", "is not YAML")]
)
def test_a_file_that_is_no_yaml_is_named(files: Files, content: bytes, sentence: str) -> None:
    files.write(base(), BIG)
    files.object.write_bytes(content)
    code, _, err = files.plan()
    assert code == 2
    assert f"{files.object} {sentence}" in err


def test_a_missing_file_is_named(files: Files) -> None:
    code, _, err = files.plan()
    assert code == 2
    assert "object.yaml cannot be read: No such file or directory" in err


def test_gpus_without_bfloat16_are_left_out_with_the_reason(files: Files) -> None:
    old = node("old-1", "NVIDIA-L4", 8)
    old["metadata"]["labels"]["nvidia.com/gpu.compute.major"] = "7"
    old["metadata"]["labels"]["nvidia.com/gpu.compute.minor"] = "5"
    files.write(base(), old)
    code, out, _ = files.plan()
    assert code == 3
    assert "node old-1: NVIDIA-L4 has compute capability 7.5, and bfloat16 needs 8.0" in out
