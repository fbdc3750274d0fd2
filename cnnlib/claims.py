"""Claims: sentences of the prose, each tied to the measurement that must agree with it."""

import html

import numpy as np
from IPython.display import display

from cnnlib.errors import ClaimFailed, ParameterError

MIME = "application/vnd.cnnlib.claim+json"
"""Each claim leaves one output of this type, by which `cnnlib.runner` counts them."""


def claim(text, holds, evidence):
    """State a finding, show the measurement, and fail the run if the two disagree.

    Args:
        text: the sentence that is claimed, as the prose says it.
        holds: bool (Python, NumPy, or a tensor of one element): whether the measurement agrees. It
            leaves a margin, so that the claim is true of any seed and not of one lucky one.
        evidence: the measured numbers, with units, and ± where there is noise.

    Raises:
        ClaimFailed: `holds` is false.
        ParameterError: `holds` is not a bool, or a string is empty.
    """
    for name, value in (("text", text), ("evidence", evidence)):
        if not isinstance(value, str) or not value.strip():
            raise ParameterError(f"claim's {name} is {value!r}; it must be a string that says something")
    verdict = np.asarray(holds)  # Python, NumPy and torch bools alike
    if verdict.dtype != bool or verdict.size != 1:
        raise ParameterError(f"claim's holds is {holds!r}; it must be one bool, such as `a > b`")
    holds = verdict.item()
    mark, color = ("✓", "#009E73") if holds else ("✗", "#D55E00")
    style = f"border-left: 4px solid {color}; padding: 0.3em 0.8em; margin: 0.3em 0"
    body = f"<b>{mark} {html.escape(text)}</b><br>{html.escape(evidence)}"
    bundle = {
        "text/plain": f"{mark} {text}\n  {evidence}",
        "text/html": f'<div style="{style}">{body}</div>',
        MIME: {"text": text, "holds": holds, "evidence": evidence},
    }
    display(bundle, raw=True)
    if not holds:
        raise ClaimFailed(f"{text} Measured: {evidence}")
