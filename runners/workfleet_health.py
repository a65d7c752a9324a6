"""Judge whether the nodes of an app on this host consume, for load balancers and probes. Called by ``<app_root>/bin/workfleet-health``.

    workfleet_health.py --app NAME --root DIRECTORY [--broker-env NAME[,NAME…]] [--broker-options JSON] [--timeout SECONDS]
        [--only GROUP[,GROUP…]] [--json]

Exit codes: 0 every declared node consumes, 1 some do, 2 none does, 3 it cannot be told.

Declared is what is enabled in systemd's or supervisor's files. A node consumes where the process of its run record is
alive, has told that it takes tasks, was not told to take none, and where the broker bears it out: a Celery node names its
queues over pidbox, an arq or Chicory node keeps its heartbeat alive. Run it as root or as the app's user: others cannot
read the environment files, which name the broker. Changes nothing; standard library only, and little of that, for it may
run every few seconds.
"""

from __future__ import annotations

import binascii
import json
import os
import re
import socket
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OK, DEGRADED, NONE, UNKNOWN = range(4)
WORDS = ("all declared nodes consume", "some declared nodes do not consume", "no node consumes", "cannot tell")
UNITS = "/etc/systemd/system"
SIGNS = {True: "ok", False: "NOT", None: "?"}
# Not workers: they consume nothing, and alone they are no reason to send work here.
SINGLES = ("scheduler", "dashboard")
BROKER_ENV = ("WORKFLEET_BROKER_URL", "CELERY_BROKER_URL", "CHICORY_BROKER_REDIS_URL")
ASSIGNMENT = re.compile(r'^([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"[ \t]*$', re.DOTALL | re.MULTILINE)
WORD = re.compile(r"""(?:'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^\s'"\\])+""")
PIECE = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|([^\s'"\\]+)""")
QUOTED = re.compile(r'\\(["\\])')
URL = re.compile(r"(?:[a-z]+\+)?(?P<scheme>[a-z]+)://(?:(?P<user>[^:/]*)(?::(?P<password>[^/]*))?@)?(?P<host>\[[^\]]*\]|[^:/?#]*)"
                 r"(?::(?P<port>\d+))?(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?")
UNIT = re.compile(r"workfleet\.(?P<app>[a-z][a-z0-9_-]*)\.(?P<group>[a-z][a-z0-9_-]*)\.(?P<slot>[1-9]\d*)\.[1-9]\d*\Z")
# The same exchange as the toolkit's own questions: a worker remembers each that it meets.
REPLIES = "reply.workfleet.pidbox"
REPLIES_LIVE = 30
REPLIES_A_LOOK = 20
LARGEST_FILE = 1 << 20
# Bytes and values that the broker may answer in all, and how deep what it holds may be: it may be anybody's who can write there.
MOST_BYTES, MOST_VALUES, DEEPEST = 16 << 20, 100_000, 64
STRING = re.compile(rb'"[^"]*(?:"|\Z)')


class CannotTell(Exception):
    """What was needed for a judgement is not there; the message says what, and what to do."""


class Node:
    """One enabled unit: its command, its process, and what is known of whether it consumes.

    ``state`` is True (it consumes), False (it does not) or None (it cannot be told), ``reason`` says why.
    """

    def __init__(self, unit: str, group: str, slot: int, words: list[str]) -> None:
        self.unit, self.group, self.slot = unit, group, slot
        self.state: bool | None = None
        self.reason = ""
        launcher = words[:words.index("--")] if "--" in words else words
        self.command = words[words.index("--") + 1:] if "--" in words else json.loads(option(launcher, "--json") or "[]")
        self.record_path = os.path.join(option(launcher, "--run-directory"), f"{unit}.json")
        self.env_path = option(launcher, "--env-file")
        self.mark_path = os.path.join(os.path.dirname(self.env_path), f"{unit}.quiesced")
        self.pid = 0
        self.environment: dict[str, str] = {}
        self.engine, self.name = "", ""

    def judge(self, state: bool | None, reason: str) -> None:
        """Note the word on this node."""
        self.state, self.reason = state, reason

    def look(self) -> bool:
        """Judge by what is on this host; return whether the broker is to be asked too."""
        self.environment = environment(self.env_path)
        self.engine, self.name = worker(self.command, self.environment)
        record = mapping(read(self.record_path))
        pid = record.get("pid")
        if not isinstance(pid, int) or pid <= 0 or start_time(pid) != record.get("starttime"):
            self.judge(False, "its process is not there")
        elif record.get("stopping") is not None:
            self.judge(False, "draining")
        elif record.get("quiesced") is not None or os.path.exists(self.mark_path):
            self.judge(False, "told to take no new tasks; resume.yml ends that")
        elif self.engine in ("own", "single") and not tells(self.command):
            self.judge(True, "up; what a command of your own does cannot be told")
        elif tells(self.command) and record.get("ready") is None:
            self.judge(False, "up, not yet consuming")
        elif self.engine == "single":
            self.judge(True, "ready")
        else:
            self.pid = pid
            return True
        return False


def mapping(text: str | None) -> dict[str, Any]:
    """Return what a run record tells; the worker may have made anything of it."""
    try:
        data = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def option(words: list[str], name: str) -> str:
    """Return the value behind an option of a command line, or nothing."""
    for number, word in enumerate(words):
        if word == name:
            return words[number + 1] if number + 1 < len(words) else ""
        if word.startswith(name + "="):
            return word[len(name) + 1:]
    return ""


def tells(command: list[str]) -> bool:
    """Whether the command loads a runner of ours, which writes into the run record that it consumes."""
    return any("/workfleet/workfleet_" in word or "workfleet_celery" in word.split(",") for word in command)


def worker(command: list[str], values: dict[str, str]) -> tuple[str, str]:
    """Return a command's engine and its node's name on the broker; ``single`` is the scheduler's or the dashboard's."""
    for engine in ("arq", "chicory", "rq"):
        if any(word.endswith(f"/workfleet_{engine}.py") for word in command):
            return engine, option(command, "--node")
    if any("/workfleet_" in word for word in command):
        return "single", ""
    if "workfleet_celery" in option(command, "-I").split(","):
        return "celery", option(command, "-n")
    own = values.get("CELERY_WORKER_HOSTNAME", "")
    return ("celery", own) if own else ("own", "")


# The host


def read(path: str) -> str | None:
    """Return a small file's text, or None where there is none; never waits for a pipe, follows no link."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CannotTell(f"{path}: {error.strerror}; run this as root or as the app's user") from error
    with open(handle, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read(LARGEST_FILE) if stat.S_ISREG(os.fstat(handle).st_mode) else None


def environment(path: str) -> dict[str, str]:
    """Read what the launcher reads."""
    return {name: re.sub(r'\\(["\\$`\n])', lambda pair: pair[1].strip("\n"), value)
            for name, value in ASSIGNMENT.findall(read(path) or "")}


def start_time(pid: int) -> int | None:
    """Return the start time of a live process in clock ticks since boot."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def declared(app: str, root: str, units: str = UNITS) -> list[Node]:
    """Return the nodes that are to run: the enabled units of systemd, and the programs that start with supervisor."""
    programs = os.path.join(root, "supervisor", "programs")
    places = ((os.path.join(units, "multi-user.target.wants"), units, ".service", "ExecStart=:", ""),
              (programs, programs, ".conf", "command=", "\nautostart=true\n"))
    found = []
    for listed, texts, ending, key, needed in places:
        for name in sorted(os.listdir(listed)) if os.path.isdir(listed) else []:
            match = UNIT.match(name[:-len(ending)]) if name.endswith(ending) else None
            if match is None or match["app"] != app:
                continue
            text = read(os.path.join(texts, name)) or ""
            if f"X-Workfleet-App={app}\n" not in text or needed not in text:
                continue
            line = next((line for line in text.splitlines() if line.startswith(key)), key)
            # systemd and supervisor both double a % sign, and both know these quotes.
            words = split(line[len(key):].replace("%%", "%"))
            found.append(Node(name[:-len(ending)], match["group"], int(match["slot"]), words))
    return found


def split(line: str) -> list[str]:
    """Return the words of a command line as ``shlex.split`` does, which costs ten times as much."""
    return ["".join(plain + escaped + bare + QUOTED.sub(r"\1", quoted) for plain, quoted, escaped, bare in PIECE.findall(word))
            for word in WORD.findall(line)]


# The broker


def decoded(text: str | None) -> str:
    """Return a part of a URL as it is meant."""
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), (text or "").encode()).decode(errors="surrogateescape")


