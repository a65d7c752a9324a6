"""What follows from what the hosts of a fleet know of its releases, and the name that a release has on all of them."""

from __future__ import annotations

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import release_choice
from plugins.module_utils.workfleet.release import fleet
from plugins.module_utils.workfleet.release.fleet import Known

SOURCE = {"kind": "tree", "fingerprint": "f00", "label": "v1 (0123)", "size": 1}
OLD, NEW, OTHER = "a" * 12, "b" * 12, "c" * 12


def test_a_release_is_named_by_its_source_and_requirements_alone() -> None:
    made_of: tuple[list[str], list[str]] = (["requirements.txt"], [])
    name = release_choice.identity(SOURCE, made_of)
    assert release_choice.identity({**SOURCE, "label": "main (0123)", "size": 7}, (("requirements.txt",), ())) == name
    others = [release_choice.identity({**SOURCE, "fingerprint": "f01"}, made_of), release_choice.identity(SOURCE, ([], [])),
              release_choice.identity(SOURCE, (["requirements.txt"], ["media/"]))]
    assert len({name, *others}) == 4


def test_a_command_that_any_host_has_run_counts_as_run_wherever_it_stands_in_the_list() -> None:
    known = {"new": Known(), "old": Known(current=NEW, commands={NEW: ["one"], OLD: ["two"]})}
    assert fleet.commands_run(known, NEW, ["one"], ["lost"], "") == ["one"]
    assert fleet.commands_run(known, NEW, ["one", "two"], [], "") == ["one"]


def test_who_cannot_know_whether_a_command_was_run_asks_for_a_word() -> None:
    known = {"new": Known(), "old": Known(commands={NEW: ["one"]})}
    with pytest.raises(WorkfleetError) as caught:
        fleet.commands_run(known, NEW, ["one", "two"], ["lost"], "")
    for part in ("release command 2 of 2", "lost, outside of --limit, cannot be asked", "-e release_commands=run", "=skip"):
        assert part in str(caught.value)
    assert fleet.commands_run(known, NEW, ["one", "two"], ["lost"], "run") == ["one"]
    assert fleet.commands_run(known, NEW, ["one", "two"], ["lost"], "skip") == ["one", "two"]


def test_a_host_that_joins_gets_what_the_others_agree_on() -> None:
    assert fleet.agreed({"web1": Known(current=OLD), "web2": Known(current=OLD), "web3": Known()}) == OLD
    assert fleet.agreed({"web1": Known()}) is None
    with pytest.raises(WorkfleetError, match=f"do not agree on it: {OLD} on web1; {NEW} on web2"):
        fleet.agreed({"web1": Known(current=OLD), "web2": Known(current=NEW)})


def test_the_first_host_that_knows_of_a_release_to_go_back_to_chooses() -> None:
    """One that joined stood first in the list once, and nobody went back."""
    assert fleet.going_back({"new": Known(current=NEW), "web1": Known(NEW, OLD), "web2": Known(NEW, OLD)}) == (OLD, "web1", [])
    _, chooser, notes = fleet.going_back({"web1": Known(NEW, OLD), "web2": Known(OLD, OTHER)})
    assert chooser == "web1"
    assert f"hosts do not agree on the release to go back to: {OLD} on web1; {OTHER} on web2" in notes[0]
    with pytest.raises(WorkfleetError, match="no host knows of another"):
        fleet.going_back({"new": Known(current=NEW)})


def test_a_host_that_lacks_the_release_to_go_back_to_is_named_with_the_way_out_before_any_is_changed() -> None:
    has = Known(NEW, OLD, releases={NEW: {}, OLD: {"source": "v1 (0123)", "version": "0" * 40}})
    fleet.require_there({"web1": has, "web2": has}, OLD)
    with pytest.raises(WorkfleetError) as caught:
        fleet.require_there({"web1": has, "web2": Known(NEW, releases={NEW: {}}), "web3": Known()}, OLD)
    assert str(caught.value) == (
        f"release {OLD} (v1 (0123)) is not on web2, web3, and nothing is built on the way back. No host was changed. deploy.yml -e "
        f"version={'0' * 40} builds it on every host and goes there; --limit 'all:!web2:!web3' leaves out who lacks it")


def test_a_run_that_parts_the_fleet_says_so() -> None:
    outside = {"web2": Known(current=OLD), "web3": Known(current=NEW), "web4": Known()}
    assert fleet.differing(outside, OLD) == [
        f"the fleet will not have one release: this run is for {OLD}, and outside of --limit there is {NEW} on web3"]
    assert fleet.differing({"web3": Known(current=NEW)}, NEW) == []
