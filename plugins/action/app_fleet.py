"""Judge what all hosts of a fleet know of its releases, before anything is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet.errors import WorkfleetError
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.host import builds, release_choice
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release import fleet
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release import spec as release_spec
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release.commands import digest
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.spec import checker
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, sources
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare

if TYPE_CHECKING:
    from collections.abc import Mapping


class ActionModule(actions.Action):
    """Runs on the control node alone."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what holds for the fleet; say what is not known or not agreed on, and fail where it matters."""
        everywhere = task_vars["hostvars"]
        play = known({host: everywhere[host].get(values["register"]) for host in values["hosts"]})
        asked = {host: answer for host, answer in zip(values["others"], values["told"], strict=True) if not answer.get("skipped")}
        outside = known(asked)
        silent = [host for host in asked if host not in outside]
        problems: list[str] = []
        check = checker.Checker("app_", bare({key: values[key] for key in ("requirements", "shared_paths", "release_commands")}), problems)
        made_of, commands = (release_spec.requirements(check), release_spec.shared_paths(check)), release_spec.release_commands(check)
        declared = release_spec.parse_source(bare(values["source"]), problems)
        if problems:
            raise checker.SpecError(problems)

        found: dict[str, Any] = {
            "changed": False, "release": values["release"] or None, "chooser": values["hosts"][0], "source": bare(values["source"]),
            "commands_done": [], "holds": [hold_of(each) for each in outside.values() if each.hold]}
        if values["back"] and values["release"] in ("", release_choice.PREVIOUS):
            found["release"], found["chooser"], notes = fleet.going_back(play)
            self.warn(notes)
        elif not values["release"] and declared is not None:
            wanted = sources.identity(sources.look(self, declared, task_vars, values["step_seconds"]), made_of)
            held = next((hold["use"] for hold in found["holds"] if hold["instead_of"] == wanted), None)
            found["release"] = held or wanted
            if held:
                commands = []  # they were run when it was the declared one
            elif values["joins"] and not any(each.current for each in play.values()):
                joined = fleet.agreed(outside) or wanted
                if joined != wanted:
                    of = told(outside, joined)
                    if sources.of_release(self, declared, of.get("version"), joined, made_of, task_vars, values["step_seconds"]) is None:
                        raise WorkfleetError(other(wanted, joined, of, play))
                    self.warn([f"{fleet.names(play)}: release {joined} ({of['source']}), which the rest of the fleet has, is used in place "
                               f"of the declared {wanted}; without --limit the declared one goes to all hosts"])
                    found.update(release=joined, source={**found["source"], "version": of["version"]})
        if found["release"] and builds.BUILD.match(found["release"]):
            if values["back"]:
                fleet.require_there(play, builds.release_of(found["release"]))
            if silent:
                self.warn([f"{fleet.names(silent)}, outside of --limit, cannot be asked what is known of releases there"])
            self.warn(fleet.differing(outside, found["release"]))
            digests = [digest(argv) for argv in commands]
            found["commands_done"] = fleet.commands_run({**outside, **play}, found["release"], digests, silent, values["word"])
        return found

    def warn(self, notes: list[str]) -> None:
        """Show what is to be said."""
        for note in notes:
            self._display.warning(note)


def known(answers: Mapping[str, Any]) -> dict[str, fleet.Known]:
    """Return what the hosts that answered know."""
    told_by = {host: bare(dict(answer or {})).get("known") for host, answer in answers.items()}
    return {host: fleet.Known(**answer) for host, answer in told_by.items() if answer is not None}


def told(hosts: fleet.Fleet, wanted: str) -> Mapping[str, Any]:
    """Return what hosts tell of a release."""
    return next((each.releases[wanted] for each in hosts.values() if wanted in each.releases), {})


def hold_of(each: fleet.Known) -> dict[str, Any]:
    """Return the hold of a host, with the version of the release in use."""
    hold = dict(each.hold or {})
    return {**hold, "version": each.releases.get(hold["use"], {}).get("version")}


def other(wanted: str, joined: str, of: Mapping[str, Any], play: fleet.Fleet) -> str:
    """Return why hosts that join cannot have the release of the others."""
    return (
        f"{fleet.names(play)} would get release {wanted}, which is declared, and the rest of the fleet has {joined} "
        f"({of.get('source') or 'unknown'}), which cannot be built from what app_source and app_requirements are now. Nothing was changed. "
        "Declare it again, or bring all hosts to the declared one by leaving --limit out; deploy.yml --limit gives these hosts the "
        "declared one all the same"
    )
