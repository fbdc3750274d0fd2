"""Exercises of lesson 05, inside a trained network."""

import torch

from cnnlib.course.exercises import Exercise, normal


def top_places(maps, count):
    """Return where the strongest responses of each channel are, in all images together.

    maps: (N, C, H, W) float tensor without ties; count: int ≤ N · H · W.
    Returns (C, count, 3) int64: the image, the row and the column of each response, the strongest
    response first.
    """
    width = maps.shape[3]
    places = maps.shape[2] * width
    flat = maps.transpose(0, 1).flatten(1)  # (C, N · H · W)
    index = flat.topk(count, dim=1).indices
    return torch.stack([index // places, index % places // width, index % width], dim=2)


def top_swapped(maps, count):
    return top_places(maps, count)[:, :, [0, 2, 1]]


def top_absolute(maps, count):
    return top_places(maps.abs(), count)


def top_ascending(maps, count):
    return top_places(maps, count).flip(1)


def top_one_an_image(maps, count):
    n, w = len(maps), maps.shape[3]
    value, index = maps.flatten(2).max(dim=2)  # (N, C)
    order = value.T.argsort(dim=1, descending=True)[:, : min(count, n)]
    index = index.T.gather(1, order)
    found = torch.stack([order, index // w, index % w], dim=2)
    return found.repeat(1, -(-count // found.shape[1]), 1)[:, :count]


def top_cases(rng):
    cases = [[torch.arange(-16.0, 16.0).reshape(2, 2, 2, 4), 6]]
    for n, c, h, w, count in ((3, 2, 4, 5, 7), (5, 4, 3, 2, 9), (2, 3, 6, 4, 3)):
        values = torch.from_numpy(rng.permutation(n * c * h * w)).float() - n * c * h * w / 2
        cases.append([values.reshape(n, c, h, w), count])
    return [*cases, [normal(rng, 1, 1, 1, 1), 1]]


def concept_iou(maps, masks, share):
    """Return how well each channel marks a concept, as network dissection does (Bau et al. 2017).

    A channel marks its round(share · N · H · W) strongest places of all images together. Return
    how many places are marked and belong to the concept, divided by how many are marked or belong
    to it, or both. maps: (N, C, H, W) float tensor without ties; masks: (N, H, W) bool tensor,
    True where the concept is; share: float, 0 < share < 1. Returns (C,) float32.
    """
    flat = maps.transpose(0, 1).flatten(1)  # (C, N · H · W)
    count = round(share * flat.shape[1])
    marked = torch.zeros_like(flat, dtype=torch.bool)
    marked.scatter_(1, flat.topk(count, dim=1).indices, True)
    concept = masks.flatten()
    return (marked & concept).sum(dim=1) / (marked | concept).sum(dim=1)


def iou_recall(maps, masks, share):
    flat = maps.transpose(0, 1).flatten(1)
    count = round(share * flat.shape[1])
    inside = masks.flatten()[flat.topk(count, dim=1).indices].sum(dim=1)
    return inside / masks.sum().clamp(min=1)


def iou_each_image(maps, masks, share):
    flat = maps.flatten(2)  # (N, C, H · W)
    count = round(share * flat.shape[2])
    marked = torch.zeros_like(flat, dtype=torch.bool)
    marked.scatter_(2, flat.topk(count, dim=2).indices, True)
    concept = masks.flatten(1)[:, None]
    return (marked & concept).sum(dim=(0, 2)) / (marked | concept).sum(dim=(0, 2))


def iou_common_threshold(maps, masks, share):
    count = round(share * maps.numel())
    marked = (maps >= maps.flatten().topk(count).values[-1]).transpose(0, 1).flatten(1)
    concept = masks.flatten()
    return (marked & concept).sum(dim=1) / (marked | concept).sum(dim=1)


def iou_counted_twice(maps, masks, share):
    flat = maps.transpose(0, 1).flatten(1)
    count = round(share * flat.shape[1])
    inside = masks.flatten()[flat.topk(count, dim=1).indices].sum(dim=1)
    return inside / (count + masks.sum())


def iou_cases(rng):
    cases = []
    for n, c, h, w, share in ((4, 3, 6, 6, 0.2), (3, 5, 4, 7, 0.3), (6, 2, 5, 5, 0.1)):
        masks = torch.zeros(n, h, w, dtype=torch.bool)
        masks[: n - 1, 1:4, : int(rng.integers(2, w))] = True  # the last image lacks the concept
        loudness = torch.linspace(1, 3, c)[:, None, None]
        cases.append([loudness * (normal(rng, n, c, h, w) + 1.5 * masks[:, None]), masks, share])
    return cases


def contrast_cam(maps, weight, bias, targets):
    """Return Grad-CAM for the log-probability of a class, in place of its logit.

    The network ends with the mean of each map over its H · W places, one linear layer and softmax:
    p = softmax(mean · weightᵀ + bias). As in Grad-CAM, a map's weight is the mean over its places of
    the score's gradient, and what speaks against the class is cut off; here the score is log p of
    the target.
    maps: (N, C, H, W) float; weight: (K, C); bias: (K,); targets: (N,) int64. Returns (N, H, W).
    """
    probabilities = (maps.mean(dim=(2, 3)) @ weight.T + bias).softmax(dim=1)  # (N, K)
    against = probabilities @ weight  # (N, C): what the classes have in common, as the network weighs them
    places = maps.shape[2] * maps.shape[3]
    return torch.einsum("nc,nchw->nhw", weight[targets] - against, maps).relu() / places


def contrast_logit(maps, weight, bias, targets):
    places = maps.shape[2] * maps.shape[3]
    return torch.einsum("nc,nchw->nhw", weight[targets], maps).relu() / places


def contrast_equal(maps, weight, bias, targets):
    places = maps.shape[2] * maps.shape[3]
    return torch.einsum("nc,nchw->nhw", weight[targets] - weight.mean(dim=0), maps).relu() / places


def contrast_probability(maps, weight, bias, targets):
    probabilities = (maps.mean(dim=(2, 3)) @ weight.T + bias).softmax(dim=1)
    return contrast_cam(maps, weight, bias, targets) * probabilities.gather(1, targets[:, None])[:, :, None]


def contrast_sum(maps, weight, bias, targets):
    return contrast_cam(maps, weight, bias, targets) * maps.shape[2] * maps.shape[3]


def contrast_signed(maps, weight, bias, targets):
    places = maps.shape[2] * maps.shape[3]
    against = (maps.mean(dim=(2, 3)) @ weight.T + bias).softmax(dim=1) @ weight
    return torch.einsum("nc,nchw->nhw", weight[targets] - against, maps) / places


def contrast_no_bias(maps, weight, bias, targets):
    return contrast_cam(maps, weight, torch.zeros_like(bias), targets)


def contrast_cases(rng):
    cases = []
    for n, c, k, h, w in ((2, 3, 4, 3, 3), (3, 5, 3, 2, 4), (1, 4, 6, 5, 2)):
        targets = torch.from_numpy(rng.integers(0, k, n))
        maps = normal(rng, n, c, h, w).relu() + 0.2
        cases.append([maps, 1.5 * normal(rng, k, c), normal(rng, k), targets])
    return cases


def guided_gradient(images, first, second, output):
    """Return guided backpropagation for a network of two hidden layers, without autograd.

    The network is y = relu(relu(images · firstᵀ) · secondᵀ) · output. Its gradient with respect to the
    images comes back through two ReLUs. A plain ReLU passes a gradient where its input was above 0.
    Here it must be above 0 itself, too.
    images: (N, D) float; first: (A, D); second: (B, A); output: (B,). Returns (N, D).
    """
    a = images @ first.T
    b = a.relu() @ second.T
    gradient = output.expand_as(b).clamp(min=0) * (b > 0)
    gradient = (gradient @ second).clamp(min=0) * (a > 0)
    return gradient @ first


def guided_with_faults(images, first, second, output):
    a = images @ first.T
    b = a.relu() @ second.T
    gradient = output.expand_as(b).clamp(min=0)
    gradient = (gradient @ second).clamp(min=0)
    return (gradient @ first).clamp(min=0)


def guided_deconvnet(images, first, second, output):
    gradient = output.expand(len(images), -1).clamp(min=0)
    return (gradient @ second).clamp(min=0) @ first


def guided_plain(images, first, second, output):
    a = images @ first.T
    b = a.relu() @ second.T
    return ((output * (b > 0)) @ second * (a > 0)) @ first


def guided_pixels(images, first, second, output):
    return guided_gradient(images, first, second, output).clamp(min=0)


def guided_once(images, first, second, output):
    a = images @ first.T
    b = a.relu() @ second.T
    gradient = output.expand_as(b).clamp(min=0) * (b > 0)
    return ((gradient @ second) * (a > 0)) @ first


def guided_cases(rng):
    return [
        [normal(rng, n, d), normal(rng, a, d), normal(rng, b, a), normal(rng, b)]
        for n, d, a, b in ((4, 5, 8, 9), (3, 7, 9, 8), (6, 2, 7, 12))
    ]


def leave_one_out(gram, wanted, penalty):
    """Return the errors of N ridge regressions, each of which was fitted without one of the images.

    Row i: the answers wanted for image i, minus what the regression predicts for it that was fitted to
    the N − 1 other images. With the Gram matrix K of the images that one fits to, a regression predicts
    k (K + λ I)⁻¹ Y for an image whose scalar products with them are k. There is no intercept.
    gram: (N, N) float64, the scalar products of all images; wanted: (N, M) float64; penalty: float
    λ > 0. Returns (N, M) float64.
    """
    inverse = torch.linalg.inv(gram + penalty * torch.eye(len(gram), dtype=gram.dtype))
    return inverse @ wanted / inverse.diagonal()[:, None]


def one_out_fitted(gram, wanted, penalty):
    inverse = torch.linalg.inv(gram + penalty * torch.eye(len(gram), dtype=gram.dtype))
    return wanted - gram @ inverse @ wanted


def one_out_no_penalty(gram, wanted, penalty):
    return leave_one_out(gram, wanted, 1e-3 * penalty)


def one_out_negative(gram, wanted, penalty):
    return -leave_one_out(gram, wanted, penalty)


def one_out_undivided(gram, wanted, penalty):
    return torch.linalg.inv(gram + penalty * torch.eye(len(gram), dtype=gram.dtype)) @ wanted


def one_out_predictions(gram, wanted, penalty):
    return wanted - leave_one_out(gram, wanted, penalty)


def one_out_cases(rng):
    cases = []
    for n, d, m, penalty in ((5, 3, 2, 0.5), (8, 12, 3, 2.0), (6, 4, 1, 0.3)):
        features = normal(rng, n, d).double()
        cases.append([features @ features.T, normal(rng, n, m).double(), penalty])
    return cases


EXERCISES = [
    Exercise(
        "05.concept_iou",
        3,
        concept_iou,
        iou_cases,
        {
            "divides by the size of the concept alone": iou_recall,
            "marks the strongest places of each image": iou_each_image,
            "has one threshold for all channels": iou_common_threshold,
            "counts what is marked and belongs to the concept twice below the line": iou_counted_twice,
        },
        (
            "maps.transpose(0, 1).flatten(1) has a row for each channel, with all places of all images.",
            "topk gives the places to mark; masks.flatten() has the same order of places.",
            "Intersection: marked & concept. Union: marked | concept. Sum both over the places.",
        ),
    ),
    Exercise(
        "05.top_places",
        2,
        top_places,
        top_cases,
        {
            "confuses rows with columns": top_swapped,
            "takes strongly negative responses for strong ones": top_absolute,
            "puts the weakest of them first": top_ascending,
            "takes no more than one place of an image": top_one_an_image,
        },
        (
            "Bring the channels to the front and flatten the rest: one row of N · H · W values a channel.",
            "topk gives positions in that row. Integer division and remainder take them apart again.",
        ),
    ),
    Exercise(
        "05.contrast_cam",
        3,
        contrast_cam,
        contrast_cases,
        {
            "takes the gradient of the logit": contrast_logit,
            "gives all classes the same say in what is subtracted": contrast_equal,
            "takes the gradient of the probability, without the logarithm": contrast_probability,
            "adds the gradients up instead of averaging them": contrast_sum,
            "keeps what speaks against the class": contrast_signed,
            "forgets the bias": contrast_no_bias,
        },
        (
            "log p of class c is its logit minus log Σ exp(logits). What is the derivative of the second "
            "term with respect to logit j?",
            "It is p_j. So each map's weight is that of class c minus the mean of all classes' weights, in "
            "which class j counts p_j.",
            "The mean over the places puts 1 / (H · W) before it, as for the logit.",
        ),
    ),
    Exercise(
        "05.guided_gradient",
        2,
        guided_gradient,
        guided_cases,
        {
            "passes gradients where a ReLU was off, and cuts off at the pixels": guided_with_faults,
            "passes gradients where a ReLU was off": guided_deconvnet,
            "is the plain gradient": guided_plain,
            "cuts off what is negative at the pixels, where no ReLU stands": guided_pixels,
            "cuts off negative gradients at one ReLU only": guided_once,
        },
        (
            "Write down where the two ReLUs stand, and compare with where the code sets something to 0.",
            "Two conditions have to hold at each ReLU: one is about the gradient that arrives, the other "
            "about the input that it had on the way forward.",
        ),
        given=guided_with_faults,
    ),
    Exercise(
        "05.leave_one_out",
        3,
        leave_one_out,
        one_out_cases,
        {
            "fits to all the images, also to the one that it is tested on": one_out_fitted,
            "hardly uses the penalty": one_out_no_penalty,
            "subtracts the other way round": one_out_negative,
            "returns the coefficients of the fit to all images": one_out_undivided,
            "returns the predictions": one_out_predictions,
        },
        (
            "N fits in a loop are a right answer: leave out row and column i of the Gram matrix. Is there "
            "a way with one inverse only?",
            "Let A be the inverse of K + λ I for all images, and suppose that wanted[i] were replaced by "
            "what the others predict for it. The fit to all would then be the fit to the others.",
            "So coefficient i of that fit is 0: (A · wanted)[i] − A[i, i] · error[i] = 0.",
        ),
    ),
]
