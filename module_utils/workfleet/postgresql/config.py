"""The declaration of a PostgreSQL server as values: nothing here touches a host.

The words are the variables of the role ``postgresql``. ``check`` tells what is wrong with them, ``parse`` makes a
:class:`Declaration`, ``conf`` and ``hba`` the texts that the server reads, ``verifier`` and ``matches`` what it keeps
of a password (RFC 5803, as PostgreSQL writes it), so that a password itself is never sent to it.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import hmac
import ipaddress
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import forms, shown
from ..errors import WorkfleetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# Every variable and its default: roles/postgresql/defaults/main.yml says the same, and a test holds the two together.
DEFAULTS: dict[str, Any] = {
    "postgresql_databases": [], "postgresql_users": [], "postgresql_listen": ["127.0.0.1"], "postgresql_settings": {},
}
OWNER = "# X-Workfleet-App="
BEGIN, END = "# BEGIN workfleet", "# END workfleet"
NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
SETTING = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?\Z")
#: What SASLprep leaves as it is; of anything else server and client could make different bytes.
PASSWORD = re.compile(r"[ -~]{1,512}\Z")
ITERATIONS = 4096
_RESERVED = {
    "listen_addresses": "use postgresql_listen",
    "password_encryption": "passwords are kept as scram-sha-256",
    **dict.fromkeys(("port", "unix_socket_directories", "data_directory", "config_file", "hba_file", "ident_file",
                     "external_pid_file", "include", "include_dir", "include_if_exists"),
                    "Debian's cluster decides it"),
}
_USER_KEYS = ("name", "password", "databases", "networks")
_DATABASE_KEYS = ("name", "owner")


@dataclass(frozen=True)
class User:
    """A role that may log in: to which databases, from which networks beside the host itself."""

    name: str
    password: str
    databases: tuple[str, ...]
    networks: tuple[str, ...]

    def __repr__(self) -> str:
        return f"User({self.name})"


@dataclass(frozen=True)
class Declaration:
    """A server as declared; ``databases`` maps a name to its owner."""

    databases: dict[str, str]
    users: tuple[User, ...]
    listen: tuple[str, ...]
    settings: dict[str, str]


# --- what is wrong with a declaration -----------------------------------------------------------------------------


def check(raw: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the role's variables, one clause each; no clause shows a password."""
    values = {**DEFAULTS, **{key: value for key, value in raw.items() if key in DEFAULTS and value is not None}}
    problems: list[str] = []
    for name, kind, said in (("postgresql_databases", list, "a list of entries"), ("postgresql_users", list, "a list of entries"),
                             ("postgresql_listen", list, "a list of addresses"), ("postgresql_settings", dict, "a mapping")):
        if not isinstance(values[name], kind):
            problems.append(f"{name}: must be {said}")
    if problems:
        return problems
    problems += _entries("postgresql_users", values["postgresql_users"], _USER_KEYS, _user)
    problems += _entries("postgresql_databases", values["postgresql_databases"], _DATABASE_KEYS, _database)
    problems += [f"postgresql_listen: given {forms.quoted(item)}, allowed are an address, localhost or *"
                 for item in values["postgresql_listen"] if not _listens(item)]
    for name, value in values["postgresql_settings"].items():
        problems += _setting(name, value)
    return problems or _together(values)


def _entries(variable: str, entries: list[Any], keys: Iterable[str], inner: Any) -> list[str]:
    problems, seen = [], set()
    for number, entry in enumerate(entries):
        label = f"{variable}[{number}]"
        if not isinstance(entry, dict):
            problems.append(f"{label}: must be a mapping with at least a name")
            continue
        name = entry.get("name")
        if not isinstance(name, str) or not NAME.match(name):
            problems.append(f"{label}: name: is required: a letter or _, then up to 62 of a-z 0-9 _")
            continue
        label += f" ({name})"
        for key in entry:
            if key not in keys:
                near = difflib.get_close_matches(str(key), list(keys), 1)
                hint = f"did you mean {near[0]}? " if near else ""
                problems.append(f"{label}: {key}: unknown key; {hint}known are {', '.join(keys)}")
        if name in seen:
            problems.append(f"{label}: name: is used twice")
        seen.add(name)
        problems += [f"{label}: {text}" for text in inner(entry)]
    return problems


def _user(entry: Mapping[str, Any]) -> Iterator[str]:
    if entry["name"] == "postgres":
        yield "name: postgres is the server's own account; declare another"
    if not isinstance(entry.get("password"), str) or not PASSWORD.match(entry["password"]):
        yield "password: is required: a text of up to 512 printable ASCII characters (quote it in YAML)"
    for key in ("networks", "databases"):
        if not _texts(entry.get(key, [])):
            yield f"{key}: must be a list of texts"
    if _texts(entry.get("databases", [])) and not all(map(NAME.match, entry.get("databases", []))):
        yield "databases: must be names of postgresql_databases"
    for network in entry.get("networks", []) if _texts(entry.get("networks", [])) else ():
        try:
            ipaddress.ip_network(network)
        except ValueError:
            yield f"networks: given {forms.quoted(network)}, allowed are networks such as 192.0.2.0/24 or 192.0.2.7/32"


