"""What the demo leaves behind, and whether its words about that are true."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from glm_dev.demo import __main__ as demo
from glm_dev.demo import guest, stage
from glm_dev.demo.guest import OBJECT, THINGS, Thing
from glm_dev.kubectl import KubectlError
from glm_dev.site import Site

RELEASE = next(thing for thing in THINGS if "release" in thing.words)
CRD = next(thing for thing in THINGS if thing.words.startswith("CRD"))
SYSTEM = THINGS[-1]


@dataclass
class Cluster:
    """The kubectl of a cluster that holds things of the demo, and objects of others."""

    there: set[Thing] = field(default_factory=set)
    others: str = ""
    removed: list[Thing] = field(default_factory=list)
    kubeconfig: Path = Path("/home/me/config")
    program: Path = Path("/usr/bin/kubectl")

    def run(self, verb: str, *words: str) -> str:
        if verb == "delete":
            return self.take_away(("kubectl", verb, *words))
        if words[:1] == (guest.KIND,) and CRD not in self.there:
            raise KubectlError(f'error: the server doesn\'t have a resource type "{guest.KIND}"')
        if words[:2] == (guest.KIND, "--all-namespaces"):
            return self.others + ("vision" if OBJECT in self.there else "")
        found = [t for t in self.there if words[: len(t.look)] == t.look]
        return found[0].words if found else ""

    def take_away(self, command: tuple[str, ...]) -> str:
        (thing,) = (t for t in self.there if command[: len(t.removal)] == t.removal)
        self.there.remove(thing)
        self.removed.append(thing)
        return ""


class Foreign(Site):
    def run_helm(self, *words: str) -> str:
        return self.kubectl.take_away(("helm", *words))


def foreign(cluster: Cluster) -> Site:
    return Foreign(cluster, Path("helm"), real_engine=False)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Somebody's own cluster, with nothing of the demo on it."""
    empty = Cluster()
    monkeypatch.setattr(stage, "foreign_site", lambda kubeconfig: foreign(empty))
    return empty


def played(cluster: Cluster, keep: bool = False) -> None:
    with stage.opened(Path("config"), keep):
        cluster.there |= set(THINGS)


def interrupted(cluster: Cluster) -> None:
    with stage.opened(Path("config"), keep=False):
        cluster.there |= {RELEASE, CRD, SYSTEM}
        raise KeyboardInterrupt


def test_all_that_the_demo_made_goes_from_a_foreign_cluster(cluster: Cluster) -> None:
    played(cluster)
    assert cluster.there == set()
    assert cluster.removed[0] == OBJECT
    assert cluster.removed.index(RELEASE) < cluster.removed.index(CRD)


def test_what_was_there_before_the_demo_stays(cluster: Cluster) -> None:
    cluster.there = {RELEASE, CRD, SYSTEM}
    played(cluster)
    assert cluster.there == {RELEASE, CRD, SYSTEM}


def test_an_interrupted_demo_removes_what_it_had_made(cluster: Cluster) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(cluster)
    assert cluster.there == set()


def test_the_operator_stays_while_others_have_objects(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.others = "somebody-elses"
    played(cluster)
    assert cluster.removed == [OBJECT]
    said = capsys.readouterr().out
    assert "Other GLMDeployments need what is left." in said
    assert "  helm uninstall glm-operator -n glm-system\n" in said


def test_keep_leaves_all_and_says_how_to_remove_it(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    played(cluster, keep=True)
    assert cluster.there == set(THINGS)
    said = capsys.readouterr().out
    assert [line.strip() for line in said.splitlines()[1:]] == [" ".join(t.removal) for t in THINGS]


def test_a_namespace_of_somebody_elses_keeps_its_rules(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.there = {guest.NAMESPACE_OF_OBJECT}
    made: list[Any] = []
    monkeypatch.setattr(Site, "create_namespace", lambda site, name: made.append(name))
    monkeypatch.setattr(Cluster, "apply", lambda kubectl, text: "", raising=False)
    stage.apply_object(foreign(cluster))
    assert made == []


LOCAL = Site(Cluster(), Path("helm"), True, local=object())
LOOK_AROUND = "Try next"


@pytest.mark.parametrize(
    ("site", "keep", "once", "words"),
    [
        (LOCAL, False, False, "At its end the demo takes the cluster down; `make clean` does too."),
        (LOCAL, True, False, "The cluster stays up after the demo: `make clean` takes it down."),
        (LOCAL, False, True, "`make demo` or `make demo ONCE=1 KEEP=1`."),
        (foreign(Cluster()), False, False, "the demo removes what it made: GLMDeployment vision,"),
        (foreign(Cluster()), True, False, "To remove it:\n  kubectl delete glmdeployments.glm"),
        (foreign(Cluster()), False, True, "`make demo ONCE=1 KEEP=1 KUBECONFIG=/home/me/config`."),
    ],
)
def test_the_words_at_the_end_tell_what_becomes_of_the_cluster(
    site: Site, keep: bool, once: bool, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.outlook(stage.Stay(site, keep, () if site.local else THINGS), once)
    said = capsys.readouterr().out
    assert words in said
    assert (LOOK_AROUND in said) == (keep or not once)
    assert ("Ctrl-C ends the demo." in said) == (not once)


def test_a_cluster_that_had_all_before_is_said_to_keep_it() -> None:
    stay = stage.Stay(foreign(Cluster()), keep=False)
    assert not stay.ends
    assert stay.fate() == "All that the demo needs was on the cluster before, and stays."
