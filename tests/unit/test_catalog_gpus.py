"""GPUs by their labels, and by product where a label is missing."""

from __future__ import annotations

import pytest

from glm_operator.api import shapes
from glm_operator.catalog import gpus

GIB = 1 << 30
WHOLE = "nvidia.com/gpu"


def labels(**values: str) -> dict[str, str]:
    return {f"nvidia.com/gpu.{name.replace('_', '.')}": value for name, value in values.items()}


PRODUCTS = [
    ("NVIDIA-H100-80GB-HBM3", 81_559, (9, 0)),
    ("NVIDIA-H100-NVL", 95_830, (9, 0)),
    ("NVIDIA-H200", 143_771, (9, 0)),
    ("NVIDIA-H20", 97_871, (9, 0)),
    ("NVIDIA-A100-SXM4-80GB", 81_920, (8, 0)),
    ("NVIDIA-A100-SXM4-40GB", 40_960, (8, 0)),
    ("NVIDIA-A100-80GB-PCIe", 81_920, (8, 0)),
    ("NVIDIA-L4", 23_034, (8, 9)),
    ("NVIDIA-L40S", 46_068, (8, 9)),
    ("NVIDIA-GeForce-RTX-4090", 24_564, (8, 9)),
]


@pytest.mark.parametrize(("product", "mebibytes", "capability"), PRODUCTS)
def test_a_product_without_memory_label_is_looked_up(
    product: str, mebibytes: int, capability: tuple[int, int]
) -> None:
    found = gpus.of_labels(labels(product=product), WHOLE)
    assert found is not None
    assert (found.product, found.memory_mib, found.capability) == (product, mebibytes, capability)


def test_the_labels_of_the_node_come_before_the_catalogue() -> None:
    given = labels(
        product="NVIDIA-H100-80GB-HBM3", memory="40000", compute_major="9", compute_minor="5"
    )
    found = gpus.of_labels(given, WHOLE)
    assert found == gpus.GPU("NVIDIA-H100-80GB-HBM3", 40_000, (9, 5))


def test_an_unknown_product_with_memory_is_usable() -> None:
    found = gpus.of_labels(labels(product="NVIDIA-X1", memory="65536"), WHOLE)
    assert found == gpus.GPU("NVIDIA-X1", 65_536, (0, 0))


@pytest.mark.parametrize("given", [{}, labels(product="NVIDIA-X1"), labels(memory="lots")])
def test_a_node_that_says_too_little_has_no_known_gpu(given: dict[str, str]) -> None:
    assert gpus.of_labels(given, WHOLE) is None


@pytest.mark.parametrize(
    ("product", "gibibytes"),
    [("NVIDIA-H100-80GB-HBM3", 79.15), ("NVIDIA-A100-SXM4-80GB", 79.5), ("NVIDIA-L4", 22.0)],
)
def test_a_program_sees_less_than_the_driver_reports(product: str, gibibytes: float) -> None:
    found = gpus.known(product)
    assert found is not None
    assert found.memory_bytes / GIB == pytest.approx(gibibytes, abs=0.05)


@pytest.mark.parametrize(
    ("product", "refusal"),
    [
        ("Tesla-T4", "Tesla-T4 has compute capability 7.5, and bfloat16 needs 8.0"),
        ("NVIDIA-A100", ""),
        ("NVIDIA-L4", ""),
    ],
)
def test_a_gpu_without_bfloat16_is_refused(product: str, refusal: str) -> None:
    found = gpus.known(product)
    assert found is not None
    assert found.refusal == refusal


def test_a_gpu_of_unknown_capability_is_not_refused() -> None:
    assert gpus.GPU("NVIDIA-X1", 65_536, gpus.UNKNOWN).refusal == ""


def test_a_gpu_that_is_offered_several_times_is_refused() -> None:
    found = gpus.of_labels(labels(product="NVIDIA-L4-SHARED"), WHOLE)
    assert found is not None
    assert found.refusal.startswith("NVIDIA-L4-SHARED offers each GPU several times")


@pytest.mark.parametrize(
    ("resource", "given"),
    [
        (WHOLE, labels(product="NVIDIA-L4", replicas="1", **{"sharing-strategy": "none"})),
        (WHOLE, labels(product="NVIDIA-L4", replicas="0")),
    ],
)
def test_a_gpu_that_is_offered_once_is_not_refused(resource: str, given: dict[str, str]) -> None:
    found = gpus.of_labels(given, resource)
    assert found is not None
    assert found.refusal == ""


