"""The node agent: what it makes and removes, and that no link leads it astray."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_operator.agent.decide import KINDS, Volume, decide
from glm_operator.agent.disk import FOLDER_MODE, Disk
from glm_operator.agent.main import Agent, volume_of
from glm_operator.kube.watch import Gone, Put, Snapshot

ROOT = "/var/lib/glm-operator"
KEY = "org--model--0123456789ab"
ML = Volume(f"{ROOT}/ml", (f"weights/{KEY}", "compile/aa"))


def work(volumes: list[Volume], present: list[str], *, later: float = 0.0) -> tuple[object, object]:
    """What is made, and what is removed once it was idle for so long."""
    first = decide(ROOT, volumes, present, {}, 100.0, 60.0)
    second = decide(ROOT, volumes, present, first.since, 100.0 + later, 60.0)
    return second.make, second.remove


def test_each_namespace_with_a_volume_gets_a_folder() -> None:
    assert work([ML, ML, Volume(f"{ROOT}/b")], []) == (("b", "ml"), ())


@pytest.mark.parametrize(
    "path", ["/data/models", ROOT, f"{ROOT}/a/b", f"{ROOT}/..", f"{ROOT}x/ml", "relative"]
)
def test_a_volume_elsewhere_is_none_of_the_agents_business(path: str) -> None:
    assert work([Volume(path)], []) == ((), ())


def test_what_a_volume_keeps_stays_with_the_place_it_comes_to_be_in() -> None:
    kept = [f"ml/weights/{KEY}", f"ml/fetching/{KEY}", f"ml/fetching/{KEY}.lock", "ml/compile/aa"]
    assert work([ML], ["ml", *kept], later=1e6) == ((), ())


def test_what_nobody_needs_goes_after_its_time() -> None:
    present = ["ml", "ml/weights/old", "ml/compile/old"]
    assert work([ML], present, later=59.0) == ((), ())
    assert work([ML], present, later=60.0) == ((), ("ml/compile/old", "ml/weights/old"))


def test_a_namespace_without_a_volume_goes_as_a_whole() -> None:
    present = ["ml", f"ml/weights/{KEY}", "ml/compile/aa"]
    assert work([], present, later=60.0) == ((), ("ml",))


def test_what_is_needed_again_in_between_begins_anew() -> None:
    present = ["ml", "ml/weights/old"]
    again = Volume(f"{ROOT}/ml", ("weights/old",))
    first = decide(ROOT, [ML], present, {}, 0.0, 60.0)
    second = decide(ROOT, [ML, again], present, first.since, 50.0, 60.0)
    third = decide(ROOT, [ML], present, second.since, 70.0, 60.0)
    assert (second.since, third.remove) == ({}, ())


spaces = st.sampled_from(["a", "b", "weights", ".."])
copies = st.tuples(st.sampled_from(KINDS), st.sampled_from(["x", "y"])).map("/".join)
present_paths = spaces | st.tuples(spaces, copies).map("/".join)


@given(
    st.lists(st.builds(Volume, spaces.map(lambda p: f"{ROOT}/{p}"), st.tuples(copies)), max_size=3),
    st.lists(present_paths, max_size=6),
)
def test_nothing_that_is_kept_is_ever_removed(volumes: list[Volume], present: list[str]) -> None:
    first = decide(ROOT, volumes, present, {}, 0.0, 10.0)
    found = decide(ROOT, volumes, present, first.since, 1e9, 10.0)
    kept = {
        f"{volume.path.removeprefix(ROOT + '/')}/{one}"
        for volume in volumes
        if ".." not in volume.path
        for one in volume.keep
    }
    for path in found.remove:
        assert path in present
        assert not [one for one in kept if one == path or one.startswith(f"{path}/")]


# The disk.


def test_a_folder_is_the_groups_and_closed_to_others(tmp_path: Path) -> None:
    Disk(tmp_path, os.getgid()).make("ml")
    made = (tmp_path / "ml").stat()
    assert (made.st_mode & 0o7777, made.st_gid) == (FOLDER_MODE, os.getgid())


def filled(root: Path, *files: str) -> Disk:
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return Disk(root)


def test_the_disk_shows_namespaces_and_their_copies(tmp_path: Path) -> None:
    disk = filled(tmp_path, "ml/weights/k/a", "ml/fetching/k.lock", "ml/other/x", "b/compile/c/d")
    assert disk.present() == ["b", "b/compile/c", "ml", "ml/weights/k", "ml/fetching/k.lock"]


@pytest.mark.parametrize("path", ["ml/weights/k", "ml/fetching/k.lock", "ml", "none", "ml/none/k"])
def test_what_is_removed_is_gone_and_nothing_else(tmp_path: Path, path: str) -> None:
    disk = filled(tmp_path, "ml/weights/k/a", "ml/fetching/k.lock", "b/weights/k/a")
    disk.remove(path)
    assert not (tmp_path / path).exists()
    assert (tmp_path / "b/weights/k/a").exists()


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "k").mkdir()
    (outside / "k" / "precious").write_text("x")
    disk = filled(tmp_path / "root", "ml/other")
    (tmp_path / "root/ml/weights").symlink_to(outside)
    (tmp_path / "root/trap").symlink_to(outside)
    assert disk.present() == ["ml", "trap"]
    for path in ("ml/weights/k", "trap/k", "trap"):
        disk.remove(path)
    assert (outside / "k" / "precious").exists()


def test_sizes_count_what_the_disk_holds(tmp_path: Path) -> None:
    disk = filled(tmp_path, "ml/weights/k/a", "b/x")
    assert disk.sizes().keys() == {"ml", "b"}
    assert disk.sizes()["ml"] > 0
    assert disk.free_bytes() > 0


# The loop.


def test_the_agent_waits_for_the_list_before_it_removes_anything(tmp_path: Path) -> None:
    disk = filled(tmp_path, "ml/weights/k/a")
    agent = Agent(disk, 0.0, lambda: 0.0)
    agent.take(Put(("", "early"), Volume(str(tmp_path / "b"))))
    agent.look()
    assert (tmp_path / "ml/weights/k/a").exists()


def test_the_agent_follows_the_volumes(tmp_path: Path) -> None:
    now = 0.0
    agent = Agent(Disk(tmp_path), 60.0, lambda: now)
    agent.take(Snapshot({("", "v"): Volume(str(tmp_path / "ml"), ("weights/k",))}))
    agent.look()
    (tmp_path / "ml/weights/k").mkdir(parents=True)
    agent.take(Gone(("", "v")))
    agent.look()
    assert (tmp_path / "ml/weights/k").exists()
    now = 61.0
    agent.look()
    assert not (tmp_path / "ml").exists()
    agent.measure()
    assert agent.gauges.registry.get_sample_value("glm_operator_node_removed_total") == 1


def test_a_volume_is_read_from_its_manifest() -> None:
    raw = {
        "metadata": {"annotations": {"glm-operator.io/keep": "weights/a compile/b"}},
        "spec": {"local": {"path": "/x/ml"}},
    }
    assert volume_of(raw) == Volume("/x/ml", ("weights/a", "compile/b"))
    assert volume_of({"metadata": {}, "spec": {"nfs": {}}}) is None
