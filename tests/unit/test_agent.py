"""The node agent: what it makes and removes, and that no link leads it astray."""

from __future__ import annotations

import os
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from glm_operator.agent import disk as disk_module
from glm_operator.agent.decide import KINDS, Volume, decide
from glm_operator.agent.disk import FOLDER_MODE, Disk
from glm_operator.agent.main import Agent, pages, volume_of
from glm_operator.agent.serve import serving
from glm_operator.cli import main
from glm_operator.kube.watch import Gone, Heard, Put, Snapshot

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
    """A disk with namespaces that the agent made and files that their Jobs wrote."""
    disk = Disk(root)
    for namespace in {file.partition("/")[0] for file in files}:
        disk.make(namespace)
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return disk


def test_the_disk_shows_namespaces_and_their_copies(tmp_path: Path) -> None:
    disk = filled(tmp_path, "ml/weights/k/a", "ml/fetching/k.lock", "ml/other/x", "b/compile/c/d")
    assert disk.present() == ["b", "b/compile/c", "ml", "ml/weights/k", "ml/fetching/k.lock"]


def test_what_the_agent_did_not_make_is_none_of_its_business(tmp_path: Path) -> None:
    disk = filled(tmp_path, "ml/weights/k/a")
    (tmp_path / "models/weights/k").mkdir(parents=True)
    (tmp_path / "lost+found").mkdir(mode=0o700)
    (tmp_path / "file").write_text("x")
    assert disk.present() == ["ml", "ml/weights/k"]
    assert disk.sizes().keys() == {"ml"}


def test_a_folder_that_another_filled_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "ml").mkdir(mode=0o755)
    (tmp_path / "ml/model").write_text("x")
    with pytest.raises(FileExistsError, match="was not made by the node agent: move it away"):
        Disk(tmp_path).make("ml")
    assert (tmp_path / "ml").stat().st_mode & 0o7777 == 0o755


def test_a_folder_whose_making_was_cut_short_is_finished(tmp_path: Path) -> None:
    (tmp_path / "ml").mkdir(mode=0o700)
    disk = Disk(tmp_path)
    assert disk.present() == []
    disk.make("ml")
    assert disk.present() == ["ml"]


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
    disk = filled(tmp_path / "root", "ml/other", "b/weights/k/a")
    (tmp_path / "root/ml/weights").symlink_to(outside)
    (tmp_path / "root/b/weights/k/link").symlink_to(outside)
    (tmp_path / "root/trap").symlink_to(outside)
    assert disk.present() == ["b", "b/weights/k", "ml"]
    assert disk.sizes()["ml"] < 100_000
    with pytest.raises(FileExistsError):
        disk.make("trap")
    for path in ("ml/weights/k", "ml/weights", "b/weights/k", "trap/k", "trap"):
        disk.remove(path)
    assert (outside / "k" / "precious").exists()
    assert not (tmp_path / "root/b/weights/k").exists()


def dig(folder: Path, depth: int) -> None:
    """A folder in a folder in a folder, deeper than any path is long."""
    place = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)


def test_a_folder_of_any_depth_is_measured_and_removed(tmp_path: Path) -> None:
    disk = filled(tmp_path, "ml/weights/k/a")
    dig(tmp_path / "ml/weights/k", sys.getrecursionlimit() + 100)
    assert disk.sizes()["ml"] > 0
    disk.remove("ml/weights/k")
    assert disk.present() == ["ml"]


def test_a_folder_that_never_becomes_empty_does_not_hold_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "ROUNDS", 10)
    disk = filled(tmp_path, "ml/weights/k/a")
    dig(tmp_path / "ml/weights/k", 30)
    with pytest.raises(OSError, match="not empty"):
        disk.remove("ml/weights/k")
    for _ in range(2):
        with suppress(OSError):
            disk.remove("ml/weights/k")
    assert disk.present() == ["ml"]


def test_sizes_count_what_the_disk_holds(tmp_path: Path) -> None:
    disk = filled(tmp_path, "ml/weights/k/a", "b/x")
    assert disk.sizes().keys() == {"ml", "b"}
    assert disk.sizes()["ml"] > 0
    assert disk.free_bytes() > 0


# The loop.