MIXED = "nvidia.com/mig-3g.40gb"


@pytest.mark.parametrize(
    ("resource", "given"),
    [
        (WHOLE, labels(product="NVIDIA-L4", **{"sharing-strategy": "time-slicing"})),
        (WHOLE, labels(product="NVIDIA-L4", **{"sharing-strategy": "mps"})),
        (WHOLE, labels(product="NVIDIA-L4", replicas="4")),
        (f"{WHOLE}.shared", labels(product="NVIDIA-L4", replicas="4")),
        (f"{WHOLE}.shared", labels(product="NVIDIA-L4")),
        (f"{WHOLE}.shared", labels(memory="23034")),
        (WHOLE, labels(product="NVIDIA-H100-80GB-HBM3-MIG-1g.10gb-SHARED", memory="9728")),
        (WHOLE, labels(product="NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", memory="9728", replicas="2")),
        (MIXED, {f"{MIXED}.memory": "40448", f"{MIXED}.replicas": "2"}),
        (f"{MIXED}.shared", {f"{MIXED}.memory": "40448"}),
    ],
    ids=[
        "time slices, without the suffix",
        "MPS, without the suffix",
        "by the count alone",
        "renamed",
        "renamed, without a count",
        "renamed, without a product",
        "slices, shared",
        "slices, shared, without the suffix",
        "slices beside whole GPUs, shared",
        "slices beside whole GPUs, shared and renamed",
    ],
)
def test_a_gpu_that_several_pods_share_is_refused_however_a_node_says_so(
    resource: str, given: dict[str, str]
) -> None:
    found = gpus.of_labels(given, resource)
    assert found is not None
    assert "offers each GPU several times" in found.refusal


def test_sharing_of_slices_says_nothing_of_the_whole_gpus_beside_them() -> None:
    node = labels(product="NVIDIA-H100-80GB-HBM3", memory="81559") | {f"{MIXED}.replicas": "2"}
    found = gpus.of_labels(node, WHOLE)
    assert found is not None
    assert found.refusal == ""


def test_nodes_are_told_apart_by_all_that_says_they_share() -> None:
    keys = gpus.telling_labels(WHOLE)
    assert {f"{WHOLE}.sharing-strategy", f"{WHOLE}.replicas"} <= set(keys)


@pytest.mark.parametrize(
    ("resource", "given", "sliced"),
    [
        (WHOLE, labels(product="NVIDIA-H100-80GB-HBM3-MIG-3g.40gb", memory="40448"), True),
        (MIXED, {f"{MIXED}.memory": "40448"}, True),
        (WHOLE, labels(product="NVIDIA-H100-80GB-HBM3"), False),
    ],
    ids=["of one kind", "beside whole GPUs", "whole"],
)
def test_a_slice_is_known_for_one(resource: str, given: dict[str, str], sliced: bool) -> None:
    found = gpus.of_labels(given, resource)
    assert found is not None
    assert found.is_slice is sliced


def test_a_slice_has_the_memory_of_its_label_only() -> None:
    product = "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb"
    labelled = gpus.of_labels(labels(product=product, memory="40448"), WHOLE)
    assert labelled is not None
    assert (labelled.memory_mib, labelled.capability) == (40_448, (9, 0))
    assert gpus.of_labels(labels(product=product), WHOLE) is None


def test_a_slice_beside_whole_gpus_has_labels_of_its_own() -> None:
    slice_ = "nvidia.com/mig-1g.10gb"
    node = labels(product="NVIDIA-H100-80GB-HBM3", memory="81559")
    assert gpus.of_labels(node, slice_) is None
    found = gpus.of_labels(node | {f"{slice_}.memory": "9728"}, slice_)
    assert found is not None
    assert found.memory_mib == 9_728


def test_no_product_is_listed_twice() -> None:
    products = [gpu.product for gpu in gpus.GPUS]
    assert len(products) == len(set(products))


def test_the_names_that_an_object_may_write_are_those_of_the_catalogue() -> None:
    amd = tuple(gpu.name for gpu in gpus.GPUS if gpu.is_amd)
    others = tuple(gpu.name for gpu in gpus.GPUS if not gpu.is_amd)
    assert (others, amd) == (shapes.NVIDIA, shapes.AMD)