def address_of(url: str) -> dict[str, Any]:
    """Return the parts of a Redis URL, as ``module_utils/workfleet/redis_url.py`` reads it: this file stands alone, and its imports cost.

    ``path`` is that of a socket, ``query`` the options of a ``rediss://`` URL, and None otherwise.
    """
    parts = URL.match(url)
    if parts is None:
        raise CannotTell("the broker's URL cannot be read")
    query = {name: decoded(value) for name, _, value in (pair.partition("=") for pair in (parts["query"] or "").split("&"))}
    scheme, host, path = parts["scheme"], decoded(parts["host"]).strip("[]"), decoded(parts["path"])
    if scheme not in ("unix", "socket", "redis", "rediss"):
        raise CannotTell(f"the broker is {scheme}://, only Redis can be asked")
    is_socket = scheme in ("unix", "socket")
    database = query.get("db", query.get("virtual_host", "")) if is_socket else path
    return {
        "host": host or "localhost", "port": int(parts["port"] or 6379), "db": int(database.strip("/") or 0),
        "path": host + path if is_socket else None, "username": decoded(parts["user"]) or None,
        "password": decoded(parts["password"]) or None, "query": query if scheme == "rediss" else None,
    }


class Broker:
    """A connection that speaks a few commands of Redis; every wait ends at ``deadline``, of the monotonic clock."""

    def __init__(self, url: str, deadline: float) -> None:
        where = address_of(url)
        self.deadline = deadline
        self.bytes, self.values = MOST_BYTES, MOST_VALUES
        if where["path"] is not None:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(self.left())
            self.socket.connect(where["path"])
        else:
            # As bytes: a text would be encoded by IDNA's rules, whose tables cost more than all the rest.
            host: Any = where["host"].encode() if where["host"].isascii() else where["host"]
            self.socket = socket.create_connection((host, where["port"]), timeout=self.left())
        if where["query"] is not None:
            self.socket = secured(self.socket, where["host"], where["query"])
        self.database = where["db"]
        self.file = self.socket.makefile("rb")
        user, password = where["username"], where["password"]
        if user or password:
            self.call("AUTH", *([user] if user else []), password or "")
        if self.database:
            self.call("SELECT", str(self.database))

    def left(self) -> float:
        """Return the seconds that are left."""
        return max(0.001, self.deadline - time.monotonic())

    def call(self, *words: str) -> Any:
        """Run one command."""
        return self.together([words])[0]

    def together(self, commands: list[tuple[str, ...]]) -> list[Any]:
        """Run commands in one go."""
        sent = []
        for words in commands:
            sent.append(b"*%d\r\n" % len(words))
            for word in words:
                data = word.encode("utf-8", "surrogateescape")
                sent.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self.socket.settimeout(self.left())
        self.socket.sendall(b"".join(sent))
        return [self._reply() for _ in commands]

    def _reply(self, depth: int = 0) -> Any:
        self.socket.settimeout(self.left())
        line = self.file.readline(MOST_BYTES)
        if not line.endswith(b"\r\n"):
            raise OSError("the broker closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise CannotTell(f"the broker says: {rest[:1000].decode(errors='replace')}")
        if kind == b"+":
            return rest
        if kind not in (b"$", b"*", b":") or not re.fullmatch(rb"-?[0-9]{1,18}", rest) or depth > 8:
            raise CannotTell("what answers there does not speak Redis' protocol")
        number = int(rest)
        if kind == b":" or number < 0:
            return number if kind == b":" else None
        self.bytes -= number if kind == b"$" else 0
        self.values -= number if kind == b"*" else 1
        if self.bytes < 0 or self.values < 0:
            raise CannotTell("the broker answers with more than can be borne; somebody has written there what is no node's")
        return self.file.read(number + 2)[:-2] if kind == b"$" else [self._reply(depth + 1) for _ in range(number)]


def secured(plain: socket.socket, host: str, query: dict[str, str]) -> socket.socket:
    """Speak TLS as redis-py would for this URL: certificates are looked at unless the URL says otherwise."""
    import ssl  # costs more than all the rest

    context = ssl.create_default_context(cafile=query.get("ssl_ca_certs"), capath=query.get("ssl_ca_path"))
    if query.get("ssl_certfile"):
        context.load_cert_chain(query["ssl_certfile"], query.get("ssl_keyfile"))
    required = query.get("ssl_cert_reqs", "required").lower().replace("cert_", "")
    if required != "required" or query.get("ssl_check_hostname", "true").lower() in ("false", "0", "no"):
        context.check_hostname = False
    context.verify_mode = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL}.get(required, ssl.CERT_REQUIRED)
    return context.wrap_socket(plain, server_hostname=host)


