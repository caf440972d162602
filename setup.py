"""For tools that want a setup.py, such as Beam's `--setup_file`; everything is said in pyproject.toml."""

from setuptools import setup

setup()
