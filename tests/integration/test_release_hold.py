"""Going back to a release, staying there, and what the next run makes of it; on this machine, as in test_app_release."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from plugins.module_utils.workfleet.errors import WorkfleetError
from plugins.module_utils.workfleet.host import effects, release_choice
from plugins.module_utils.workfleet.host.release_choice import Hold, Words
from plugins.module_utils.workfleet.release import plan as release
from plugins.module_utils.workfleet.release.commands import digest
from tests.integration.test_app_release import Site, site, units, wait_until_moved

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["site"]

def version(site: Site, number: int) -> None:
    """Let the declaration give another release; the same number gives the same one."""
    (site.code / "tasks.py").write_text(f"one = {number}\n")


def released(site: Site, *numbers: int, **raw: Any) -> list[str]:
    """Make releases current one after the other; return their ids."""
    made = []
    for number in numbers:
        version(site, number)
        made.append(str(site.converge(**raw).release))
    return made


def current(site: Site) -> str:
    return (site.root / "current").resolve().name


def back(site: Site, **raw: Any) -> release.Plan:
    """Go back; what was predicted is what was done. Once more would go further back."""
    declared, _ = site.declared(release="previous", hold="back", **raw)
    predicted = release.plan(declared)
    done = release.apply(declared, None)
    assert [change.step for change in done.changes] == [change.step for change in predicted.changes]
    return done


def test_a_release_that_is_only_built_is_not_current_and_its_commands_were_not_run(site: Site) -> None:
    (first,) = released(site, 1)
    version(site, 2)
    commands = [["sh", "-c", "echo ran >> $HOME/../ran-here || touch ran"]]
    plan = site.converge(until="built", release_commands=commands)
    assert (current(site), plan.previous, plan.commands_done) == (first, first, [digest(c) for c in commands])
    assert site.releases() == {first, str(plan.release)}
    assert not (site.root / "state" / "release-commands.json").exists()


def test_ready_runs_the_commands_and_remembers_the_rollout_and_current_ends_it(site: Site) -> None:
    (first,) = released(site, 1)
    version(site, 2)
    ran = site.root / "log" / "ran"
    commands = [["touch", str(ran)]]
    plan = site.converge(until="ready", release_commands=commands)
    second = str(plan.release)
    assert ran.exists()
    assert current(site) == first
    assert json.loads((site.root / "state" / "releases.json").read_text()) == {
        "releases": [first], "rolling_out": second, "declared": second, "source": ""}
    site.converge(release_commands=commands)
    assert current(site) == second
    assert json.loads((site.root / "state" / "releases.json").read_text())["rolling_out"] is None


def test_no_host_makes_a_release_current_before_it_hears_that_its_commands_were_run(site: Site) -> None:
    (first,) = released(site, 1)
    version(site, 2)
    commands = [["false"]]
    plan = site.converge(release_commands=commands, run_commands=False)
    assert current(site) == first
    assert str(plan.release) in site.releases()
    site.converge(release_commands=commands, run_commands=False, commands_done=[digest(commands[0])])
    assert current(site) == plan.release


def test_what_was_taken_back_is_not_used_again_until_the_declaration_changes(site: Site) -> None:
    good, bad = released(site, 1, 2)
    plan = back(site)
    assert (plan.release, current(site)) == (good, good)
    again = site.converge()
    assert (again.release, again.changes) == (good, [])
    assert f"release {good} is held: it is used in place of the declared {bad}" in again.notes[0]
    version(site, 3)
    fixed = site.converge()
    assert current(site) == fixed.release not in (good, bad)
    assert ("remove", f"file {site.root}/state/hold.json") in units(fixed)
    assert site.converge().notes == []


def test_a_host_that_joins_builds_what_the_others_hold_and_holds_it_too(site: Site) -> None:
    version(site, 2)
    bad = release.plan(site.declared()[0]).release
    version(site, 1)
    declared, archive = site.declared()
    good = str(release.plan(declared).release)
    # As the control node asks a second time, with the source of the release that is held and the id of the declared one.
    asked = replace(declared, declares=str(bad), holds=(Hold(str(bad), good),))
    predicted = release.plan(asked)
    done = release.apply(asked, archive)
    assert [change.step for change in done.changes] == [change.step for change in predicted.changes]
    assert (current(site), site.releases()) == (good, {good})
    assert hold(site) == Hold(str(bad), str(good))
    version(site, 2)
    assert (site.converge().release, site.releases()) == (good, {good})


def test_a_hold_is_dropped_when_that_is_asked_for(site: Site) -> None:
    _, bad = released(site, 1, 2)
    back(site)
    site.converge(hold="drop")
    assert current(site) == bad
    assert not (site.root / "state" / "hold.json").exists()


def test_going_back_again_goes_further_back_and_ends_with_the_names_of_what_is_there(site: Site) -> None:
    oldest, middle, newest = released(site, 1, 2, 3)
    assert [back(site).release, back(site).release] == [middle, oldest]
    assert hold(site) == Hold(newest, oldest)
    with pytest.raises(WorkfleetError) as error:
        back(site)
    assert {name for name in (middle, newest) if name in str(error.value)} == {middle, newest}
    with pytest.raises(WorkfleetError, match=f"release 0123456789ab is not on this host; there are .*{oldest}"):
        site.converge(release="0123456789ab", hold="back")


def test_going_back_from_a_rollout_that_was_cut_short_returns_to_what_is_current(site: Site) -> None:
    _, second = released(site, 1, 2)
    version(site, 3)
    third = site.converge(until="ready").release
    assert back(site).release == second
    assert site.converge().release == second
    assert hold(site) == Hold(str(third), str(second))


def test_going_back_that_was_cut_short_goes_to_the_same_release_the_second_time(site: Site) -> None:
    good, bad = released(site, 1, 2)
    # Looked at first: what is refused then leaves no trace.
    site.converge(release="previous", hold="back", until="built")
    assert not (site.root / "state" / "hold.json").exists()
    site.converge(release="previous", hold="back", until="ready")
    assert current(site) == bad
    assert site.converge(until="built").release == good
    assert back(site).release == good
    assert current(site) == good


def test_a_failed_rollout_stays_with_the_current_release_and_holds_it(site: Site) -> None:
    (good,) = released(site, 1)
    version(site, 2)
    bad = site.converge(until="ready").release
    site.converge(release="running", hold="back")
    assert (site.converge().release, site.releases()) == (good, {good, bad})
    # A deployment of the same release disregards the hold until its end.
    assert site.converge(until="ready", hold="drop").release == bad
    assert site.converge(until="built").release == good
    site.converge(hold="drop")
    assert (current(site), (site.root / "state" / "hold.json").exists()) == (bad, False)


def test_a_release_that_was_asked_for_stays_though_the_declaration_gives_another(site: Site) -> None:
    old, new = released(site, 1, 2)
    site.converge(release=old, until="ready", hold="stay")
    site.converge(release=old, hold="stay")
    assert (current(site), site.converge().release) == (old, old)
    assert back(site).release == new
    assert (site.converge().release, site.converge().notes) == (new, [])


def hold(site: Site) -> Hold | None:
    path = site.root / "state" / "hold.json"
    return Hold(**json.loads(path.read_text())) if path.exists() else None


def test_going_back_to_the_declared_release_held_it_in_place_of_the_one_that_was_held_before(site: Site) -> None:
    good, declared = released(site, 1, 2)
    back(site)
    # As rollback.yml does it, in tasks of their own; it may be cut short between any two, and begun again.
    for until in ("ready", "ready", "current"):
        site.converge(release=declared, hold="back", until=until)
        assert hold(site) is None
    # Back to the release that was not declared and on again: it is the declaration that counts, whatever was current.
    site.converge(release=good, hold="stay")
    assert (current(site), hold(site)) == (good, Hold(declared, good))
    site.converge(release=declared, hold="back")
    assert (current(site), hold(site)) == (declared, None)
    version(site, 1)
    assert site.converge().release == current(site) == good


def test_a_hold_outlived_the_declaration_that_gives_what_is_held(site: Site) -> None:
    oldest, good, bad = released(site, 0, 1, 2)
    back(site)
    assert hold(site) == Hold(bad, good)
    version(site, 1)
    site.converge()
    assert (current(site), hold(site)) == (good, None)
    # Had it been kept, this would be held in place of the release that nobody declares any more, and site.yml would take it away.
    assert back(site).release == oldest
    assert (hold(site), site.converge().release) == (Hold(good, oldest), oldest)


def enable(site: Site, node: str, used: str, *, on: bool = True) -> None:
    """Let the host have a node of a release."""
    programs = site.root / "supervisor" / "programs"
    programs.mkdir(parents=True, exist_ok=True)
    text = f"command=launch.py --chdir {site.root}/releases/{used}/src\nautostart={str(on).lower()}\n"
    (programs / f"workfleet.shop.{node}.conf").write_text(text)


def test_what_a_killed_run_had_made_current_stayed_so_though_the_nodes_went_back(site: Site) -> None:
    oldest, good, bad = released(site, 0, 1, 2)
    enable(site, "a.1.3", good)
    enable(site, "a.1.2", bad, on=False)  # told to go
    site.converge(release="running", hold="back")
    assert (current(site), hold(site)) == (good, Hold(bad, good))
    assert site.converge().release == good
    # What is current and runs stays, whatever else does, and so it does where nothing runs.
    enable(site, "b.1.1", oldest)
    site.converge(release="running", hold="back")
    for node in ("a.1.3", "b.1.1"):
        enable(site, node, good, on=False)
    site.converge(release="running", hold="back")
    assert (current(site), hold(site)) == (good, Hold(bad, good))


def test_a_held_release_that_is_gone_is_named(site: Site) -> None:
    good, _ = released(site, 1, 2)
    back(site)
    (site.root / "releases" / good / "release.json").unlink()
    with pytest.raises(WorkfleetError, match=f"release {good} is held .* no longer there: -e release_hold=false"):
        release.plan(site.declared()[0])


def test_what_another_host_took_back_is_not_used_here_either_and_held_from_then_on(site: Site) -> None:
    (good,) = released(site, 1)
    version(site, 2)
    # This host was out of reach when the others took it back: it has no hold, and goes no further before it has heard theirs.
    first = site.converge(others=True)
    bad = first.release
    assert (first.waits, first.hold, current(site)) == (True, None, good)
    heard = [{"instead_of": bad, "use": good}]
    second = site.converge(holds=heard)
    assert (second.release, current(site), second.waits) == (good, good, False)
    assert f"release {good} is held" in second.notes[0]
    again = site.converge(others=True)
    assert (again.release, again.changes, again.waits, again.hold) == (good, [], False, Hold(str(bad), good))
    # What others hold of another declaration is none of this one's affairs.
    version(site, 3)
    assert site.converge(others=True, holds=heard).waits
    assert site.converge(holds=heard).release == current(site) != good


def test_a_host_that_has_not_what_others_hold_says_so(site: Site) -> None:
    (declared,) = released(site, 1)
    heard = site.declared(holds=[{"instead_of": declared, "use": "0123456789ab"}])[0]
    with pytest.raises(WorkfleetError, match=r"held on other hosts in place of .* and it is not on this host: declare another version"):
        release.plan(heard)


def test_a_host_that_changes_no_release_waits_for_nobody(site: Site) -> None:
    assert site.converge(others=True).waits
    site.converge()
    again = site.converge(others=True)
    assert (again.waits, again.changes) == (False, [])


def test_a_release_whose_removal_was_cut_short_counted_as_complete(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    oldest, *_ = released(site, 0, 1, 2)
    declared, archive = site.declared(releases_kept=1)

    remove = effects.remove

    def cut_short(path: str) -> bool:
        if os.path.isdir(path):
            raise WorkfleetError("cut short")
        return remove(path)

    with monkeypatch.context() as patched, pytest.raises(WorkfleetError, match="cut short"):
        patched.setattr(effects, "remove", cut_short)
        release.apply(declared, archive)
    assert (site.root / "releases" / oldest / "src").is_dir()
    with pytest.raises(WorkfleetError, match=f"release {oldest} is not on this host"):
        release.plan(site.declared(release=oldest, hold="back")[0])
    released(site, 0)
    assert current(site) == oldest


def removable(site: Site, names: Iterable[str]) -> set[str]:
    return set(names) - site.releases()


def test_neither_what_is_held_nor_what_was_taken_back_nor_what_runs_is_pruned(site: Site) -> None:
    oldest, good, bad, third = released(site, 0, 1, 2, 3, releases_kept=5)
    site.converge(release=good, hold="back", releases_kept=1)
    # The last but one is what somebody who goes back once more gets.
    assert removable(site, (oldest, good, bad, third)) == {oldest}
    sleeper = subprocess.Popen([str(site.root / "bin" / "run"), "sleep", "60"])
    try:
        wait_until_moved(sleeper.pid, good)
        last = released(site, 4, 5, 6, releases_kept=1)
        assert site.releases() == {good, last[1], last[2]}
    finally:
        sleeper.kill()
        sleeper.wait()


def told(site: Site, *words: str) -> tuple[str | None, str]:
    """Return what ``status.yml`` tells of a hold: what is used by it, and what is wrong."""
    found, _, wrong = release_choice.standing(site.declared()[0].layout, current(site), Words(*words))
    return found.use if found else None, wrong


def test_what_failed_is_held_with_its_reason_until_the_inventory_says_something_else(site: Site) -> None:
    (good,) = released(site, 1, words=Words("s1", "one"))
    version(site, 2)
    mistaken = Words("s2", "mistaken")
    bad = str(site.converge(until="ready", hold="drop", words=mistaken).release)
    site.converge(release="running", hold="failed", why="web1: node a 1 does not stay up", words=mistaken)
    assert hold(site) == Hold(bad, good, "web1: node a 1 does not stay up", "s2", "mistaken")
    again = site.converge(words=mistaken)
    assert (again.release, again.changes) == (good, []) and "web1: node a 1 does not stay up" in again.notes[0]
    used, wrong = told(site, "s2", "mistaken")
    assert used == good and bad in wrong and "web1: node a 1 does not stay up" in wrong
    # Mended beside the release: what is held is so no longer, and the release is tried again.
    used, wrong = told(site, "s2", "mended")
    assert used is None and f"the inventory gives {bad}" in wrong and "run site.yml" in wrong
    assert site.converge(words=Words("s2", "mended")).release == current(site) == bad
    assert (hold(site), told(site, "s2", "mended")) == (None, (None, ""))


def test_what_was_not_the_releases_fault_held_it(site: Site) -> None:
    good, _ = released(site, 0, 1)
    version(site, 2)
    tried = str(site.converge(words=Words("s2", "wrong port")).release)
    site.converge(release=good, hold="free", words=Words("s2", "wrong port"))
    assert (current(site), hold(site)) == (good, None)
    assert f"release {good} is current, and the inventory gives {tried}: run site.yml" in told(site, "s2", "wrong port")[1]
    assert site.converge(words=Words("s2", "mended")).release == current(site) == tried


def test_a_deploy_of_another_version_was_taken_for_what_the_inventory_declares(site: Site) -> None:
    """After failed deploys by ``-e version=`` and a rollback the next site.yml rolled the fleet forward."""
    words = Words("s2", "all")
    oldest, declared = released(site, 1, 2, words=words)
    for number in (3, 4, 5):
        version(site, number)
        site.converge(until="ready", hold="drop", own=False, words=words)
        site.converge(release="running", hold="failed", why="it failed", words=words)
        assert (current(site), hold(site), told(site, "s2", "all")) == (declared, None, (None, ""))
    back(site, why="rollback.yml", words=words)
    version(site, 2)
    again = site.converge(words=words)
    assert (again.release, current(site)) == (oldest, oldest)
    assert f"release {oldest} is held" in again.notes[0] and declared in again.notes[0] and "rollback.yml" in again.notes[0]
    # Nor does another configuration end what somebody has chosen; another deploy that fails leaves it as it was.
    other = Words("s2", "other")
    assert site.converge(words=other).release == oldest
    version(site, 6)
    site.converge(until="ready", hold="drop", own=False, words=other)
    site.converge(release="running", hold="failed", why="it failed", words=other)
    assert hold(site) == Hold(declared, oldest, "rollback.yml", "s2") and told(site, "s2", "other")[0] == oldest
    # One that succeeds ends it; then the inventory's word counts, and it is said that this is another.
    new = site.converge(hold="drop", own=False, words=other).release
    assert (current(site), hold(site)) == (new, None)
    assert f"the inventory gives {declared}: run site.yml" in told(site, "s2", "other")[1]


def test_going_back_held_nothing_where_the_inventory_had_been_changed_and_not_looked_at(site: Site) -> None:
    oldest, _ = released(site, 1, 2, words=Words("s2", "two"))
    changed = Words("s3", "three")
    assert "the inventory gives another source" in told(site, "s3", "three")[1]
    back(site, why="rollback.yml", words=changed)
    assert hold(site) == Hold("", oldest, "rollback.yml", "s3") and told(site, "s3", "three")[0] == oldest
    version(site, 3)
    third = site.declared(words=changed)
    assert release.plan(third[0]).release == oldest
    assert site.converge(words=Words("s4", "four")).release == current(site) != oldest