def url_of(values: dict[str, str], names: list[str]) -> str:
    """Return the broker's URL in a node's environment, by the names that it has by rule or by declaration."""
    for name in (BROKER_ENV[0], *names, *BROKER_ENV[1:]):
        if values.get(name):
            return values[name]
    raise CannotTell(f"no broker's URL in its environment ({', '.join(names or BROKER_ENV)})")


def ask_celery(broker: Broker, nodes: list[Node], options: dict[str, str]) -> None:
    """Ask the nodes for the queues that they consume; ends when all have answered."""
    sep, prefix = options.get("sep", "\x06\x16"), options.get("global_keyprefix", "")
    fanout = options.get("fanout_prefix", True)
    channel = f"/{broker.database}." if fanout is True else str(fanout or "").format(db=broker.database)
    channel = f"{prefix}{channel}{options.get('control_exchange', 'celery')}.pidbox"
    address = os.urandom(16).hex()
    replies, bindings = f"{prefix}{address}.{REPLIES}", f"{prefix}_kombu.binding.{REPLIES}"
    member = sep.join([address, "", f"{address}.{REPLIES}"])
    waiting = {node.name: node for node in nodes}
    question = {"method": "active_queues", "arguments": {}, "pattern": None, "matcher": None, "destination": list(waiting),
                "ticket": address, "reply_to": {"exchange": REPLIES, "routing_key": address}}
    envelope = {
        "body": binascii.b2a_base64(json.dumps(question).encode(), newline=False).decode(), "content-encoding": "utf-8",
        "content-type": "application/json", "headers": {"clock": 1, "expires": time.time() + broker.left()},
        "properties": {"delivery_mode": 2, "priority": 0, "delivery_tag": address, "body_encoding": "base64",
                       "delivery_info": {"exchange": "", "routing_key": ""}},
    }
    broker.together([
        # The first element stays: a list that is never empty keeps its time to live, however we end.
        ("LPUSH", replies, ""), ("EXPIRE", replies, str(REPLIES_LIVE)), ("SADD", bindings, member), ("EXPIRE", bindings, str(REPLIES_LIVE)),
        ("PUBLISH", channel, json.dumps(envelope))])
    try:
        pause, seen = 0.005, 0
        while waiting and broker.left() > 0.05:
            time.sleep(pause)
            pause = min(0.05, pause * 1.5)
            told = broker.call("LRANGE", replies, str(-1 - seen - REPLIES_A_LOOK), str(-2 - seen))
            seen += len(told)
            for name, queues in answers(told):
                node = waiting.pop(name, None)
                if node is not None:
                    names = ", ".join(sorted(queue_names(queues)))
                    node.judge(bool(names), f"consumes {names}" if names else "answers, and consumes no queue")
    finally:
        broker.deadline = time.monotonic() + 0.5
        broker.together([("SREM", bindings, member), ("DEL", replies) if not waiting else ("EXPIRE", replies, "2")])
    for node in waiting.values():
        words = " ".join(node.command)
        if re.search(r"(-P ?|--pool[ =])solo\b", words):
            node.judge(True, "busy or silent: this pool does not answer while it runs a task")
        elif tells(node.command):
            node.judge(False, "no answer over the broker")
        else:
            node.judge(None, "up; the broker knows no worker by its name, as its own command may have given it another")


