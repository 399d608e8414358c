import pytest

from enhancer_plugins.training.compiled.threads import ThreadTuner


@pytest.mark.parametrize(("alone", "together", "expected"), [(1.0, 0.6, 4), (1.0, 7.0, 1)])
def test_the_faster_number_of_threads_is_kept(alone, together, expected):
    tuner = ThreadTuner(4)
    used = []
    for step in range(400):
        used.append(tuner.start_step())
        tuner.finish_step(9.0 if step == 0 else alone if used[-1] == 1 else together)
    assert used.count(expected) > 380
    assert tuner.best_threads == expected


def test_it_notices_when_the_machine_gets_busy():
    tuner = ThreadTuner(2)
    for step in range(600):
        count = tuner.start_step()
        tuner.finish_step(1.0 if count == 1 else 0.6 if step < 300 else 5.0)
    assert tuner.best_threads == 1


@pytest.mark.parametrize(
    ("seconds", "kernels", "sharing"),
    [
        ({(1, False): 1.0, (2, True): 0.8, (1, True): 0.6}, 1, True),
        ({(1, False): 1.0, (2, True): 0.5, (1, True): 0.6}, 2, True),
        ({(1, False): 1.0, (2, True): 9.0, (1, True): 4.0}, 1, False),
    ],
)
def test_pieces_may_be_shared_while_kernels_are_not(seconds, kernels, sharing):
    tuner = ThreadTuner(2, halves=True)
    used = []
    for _ in range(400):
        count = tuner.start_step()
        used.append((count, tuner.use_worker))
        tuner.finish_step(seconds[used[-1]])
    assert used.count((kernels, sharing)) > 380
    assert tuner.best_threads == kernels


def test_one_thread_stays_one():
    tuner = ThreadTuner(1)
    assert {(tuner.start_step(), tuner.finish_step(1.0))[0] for _ in range(50)} == {1}
