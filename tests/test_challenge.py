"""The open challenge: the budget, the size, the settings, and that only the state dict is remembered."""

import time

import pytest
import torch
from torch import nn

from cnnlib.course import challenge
from cnnlib.course.challenge import ENTRIES, MAX_NUMBERS, SETTINGS, answer, check_settings, train_entry
from cnnlib.data import Dataset
from cnnlib.ground.errors import ParameterError


@pytest.fixture(scope="module")
def halves():
    """Images whose upper or lower half is bright: two classes that anything can learn."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (200,), generator=generator)
    images = torch.randint(60, (200, 1, 28, 28), generator=generator, dtype=torch.uint8)
    images[labels == 0, :, :14] += 120
    images[labels == 1, :, 14:] += 120
    return Dataset(images, labels)


def tiny():
    return nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(16, 2))


class Around(nn.Module):
    """The tiny network, for classes that do something else beside it."""

    def __init__(self):
        super().__init__()
        self.part = tiny()

    def forward(self, images):
        return self.part(images)


def test_it_learns_and_answers_from_its_state_alone(halves):
    trained = train_entry(tiny, {"epochs": 10, "lr": 0.05}, halves)
    assert (trained.numbers, trained.steps, trained.ended) == (34, 20, "done")
    assert 0 < trained.seconds < 60
    answers = answer(tiny, trained.state, halves.images)
    assert answers.dtype == torch.int64
    assert (answers == halves.labels).double().mean() > 0.95


def test_a_network_that_needs_maps_in_reading_order_learns(halves):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(1, 4, 7, stride=7), nn.Linear(64, 2)

        def forward(self, images):
            return self.linear(self.conv(images).view(len(images), -1))

    assert train_entry(Flat, {"epochs": 1}, halves).ended == "done"


def test_with_time_to_spare_a_seed_decides_everything(halves):
    def noisy():
        return nn.Sequential(nn.Dropout(0.3), *tiny())

    first, again, other = (train_entry(noisy, {"epochs": 2}, halves, seed=seed).state for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_callers_threads_and_random_numbers_stay(halves):
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    train_entry(tiny, {"epochs": 1}, halves)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_budget_ends_a_run_and_the_rate_falls_to_zero_with_it(halves, monkeypatch):
    ticks = iter(range(1_000_000))
    monkeypatch.setattr(challenge.time, "process_time", lambda: next(ticks))
    rates = []

    class Watched(torch.optim.Adam):
        def step(self):
            rates.append(self.param_groups[0]["lr"])
            super().step()

    monkeypatch.setattr(challenge.torch.optim, "Adam", Watched)
    trained = train_entry(tiny, {"epochs": 1000, "lr": 1.0, "warmup": 0.5}, halves, seconds=20)
    assert trained.ended == "budget"
    assert trained.steps == len(rates) == 19
    assert max(rates) == pytest.approx(1.0, abs=0.11)
    assert rates[0] < 0.15
    assert rates[-1] < 0.15


def test_cpu_time_counts_and_sleeping_does_not(halves):
    def sleepy():
        time.sleep(0.3)
        return tiny()

    assert train_entry(sleepy, {"epochs": 1}, halves).seconds < 0.3


def test_buffers_count_as_numbers(halves):
    class Large(Around):
        def __init__(self, size):
            super().__init__()
            self.register_buffer("memory", torch.zeros(size))

    fits = train_entry(lambda: Large(MAX_NUMBERS - 34), {"epochs": 1}, halves)
    assert fits.numbers == MAX_NUMBERS
    with pytest.raises(ParameterError, match=r"holds 20,001 numbers, parameters and buffers; at most 20,000"):
        train_entry(lambda: Large(MAX_NUMBERS - 33), {"epochs": 1}, halves)


def test_what_is_remembered_elsewhere_is_lost(halves):
    class Cheat(Around):
        """Keeps its training images, and answers with the label of the nearest."""

        def __init__(self):
            super().__init__()
            self.kept = None

        def forward(self, images):
            if self.training:
                self.kept = images.detach()
            return self.part(images) if self.kept is None else self.part(images) + 100 * self.kept.mean()

    trained = train_entry(Cheat, {"epochs": 1}, halves)
    assert set(trained.state) == {"part.2.weight", "part.2.bias"}
    plain = answer(tiny, {k.removeprefix("part."): v for k, v in trained.state.items()}, halves.images)
    assert torch.equal(answer(Cheat, trained.state, halves.images), plain)


def test_a_network_that_grows_is_refused(halves):
    class Grows(Around):
        def forward(self, images):
            if self.training:
                self.register_buffer("memory", torch.zeros(MAX_NUMBERS))
            return self.part(images)

    with pytest.raises(ParameterError, match="at most 20,000"):
        train_entry(Grows, {"epochs": 1}, halves)


def test_a_loss_that_is_not_finite_ends_the_run(halves):
    class Overflows(Around):
        def forward(self, images):
            return self.part(images) * (float("nan") if self.training else 1.0)

    trained = train_entry(Overflows, {"epochs": 100}, halves)
    assert (trained.ended, trained.steps) == ("diverged", 20)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: None, "built None; it must build an nn.Module"),
        (nn.Flatten, "no parameter that can be learned"),
        (lambda: nn.Conv2d(1, 2, 3), r"returns \(2, 2, 26, 26\); it must return \(N, K\) logits"),
    ],
)
def test_what_is_no_entry_is_refused(halves, build, message):
    with pytest.raises(ParameterError, match=message):
        train_entry(build, {}, halves)


def test_a_state_of_another_network_is_refused(halves):
    with pytest.raises(ParameterError, match="does not fit the network"):
        answer(tiny, {"weight": torch.zeros(2)}, halves.images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "must be a dict"),
        ({"learning_rate": 0.1}, "no setting 'learning_rate'; choose from epochs, batch_size"),
        ({"epochs": 2.0}, "epochs is 2.0; it must be a whole number"),
        ({"epochs": 1001}, "epochs is 1001; it must be at most 1,000"),
        ({"batch_size": 1}, "batch_size is 1; it must be a whole number, 2 or more"),
        ({"lr": 0}, "lr is 0; it must be a number from 1e-06 to 10"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": True}, "lr is True"),
        ({"lr": "fast"}, "lr is 'fast'"),
        ({"optimizer": "lbfgs"}, "optimizer is 'lbfgs'; choose one of adam, sgd"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ParameterError, match=message):
        check_settings(settings)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_budget_is_a_number_above_0(halves, seconds):
    with pytest.raises(ParameterError, match="seconds is"):
        train_entry(tiny, {}, halves, seconds=seconds)


def test_defaults_are_filled_in():
    assert check_settings({"lr": 1}) == {name: rule.default for name, rule in SETTINGS.items()} | {"lr": 1}


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_both_optimizers_learn(halves, optimizer):
    trained = train_entry(tiny, {"epochs": 10, "lr": 0.05, "optimizer": optimizer}, halves)
    assert (answer(tiny, trained.state, halves.images) == halves.labels).double().mean() > 0.9


@pytest.mark.parametrize("name", ENTRIES)
def test_our_entries_keep_the_rules(halves, name):
    build, settings = ENTRIES[name]
    trained = train_entry(build, settings | {"epochs": 1}, halves[:60])
    assert trained.numbers <= MAX_NUMBERS
    assert len(answer(build, trained.state, halves.images)) == 200
    check_settings(settings)
