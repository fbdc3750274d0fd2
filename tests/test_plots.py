import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from cnnlib.ground.errors import ParameterError
from cnnlib.measure import plots
from cnnlib.measure.metrics import calibration
from cnnlib.train.run import History


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_montage_places_every_image():
    images = torch.arange(5).reshape(5, 1, 1).expand(5, 4, 6) + 1
    ax = plots.montage(images, columns=3)
    pixels = ax.images[0].get_array()
    assert pixels.shape[1] == 3 * 6 + 2  # three images and two gaps
    counts = {int(v): int((pixels == v).sum()) for v in range(1, 6)}
    assert counts == dict.fromkeys(range(1, 6), 24)


def test_learning_curves_of_runs_that_were_stopped():
    """The second run ended an epoch earlier: the mean is over what both have."""
    runs = [History([{"epoch": e + 1, "train_loss": k + e} for e in range(n)]) for k, n in ((0, 3), (2, 2))]
    (line,) = plots.learning_curves(runs, "train_loss", plt.subplots()[1]).lines
    assert line.get_xdata().tolist() == [1, 2]
    assert line.get_ydata().tolist() == [1, 2]


def test_a_montage_of_colour_images_with_titles():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    images[1, 0] = 255
    ax = plots.montage(images, titles=["black", "red"], title="two")
    assert [text.get_text() for text in ax.texts] == ["black", "red"]
    pixels = ax.images[0].get_array()
    assert ((pixels == [1, 0, 0]).all(axis=-1)).sum() == 64


def test_titles_of_two_lines_stay_between_the_rows():
    images = torch.full((10, 28, 28), 200, dtype=torch.uint8)
    ax = plots.montage(images, titles=["Shirt\n(is: Pullover)"] * 10, columns=5)
    ax.figure.canvas.draw()
    boxes = [t.get_window_extent().transformed(ax.transData.inverted()) for t in ax.texts]
    drawn = ~np.ma.getmaskarray(ax.images[0].get_array())
    for box in boxes:
        top, bottom = sorted((box.y0, box.y1))
        left, right = sorted((box.x0, box.x1))
        assert not drawn[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)].any()


@pytest.mark.parametrize(
    "images",
    [
        torch.ones(2, 1, 4, 6, dtype=torch.bfloat16),
        [torch.ones(1, 4, 6), torch.ones(1, 4, 6)],
        (np.ones((4, 6)), np.ones((4, 6))),
        np.ones((2, 4, 6))[:, ::-1],
    ],
)
def test_a_montage_takes_images_as_people_have_them(images):
    ax = plots.montage(images, titles=torch.tensor([3, 5]))
    assert int((ax.images[0].get_array() == 1).sum()) == 48
    assert [text.get_text() for text in ax.texts] == ["3", "5"]


def test_wrong_montages_are_refused():
    for images in ([torch.zeros(1, 4, 4), torch.zeros(1, 4, 5)], [], "abc"):
        with pytest.raises(ParameterError, match="of which no tensor can be made"):
            plots.montage(images)
    with pytest.raises(ParameterError, match="columns is 0; it must be a whole number"):
        plots.montage(torch.zeros(2, 8, 8), columns=0)
    for shape in ((8, 8), (2, 4, 8, 8), (0, 1, 8, 8)):
        with pytest.raises(ParameterError, match="images have shape"):
            plots.montage(torch.zeros(shape))
    with pytest.raises(ParameterError, match="1 titles for 2 images"):
        plots.montage(torch.zeros(2, 8, 8), titles=["one"])


@pytest.mark.parametrize(
    "images",
    [
        255 * torch.rand(2, 3, 4, 4),
        torch.full((2, 3, 4, 4), 200),
        torch.rand(2, 3, 4, 4) - 0.5,
        torch.full((2, 3, 4, 4), torch.nan),
    ],
)
def test_colours_that_would_be_cut_off_are_refused(images):
    with pytest.raises(ParameterError, match=r"colour images go from .* must lie between 0 and 1: divide"):
        plots.montage(images)


def test_runs_are_a_list():
    for runs in ([], History()):
        with pytest.raises(ParameterError, match="they must be a list of histories"):
            plots.learning_curves(runs, "train_loss", plt.subplots()[1])


def test_learning_curves_show_mean_and_standard_error_over_runs():
    runs = [
        History([{"epoch": 1, "val_accuracy": a}, {"epoch": 2, "val_accuracy": a + 0.1}]) for a in (0.5, 0.7)
    ]
    _, ax = plt.subplots()
    assert plots.learning_curves(runs, "val_accuracy", ax, "x", percent=True) is ax
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [60, 70])
    low, high = ax.collections[0].get_paths()[0].vertices[:, 1].min(), 70 + 10
    assert low == pytest.approx(60 - 10)
    assert ax.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(high)
    assert ax.get_ylabel() == "val accuracy (%)"


def test_a_single_run_has_no_band():
    _, ax = plt.subplots()
    plots.mean_band([1, 2], [[3, 4]], ax)
    assert not ax.collections


def test_bars_show_mean_deviation_and_runs():
    _, ax = plt.subplots()
    plots.bars({"a": [0.1, 0.3], "b": [0.5]}, ax, xlabel="share (%)", percent=True)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([20, 50])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_xlabel() == "share (%)"


def test_use_style_sets_the_palette():
    plots.use_style()
    assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == list(plots.COLORS)


def test_a_confusion_matrix_shows_counts_and_colours_the_mistakes():
    _, ax = plt.subplots()
    assert plots.confusion(torch.tensor([[8, 2, 0], [0, 5, 0], [1, 0, 0]]), ["a", "b", "c"], ax, "t") is ax
    assert sorted(text.get_text() for text in ax.texts) == ["1", "2", "5", "8"]
    np.testing.assert_allclose(ax.images[0].get_array(), [[0, 20, 0], [0, 0, 0], [100, 0, 0]])


def test_classes_may_be_named_by_numbers():
    ax = plots.confusion(torch.eye(3, dtype=torch.int64), range(3), plt.subplots()[1])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "1", "2"]


def test_a_confusion_matrix_of_another_shape_is_refused():
    _, ax = plt.subplots()
    with pytest.raises(ParameterError, match="2 class names"):
        plots.confusion(torch.zeros(3, 3), ["a", "b"], ax)


def test_a_reliability_diagram_has_a_dot_for_each_bin_that_is_not_empty():
    logits = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1]]).log()
    _, ax = plt.subplots()
    plots.reliability(calibration(logits, torch.tensor([0, 1, 0]), bins=10), ax)
    np.testing.assert_allclose(ax.collections[-1].get_offsets(), [[60, 50], [90, 100]], rtol=1e-5)
    assert [text.get_text() for text in ax.texts] == ["ECE 10.00%"]