def _database(entry: Mapping[str, Any]) -> Iterator[str]:
    if entry["name"] in ("template0", "template1"):
        yield "name: is the server's own template; declare another"
    if entry.get("owner") is not None and not (isinstance(entry["owner"], str) and NAME.match(entry["owner"])):
        yield "owner: must be the name of one of postgresql_users"


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _listens(value: Any) -> bool:
    if value in ("localhost", "*"):
        return True
    try:
        return isinstance(value, str) and bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def _setting(name: Any, value: Any) -> list[str]:
    label = f"postgresql_settings: {name}"
    if not isinstance(name, str) or not SETTING.match(name):
        return [f"{label}: is no name of a setting"]
    if name.lower() in _RESERVED:
        return [f"{label}: is refused: {_RESERVED[name.lower()]}"]
    bounded = not isinstance(value, (int, float)) or -(2**63) <= value < 2**63  # which no number without an end is
    if not isinstance(value, (str, int, float)) or not bounded or shown.line(str(value)) != str(value) or len(str(value)) > forms.LONGEST:
        return [f"{label}: must be a text of one line, a finite number or a boolean"]
    return []


def _together(values: Mapping[str, Any]) -> list[str]:
    users = {entry["name"] for entry in values["postgresql_users"]}
    databases = {entry["name"] for entry in values["postgresql_databases"]}
    problems = []
    for entry in values["postgresql_databases"]:
        owner = entry.get("owner", entry["name"])
        if owner not in users:
            problems.append(f"postgresql_databases ({entry['name']}): owner: {owner} is not in postgresql_users")
    wide = [item for item in values["postgresql_listen"] if not _is_loopback(item)]
    for entry in values["postgresql_users"]:
        for name in entry.get("databases", []):
            if name not in databases:
                problems.append(f"postgresql_users ({entry['name']}): databases: {name} is not in postgresql_databases")
        if entry.get("networks") and not wide:
            problems.append(f"postgresql_users ({entry['name']}): networks: postgresql_listen has loopback addresses only, "
                            "so nobody there can connect")
    return problems


def _is_loopback(item: str) -> bool:
    return item == "localhost" or (item != "*" and ipaddress.ip_address(item).is_loopback)


def parse(raw: Mapping[str, Any]) -> Declaration:
    """Return the declaration in the role's variables; raises with every mistake."""
    problems = check(raw)
    if problems:
        raise WorkfleetError("\n".join(problems))
    values = {**DEFAULTS, **{key: value for key, value in raw.items() if key in DEFAULTS and value is not None}}
    databases = {entry["name"]: entry.get("owner", entry["name"]) for entry in values["postgresql_databases"]}
    users = []
    for entry in values["postgresql_users"]:
        own = [name for name, owner in databases.items() if owner == entry["name"]]
        networks = tuple(str(ipaddress.ip_network(network)) for network in entry.get("networks", []))
        users.append(User(entry["name"], entry["password"], tuple(entry.get("databases", own)), networks))
    settings = {name.lower(): spelt(value) for name, value in values["postgresql_settings"].items()}
    return Declaration(databases, tuple(users), tuple(values["postgresql_listen"]), settings)


def spelt(value: Any) -> str:
    """Return a setting's value as PostgreSQL spells it."""
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


# --- the texts ----------------------------------------------------------------------------------------------------


def lines(declared: Declaration) -> dict[str, str]:
    """Return every setting that the declaration makes."""
    return {"listen_addresses": ",".join(declared.listen), **declared.settings}


def conf(app: str, declared: Declaration) -> str:
    """Return the text of our file in ``conf.d``."""
    quoted = {name: value.replace("\\", "\\\\").replace("'", "''") for name, value in lines(declared).items()}
    body = "".join(f"{name} = '{value}'\n" for name, value in sorted(quoted.items()))
    return f"{OWNER}{app}\n# Managed by workfleet.core.postgresql; changes are undone.\n{body}"


def read(text: str | None) -> dict[str, str]:
    """Return the settings in a text that :func:`conf` made."""
    found = re.findall(r"^([\w.]+) = '(.*)'$", text or "", re.MULTILINE)
    return {name: value.replace("''", "'").replace("\\\\", "\\") for name, value in found}


def owner(text: str | None) -> str | None:
    """Return the app that a file of ours names."""
    first = (text or "").partition("\n")[0]
    return first[len(OWNER):].strip() if first.startswith(OWNER) else None


def hba(present: str, declared: Declaration) -> str:
    """Return ``pg_hba.conf`` with our lines at its top, for the first line that fits decides. What is not ours stays as it is."""
    others = re.sub(rf"^{BEGIN}\n.*?^{END}\n", "", present, flags=re.MULTILINE | re.DOTALL)
    body = [f'host "{database}" "{user.name}" {network} scram-sha-256\n'
            for user in declared.users for database in user.databases for network in user.networks]
    return f"{BEGIN}\n{''.join(body)}{END}\n{others}" if body else others


# --- passwords ----------------------------------------------------------------------------------------------------


def verifier(password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return what PostgreSQL keeps of a password; who reads it cannot log in with it."""
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    words = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{words[0]}${words[1]}:{words[2]}"


def matches(password: str, kept: str | None) -> bool:
    """Tell whether the server keeps this password, in the form that we write."""
    found = re.match(r"SCRAM-SHA-256\$(\d+):([^$]+)\$", kept or "")
    if not found or not kept:
        return False
    return hmac.compare_digest(verifier(password, base64.b64decode(found[2]), int(found[1])), kept)