def document(data: bytes) -> Any:
    """Return what JSON holds; raises ``ValueError`` on what is nested too deeply, or has numbers that are none."""
    depth = 0
    for mark in re.findall(rb"[\[\]{}]", STRING.sub(b"", data.replace(b"\\\\", b"").replace(b'\\"', b""))):
        depth += 1 if mark in b"[{" else -1
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")
    return json.loads(data, parse_constant=refuse, parse_int=lambda text: int(text) if len(text) < 40 else refuse(text))


def refuse(text: str) -> None:
    """Refuse what is no number, or none that anybody needs."""
    raise ValueError(f"{text[:40]} is no number")


def answers(told: list[bytes]) -> list[tuple[str, Any]]:
    """Return each node's answer; nothing but JSON is read. What somebody else has put there is passed over."""
    found: list[tuple[str, Any]] = []
    for reply in told:
        try:
            message = document(reply)
            body = message["body"]
            body = binascii.a2b_base64(body) if message["properties"].get("body_encoding") == "base64" else body.encode()
            found += list(document(body).items())
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def queue_names(queues: Any) -> list[str]:
    """Return the names of the queues in an answer."""
    listed = queues if isinstance(queues, list) else []
    return [queue["name"] for queue in listed if isinstance(queue, dict) and isinstance(queue.get("name"), str)]


def ask_arq(broker: Broker, nodes: list[Node], _: dict[str, str]) -> None:
    """A node keeps its health-check key alive."""
    values = broker.call("MGET", *(f"arq:health-check:{node.name}" for node in nodes))
    for node, value in zip(nodes, values):
        node.judge(value is not None, "no heartbeat in the broker" if value is None else "its heartbeat is in the broker")


