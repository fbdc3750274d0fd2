import numpy as np
import pytest
import torch

import cnnlib.claims
from cnnlib.claims import MIME, claim
from cnnlib.errors import ClaimFailed, ParameterError


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(cnnlib.claims, "display", lambda bundle, raw: outputs.append(bundle))
    return outputs


@pytest.mark.parametrize("holds", [True, np.bool_(True), np.array([True]), torch.tensor(True)])
def test_a_claim_that_holds_is_shown(shown, holds):
    claim("a < b", holds, "1 < 2 & so on")
    assert shown[0][MIME] == {"text": "a < b", "holds": True, "evidence": "1 < 2 & so on"}
    assert "a &lt; b" in shown[0]["text/html"]
    assert "✓ a < b" in shown[0]["text/plain"]


@pytest.mark.parametrize("holds", [False, np.bool_(False), torch.tensor([False])])
def test_a_claim_that_fails_is_shown_and_fails_the_run(shown, holds):
    with pytest.raises(ClaimFailed, match=r"a < b Measured: 2 and 1"):
        claim("a < b", holds, "2 and 1")
    assert shown[0][MIME]["holds"] is False


@pytest.mark.parametrize("holds", ["yes", 1, None, torch.tensor([True, True]), np.array(0.3), float("nan")])
def test_what_is_no_bool_is_refused(shown, holds):
    with pytest.raises(ParameterError, match="holds is"):
        claim("a < b", holds, "1 and 2")
    assert not shown


def test_a_claim_says_something(shown):
    for text, evidence in (("", "x"), ("x", " "), (None, "x")):
        with pytest.raises(ParameterError, match="must be a string that says something"):
            claim(text, True, evidence)
