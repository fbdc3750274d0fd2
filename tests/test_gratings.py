"""Gratings: waves as asked for, and the tuning of units that are known to prefer an orientation."""

import math

import pytest
import torch
from torch import nn

from cnnlib.ground import ParameterError
from cnnlib.inside.gratings import gratings, selectivity, tuning


def test_a_grating_is_a_wave_of_the_asked_period_and_orientation():
    images = gratings(32, [8.0, 16.0], angles=4, phases=2)
    assert images.shape == (2, 4, 2, 3, 32, 32)
    spectrum = torch.fft.fft2(images[:, :, 0, 0] - 0.5).abs()
    for i, turns in enumerate((4, 2)):  # 32 pixels hold so many periods
        assert spectrum[i, 0, 0].argmax() in (turns, 32 - turns)  # along a row
        assert spectrum[i, 2, :, 0].argmax() in (turns, 32 - turns)  # along a column
    torch.testing.assert_close(images[:, 0, 0], 1 - images[:, 0, 1])  # half a period further


def test_tuning_finds_the_orientation_of_a_kernel():
    wave = gratings(12, [6.0])[0, :, 0] - 0.5  # (12, 3, 12, 12): one kernel an orientation
    model = nn.Sequential(nn.Conv2d(3, 12, 12, padding=6, bias=False), nn.ReLU())
    model[0].weight.data = wave
    curves = tuning(model, "1", size=25, periods=[3.0, 6.0])
    assert curves.shape == (12, 12)
    assert curves.argmax(dim=0).tolist() == list(range(12))
    assert selectivity(curves).min() > 0.4


def test_selectivity_is_0_for_all_orientations_alike_and_1_for_one():
    responses = torch.stack([torch.ones(12), torch.eye(12)[3], torch.zeros(12)], dim=1)
    torch.testing.assert_close(selectivity(responses), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)
    half = torch.linspace(0, math.pi, 13)[:-1]  # a cosine of twice the angle: half its mean
    torch.testing.assert_close(selectivity(1 + torch.cos(2 * half)[:, None]), torch.tensor([0.5]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, [4.0]), "size is 0"),
        ((8, []), r"periods is \[\]"),
        ((8, [4.0, -1.0]), "numbers of pixels above 0"),
        ((8, [4.0], 0), "angles is 0"),
        ((8, [4.0], 4, 2.5), "phases is 2.5"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ParameterError, match=message):
        gratings(*arguments)


@pytest.mark.parametrize("periods", [None, 4.0, "4", ["a"], [math.inf], [math.nan], []])
def test_periods_are_a_list_of_numbers(periods):
    with pytest.raises(ParameterError, match="period"):
        gratings(8, periods)


@pytest.mark.parametrize("layers", [[nn.AdaptiveAvgPool2d(1)], [nn.Flatten()], [nn.AvgPool2d(4)]])
def test_maps_without_a_middle_have_no_tuning(layers):
    """Of a map of one unit the "middle" was that unit, whose window holds the border."""
    with pytest.raises(ParameterError, match="its maps must be of 3 × 3 units or more"):
        tuning(nn.Sequential(*layers), str(len(layers) - 1), 8, [4.0])


def test_the_middle_is_that_of_both_axes():
    """Against the middle of the map that a stride of (1, 2) leaves, cut out by hand."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 3, stride=(1, 2)))
    waves = gratings(19, [4.0], angles=3)
    with torch.no_grad():
        maps = model(waves.flatten(0, 2))  # (…, 2, 17, 9)
    expected = maps[:, :, 7:10, 3:6].amax(dim=(2, 3)).view(3, 4, 2).amax(dim=1)
    torch.testing.assert_close(tuning(model, "0", 19, [4.0], angles=3), expected)
