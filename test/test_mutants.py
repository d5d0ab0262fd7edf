"""The list of bugs to plant keeps up with the code. The bugs themselves are tried by `./tea test --mutants` alone."""

import ast

import pytest
from mutantrun import planted
from mutants import MUTANTS

from emporium.environment import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_bug_can_be_planted(mutant):
    text = (ROOT / mutant.file).read_text()

    assert planted(mutant, text) != text
    ast.parse(planted(mutant, text))
    assert all((ROOT / file).is_file() for file in mutant.tests)


def test_no_two_bugs_have_one_name():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
