"""Fails where an instruction set's object file defines a symbol that the linker may merge with another file's.

Usage: isa_objects.py <nm> <exported> <object>...   exported: a regular expression of what they may export
"""

import pathlib
import re
import subprocess
import sys

# Weak and unique definitions. Those in Highway's namespaces are named after their instruction set.
MERGED = set("WVui")
DEFINED = set("TDBRGSC")
OF_ONE_TARGET = re.compile(r"hwy::N_[A-Z0-9_]+::")


def breaches(nm: str, exported: str, object_file: pathlib.Path) -> list[str]:
    listing = subprocess.run([nm, "-C", str(object_file)], check=True, capture_output=True, text=True).stdout
    found = []
    for line in listing.splitlines():
        kind, name = re.match(r"^[0-9a-f ]*\s([A-Za-z]) (.*)$", line).groups()
        sanitizer = name.startswith(("__asan", "__tsan", "__ubsan", "_GLOBAL_", "__odr_asan"))
        if kind in MERGED and not sanitizer and not name.startswith("DW.ref.") and not OF_ONE_TARGET.search(name):
            found.append(f"{object_file.name}: {name} may be merged with another file's ({kind})")
        if kind in DEFINED and not sanitizer and not re.match(exported, name):
            found.append(f"{object_file.name}: {name} is exported")
    return found


def main() -> int:
    objects = [pathlib.Path(name) for name in sys.argv[3:]]
    found = [line for file in objects for line in breaches(sys.argv[1], sys.argv[2], file)]
    print("\n".join(found) if found else f"{len(objects)} objects are closed")
    return 1 if found or not objects else 0


if __name__ == "__main__":
    sys.exit(main())
