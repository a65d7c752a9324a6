"""Judge what all hosts told before a deploy."""

from __future__ import annotations

from typing import Any

from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release import preflight
from ansible_collections.workfleet.core.plugins.plugin_utils import actions
from ansible_collections.workfleet.core.plugins.plugin_utils.inventory import bare

UNTOUCHED = {False: "nothing was built and no node was touched", True: "the release is built, and no node was touched"}


class ActionModule(actions.Action):
    """Runs on the control node alone."""

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Warn of each finding; fail where one refuses."""
        everywhere = task_vars["hostvars"]
        told = {host: bare(dict(everywhere[host].get(values["register"]) or {})) for host in values["hosts"]}
        told = {host: looked for host, looked in told.items() if "seen" in looked}
        fleet = preflight.Fleet(
            seen={host: looked["seen"] for host, looked in told.items()},
            clocks={host: (looked["clock"][0], looked["clock"][1]) for host, looked in told.items()},
            nodes={host: [preflight.Nodes(*each) for each in looked["nodes"]] for host, looked in told.items()},
            database_connections=values["database_connections"], allow_unregistered=values["allow_unregistered"],
        )
        findings = (preflight.after_build if values["built"] else preflight.before_build)(fleet)
        refusing = [finding for finding in findings if finding.refuses]
        for finding in findings:
            if not finding.refuses:
                self._display.warning(str(finding))
        result: dict[str, Any] = {"changed": False, "findings": preflight.described(findings)}
        if refusing:
            count = "1 finding" if len(refusing) == 1 else f"{len(refusing)} findings"
            lines = [f"- {finding}" for finding in refusing]
            result.update(failed=True, msg="\n".join([f"The deploy is refused by {count}; {UNTOUCHED[values['built']]}.", *lines]))
        return result
