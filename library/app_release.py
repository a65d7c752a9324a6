#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install one Python application on a host, as a release."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: app_release
short_description: Install one Python application on a host, as a release
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Creates the account and the directories of an app, builds a release (the code and a virtualenv) where the host lacks it, writes the
    environment of the app and points the link C(current) to the release. The host needs nothing but Python.
  - The id of a release is derived from its source and its requirements, so it is the same on every host. Each host builds the release with
    its own Python, below that id. A host that has the release already is sent nothing.
  - The link C(current) changes in one step, and only after the build is complete. A build that fails or is killed never becomes current,
    and the next run starts it again.
  - No code of the app or of its packages runs as root.
options:
  name:
    description: The name of the app.
    type: str
    required: true
  user:
    description:
      - The account that the app runs as. It is created when it is missing.
      - Without root privileges it has to be the account that logs in.
      - The default is O(name).
    type: str
  group:
    description: The group of the app. The default is O(name).
    type: str
  root:
    description: The directory of the app on the host. The default is C(/opt/<name>).
    type: str
  source:
    description: The origin of the code. Without it there is no release, only the account, the directories and the environment.
    type: dict
    suboptions:
      type:
        description:
          - V(directory) is a directory on the control node.
          - V(archive) is a file on the control node. A wheel or an sdist is installed into the virtualenv. Other tar and zip files are
            unpacked, and a single directory around all files is left out unless it is a Python package.
          - V(git) is a repository that the control node resolves and fetches. Hosts need no git and no credentials. A commit with
            submodules or with files of git-LFS is refused. Use a checkout of it as V(directory), or exclude these files. The attribute
            C(export-ignore) has no effect.
          - V(pypi) is a package that each host installs.
        type: str
        required: true
        choices: [directory, archive, git, pypi]
      location:
        description: A path on the control node (relative to the inventory's directory), a repository, or the name of a package.
        type: str
        required: true
      version:
        description: A branch, a tag or a full commit id with V(git), by default C(HEAD). With V(pypi) the exact version, which is required.
        type: str
      exclude:
        description:
          - Patterns of files and directories to leave out. A pattern with a slash is compared with the path, any other with the name.
          - The default with V(directory) is C(.git), C(.env), C(*.pyc). Virtualenvs and C(__pycache__) are always left out of a directory.
        type: list
        elements: str
  python:
    description: The Python of the virtualenv, as a name or a path on the host.
    type: str
    default: python3
  requirements:
    description:
      - The packages of the virtualenv. An entry is a pip requirement (C(celery[redis]==5.7.0)), the name of a requirements file in the
        release (C(requirements.txt)), the release itself (V(.), C(.[extra])) or an option of pip (it begins with C(-)).
      - Where a file has hashes, the parts of the release (V(.), C(-e .), C(./lib), a package file), whether listed or in that file, are
        installed after it by a separate call of pip with C(--no-deps), because pip refuses packages without a hash.
      - The release itself is installed only where V(.) is listed. Its top directory is the working directory of the nodes, so plain
        modules are found.
    type: list
    elements: str
    default: []
  shared_paths:
    description:
      - Paths of the release that outlive it. Each is replaced by a link to the same path below C(<root>/shared), which belongs to O(user).
      - A path that ends with C(/) is a directory, and is created when it is missing. Any other path is a file or directory of the release,
        or a file that the app creates. The content in the release is the first content. Existing content of C(shared) stays as it is.
      - A path cannot lie in another one and cannot hold code. A change of the list makes another release.
    type: list
    elements: str
    default: []
  env:
    description: Environment variables of the app.
    type: dict
    default: {}
  secrets:
    description: Environment variables of the app whose values are never shown.
    type: dict
    default: {}
  release_commands:
    description:
      - Commands, as lists of words, that are run once for each release, between its build and its activation. They run with the
        environment of the app, in the directory of the release and as O(user).
      - When a command fails, the current release stays, and the next run starts with that command.
    type: list
    elements: list
    default: []
  run_commands:
    description: Whether this host runs O(release_commands).
    type: bool
    default: true
  commands_done:
    description: The digests of the release commands that another host has run for this release, from its RV(ignore:commands_done).
    type: list
    elements: str
    default: []
  releases_kept:
    description: The number of releases that stay on the host. The current and the previous release, both releases of a release hold, and
      every release that a process runs from, that an enabled unit or program names or that a rollback needs stay in any case. A later run
      removes a release as soon as it is free.
    type: int
    default: 5
  pip_environment:
    description: Environment variables of pip, such as C(PIP_INDEX_URL), C(HTTPS_PROXY), C(PIP_CERT).
    type: dict
    default: {}
  step_seconds:
    description: The time limit of a fetch by git, of a run of pip and of each release command. A step that exceeds it is killed.
    type: float
    default: 3600
  broker_url:
    description: The URL of the broker. The app finds it under the names in O(broker_env).
    type: str
  result_url:
    description: The URL of the result store. The app finds it under the names in O(result_env).
    type: str
  broker_env:
    description: The environment variables for O(broker_url). The default is C(CELERY_BROKER_URL) and C(CHICORY_BROKER_REDIS_URL).
    type: list
    elements: str
  broker_options:
    description: The layout of the app's queues in Redis, as C(app_broker_options). It is written to C(<app_root>/bin/workfleet-health).
    type: dict
  result_env:
    description: The environment variables for O(result_url). The default is C(CELERY_RESULT_BACKEND) and C(CHICORY_BACKEND_REDIS_URL).
    type: list
    elements: str
  release:
    description:
      - A release that the host has already. It is used in place of the one that O(source) makes, and nothing is built.
      - The value is an id, the name of a build (RV(ignore:build)), V(current), V(previous) for the release of a rollback, or V(running) for
        the release of the enabled nodes on this host.
    type: str
    default: ""
  until:
    description:
      - The last step of this task. With V(built) the release is built. With V(ready) its release commands have been run too, and the host
        records that a rollout is about to start. With V(current) the link C(current) points to it.
      - A host stops at V(built) unless all release commands are known to have been run. So no host activates a release while another host
        still has to run its commands.
    type: str
    default: current
    choices: [built, ready, current]
  hold:
    description:
      - The treatment of a release hold. While the declaration gives the release that was rolled back, a host with a release hold uses the
        held release instead.
      - V(obey) uses the held release, and drops the hold when the declaration gives another release.
      - V(drop) uses the declared release, and drops the hold when that release becomes current.
      - V(stay) holds the chosen release from its activation on.
      - V(back) holds the chosen release from O(until=ready) on, before a node is started from it. The release that was current is never
        a later rollback's target.
      - V(failed) is V(back) after a node of the new release has failed. This hold also ends with any change of what the inventory declares
        of the app, because the change may mend the fault.
      - V(free) rolls back as V(back) does and holds nothing, for a failure that is not the fault of the release.
      - A hold replaces the declared release of the inventory. No hold is made for an O(source) that comes from an extra variable.
    type: str
    default: obey
    choices: [obey, drop, stay, back, failed, free]
  why:
    description: The reason of a new release hold, which is the failure or the name of the person. It is returned with the hold.
    type: str
    default: ""
  foretold:
    description: The last step of an earlier task of the same run. In check mode the steps up to it are not predicted again.
    type: str
    default: ""
    choices: ["", built, ready, current]
  lock_seconds:
    description: The time in seconds to wait for the lease of another run of this app. O(until=built) needs no lease.
    type: int
    default: 30
  others:
    description: Whether other hosts are in the same run. The task then stops before another release becomes current and before release
      commands are run, and returns RV(waits). A second task without this option gets the holds and the commands of the other hosts.
    type: bool
    default: false
  holds:
    description: The release holds of other hosts, from their RV(ignore:holds). This host obeys and keeps them too.
    type: list
    elements: dict
    default: []
  leave_busy:
    description: Whether a host on which another program installs packages for too long returns RV(busy) in place of a failure, so that a
      later task can fail for this host alone.
    type: bool
    default: false
  archive:
    description: Set by the action plugin and never by a task. It is the path of the packed source on the host.
    type: path
attributes:
  check_mode:
    support: full
    description: The task predicts the release, the steps and the diff of a real run, also on a host without the account and the
      directories.
  diff_mode:
    support: full
    description: A secret is shown as changed or unchanged only.
extends_documentation_fragment:
  - workfleet.core.payload
"""

EXAMPLES = r"""
- name: Install the shop
  workfleet.core.app_release:
    name: shop
    source:
      type: git
      location: https://git.example.org/shop.git
      version: v1.4.2
    requirements:
      - requirements.txt
    env:
      DJANGO_SETTINGS_MODULE: shop.settings
    secrets:
      SECRET_KEY: "{{ vault_shop_secret_key }}"
    release_commands:
      - [python, manage.py, migrate, --no-input]

- name: Roll back to the previous release, and hold it
  workfleet.core.app_release:
    name: shop
    release: previous
    hold: back
"""

RETURN = r"""
busy:
  description: Whether the build was left out because another program installed packages on the host and did not end in time.
  returned: failure, or with O(leave_busy)
  type: bool
release:
  description: The id of the release in use, null without a source.
  returned: success
  type: str
  sample: 1f0c8a9be2d4
build:
  description: The directory of the release below C(releases) on this host. It is RV(release), followed by a number where the release was
    built again for another Python.
  returned: success
  type: str
  sample: 1f0c8a9be2d4.2
notes:
  description: Notices, which are shown as warnings.
  returned: success
  type: list
  elements: str
previous:
  description: The release that was current before the task, null where there was none.
  returned: success
  type: str
  sample: 77ab10c2e9f0
commands_done:
  description: The digests of the release commands that were run for this release, on this host or another.
  returned: success
  type: list
  elements: str
holds:
  description: The release hold that the task obeyed, if there is one.
  returned: success
  type: list
  elements: dict
  contains:
    instead_of:
      description: The declared release, which was rolled back.
      type: str
    use:
      description: The release that is used in its place.
      type: str
    why:
      description: The failure, or the person who asked for the hold.
      type: str
    against:
      description: V(configuration) where the hold ends with any change of what the inventory declares of the app, V(release) where it ends
        with another release.
      type: str
    version:
      description: The version of the source, where it has one. A host that lacks the release builds it from that version.
      type: str
held:
  description: The release hold at the end of the task, in the form of RV(holds), null where there is none.
  returned: success
  type: dict
waits:
  description: Whether the task stopped because it needs the results of other hosts.
  returned: success
  type: bool
reached:
  description: The step that the task reached at least, V(built) or V(ready). It is the O(foretold) of a second call.
  returned: success
  type: str
steps:
  description: The steps in their order, taken or, in check mode, predicted.
  returned: success
  type: list
  elements: dict
  sample:
    - host: web1
      unit: release 1f0c8a9be2d4
      group: null
      slot: null
      incarnation: null
      action: write
      reason: no release of this source and requirements
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.app_release import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.host import steps
from ..module_utils.workfleet.release import plan as release
from ..module_utils.workfleet.release.declared import Declared


def main() -> None:
    """Observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    archive = module.params["archive"]
    try:
        declared = Declared.of(payload.unpack(module.params["payload"], "app_release"))
        plan = release.plan(declared, archive, check=module.check_mode)
        waiting = plan.archive_needed
        if plan.changes and not waiting and not module.check_mode:
            plan = release.apply(declared, archive)
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    module.exit_json(
        changed=bool(plan.changes) and (module.check_mode or not waiting),
        archive_needed=waiting,
        release=plan.release,
        build=plan.build,
        previous=plan.previous,
        commands_done=plan.commands_done,
        notes=plan.notes,
        holds=[{**plan.hold.told, "version": plan.version}] if plan.hold else [],
        held=plan.held.told if plan.held else None,
        waits=plan.waits,
        reached=plan.reached,
        diff=plan.diff,
        steps=steps.report([change.step for change in plan.changes], declared.host),
    )


if __name__ == "__main__":
    main()
