"""What a lesson builds in view and cnnlib holds too must be the same thing.

`CHECKS` holds one function for each `defines-NAME` tag of each lesson. It gets the lesson's object and
asserts that cnnlib's gives equal results.
"""

import pytest
from notebook_tools import LESSONS, defined, definitions

CHECKS = {}


def check(lesson, name):
    """Register a function as the check of one definition."""

    def register(function):
        CHECKS[lesson, name] = function
        return function

    return register


def test_every_definition_is_checked():
    assert {(path.stem, name) for path in LESSONS for name in definitions(path)} == set(CHECKS)


@pytest.mark.parametrize(("lesson", "name"), list(CHECKS))
def test_the_lesson_and_the_library_agree(lesson, name):
    CHECKS[lesson, name](defined(lesson, name))
