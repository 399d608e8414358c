import threading

import numba
import pytest

from enhancer_plugins.training.compiled.worker import enabled, run_both


def who():
    return threading.current_thread().name


def test_the_setting_takes_precedence_over_the_threads_of_the_kernels():
    here = who()
    assert numba.get_num_threads() == 1
    assert run_both(who, who) == (here, here)
    with enabled(True):
        own, other = run_both(who, who)
        assert (own, other != here) == (here, True)
        assert run_both(who, who, worthwhile=False) == (here, here)
    assert run_both(who, who) == (here, here)


def test_a_failure_in_either_piece_is_raised_and_neither_is_left_running():
    def fails():
        raise ValueError("no")

    with enabled(True):
        for pair in ((fails, who), (who, fails)):
            with pytest.raises(ValueError, match="no"):
                run_both(*pair)
        assert len(run_both(who, who)) == 2
