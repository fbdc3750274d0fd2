"""Augmentation acts in training only, and only moves or mirrors what is there."""

import pytest
import torch
from torch import nn

from cnnlib.ground.errors import ParameterError
from cnnlib.train.augment import RandomFlip, RandomShift, predict_flipped, predict_shifted


@pytest.fixture
def images():
    return torch.rand(400, 2, 6, 5, generator=torch.Generator().manual_seed(0)) + 0.1


def moved(images, down, right):
    """Move images by slicing, as an oracle."""
    height, width = images.shape[2:]
    result = torch.zeros_like(images)
    to = (slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0)))
    of = (slice(max(-down, 0), height + min(-down, 0)), slice(max(-right, 0), width + min(-right, 0)))
    result[:, :, to[0], to[1]] = images[:, :, of[0], of[1]]
    return result


@pytest.mark.parametrize("layer", [RandomShift(1), RandomFlip()])
def test_images_pass_unchanged_in_evaluation_mode(layer, images):
    assert layer.eval()(images) is images


@pytest.mark.parametrize("layer", [RandomShift(1), RandomFlip()])
def test_one_image_alone_is_told_to_become_a_batch(layer, images):
    with pytest.raises(ParameterError, match=r"shape \(2, 6, 5\); .* image.unsqueeze\(0\)"):
        layer.train()(images[0])


@pytest.mark.parametrize("pixels", [1, 2])
def test_each_image_is_moved_by_one_of_all_shifts(images, pixels):
    torch.manual_seed(0)
    result = RandomShift(pixels).train()(images)
    counts = {}
    for down in range(-pixels, pixels + 1):
        for right in range(-pixels, pixels + 1):
            expected = moved(images, down, right)
            counts[down, right] = sum(torch.equal(a, b) for a, b in zip(result, expected, strict=True))
    assert sum(counts.values()) == len(images)
    assert min(counts.values()) > 0.3 * len(images) / len(counts)


def test_about_half_of_the_images_are_mirrored(images):
    torch.manual_seed(0)
    result = RandomFlip().train()(images)
    flipped = [torch.equal(a, b.flip(2)) for a, b in zip(result, images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(result, images, strict=True)]
    assert sum(flipped) + sum(same) == len(images)
    assert 150 < sum(flipped) < 250


def test_a_seed_repeats_the_augmentation(images):
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(RandomShift(2).train()(images))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("pixels", [0, -1, 1.5])
def test_a_shift_of_no_pixels_is_refused(images, pixels):
    with pytest.raises(ParameterError, match="pixels is"):
        RandomShift(pixels)
    with pytest.raises(ParameterError, match="pixels is"):
        predict_shifted(nn.Flatten(), images, pixels)


def test_predictions_are_averaged_over_the_views(images):
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 3))
    views = [moved(images, *move) for move in ((0, 0), (2, 0), (-2, 0), (0, 2), (0, -2))]
    expected = torch.stack([model(view) for view in views]).mean(0)
    torch.testing.assert_close(predict_shifted(model, images, 2), expected.detach())
    expected = (model(images) + model(images.flip(3))) / 2
    torch.testing.assert_close(predict_flipped(model, images), expected.detach())


def test_uint8_images_are_moved_before_they_are_scaled(images):
    pixels = (255 * images.clamp(max=1)).to(torch.uint8)
    model = nn.Flatten()
    assert torch.equal(predict_shifted(model, pixels), predict_shifted(model, pixels.float() / 255))
    assert torch.equal(predict_flipped(model, pixels), predict_flipped(model, pixels.float() / 255))


@pytest.mark.parametrize("pixels", [8, 100])
def test_a_shift_leaves_something_of_the_image(pixels):
    with pytest.raises(ParameterError, match="must be below the images' 8 pixels"):
        predict_shifted(nn.Flatten(), torch.rand(2, 1, 8, 8), pixels)


@pytest.mark.parametrize("predict", [predict_flipped, predict_shifted])
def test_views_are_of_tensors(predict):
    with pytest.raises(ParameterError, match=r"images are a (list|NoneType); they must be a tensor"):
        predict(nn.Flatten(), [1])
    with pytest.raises(ParameterError, match=r"images are a (list|NoneType); they must be a tensor"):
        predict(nn.Flatten(), None)
