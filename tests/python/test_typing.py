"""The annotations and stubs: mypy in strict mode, on the package and on a program that uses it."""

import pathlib
import re
import subprocess
import sys

import pytest
import tilewise as tw
from conftest import REPOSITORY

pytest.importorskip("mypy")

PROGRAM = '''
import numpy
import tilewise as tw

cap: tw.Parameter = tw.Parameter("cap", 0.0, 50.0)
mine: tw.Variant = tw.keep(lambda at: at.query - at.key < 1024) & tw.score(lambda s, at: cap * tw.tanh(s / cap))
q = numpy.ones((1, 2, 3, 4), numpy.float32)
o = tw.attention(q, q, q, mine, parameters={"cap": 3.0})
o2, lse = tw.attention(q, q, q, tw.zoo.window(3), return_lse=True)
shape: tuple[int, ...] = o.shape + lse.shape
kept: float = mine.bind(parameters={"cap": 2.0}).classify(10, 10).kept_share
'''

WRONG = '''
import tilewise as tw

tw.zoo.window("3")
tw.attention(1, 2)
tw.zoo.windw(3)
'''


def mypy(*arguments, folder=REPOSITORY):
    package = pathlib.Path(tw.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(folder / "mypy"), *arguments],
        capture_output=True, text=True, check=False, cwd=folder, env={"MYPYPATH": str(package), "PATH": "/usr/bin"})
    return done.stdout + done.stderr


def test_the_package_passes_in_strict_mode(tmp_path):
    assert mypy(str(REPOSITORY / "python/tilewise"), folder=tmp_path) == ""


def test_a_program_passes_and_a_wrong_one_is_told(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    assert mypy("program.py", folder=tmp_path) == ""
    told = mypy("wrong.py", folder=tmp_path)
    assert all(f"wrong.py:{line}" in told for line in (4, 5, 6)), told


def test_the_stub_names_what_the_extension_has():
    stub = (REPOSITORY / "python/tilewise/_core.pyi").read_text(encoding="utf-8")
    missing = [name for name in dir(tw._core) if not name.startswith("_") and not re.search(rf"\b{name}\b", stub)]
    assert missing == []
