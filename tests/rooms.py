#!/usr/bin/env python3
"""Checks that includes run one way: a file of a room includes files of its own room and of those that the room names here. And
that only tools speak of a command line: sentences of the others name a Field (arena/error.h).

  rooms.py SOURCE     exit status 1, and a line for each include that goes another way and each option that is spelled

A room is a folder; a file belongs to the deepest one that holds it. No cycle can arise, since each room names only rooms before it.
Tests may include everything.
"""
import pathlib
import re
import sys

ROOMS = {  # from the ground up
    "include": [],  # what programs that use the library see
    "arena": [],
    "kernels/base": ["arena"],
    "kernels": ["arena", "kernels/base"],
    "kernels/brain": ["arena", "kernels/base", "kernels"],
    "engine/graph": ["arena", "kernels/base"],
    "engine/files": ["include", "arena", "kernels/base"],
    "engine/data": ["arena", "kernels/base", "engine/files"],
    "engine/baseline": ["arena", "engine/data"],
    "engine/model": ["include", "arena", "kernels/base", "kernels", "engine/graph", "engine/files", "engine/data"],
    "engine/brain": ["arena", "kernels/base", "kernels", "kernels/brain", "engine/graph", "engine/files", "engine/model"],
    "engine/transformer": ["arena", "kernels/base", "kernels", "engine/graph", "engine/files", "engine/model"],
    "engine/ranks": ["arena", "engine/files"],
    "engine/families": ["engine/model", "engine/brain", "engine/transformer"],
    "engine/run": ["include", "arena", "kernels/base", "kernels", "engine/graph", "engine/files", "engine/data", "engine/model"],
    "engine/api": ["include", "arena", "kernels/base", "engine/graph", "engine/files", "engine/data", "engine/model", "engine/run"],
    "tools/common": ["include", "arena", "kernels/base", "engine/graph", "engine/files", "engine/data", "engine/model", "engine/run"],
    "tools/plan": ["tools/common"],
    "tools/corpus": ["arena", "engine/files", "engine/data", "tools/common"],
    "tools/neurogen-engine": ["include", "arena", "kernels/base", "kernels", "engine/graph", "engine/files", "engine/data",
                              "engine/baseline", "engine/model", "engine/ranks", "engine/run", "tools/common"],
    "tools/manual": ["tools/common", "tools/plan", "tools/corpus", "tools/neurogen-engine"],
    "python": ["include"],
}
OPTION = re.compile(r'^(?! *//).*"[^"]*--[a-z]')  # in a text
GENERATED = re.compile(r"^(\w+_generated|embedded/\w+)\.h$")  # from schemas/, which includes nothing


def room_of(path):
    return max((room for room in ROOMS if path.startswith(room + "/")), key=len, default=None)


def check(source):
    names = list(ROOMS)
    for room, allowed in ROOMS.items():
        for other in allowed:
            if names.index(other) >= names.index(room):
                yield f"rooms.py: {room} names {other}, which does not come before it"
    for top in ("include", "arena", "kernels", "engine", "tools", "python"):
        for file in sorted((source / top).rglob("*")):
            if file.suffix not in (".h", ".cpp", ".cu", ".cuh"):
                continue
            path = file.relative_to(source).as_posix()
            room = room_of(path)
            if room is None:
                yield f"{path}: belongs to no room"
                continue
            for line in file.read_text().splitlines():
                if top != "tools" and OPTION.match(line):
                    yield f"{path}: spells an option: {line.strip()}"
                found = re.match(r'#include "(.+)"', line)
                if not found or GENERATED.match(found[1]):
                    continue
                to = room_of(found[1]) or ("include" if (source / "include" / found[1]).exists() else None)
                if to != room and to not in ROOMS[room]:
                    yield f"{path}: {room} may not include {found[1]}"


wrong = list(check(pathlib.Path(sys.argv[1])))
print("\n".join(wrong) or "every include goes one way")
sys.exit(bool(wrong))