class Stubborn(Disk):
    """A disk on which some paths can be neither made nor removed."""

    refused: tuple[str, ...] = ()

    @override
    def make(self, namespace: str) -> None:
        self._check(namespace)
        super().make(namespace)

    @override
    def remove(self, path: str) -> None:
        self._check(path)
        super().remove(path)

    def _check(self, path: str) -> None:
        if path in self.refused:
            raise PermissionError(1, "Operation not permitted", path)


def failures(agent: Agent, task: str) -> float | None:
    sample = "glm_operator_node_failures_total"
    return agent.gauges.registry.get_sample_value(sample, {"task": task})


def test_the_agent_waits_for_the_list_before_it_removes_anything(tmp_path: Path) -> None:
    disk = filled(tmp_path, "ml/weights/k/a")
    agent = Agent(disk, 0.0, lambda: 0.0)
    agent.take(Put(("", "early"), Volume(str(tmp_path / "b"))))
    agent.look()
    assert (tmp_path / "ml/weights/k/a").exists()
    assert agent.unreadiness() == "volumes are not listed yet"
    agent.take(Snapshot({}))
    agent.look()
    assert disk.present() == []
    assert agent.unreadiness() == ""


def test_what_cannot_be_made_or_removed_stands_in_nobodys_way(tmp_path: Path) -> None:
    filled(tmp_path, "a/weights/k/a", "b/weights/k/a")
    disk = Stubborn(tmp_path)
    disk.refused = ("a", "x")
    agent = Agent(disk, 0.0, lambda: 0.0)
    wanted = {("", name): Volume(str(tmp_path / name)) for name in ("x", "y")}
    agent.take(Snapshot(wanted))
    agent.look()
    assert disk.present() == ["a", "a/weights/k", "y"]
    assert (failures(agent, "make"), failures(agent, "remove")) == (1, 1)
    disk.refused = ()
    agent.look()
    assert disk.present() == ["x", "y"]


def test_an_agent_that_hears_nothing_removes_nothing_and_asks_for_a_restart(tmp_path: Path) -> None:
    now = 0.0
    disk = filled(tmp_path, "ml/weights/k/a")
    agent = Agent(disk, 60.0, lambda: now)
    agent.take(Snapshot({}))
    agent.look()
    now = 301.0
    agent.look()
    assert disk.present() == ["ml", "ml/weights/k"]
    assert agent.illness() == agent.unreadiness() == "nothing was heard of volumes for 301 s"
    agent.take(Heard())
    assert agent.illness() == ""
    agent.look()
    # The time in which something else may have needed it does not count.
    assert disk.present() == ["ml", "ml/weights/k"]
    now = 361.0
    agent.look()
    assert disk.present() == []


def test_a_disk_that_cannot_be_read_does_not_end_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = threading.Event()
    agent = Agent(Disk(tmp_path), 0.0, lambda: 0.0)

    def broken() -> None:
        stopping.set()
        agent.changed.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(agent, "measure", broken)
    agent.run(stopping)
    assert failures(agent, "look") == 1


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_and_metrics_are_on_one_port(tmp_path: Path) -> None:
    agent = Agent(filled(tmp_path, "ml/weights/k/a"), 60.0, lambda: 0.0)
    agent.measure()
    with serving(0, pages(agent)) as port:
        assert ask(port, "/healthz") == (200, "ok")
        assert ask(port, "/readyz") == (503, "volumes are not listed yet")
        assert 'glm_operator_node_cache_bytes{namespace="ml"}' in ask(port, "/metrics")[1]
        assert ask(port, "/")[0] == 404


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--root=copies"], "--root is copies: use the whole path"),
        (["--root=/x", "--collect-after-seconds=-1"], "--collect-after-seconds is -1.0: use 0"),
        (["--root=/x", "--collect-after-seconds=nan"], "--collect-after-seconds is nan: use 0"),
        (["--root=/x", "--port=70000"], "--port is 70000: use a number from 0 to 65535"),
    ],
)
def test_wrong_settings_are_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["node-agent", "--node=gpu-1", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_without_a_cluster_the_agent_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert main(["node-agent", "--node=gpu-1", f"--root={tmp_path}", "--port=0"]) == 1
    assert "the node agent cannot start: Service host/port is not set" in caplog.text


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
