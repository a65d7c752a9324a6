"""Values that a worker's command line or environment may hold, and a program that tells what it was given.

Run as a program it prints the variables of an inventory whose one node is given all of them; the same at each run.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

FIXED = [
    "", " ", "  ", "\t", "\n", "\r", "\r\n", "\n\n", " lead", "trail ", " both ", "a b", "a  b", "a\tb", "a\nb", "a\n", "\na",
    "'", '"', "''", '""', "'a'", '"a"', "'a", 'a"', "a'b\"c", "\\", "\\\\", "a\\", "\\n", "\\x41", "\\u0041", "\\101", "\\ ", "\\\n",
    "%", "%%", "%h", "%n", "%i", "%I", "%%h", "100%", "%(here)s", "%(ENV_HOME)s", "%(program_name)s", "%(process_num)02d",
    "$", "$$", "$HOME", "${HOME}", "$(id)", "`id`", "a$b", "$1", "#", " #", "a #b", "#a", ";", " ;", "a ;b", ";a", "a;b", "; ;",
    "@", "@a", "@@", "@slot@", "@generation@", "<generation>", "-", "--", "-a", "--json", "--unit=x", "-- x",
    "+a", "!a", ":a", "|a", "=", "a=b",
    "[x]", "[program:x]", "{}", "{a}", "{{ a }}", "{% a %}", "{# a #}", "~", "~root", "*", "?", "a|b", "a&b", "<a>", "(a)", ",", "a,b",
    "true", "no", "null", "1.10", "0x10", "1e3", "2024-01-01", "é", "ü", "漢字", "☃", "😀", "e\u0301", "\u00a0", "\u200b", "\u2028",
    "\u2029", "\u0085", "\ufeff", "\ufffd", "\ue000", "\u202eabc",
    "-----BEGIN KEY-----\nMII/+=\n-----END KEY-----\n", '{"a": ["b", 1, null], "c": "d\\"e"}', "x" * 5000, "a\\\nb", "\\\\\n",
    *(chr(code) for code in (*range(1, 32), 127)), *(f"a{chr(code)}b" for code in (*range(1, 32), 127)),
]
#: Unicode calls these no characters: systemd refuses a unit file, and cannot show a unit, that holds one.
ODD = ["\ufffe", "a\uffffb", "\ufdd0", "\U0001fffe", "\U0010ffff", "a b", "%h", "$x", ""]
ALPHABET = [*" \t\n\r'\"\\%$#;@=-`{}()[]<>|&*?!~,.:/^+", *"abnxu01hs", "é", "漢", "😀", "\x01", "\x1b", "\x7f", "\u2028"]
DUMP = r"""
import json, os, sys, time
text = {os.fsencode(name).decode(): os.fsencode(value).decode() for name, value in os.environ.items()}
with open(sys.argv[1] + ".new", "w") as file:
    json.dump({"argv": [os.fsencode(word).decode() for word in sys.argv[2:]], "env": text}, file)
os.rename(sys.argv[1] + ".new", sys.argv[1])  # it's "whole" or not there: 100% $SAFE; \o/ #1
time.sleep(1000)
"""


def values() -> list[str]:
    """Return a few hundred values, the same at each call."""
    chance = random.Random(2)
    return [*FIXED, *("".join(chance.choices(ALPHABET, k=chance.randint(1, 24))) for _ in range(200))]


def given() -> dict[str, list[str]]:
    """Return the values of each of the groups."""
    return {"dump": values(), "odd": ODD}


def environment(group: str) -> dict[str, str]:
    """Return each value of a group under a name."""
    return {f"V{number}": value for number, value in enumerate(given()[group])}


def groups(directory: str) -> list[dict[str, Any]]:
    """Return worker groups whose node is given all values, as words and by name, and writes what it got.

    The file is ``<directory>/<group>.json``. Half of the names are secrets, which take the same way.
    """
    return [{
        "name": name, "engine": "process", "drain_seconds": 5,
        "command": ["/usr/bin/python3", "-c", DUMP, f"{directory}/{name}.json", *words],
        "env": {key: value for key, value in environment(name).items() if int(key[1:]) % 2},
        "secrets": {key: value for key, value in environment(name).items() if not int(key[1:]) % 2},
    } for name, words in given().items()]


def differences(group: str, dump: dict[str, Any]) -> list[str]:
    """Return where a node got something else than is declared."""
    words, got = given()[group], dump["argv"]
    found = [f"{len(words)} words became {len(got)}"] if len(words) != len(got) else []
    found += [f"word {number}: {word!r} became {other!r}"
              for number, (word, other) in enumerate(zip(words, got)) if word != other]
    return found + [f"{name}: {value!r} became {dump['env'].get(name)!r}"
                    for name, value in environment(group).items() if dump["env"].get(name) != value]


if __name__ == "__main__":
    json.dump(groups(sys.argv[1]), sys.stdout)
