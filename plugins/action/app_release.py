"""Control node's half of app_release: check the arguments, look at the source, and send it only where it is lacking."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ansible import constants
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.host import release_choice
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release import shared, source
from ansible_collections.workfleet.core.plugins.module_utils.workfleet.release import spec as release_spec
from ansible_collections.workfleet.core.plugins.plugin_utils import actions, sources, words

RUNNERS = Path(__file__).resolve().parents[2] / "runners"


#: What the control node alone needs.
HERE = ("lock_seconds", "leave_busy")


class ActionModule(actions.Action):
    """One call of the module where the host has the release, two where the source must be sent first."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def act(self, values: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result."""
        host = str(task_vars["inventory_hostname"])
        request, declared = release_spec.parse({key: value for key, value in values.items() if key not in HERE}, host)
        looked = None if declared is None else sources.look(self, declared, task_vars, values["step_seconds"])
        builds = values["until"] == release_choice.BUILT and not values["release"]
        if builds and declared is not None and looked is not None and looked.version == declared.get("version"):
            self._pack(looked, request["shared"])  # nothing else tells whether a commit exists, and no host is changed before
        me = actions.who()
        request.update(source=looked and sources.described(looked), runners=runners(), run=me["run"], ended_run=me["ended_run"],
                       words=words.of(request["name"]), own=words.are_source(host, values["source"]))
        result = self._call(request, None, task_vars)
        if result.get("lacking") and declared is not None and looked is not None:
            versions = {str(hold["use"]): hold.get("version") for hold in values["holds"]}
            held, made_of = str(result["lacking"]), (request["requirements"], request["shared"])
            other = sources.of_release(self, declared, versions.get(held), held, made_of, task_vars, values["step_seconds"])
            if other is not None:
                request.update(source=sources.described(other), declares=sources.identity(looked, made_of))
                looked, result = other, self._call(request, None, task_vars)
        if result.pop("archive_needed", False) and looked is not None:
            packed = self._pack(looked, request["shared"])
            if not self._task.check_mode:
                for note in result["notes"]:  # whom it has to wait for, before it does: a warning comes with the result
                    self._display.display(f"  {host}: {note}")
                result = self._call(request, self._send(packed), task_vars)
                result.pop("archive_needed", None)
        if values["leave_busy"] and result.get("busy"):
            result["failed"] = False
        for note in result.get("notes", []):
            self._display.warning(f"{host}: {note}")
        return result

    def _call(self, request: dict[str, Any], archive: str | None, variables: dict[str, Any]) -> dict[str, Any]:
        """Run the module on the host."""
        return actions.call(self, "app_release", request, time.monotonic() + self.values["lock_seconds"], variables, archive=archive)

    def _pack(self, looked: source.Source, paths: list[str]) -> str:
        """Pack the source, once for all hosts of this run. What cannot be packed is found so, in check mode too."""
        packed = os.path.join(constants.DEFAULT_LOCAL_TMP, f"source-{looked.fingerprint}")
        if looked.pack is not None:
            source.made(packed, looked.pack)
        if looked.kind == "tree":
            shared.require_shareable(packed, paths)
        return packed

    def _send(self, packed: str) -> str:
        """Put a packed source on this host."""
        folder = self._connection._shell.tmpdir or self._make_tmp_path()
        remote: str = self._transfer_file(packed, self._connection._shell.join_path(folder, "source"))
        self._fixup_perms2((folder, remote))
        return remote


def runners() -> dict[str, str]:
    """Return the toolkit's programs for hosts."""
    return {file.name: file.read_text(encoding="utf-8") for file in sorted(RUNNERS.glob("*.py"))}
