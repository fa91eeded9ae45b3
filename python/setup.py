"""What pyproject.toml cannot say: the version, and a tag for programs that need a platform but no certain Python.

scripts/wheel.sh sets both variables.
"""

import os

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel


class Programs(Distribution):
    def has_ext_modules(self):
        return True


class Wheel(bdist_wheel):
    def get_tag(self):
        return "py3", "none", os.environ["CAMTRAST_PLATFORM"]


setup(version=os.environ["CAMTRAST_VERSION"], distclass=Programs, cmdclass={"bdist_wheel": Wheel})
