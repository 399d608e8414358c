import logging

import numpy as np
import pytest
import torch

from enhancer.contracts import Factors
from enhancer.errors import DivergenceError
from enhancer.testing.planted import RecordingMonitor
from enhancer_plugins.training.loop import Flatness, Schedule, train

STARTS = [{"weight": torch.full((1,), -2.0)}, {"weight": torch.full((1,), -4.0)}]


class Counter:
    """A model whose state is the number of its training epochs."""

    def __init__(self, losses=None):
        self.weight, self.moment, self.losses = torch.zeros(1), torch.zeros(1), losses

    def train_epoch(self, epoch):
        self.weight += 1
        self.moment += 10
        return self.losses[epoch - 1] if self.losses else 1 / epoch

    def factors(self):
        value = np.full((1, 1), float(self.weight), np.float32)
        return Factors(value, value)

    def state(self):
        return {"weight": self.weight, "optimiser.moment": self.moment}

    def load_state(self, state):
        self.weight.copy_(state["weight"])
        if "optimiser.moment" in state:
            self.moment.copy_(state["optimiser.moment"])


def test_patience_counts_validations():
    model, watcher = Counter(), RecordingMonitor(metrics=[0.1, 0.5, 0.4, 0.3, 0.9])
    outcome = train(model, Schedule(epochs=100, eval_every=3, patience=2), watcher)
    assert (outcome.epochs, outcome.best_epoch, outcome.best_metric) == (12, 6, 0.5)
    assert float(model.weight) == 6
    assert [entry["epoch"] for entry in outcome.history if "metric" in entry] == [3, 6, 9, 12]


def test_the_last_epoch_is_validated_whenever_it_falls():
    outcome = train(Counter(), Schedule(epochs=5, eval_every=4, patience=9), RecordingMonitor(metrics=[0.1, 0.2]))
    assert (outcome.epochs, outcome.best_epoch) == (5, 5)


def test_a_tie_is_no_improvement():
    outcome = train(Counter(), Schedule(epochs=50, eval_every=1, patience=3), RecordingMonitor(metrics=[0.5]))
    assert (outcome.epochs, outcome.best_epoch) == (4, 1)


def test_a_diverged_run_is_an_error():
    with pytest.raises(DivergenceError, match="loss of epoch 2 is nan"):
        train(Counter([1.0, float("nan")]), Schedule(9, 1, 1), RecordingMonitor())


def interrupt(path, identity="run", stop_after=4):
    with pytest.raises(KeyboardInterrupt):
        train(Counter(), Schedule(8, 2, 9), RecordingMonitor(checkpoint=path, stop_after=stop_after), identity=identity)
    assert path.exists()


def test_a_killed_run_goes_on_and_leaves_no_checkpoint(tmp_path):
    path = tmp_path / "deep" / "run.safetensors"
    interrupt(path)
    assert list(path.parent.iterdir()) == [path]
    model, watcher = Counter(), RecordingMonitor(checkpoint=path)
    outcome = train(model, Schedule(8, 2, 9), watcher, identity="run")
    assert [epoch for epoch, *_ in watcher.epochs] == [5, 6, 7, 8]
    assert [entry["epoch"] for entry in outcome.history] == list(range(1, 9))
    assert float(model.weight) == 8
    assert float(model.moment) == 80
    assert not path.exists()


def test_a_checkpoint_of_another_run_is_not_resumed(tmp_path):
    path = tmp_path / "run"
    interrupt(path, identity="another")
    watcher = RecordingMonitor(checkpoint=path)
    train(Counter(), Schedule(8, 2, 9), watcher, identity="run")
    assert watcher.epochs[0][0] == 1


