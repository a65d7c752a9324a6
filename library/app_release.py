#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put an app on a host: account, directories, release, virtualenv, environment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_release
short_description: Put one Python application on a host, as a release of its own
version_added: 0.1.0
description:
  - Makes the account and the directories of an app, builds a release (code and a virtualenv of its own) where the
    host lacks it, writes the app's environment and lets the link C(current) name the release. One call, and nothing
    else is needed on the host but Python.
  - The name of a release is made from its source and its requirements, so that it is the same on every host. What a host builds of
    it, and with which Python, is its own business below that name. Where the host has that release already, nothing is sent.
  - C(current) is changed in one step, and only after the release was built to its end. A build that fails or is
    killed never becomes current, and the next run begins it anew.
  - Code of the app or of its packages never runs as root.
options:
  name:
    description: Name of the app. Required.
    type: str
  user:
    description:
      - Account that the app runs as. It is made where it is missing.
      - Without root's rights it must be the account that logs in.
      - Default is O(name).
    type: str
  group:
    description: Group of the app. Default is O(name).
    type: str
  root:
    description: Directory of the app on the host. Default is C(/opt/<name>).
    type: str
  source:
    description:
      - Where the code comes from. Without it there is no release, only the account, the directories and the
        environment.
    type: dict
    suboptions:
      type:
        description:
          - V(directory) of the control node.
          - V(archive) of the control node. A wheel or sdist is installed into the virtualenv; other tar and zip files
            are unpacked, without a single directory around everything unless that is itself a Python package.
          - V(git) repository, resolved and fetched on the control node. Hosts need no git and no credentials.
            A commit with submodules or files of git-LFS is refused; give a checkout that has them as V(directory), or
            exclude them. C(export-ignore) leaves nothing out.
          - V(pypi) package, installed on the host.
        type: str
        required: true
        choices: [directory, archive, git, pypi]
      location:
        description: Path on the control node (from the inventory's directory), repository, or name of the package.
        type: str
        required: true
      version:
        description: Branch, tag or whole commit with V(git) (default C(HEAD)); the exact version, required, with
          V(pypi).
        type: str
      exclude:
        description:
          - Patterns of files and directories to leave out, by name, or by path where the pattern has a slash.
          - Default with V(directory) is C(.git), C(.env), C(*.pyc). Virtualenvs and C(__pycache__) are always
            left out of a directory.
        type: list
        elements: str
  python:
    description: Python of the virtualenv, a name or a path on the host.
    type: str
    default: python3
  requirements:
    description:
      - What to install into the virtualenv. An entry is a pip requirement (C(celery[redis]==5.7.0)), the name of a
        requirements file inside the release (C(requirements.txt)), the release itself (V(.), C(.[extra])) or an
        option of pip (begins with C(-)).
      - Where a file has hashes, what lies in the release (V(.), C(-e .), C(./lib), a package file; listed, or in that file) is installed
        behind it by a call of pip of its own, with C(--no-deps), for pip refuses what has none.
      - The release itself is not installed unless V(.) is listed; its top is the working directory of the nodes, so
        plain modules are found.
    type: list
    elements: str
    default: []
  shared_paths:
    description:
      - Paths in the release that outlive it. In their place are links to the same path below C(<root>/shared), which belongs to O(user).
      - A path that ends with C(/) is a directory, and made where there is none. Any other is what the release holds there, or a file
        that the app makes. What the release holds is the first content; what is in C(shared) already stays as it is.
      - None may lie in another, nor hold code. Another list makes another release.
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
      - Commands (lists of words) that are run once for a release, after it was built and before it becomes current,
        with the app's environment, in the release's directory and as O(user).
      - Where one fails, the current release stays, and the next run begins with that command.
    type: list
    elements: list
    default: []
  run_commands:
    description: Whether this host is the one that runs O(release_commands).
    type: bool
    default: true
  commands_done:
    description: Digests of release commands that another host has run for this release (its RV(ignore:commands_done)).
    type: list
    elements: str
    default: []
  releases_kept:
    description: How many releases stay on the host. The current one, the one that would be gone back to, the two of a hold, and any
      that a process runs from, that an enabled unit or program names or that an undo would bring back stay anyway; each later run
      removes what has become free.
    type: int
    default: 5
  pip_environment:
    description: Environment variables for pip, such as C(PIP_INDEX_URL), C(HTTPS_PROXY), C(PIP_CERT).
    type: dict
    default: {}
  step_seconds:
    description: How long one step on the way to a release may take, a fetch by git, a run of pip or a release command. It is ended then.
    type: float
    default: 3600
  broker_url:
    description: URL of the broker, given to the app under the names in O(broker_env).
    type: str
  result_url:
    description: URL of the result store, given to the app under the names in O(result_env).
    type: str
  broker_env:
    description: Names for O(broker_url). Default is C(CELERY_BROKER_URL) and C(CHICORY_BROKER_REDIS_URL).
    type: list
    elements: str
  broker_options:
    description: How the app's transport lays things out in Redis, as C(app_broker_options). Stands in C(<app_root>/bin/workfleet-health).
    type: dict
  result_env:
    description: Names for O(result_url). Default is C(CELERY_RESULT_BACKEND) and C(CHICORY_BACKEND_REDIS_URL).
    type: list
    elements: str
  release:
    description:
      - Use this release, which is on the host, whatever the source says; nothing is built. An id, or the name of a build
        (RV(ignore:build)), or V(current), or V(previous)
        for the one to go back to, or V(running) for the one that the enabled nodes of this host are of.
    type: str
    default: ""
  until:
    description:
      - How far to go. With V(built) the release is there; with V(ready) its release commands have been run too, and the host
        remembers that it is about to be rolled out; with V(current) the link C(current) names it.
      - A host where not all release commands are known to have been run goes no further than V(built). So no host makes a release
        current while another one still has to run its commands.
    type: str
    default: current
    choices: [built, ready, current]
  hold:
    description:
      - A host can hold a release, so that it is used in place of the declared one for as long as the declaration gives the release
        that was taken back.
      - V(obey) uses what is held, and drops the hold where the declaration gives another release. V(drop) uses what is declared, and
        drops the hold when that becomes current. V(stay) holds the chosen release from when it is current. V(back) holds it
        from O(until=ready) on, before a node is started from it, and what was current is not gone back to later.
      - V(failed) is V(back) since a node of what was tried has failed. That hold ends with any change of what the inventory declares
        of the app, for what is wrong may be mended there.
      - V(free) goes back as V(back) does and holds nothing, since what failed was not the release.
      - A hold is in place of what the inventory gives. Where O(source) is another, by an extra variable of the run, none is made for it.
    type: str
    default: obey
    choices: [obey, drop, stay, back, failed, free]
  why:
    description: What failed, or who asked for it; stands in a new hold, and is told with it.
    type: str
    default: ""
  foretold:
    description: How far a task before this one went. In check mode that is not predicted once more.
    type: str
    default: ""
    choices: ["", built, ready, current]
  lock_seconds:
    description: How long to wait for another run that changes the nodes of this app. With O(until) V(built) it need not be waited for.
    type: int
    default: 30
  others:
    description: Whether other hosts are at work too. Where another release would become current, or release commands were not run yet,
      this call then goes no further and says so (RV(waits)); a second one, without this, is told what the others hold and have run.
    type: bool
    default: false
  holds:
    description: The holds that other hosts obey (their RV(ignore:holds)); this host obeys and keeps them too.
    type: list
    elements: dict
    default: []
  leave_busy:
    description: Whether a host on which something else installs packages for too long fails in the next task, by RV(busy), and not in
      this one, which ends all others.
    type: bool
    default: false
  payload:
    description: All of the above as the action plugin of the same name checked and packed it. Never set by hand.
    type: str
  archive:
    description: Where the action plugin has put the packed source on the host. Never set by hand.
    type: path
attributes:
  check_mode:
    support: full
    description: Predicts the same release, steps and diff that a run would have, also on a host without the account
      and the directories.
  diff_mode:
    support: full
    description: Secret values are shown as changed or unchanged only.
author:
  - Workfleet contributors
"""

EXAMPLES = r"""
- name: Put the shop on its hosts
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

- name: Go back to the release before, and stay there
  workfleet.core.app_release:
    name: shop
    release: previous
    hold: back
"""

RETURN = r"""
busy:
  description: Whether nothing was built, for something else installs packages on the host and did not end in time.
  returned: failure, or with O(leave_busy)
  type: bool
release:
  description: Id of the release that is used; null without a source.
  returned: success
  type: str
  sample: 1f0c8a9be2d4
build:
  description: What this host has of the release, a directory in C(releases). It is RV(release) itself, and with a number behind it where
    the release was built again since its Python is another one.
  returned: success
  type: str
  sample: 1f0c8a9be2d4.2
notes:
  description: Sentences for people, which are shown as warnings.
  returned: success
  type: list
  elements: str
previous:
  description: The release that was current before; null where there was none.
  returned: success
  type: str
  sample: 77ab10c2e9f0
commands_done:
  description: Digests of the release commands that were run for this release, here or on another host.
  returned: success
  type: list
  elements: str
holds:
  description: The hold that is obeyed, if there is one.
  returned: success
  type: list
  elements: dict
  contains:
    instead_of:
      description: The release that is declared, and was taken back.
      type: str
    use:
      description: The release that takes its place.
      type: str
    why:
      description: What failed, or who asked for it.
      type: str
    against:
      description: V(configuration) where it ends with any change of what the inventory declares of the app, V(release) where another
        release ends it.
      type: str
    version:
      description: The version of its source, where it has one; a host that lacks the release builds it by that.
      type: str
held:
  description: The hold that stands at the end of the task, in the form of RV(holds); null where there is none.
  returned: success
  type: dict
waits:
  description: Whether it goes no further before other hosts have told something.
  returned: success
  type: bool
reached:
  description: How far it went at least, V(built) or V(ready); the O(foretold) of a second call.
  returned: success
  type: str
steps:
  description: What was done, or would be done in check mode, in this order.
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

from ..module_utils.workfleet import payload, release, steps
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Observe, plan, apply, report."""
    module = AnsibleModule(argument_spec={**payload.ARGUMENTS, "archive": {"type": "path"}}, supports_check_mode=True)
    archive = module.params["archive"]
    try:
        declared = release.Declared.of(payload.unpack(module.params["payload"], "app_release"))
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
