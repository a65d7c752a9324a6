"""What dead rq workers left behind: jobs that they had begun or popped, and their names.

rq itself goes by clocks: it gives a job up when its worker has been silent for so long. Here a worker is dead whose process is on no host.
A job that has retries left goes back to its queue, as rq would send it; one that has none fails, for it may have done half of its work.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any

from ... import resp
from ..verbs import reaping
from ..verbs.letters import now as time_of
from .keys import JOB, WORKER, WORKERS, intermediate, iso, name_of

if TYPE_CHECKING:
    from ..verbs.reaping import Found, Reaping

_WHY = base64.b64encode(zlib.compress(b"workfleet: the worker that ran it is dead")).decode()
# [[job:execution, its worker, whether that says so itself] …]. ARGV: the queue.
_BEGUN = """
local found = {}
for _, member in ipairs(redis.call('ZRANGE', 'rq:wip:' .. ARGV[1], 0, 9999)) do
  local job = string.match(member, '^[^:]*')
  local worker = redis.call('HGET', 'rq:execution:' .. member, 'worker_name') or redis.call('HGET', 'rq:job:' .. job, 'worker_name') or ''
  local key = 'rq:worker:' .. worker
  local has = redis.call('SISMEMBER', key .. ':executions', member) == 1 or redis.call('HGET', key, 'current_job') == job
  found[#found + 1] = {member, worker, has and 1 or 0}
end
return found
"""
# Ends the execution of a dead worker; 1: back in the queue, 2: failed, 0: it had ended. ARGV: queue, job:execution, why, the time twice.
_FREE = """
local queue, member, now = ARGV[1], ARGV[2], tonumber(ARGV[4])
local id = string.match(member, '^[^:]*')
local job, begun = 'rq:job:' .. id, redis.call('ZREM', 'rq:wip:' .. queue, member)
redis.call('DEL', 'rq:execution:' .. member)
redis.call('ZREM', 'rq:executions:' .. id, string.match(member, ':(.*)'))
redis.call('LREM', 'rq:queue:' .. queue .. ':intermediate', 0, id)
local status, left, lasts = unpack(redis.call('HMGET', job, 'status', 'retries_left', 'failure_ttl'))
if begun == 0 or (status ~= 'started' and status ~= 'queued') then return 0 end
if status == 'started' and (tonumber(left) or 0) <= 0 then
  lasts = tonumber(lasts) or 31536000
  redis.call('HSET', job, 'status', 'failed', 'ended_at', ARGV[5])
  redis.call('XADD', 'rq:results:' .. id, 'MAXLEN', 10, '*', 'type', 2, 'worker_name', '', 'exc_string', ARGV[3])
  redis.call('ZADD', 'rq:failed:' .. queue, lasts < 0 and lasts or now + lasts, id)
  if lasts > 0 then redis.call('EXPIRE', job, lasts) redis.call('EXPIRE', 'rq:results:' .. id, lasts) end
  return 2
end
if status == 'started' then redis.call('HINCRBY', job, 'retries_left', -1) end
redis.call('HSET', job, 'status', 'queued')
redis.call('PERSIST', job)
redis.call('LPUSH', 'rq:queue:' .. queue, id)
return 1
"""
# A job that was popped and is not begun. ARGV: queue, job.
_RETURN = """
local list = 'rq:queue:' .. ARGV[1]
if redis.call('HGET', 'rq:job:' .. ARGV[2], 'status') ~= 'queued' or redis.call('LREM', list .. ':intermediate', 1, ARGV[2]) == 0 then
  return 0
end
return redis.call('LPUSH', list, ARGV[2])
"""
_FORGET = """
if redis.call('HGET', KEYS[1], 'last_heartbeat') ~= ARGV[1] then return 0 end
for _, queue in ipairs(redis.call('SMEMBERS', 'rq:queues')) do
  redis.call('SREM', 'rq:workers:' .. string.sub(queue, 10), KEYS[1])
end
redis.call('SREM', 'rq:workers', KEYS[1])
return redis.call('DEL', KEYS[1], KEYS[1] .. ':executions')
"""


def beats(client: resp.Client) -> dict[str, list[str]]:
    """Return pid, last sign of life and state of all workers that have not ended, by name."""
    names = sorted(client.call("SMEMBERS", WORKERS))
    told = client.pipeline([("HMGET", name, "pid", "last_heartbeat", "state", "death") for name in names])
    return {resp.text(name)[len(WORKER):]: [resp.text(word) for word in said[:3]] for name, said in zip(names, told)
            if said[1] is not None and said[3] is None}


def note(order: Reaping) -> dict[str, Any]:
    """Return what is begun or popped, and who has told of himself."""
    with resp.connect(order.url) as client:
        return {"beats": beats(client), "queues": {queue: {
            "begun": [resp.text(member) for member, _, _ in client.call("EVAL", _BEGUN, 0, queue)],
            "popped": [resp.text(job) for job in client.call("LRANGE", intermediate(queue), 0, 9999)]} for queue in order.queues}}


def reap(order: Reaping, found: Found, *, check: bool) -> None:
    """End what dead workers had begun, return what they had popped, and forget them."""
    with resp.connect(order.url) as client:
        now = beats(client)
        for queue, seen in order.seen["queues"].items():
            for member, worker, has in client.call("EVAL", _BEGUN, 0, queue):
                if resp.text(member) in seen["begun"]:
                    free(client, order, found, queue, resp.text(member), resp.text(worker), bool(has), now, check=check)
            popped(client, order, found, queue, seen["popped"], now, check=check)
        for node, beat in now.items():
            is_dead = reaping.app_of(node) == order.app and order.is_known(node) and doubt(order, node, now) is None
            if is_dead and (check or client.call("EVAL", _FORGET, 1, WORKER + node, beat[1])):
                found.forgotten.append(node)


def doubt(order: Reaping, node: str, now: dict[str, list[str]]) -> str | None:
    """Say why a node may be alive; ``None`` where it is proved dead."""
    before = order.seen["beats"].get(node)
    is_there = order.doubt(node, beats=node in now)
    return is_there or reaping.renewed(str(before), str(now.get(node)), same=node in now)


def free(
    client: resp.Client, order: Reaping, found: Found, queue: str, member: str, worker: str, has: bool, now: dict[str, list[str]], *,
    check: bool,
) -> None:
    """End one execution. A node that is there and does not say that it has it began anew under its name, after a kill."""
    job = member.partition(":")[0]
    if reaping.app_of(worker) != order.app:
        found.left.append(f"{queue}: {job}: {worker or 'a worker without a name'} has it, which is none of the app's nodes")
        return
    why = doubt(order, worker, now)
    if why is not None and (has or not order.processes.get(worker)):
        found.left += [] if order.processes.get(worker) else [f"{queue}: {job}: {worker} has it: {why}"]
        return
    data, status, left = client.call("HMGET", JOB + job, "data", "status", "retries_left")
    at = int(time_of(client))
    is_dead = status == b"started" and not int(left or 0)
    done = (2 if is_dead else 1) if check else client.call("EVAL", _FREE, 0, queue, member, _WHY, at, iso(at))
    if done:
        (found.dead if done == 2 else found.returned).append(reaping.task(queue, job, name_of(data)))


def popped(
    client: resp.Client, order: Reaping, found: Found, queue: str, seen: list[str], now: dict[str, list[str]], *, check: bool,
) -> None:
    """Return what was popped and is not begun, once nobody that lives can be about to begin it: each has told of itself since."""
    begun = {resp.text(member).partition(":")[0] for member, _, _ in client.call("EVAL", _BEGUN, 0, queue)}
    still = {resp.text(job) for job in client.call("LRANGE", intermediate(queue), 0, 9999)}
    jobs = [job for job in seen if job in still and job not in begun]
    names = [resp.text(name)[len(WORKER):] for name in client.call("SMEMBERS", f"rq:workers:{queue}")] if jobs else []
    silent = [name for name in names if name in now and now[name][2] != "busy" and now[name] == order.seen["beats"].get(name)
              and not (reaping.app_of(name) == order.app and doubt(order, name, now) is None)]
    for job in jobs:
        if silent:
            found.left.append(f"{queue}: {job}: {silent[0]} may be about to begin it: it has not told of itself since")
        elif check or client.call("EVAL", _RETURN, 0, queue, job):
            found.returned.append(reaping.task(queue, job, name_of(client.call("HGET", JOB + job, "data"))))
