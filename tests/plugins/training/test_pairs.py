import threading

import numba
import pytest

from enhancer_plugins.training.pairs import both, shared


def who():
    return threading.current_thread().name


def test_what_is_told_goes_before_the_threads_of_the_kernels():
    here = who()
    assert numba.get_num_threads() == 1
    assert both(who, who) == (here, here)
    with shared(at_once=True):
        own, other = both(who, who)
        assert (own, other != here) == (here, True)
        assert both(who, who, worth=False) == (here, here)
    assert both(who, who) == (here, here)


def test_a_failure_in_either_piece_is_raised_and_neither_is_left_running():
    def fails():
        raise ValueError("no")

    with shared(at_once=True):
        for pair in ((fails, who), (who, fails)):
            with pytest.raises(ValueError, match="no"):
                both(*pair)
        assert len(both(who, who)) == 2
