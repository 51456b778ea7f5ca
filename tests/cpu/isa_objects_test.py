"""Fails where an instruction set's object file defines a symbol that the linker may merge with another file's.

Usage: isa_objects_test.py <nm> <object>;<object>...   objects in a folder isa/ are checked
"""

import pathlib
import re
import subprocess
import sys

# Weak and unique definitions, and the names that an instruction set's file may export.
MERGED = set("WVui")
EXPORTED = re.compile(r"^tilewise::cpu::\w+_kernels\(\)$")
DEFINED = set("TDBRGSC")


def breaches(nm: str, object_file: pathlib.Path) -> list[str]:
    listing = subprocess.run([nm, "-C", str(object_file)], check=True, capture_output=True, text=True).stdout
    found = []
    for line in listing.splitlines():
        kind, name = re.match(r"^[0-9a-f ]*\s([A-Za-z]) (.*)$", line).groups()
        sanitizer = name.startswith(("__asan", "__tsan", "__ubsan", "_GLOBAL_", "__odr_asan"))
        if kind in MERGED and not sanitizer and not name.startswith("DW.ref."):
            found.append(f"{object_file.name}: {name} may be merged with another file's ({kind})")
        if kind in DEFINED and not sanitizer and not EXPORTED.match(name):
            found.append(f"{object_file.name}: {name} is exported")
    return found


def main() -> int:
    objects = [pathlib.Path(name) for name in sys.argv[2].split(";") if pathlib.Path(name).parent.name == "isa"]
    found = [line for file in objects for line in breaches(sys.argv[1], file)]
    print("\n".join(found) if found else f"{len(objects)} objects are closed")
    return 1 if found or not objects else 0


if __name__ == "__main__":
    sys.exit(main())
