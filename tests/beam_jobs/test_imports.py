import gc

import pytest

from beam_jobs.imports import lasting


def test_the_collector_is_at_work_again_and_passes_over_what_came_in() -> None:
    frozen = gc.get_freeze_count()
    try:
        with pytest.raises(ImportError), lasting():
            assert not gc.isenabled()
            raise ImportError("gone")
        assert gc.isenabled() and gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