@pytest.mark.parametrize("keep", [0, 1, 7, 60, 0.5, -1])
def test_a_truncated_checkpoint_starts_over_with_a_warning(tmp_path, keep, caplog):
    path = tmp_path / "run"
    interrupt(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    watcher = RecordingMonitor(checkpoint=path)
    with caplog.at_level(logging.WARNING):
        train(Counter(), Schedule(8, 2, 9), watcher, identity="run")
    assert watcher.epochs[0][0] == 1
    assert "starts over" in caplog.text


def test_a_checkpoint_that_cannot_be_written_is_a_warning_and_no_more(tmp_path, caplog):
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        outcome = train(
            Counter(), Schedule(8, 2, 9), RecordingMonitor(checkpoint=tmp_path / "file" / "run"), identity="run"
        )
    assert outcome.epochs == 8
    assert caplog.text.count("cannot be resumed") == 1


def test_a_state_whose_tensors_share_memory_is_kept_all_the_same(tmp_path):
    class Shares(Counter):
        def __init__(self):
            super().__init__()
            self.both = torch.zeros(2)
            self.weight, self.moment = self.both[:1], self.both[1:]

        def state(self):
            return {**super().state(), "both": self.both, "optimiser.nothing": torch.zeros(0)}

        def load_state(self, state):
            self.both.copy_(state["both"])

    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(Shares(), Schedule(8, 2, 9), RecordingMonitor(checkpoint=path, stop_after=4), identity="run")
    model = Shares()
    assert train(model, Schedule(8, 2, 9), RecordingMonitor(checkpoint=path), identity="run").epochs == 8
    assert model.both.tolist() == [8, 80]


def test_a_flat_loss_ends_training_and_the_last_epoch_is_validated():
    losses = [1 / epoch for epoch in range(1, 6)] + [0.2] * 95
    flatness = Flatness(window=4, tolerance=1e-2)
    model, watcher = Counter(losses), RecordingMonitor(metrics=[0.1, 0.2, 0.3])
    outcome = train(model, Schedule(100, 7, 9, flatness), watcher)
    assert (outcome.epochs, outcome.best_epoch) == (12, 12)
    assert [entry["epoch"] for entry in outcome.history if "metric" in entry] == [7, 12]
    assert outcome.stopped == str(flatness)
    unvalidated = train(Counter(losses), Schedule(100, 7, 9, flatness), RecordingMonitor())
    assert (unvalidated.epochs, unvalidated.best_epoch) == (12, 12)


def test_why_training_stopped_is_told(caplog):
    with caplog.at_level(logging.INFO):
        outcome = train(Counter(), Schedule(50, 1, 3), RecordingMonitor(metrics=[0.5]), where="backbone 'x'")
    assert outcome.stopped == "validation did not improve in 3 validations"
    assert "backbone 'x' stopped after epoch 4 of 50: validation did not improve" in caplog.text
    assert train(Counter(), Schedule(4, 1, 3), RecordingMonitor(metrics=[0.5])).stopped is None


@pytest.mark.parametrize("metrics", [None, [0.1, 0.2, 0.15]], ids=["unvalidated", "validated"])
@pytest.mark.parametrize("stop_after", [4, 7, 8, 10])
def test_a_resumed_run_stops_at_the_same_epoch(tmp_path, metrics, stop_after):
    losses = [1 / epoch for epoch in range(1, 6)] + [0.2] * 95
    schedule = Schedule(100, 2, 9, Flatness(window=4, tolerance=1e-2))
    whole = train(Counter(losses), schedule, RecordingMonitor(metrics=metrics), starts=STARTS)
    path = tmp_path / "run"
    stopped = RecordingMonitor(metrics=metrics, checkpoint=path, stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        train(Counter(losses), schedule, stopped, starts=STARTS)
    again = RecordingMonitor(metrics=metrics, checkpoint=path, validated=stopped.validated)
    resumed = train(Counter(losses), schedule, again, starts=STARTS)
    assert (resumed.epochs, resumed.best_epoch, resumed.stopped) == (whole.epochs, whole.best_epoch, whole.stopped)
    assert resumed.best_metric == whole.best_metric
    assert whole.epochs == 12


def test_the_best_start_is_kept_if_no_epoch_is_better():
    model, watcher = Counter(), RecordingMonitor(metrics=[0.2, 0.7, 0.1, 0.4, 0.3])
    outcome = train(model, Schedule(9, 1, 2), watcher, starts=STARTS)
    assert [float(each.users[0, 0]) for each in watcher.validated] == [-2, -4, 1, 2, 3, 4]
    assert (outcome.epochs, outcome.best_epoch, outcome.best_metric) == (4, 0, 0.7)
    assert float(model.weight) == -4
    assert {k: v for k, v in outcome.history[0].items() if k != "seconds"} == {"epoch": 0, "metric": 0.7}
    assert [entry["epoch"] for entry in outcome.history] == [0, 1, 2, 3, 4]


def test_patience_counts_from_the_best_trained_epoch():
    """Training that begins below a start is not stopped while it improves."""
    model, watcher = Counter(), RecordingMonitor(metrics=[0.5, 0.4, 0.1, 0.2, 0.3, 0.6])
    outcome = train(model, Schedule(9, 1, 2), watcher, starts=STARTS)
    assert (outcome.epochs, outcome.best_epoch, outcome.best_metric) == (6, 4, 0.6)
    assert float(model.weight) == 4


def test_starts_do_not_move_an_unvalidated_run():
    model, watcher = Counter(), RecordingMonitor()
    outcome = train(model, Schedule(5, 1, 2), watcher, starts=STARTS)
    assert (outcome.epochs, outcome.best_epoch, float(model.weight)) == (5, 5, 5)
    assert [entry["epoch"] for entry in outcome.history] == [1, 2, 3, 4, 5]
    model = Counter()
    assert train(model, Schedule(0, 1, 2), RecordingMonitor(), starts=STARTS).best_epoch == 0
    assert float(model.weight) == -2
