"""Running a learner's nn.Module on one case: what comes out, what it stored, and where gradients arrive.

A case is a dict of plain data. The author of an exercise gives "arguments" (of the constructor, by name),
"training" (bool) and "inputs" (tensors); `fill` adds "parameters" and "buffers" (name → values), and "grad",
the gradient with respect to the output. Every parameter and every float input has to get a gradient.
"""

import inspect

import torch
from torch import nn

from cnnlib.course.exercises.judge import AnswerEnded
from cnnlib.ground.errors import kind_of


def fill(reference, case, rng):
    """Return a case with the values that the module gets, and the gradient of its output.

    Parameters are those of a fresh module, moved at random; buffers grow by up to 1, so that a running
    variance stays positive and no layer can be mistaken for one that does nothing.

    Args:
        reference: the class that solves the exercise; its forward draws no random numbers.
        case: dict with "arguments", "training" and "inputs".
        rng: numpy.random.Generator
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(int(rng.integers(2**31)))
        module = reference(**case["arguments"])
        parameters, buffers = _state(module)
        parameters = {name: value + 0.3 * torch.randn(value.shape) for name, value in parameters.items()}
        buffers = {
            name: value + (torch.rand(value.shape) if value.is_floating_point() else 3)
            for name, value in buffers.items()
        }
        module.train(case["training"])
        grad = torch.randn(module(*(x.clone() for x in case["inputs"])).shape)
    return case | {"parameters": parameters, "buffers": buffers, "grad": grad}


def run(answer, case):
    """Return what an answer's module computes in a case: dict from a phrase that names it to a tensor.

    Args:
        answer: what the learner wrote; it should be a class derived from nn.Module.
        case: dict as `fill` returns it, with tensors of its own.

    Raises:
        AnswerEnded: there is nothing to compare; the message says why.
    """
    module = _build(answer, case)
    leaves = [x.requires_grad_() if x.is_floating_point() else x for x in case["inputs"]]
    inputs = [x.clone() for x in leaves]  # not leaves, so that a change in place is noticed, not refused
    output = module(*inputs)
    grad = case["grad"]
    if not isinstance(output, torch.Tensor):
        what = "None; is there a return?" if output is None else kind_of(output)
        _fail(f"forward returned no tensor but {what}")
    if output.shape != grad.shape:
        _fail(f"its output has the shape {tuple(output.shape)}, expected {tuple(grad.shape)}")
    for number, (x, leaf) in enumerate(zip(inputs, leaves, strict=True)):
        if not torch.equal(x, leaf):
            _fail(f"forward changed its input {number} in place, which its caller may still need; use a copy")
    if any(part.training != case["training"] for part in module.modules()):
        _fail("forward switched between training and evaluation mode; whoever uses the module does that")
    parameters, buffers = _state(module)
    for name, value in buffers.items():
        if value.requires_grad:
            _fail(f"its buffer {name} keeps the graph of the batch alive; store what detach() returns")
    gradients = _gradients(output, grad, leaves, parameters)
    buffers = {f"its buffer {name}, afterwards": buffers[name] for name in sorted(buffers)}
    return {"its output": output, **buffers, **gradients}


def _build(answer, case):
    """Return the module with the case's values, in its mode."""
    if not (inspect.isclass(answer) and issubclass(answer, nn.Module)):
        if isinstance(answer, nn.Module):
            name = type(answer).__name__
            _fail(f"it is a module, built already; give check the class, {name} without (…) behind it")
        what = "a class" if inspect.isclass(answer) else "a function"
        _fail(f"it is {what} and no module; a class is asked that is derived from nn.Module")
    if case["arguments"] and answer.__init__ is nn.Module.__init__:
        _fail("it has no __init__ of its own: is its name misspelt? It has two underscores on either side")
    try:
        inspect.signature(answer).bind(**case["arguments"])
    except TypeError as error:
        given = ", ".join(f"{name}={value!r}" for name, value in case["arguments"].items())
        _fail(f"it cannot be built with ({given}): {error}")
    module = answer(**case["arguments"])
    if not hasattr(module, "_parameters"):
        _fail("it is no whole module: __init__ must begin with super().__init__()")
    for kind, found in zip(("parameters", "buffers"), _state(module), strict=True):
        expected = case[kind]
        if found.keys() != expected.keys():
            lacks, more = expected.keys() - found.keys(), found.keys() - expected.keys()
            if found.keys().isdisjoint(expected):
                _fail(f"its {kind} are {_names(found)}, expected {_names(expected)}")
            parts = [f"missing: {_names(lacks)}"] * bool(lacks)
            parts += [f"not asked for: {_names(more)}"] * bool(more)
            _fail(f"its {kind} do not have the names asked for ({'; '.join(parts)})")
        for name, value in expected.items():
            if found[name].shape != value.shape:
                shapes = f"{tuple(found[name].shape)}, expected {tuple(value.shape)}"
                _fail(f"{name}, one of its {kind}, has the shape {shapes}")
    if getattr(module.forward, "__func__", None) is nn.Module.forward:
        _fail("it has no method forward: is its name misspelt, or its indentation not that of __init__?")
    module.load_state_dict(case["parameters"] | case["buffers"])
    return module.train(case["training"])


def _state(module):
    """Return {name: parameter} and {name: buffer} of what a module's state dict holds."""
    state = module.state_dict(keep_vars=True)
    parameters = {name: value for name, value in state.items() if isinstance(value, nn.Parameter)}
    return parameters, {name: value for name, value in state.items() if name not in parameters}


def _gradients(output, grad, inputs, parameters):
    wanted = {f"its input {i}": x for i, x in enumerate(inputs) if x.requires_grad}
    wanted |= {f"its parameter {name}": parameters[name] for name in sorted(parameters)}
    if not output.requires_grad:
        _fail("its output has no gradient: no_grad, detach, .data or .item() cut it off")
    reached = {name: value for name, value in wanted.items() if value.requires_grad}
    found = torch.autograd.grad(output, list(reached.values()), grad, allow_unused=True)
    found = dict(zip(reached, found, strict=True))
    for name in wanted:
        if found.get(name) is None:
            _fail(f"{name} gets no gradient: the output does not depend on it, or the way to it is cut off")
    return {f"the gradient of {name}": value for name, value in found.items()}


def _names(names, most=8):
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(sorted(names)[:most]) or "none") + more


def _fail(message):
    raise AnswerEnded("fail", message)
