"""`--node-shape`: nodes that nobody has yet, and what is said of shapes that cannot be meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from glm_operator import cli
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.catalog import gpus
from glm_operator.preview.errors import InvalidInputError
from glm_operator.preview.shapes import nodes_of_shapes
from object_cases import FLAGSHIP, FLASH, REMOVED, base, changed

NVIDIA = "nvidia.com/gpu"
OBJECT = GLMDeployment.parse(base())


def test_a_shape_is_one_node_and_a_number_before_it_makes_more() -> None:
    nodes = nodes_of_shapes(["8xH100-80GB", "2x4xL40S-48GB"], OBJECT)
    assert [node.name for node in nodes] == [
        "node-1-8xh100-80gb",
        "node-2-4xl40s-48gb",
        "node-3-4xl40s-48gb",
    ]
    assert [dict(node.allocatable) for node in nodes] == [{NVIDIA: count} for count in (8, 4, 4)]


def test_case_does_not_matter() -> None:
    assert nodes_of_shapes(["1xh100-80gb"], OBJECT) == nodes_of_shapes(["1xH100-80GB"], OBJECT)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("8H100", "is '8H100': write it as [NODESx]GPUSxPRODUCT-MEMORY, for example 8xH100-80GB"),
        ("8xH100", "write it as [NODESx]GPUSxPRODUCT-MEMORY"),
        ("", "write it as [NODESx]GPUSxPRODUCT-MEMORY"),
        ("0xH100-80GB", "use 1 to 10000 nodes of 1 to 64 GPUs"),
        ("0x8xH100-80GB", "use 1 to 10000 nodes of 1 to 64 GPUs"),
        ("999999999x8xH100-80GB", "use 1 to 10000 nodes of 1 to 64 GPUs"),
        ("8xX9000-80GB", "no GPU X9000 is known: use one of GB200-186GB, B200-180GB, H200-141GB,"),
        ("8xH100-81GB", "no H100 has 81 GB: use H100-80GB"),
        ("8xa100-48GB", "no A100 has 48 GB: use A100-80GB or A100-40GB"),
    ],
)
def test_a_shape_that_cannot_be_meant_is_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        nodes_of_shapes([text], OBJECT)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gpus_that_the_object_does_not_count_are_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidInputError) as caught:
        nodes_of_shapes(["8xMI300X-192GB"], OBJECT)
    assert str(caught.value) == (
        "spec.tiers.flagship.placement.acceleratorResource is nvidia.com/gpu, and 8xMI300X-192GB"
        " offers amd.com/gpu: set acceleratorResource to amd.com/gpu, or give a shape whose GPUs"
        " are counted as nvidia.com/gpu"
    )


def test_each_tier_may_count_other_gpus() -> None:
    mixed = changed({f"{FLAGSHIP}.placement.acceleratorResource": "amd.com/gpu"})
    shapes = ["8xMI300X-192GB", "4xL40S-48GB"]
    assert len(nodes_of_shapes(shapes, GLMDeployment.parse(mixed))) == 2


@pytest.mark.parametrize("row", gpus.GPUS, ids=lambda row: row.name)
def test_every_gpu_of_the_catalogue_has_a_shape_of_its_size(row: gpus.GPU) -> None:
    counted = changed(
        {f"{tier}.placement.acceleratorResource": row.resource for tier in (FLAGSHIP, FLASH)}
    )
    (node,) = nodes_of_shapes([f"2x{row.name}"], GLMDeployment.parse(counted))
    found = gpus.of_labels(node.labels, row.resource)
    assert found is not None
    assert (found.memory_mib, found.capability) == (row.memory_mib, row.capability)
    # Sold gigabytes are 1000 or 1024 MiB, and the driver and error correction keep some.
    sold = int(row.name.rpartition("-")[2].removesuffix("GB"))
    assert sold * 930 <= row.memory_mib <= sold * 1025


def planned(tmp_path: Path, obj: Any, *flags: str) -> int:
    file = tmp_path / "object.yaml"
    file.write_text(yaml.safe_dump(obj))
    return cli.main(["plan", "-f", str(file), *flags])


def test_an_object_is_planned_on_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = planned(tmp_path, base(), "--node-shape", "4xH100-80GB", "-o", "json")
    report = json.loads(capsys.readouterr().out)
    assert (code, report["tiers"]["flagship"]["gpu"]) == (0, "NVIDIA-H100-80GB-HBM3")


def test_what_does_not_fit_a_shape_ends_with_3(tmp_path: Path) -> None:
    assert planned(tmp_path, changed({FLASH: REMOVED}), "--node-shape", "4xL4-24GB") == 3


def test_shapes_and_nodes_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        planned(tmp_path, base(), "--node-shape", "4xL4-24GB", "--nodes", "nodes.yaml")
