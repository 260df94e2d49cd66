"""How nodes are written on the command line, and what they then announce."""

from __future__ import annotations

import pytest

from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.shapes import GPUS, NodeShape, parse_memory, parse_nodes, parse_shape


def test_each_part_names_nodes_gpus_and_model() -> None:
    nodes = parse_nodes("2x8xH100-80GB,1x4xL4-24GB")

    assert [(node.gpus, node.gpu) for node in nodes] == [
        (8, "H100-80GB"),
        (8, "H100-80GB"),
        (4, "L4-24GB"),
    ]


def test_a_machine_is_as_big_as_its_gpus_share_of_a_cloud_machine() -> None:
    (node,) = parse_nodes("1x8xH100-80GB")

    assert (node.cpus, node.memory_gib) == (192, 2048)


def test_given_sizes_replace_those_of_every_node() -> None:
    nodes = parse_nodes("1x8xH100-80GB,1xCPU", cpus=7, memory_gib=9)

    assert {(node.cpus, node.memory_gib) for node in nodes} == {(7, 9)}


def test_none_is_a_control_plane_alone() -> None:
    assert parse_nodes("none") == ()


def test_labels_are_those_of_gpu_feature_discovery() -> None:
    assert parse_shape("4xL4-24GB").labels() == {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": "NVIDIA-L4",
        "nvidia.com/gpu.memory": "23034",
        "nvidia.com/gpu.count": "4",
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.family": "ada-lovelace",
        "nvidia.com/gpu.compute.major": "8",
        "nvidia.com/gpu.compute.minor": "9",
    }


def test_a_node_without_gpus_has_no_gpu_labels() -> None:
    assert parse_shape("CPU").labels() == {}


@pytest.mark.parametrize("name", GPUS)
def test_every_label_value_is_valid_in_kubernetes(name: str) -> None:
    values = NodeShape(name, 1, 1, 1).labels().values()

    assert all(value.replace("-", "").replace(".", "").isalnum() for value in values)
    assert all(len(value) <= 63 for value in values)


@pytest.mark.parametrize("name", GPUS)
def test_the_memory_in_a_name_is_the_memory_of_its_label(name: str) -> None:
    gigabytes = int(name.rsplit("-", 1)[1].removesuffix("GB"))

    assert GPUS[name].memory_mib / 1024 == pytest.approx(gigabytes, rel=0.07)


@pytest.mark.parametrize("text", ["", "8xH100-80GB", "0x8xH100-80GB", "1x0xL4-24GB", "1x8x", "a,b"])
def test_an_unreadable_shape_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ClusterError, match="NODESxGPUSxMODEL, for example 2x8xH100-80GB"):
        parse_nodes(text)


def test_an_unknown_gpu_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ClusterError, match="No GPU is called 'H300'; known are B200-180GB"):
        parse_nodes("1x8xH300")


@pytest.mark.parametrize(("text", "gib"), [("512Gi", 512), ("2Ti", 2048)])
def test_memory_is_read_in_gib(text: str, gib: int) -> None:
    assert parse_memory(text) == gib


def test_memory_without_a_unit_is_refused() -> None:
    with pytest.raises(ClusterError, match="write it as 512Gi or 2Ti"):
        parse_memory("512")
