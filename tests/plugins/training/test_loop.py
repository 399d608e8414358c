import logging

import numpy as np
import pytest
import torch

from enhancer.contracts import Factors
from enhancer.errors import DivergenceError
from enhancer.testing.planted import RecordingMonitor
from enhancer_plugins.training.loop import Schedule, train


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
