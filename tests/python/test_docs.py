"""What is written about the package: doctests, the README's tour, the pages, the gallery."""

import doctest
import importlib
import os
import pathlib
import pkgutil
import subprocess
import sys

import pytest
import tilewise
from conftest import REPOSITORY, python_of

NEEDS = {"tilewise.torch": "torch", "tilewise.jax": "jax", "tilewise.transformers": "transformers"}
MODULES = ["tilewise", *(each.name for each in pkgutil.walk_packages(tilewise.__path__, "tilewise."))]


@pytest.mark.parametrize("name", [each for each in MODULES if each != "tilewise._core"])
def test_doctests(name):
    for prefix, framework in NEEDS.items():
        if name.startswith(prefix):
            pytest.importorskip(framework)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize(
    ("page", "framework"),
    [("README.md", "torch"), ("docs/python.md", "numpy"), ("docs/pytorch.md", "torch"), ("docs/jax.md", "jax"),
     ("docs/transformers.md", "transformers")],
)
def test_pages_run_as_written(page, framework, tmp_path):
    pytest.importorskip(framework)
    program = tmp_path / "page.py"
    program.write_text(python_of(page), encoding="utf-8")
    assert "tilewise" in program.read_text(encoding="utf-8")
    package = str(pathlib.Path(tilewise.__file__).parent.parent)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": package, "OMP_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stderr


def test_the_gallery_is_fresh():
    done = subprocess.run([sys.executable, REPOSITORY / "tools/make_gallery", "--check"], capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
