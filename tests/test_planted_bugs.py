"""The tests turn red for every bug that is planted in the compiled core."""

import core_builds
import planted_bugs
import pytest
import semantics


@pytest.mark.slow
@pytest.mark.whole_machine
@pytest.mark.timeout(1200)
@pytest.mark.skipif(not core_builds.COMPILER, reason="no C++ compiler")
@pytest.mark.skipif(not semantics.targets(), reason="no compiled core")
def test_every_planted_bug_is_found():
    found = dict(planted_bugs.red_tests())
    assert len(found) == len(planted_bugs.BUGS) >= 12
    assert [name for name, red in found.items() if not red] == []
