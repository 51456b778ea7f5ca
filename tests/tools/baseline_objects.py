"""Fails where an object file that every processor runs holds an instruction that only some have.

Usage: baseline_objects.py <objdump> <object>... --caught <object>...
  --caught: objects compiled for one instruction set, each of which must be found out, or this test sees nothing
"""

import pathlib
import re
import subprocess
import sys

# x86-64's baseline ends at SSE2. VEX and EVEX encodings (AVX and later) are the mnemonics in v, but for a few old system
# instructions; the rest are BMI, AMX, and what SSE3 to SSE4.2 added that compilers emit. tzcnt and lzcnt are left out:
# older processors run them as bsf and bsr, which is how baseline code uses the former.
NEWER = re.compile(
    r"v(?!er[rw]$|m)\w+|vm(?:ov|ul|in|ax|ask|psad)\w*|k(?:mov|or|and|xor|xnor|not|test|shift|unpck|add)\w*"
    r"|andn|bextr|bls(?:i|r|msk)|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx|popcnt|movbe|crc32\w?"
    r"|(?:ld|st)tilecfg|tile\w+|tdp\w+"
    r"|pshufb|pabs[bwd]|palignr|phadd\w+|pmulhrsw|h(?:add|sub)p[sd]|movddup|movs[lh]dup|lddqu"
    r"|p?blend\w+|pmov[sz]x\w+|pm(?:ulld|uldq|(?:in|ax)(?:sb|sd|uw|ud))|pextr[bdq]|pinsr[bdq]|round[ps][sd]|ptest"
    r"|pcmp(?:eqq|gtq|[ei]str[im])|packusdw|insertps|extractps|dpp[sd]"
)
PREFIX = re.compile(r"^(?:(?:rep\w*|lock|bnd|notrack|data16|[c-gs]s|rex\S*) )+")


def newer_instructions(objdump: str, object_file: str) -> list[str]:
    """`symbol: instruction` for each one, in the file's order."""
    command = [objdump, "--disassemble", "--demangle", "--no-show-raw-insn", object_file]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found, symbol = [], ""
    for line in listing.splitlines():
        if header := re.match(r"^[0-9a-f]+ <(.*)>:$", line):
            symbol = header[1]
        elif code := re.match(r"^\s+[0-9a-f]+:\s+(.*)$", line):
            instruction = PREFIX.sub("", code[1])
            if NEWER.fullmatch(instruction.split(maxsplit=1)[0] if instruction else ""):
                found.append(f"{symbol}: {' '.join(instruction.split())}")
    return found


def main() -> int:
    objdump, *files = sys.argv[1:]
    split = files.index("--caught")
    baseline, caught = files[:split], files[split + 1 :]
    failures = []
    for file in baseline:
        if found := newer_instructions(objdump, file):
            failures.append(f"{file}: {len(found)} instructions beyond the baseline, the first in {found[0]}")
    failures += [f"{file}: not found out" for file in caught if not newer_instructions(objdump, file)]
    print("\n".join(failures) if failures else f"{len(baseline)} objects run on every processor")
    return 1 if failures or not baseline or not caught else 0


if __name__ == "__main__":
    sys.exit(main())
