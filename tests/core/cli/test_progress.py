"""Tests of progress: plain lines in a pipe, live lines on a terminal."""

from __future__ import annotations

import io
import re

from enhancer.cli.progress import ProgressView, describe
from enhancer.progress import Progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_pipe_gets_a_line_now_and_then_and_the_last_one():
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        for done in range(1001):
            clock.now = done / 100
            view(Progress("generate", done, 2000, {"cached": 0, "tokens": done * 10, "cost_usd": None}))
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["0/2,000", "500/2,000", "1,000/2,000"]
    assert "cost unknown" in lines[0]
    assert lines[1].endswith("15s left")


def test_what_is_complete_is_said_at_once_and_once():
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        view(Progress("embed", 0, 2))
        view(Progress("embed", 1, 2))
        view(Progress("embed", 2, 2))
        view(Progress("train", 0, 1, {"run": "align/seed0", "epoch": 1, "epochs": 9, "loss": 0.25}))
    assert stream.getvalue().splitlines() == [
        "embed  0/2 (0%)",
        "embed  2/2 (100%)",
        "train  0/1 (0%)  align/seed0  epoch 1/9  loss 0.2500",
    ]


def test_what_is_complete_and_tells_so_again_and_again_is_said_once():
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        for tick in range(200):
            clock.now = tick / 10
            view(Progress("generate", 60, 60, {"tokens": 7}))
            view(Progress("embed", tick // 60, 120))
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("generate")] == ["60/60"]
    assert len([line for line in lines if line.startswith("embed")]) == 5  # one every five seconds, and the last


def test_a_total_that_grows_with_the_work_is_not_an_end_each_time():
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        for batch in range(1, 41):
            clock.now = batch / 10
            view(Progress("embed", batch - 1, batch))
            view(Progress("embed", batch, batch))
    assert stream.getvalue().splitlines() == ["embed  0/1 (0%)", "embed  40/40 (100%)"]


def test_cached_entities_at_the_start_do_not_flatter_the_rate():
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        view(Progress("generate", 900, 1000))
        for second in range(1, 41):
            clock.now = float(second)
            view(Progress("generate", 900 + second, 1000))
    assert stream.getvalue().splitlines()[-1].endswith("1m00s left")


def test_training_counts_epochs_as_parts_of_a_run():
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        for epoch in range(11):
            clock.now = float(epoch)
            view(Progress("ablate", 1, 3, {"run": "none/seed1", "epoch": epoch, "epochs": 20}))
    assert "at most 30s left" in stream.getvalue().splitlines()[-1]


def test_runs_that_stopped_early_tell_how_long_others_take():
    """Each run takes twenty seconds and stops long before its thousand epochs; the first is timed from its first epoch."""
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        view(Progress("ablate", 2, 8, {"run": "none/seed1", "seconds": 0.0}))  # cached: it took no time
        for run in range(2, 5):
            for epoch in range(1, 21):
                clock.now += 1.0
                view(Progress("ablate", run, 8, {"run": f"none/seed{run}", "epoch": epoch, "epochs": 1000}))
            view(Progress("ablate", run + 1, 8, {"run": f"none/seed{run}", "seconds": 20.0}))
        clock.now += 6.0
        view(Progress("ablate", 5, 8, {"run": "none/seed5", "epoch": 6, "epochs": 1000}))
    assert stream.getvalue().splitlines()[-1].endswith("epoch 6/1000  53s left")


def test_what_was_there_before_does_not_flatter_the_rate_of_training():
    """A slow reference line, cached runs and a first epoch that compiles do not count towards the rate."""
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        view(Progress("ablate", 0, 25, {"run": "reference"}))
        clock.now = 60.0
        for run in range(10):
            view(Progress("ablate", run + 1, 25, {"run": f"none/seed{run}", "seconds": 9.0}))
        for epoch in range(1, 31):
            clock.now += 10.0 if epoch == 1 else 1.0
            view(Progress("ablate", 10, 25, {"run": "none/seed10", "epoch": epoch, "epochs": 100}))
    bounds = [line for line in stream.getvalue().splitlines() if "left" in line]
    assert bounds
    assert all(re.search(r"at most 24m\d\ds left$", line) for line in bounds)


def test_two_workers_are_added_up():
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        for epoch in range(1, 21):
            for run in ("none/seed0", "none/seed1"):
                clock.now += 0.5
                view(Progress("ablate", 0, 4, {"run": run, "epoch": epoch, "epochs": 40}))
    assert stream.getvalue().splitlines()[-1].endswith("at most 1m00s left")


def test_a_first_epoch_that_compiles_foretells_nothing():
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        for epoch, at in ((0, 0.0), (1, 18.0), (2, 23.5), (200, 43.5)):
            clock.now = at
            view(Progress("ablate", 0, 65, {"run": "none/seed0", "epoch": epoch, "epochs": 300}))
    first, second, third, last = stream.getvalue().splitlines()
    assert not any("left" in line for line in (first, second, third)), "0.01% is too little for an estimate"
    assert last.endswith("left")


def test_a_long_job_is_told_its_end_once_the_rate_is_known():
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        for second in range(36):
            clock.now = float(second)
            view(Progress("generate", second, 100_000))
    lines = stream.getvalue().splitlines()
    assert "left" not in lines[1]
    assert lines[-1].endswith("27h46m left")


def test_what_is_left_to_say_of_a_stage_comes_before_the_next_begins():
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        for done in range(5):
            view(Progress("embed", done))
        view(Progress("train", 0, 1))
    assert stream.getvalue().splitlines() == ["embed  0", "embed  4", "train  0/1 (0%)"]


def test_quiet_is_quiet():
    for stream in (io.StringIO(), Terminal()):
        with ProgressView(quiet=True, stream=stream) as view:
            view(Progress("embed", 1, 2))
        assert stream.getvalue() == ""


def test_a_terminal_gets_live_lines_that_step_aside_for_a_question():
    stream = Terminal()
    with ProgressView(stream=stream) as view:
        view(Progress("read", 3))
        with view.suspended():
            stream.write("Continue?")
        view(Progress("generate", 1, 2, {"run": "[bold]not markup[/bold]"}))
    text = stream.getvalue()
    assert "read  3" in text
    assert "Continue?" in text
    assert "[bold]not markup[/bold]" in text


def test_a_total_that_grows_is_shown_as_such_and_foretells_nothing():
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        for second in range(0, 31, 10):
            clock.now = second
            view(Progress("embed", second, second + 10, growing=True))
    assert stream.getvalue().splitlines()[-1] == "embed  30 of 40 so far"


def test_answers_that_wait_for_their_vector_are_no_end():
    stream, clock = io.StringIO(), Clock()
    with ProgressView(stream=stream, clock=clock) as view:
        for tenth in range(310):
            clock.now = tenth / 10
            asked = min(50 * tenth, 512 + 7 * tenth)  # embedding is slower, and asking waits for it once 512 wait
            view(Progress("generate", asked, 20_000))
            view(Progress("embed", 7 * tenth, 20_000))
    left = [
        int(minutes or 0) * 60 + int(seconds)
        for minutes, seconds in re.findall(r"^generate .*?  (?:(\d+)m)?(\d+)s left", stream.getvalue(), re.MULTILINE)
    ]
    assert left
    assert max(left) <= 20_000 / 70 + 2
    assert min(left) > 200


def test_the_last_profiles_stand_below_the_bars_of_a_terminal():
    view = ProgressView(stream=io.StringIO())
    view(Progress("generate", 1, 9, {"in_flight": 4}, latest=("7: a quiet story", "8: \x1b[31mnonsense")))
    assert view.latest() == ["7: a quiet story", r"8: \x1b[31mnonsense"]
    assert "4 in flight" in view._render().plain
    assert view._render().plain.splitlines()[-1].startswith("  8: ")
    assert describe(Progress("generate", 1, 9, {"in_flight": 4})) == "generate  1/9 (11%)  4 in flight"


def test_profiles_that_are_stored_after_the_last_answer_are_no_news_of_a_pipe():
    out, now = io.StringIO(), [0.0]
    with ProgressView(stream=out, clock=lambda: now[0]) as view:
        for stored in range(5):
            now[0] += 6.0
            view(Progress("generate", 60, 60, {"cached": 0}, latest=(f"{stored}: a story",)))
    assert out.getvalue().count("generate  60/60") == 1