def ask_chicory(broker: Broker, nodes: list[Node], _: dict[str, str]) -> None:
    """A node keeps its heartbeat alive, which tells its process."""
    values = broker.call("MGET", *(f"chicory:heartbeat:{node.name}" for node in nodes))
    for node, value in zip(nodes, values):
        try:
            told = document(value or b"{}")
        except ValueError:
            told = None
        told = told if isinstance(told, dict) else {}
        alive = bool(told.get("is_running")) and told.get("pid") == node.pid
        node.judge(alive, f"consumes {told.get('queue')}" if alive else "no heartbeat of its process in the broker")


def ask_rq(broker: Broker, nodes: list[Node], _: dict[str, str]) -> None:
    """A node keeps its worker's hash alive, which tells its process."""
    for node in nodes:
        pid, queue, death = broker.call("HMGET", f"rq:worker:{node.name}", "pid", "queues", "death")
        alive = death is None and pid == str(node.pid).encode()
        node.judge(alive, f"consumes {(queue or b'').decode(errors='replace')}" if alive else "no heartbeat of its process in the broker")


ENGINES = {"celery": ask_celery, "arq": ask_arq, "chicory": ask_chicory, "rq": ask_rq}


# The judgement


def judge(nodes: list[Node], names: list[str], options: dict[str, str], timeout: float) -> None:
    """Judge each node, those of one broker together."""
    asked: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        try:
            if node.look():
                asked.setdefault((node.engine, url_of(node.environment, names)), []).append(node)
        except (CannotTell, ValueError, AttributeError) as error:
            node.judge(None, str(error))
    deadline = time.monotonic() + timeout
    for (engine, url), group in asked.items():
        try:
            ENGINES[engine](Broker(url, deadline), group, options)
        except OSError as error:
            for node in group:
                node.judge(False, f"the broker cannot be reached: {error.strerror or error}")
        except (CannotTell, ValueError, AttributeError, TypeError) as error:
            for node in group:
                node.judge(None, str(error))


def verdict(slots: dict[tuple[str, int], list[Node]]) -> int:
    """Return the exit code. Of an old and a new node of one slot, one that consumes is enough."""
    states = {slot: best([node.state for node in nodes]) for slot, nodes in slots.items()}
    workers = [state for (group, _), state in states.items() if group not in SINGLES] or list(states.values())
    if not any(workers):
        return UNKNOWN if None in workers else NONE
    if False in states.values():
        return DEGRADED
    return UNKNOWN if None in states.values() else OK


def best(states: list[bool | None]) -> bool | None:
    """Return the best of some words."""
    return True if True in states else None if None in states else False


def main(argv: list[str]) -> int:
    """Look, print, and return the exit code."""
    app, root = option(argv, "--app"), option(argv, "--root")
    if not (app and root) or "--help" in argv or "-h" in argv:
        sys.stdout.write(__doc__ or "")
        return OK if "--help" in argv or "-h" in argv else UNKNOWN
    names = [name for name in option(argv, "--broker-env").split(",") if name]
    problem = ""
    nodes: list[Node] = []
    try:
        only = [name for name in option(argv, "--only").split(",") if name]
        nodes = [node for node in declared(app, root) if not only or node.group in only]
        judge(nodes, names, json.loads(option(argv, "--broker-options") or "{}"), float(option(argv, "--timeout") or 2))
    except (CannotTell, OSError, ValueError) as error:
        problem = str(error)
    slots: dict[tuple[str, int], list[Node]] = {}
    for node in nodes:
        slots.setdefault((node.group, node.slot), []).append(node)
    code = UNKNOWN if problem else verdict(slots)
    if not problem and not nodes:
        problem = "no node is enabled here: stopped by stop.yml, or site.yml has not been here"
    wells = sum(best([node.state for node in group]) is True for group in slots.values())
    if "--json" in argv:
        told = [{"unit": node.unit, "ok": node.state, "reason": node.reason} for node in nodes]
        lines = [json.dumps({"app": app, "code": code, "verdict": WORDS[code], "declared": len(slots), "well": wells,
                             "problem": problem or None, "nodes": told})]
    else:
        lines = [f"{app}: {WORDS[code]} ({wells} of {len(slots)})" + (f": {problem}" if problem else "")]
        lines += [f"  {SIGNS[node.state]:3} {node.unit}: {node.reason}" for node in nodes]
    sys.stdout.write("\n".join(map(shown, lines)) + "\n")
    return code


def shown(line: str) -> str:
    """Return a line without what acts on a terminal: a broker and the answers of nodes may say anything."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
