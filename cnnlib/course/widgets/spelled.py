"""Numbers as people type and read them, and tables of them: one value of a convolution, spelled out."""

import math

from cnnlib.ground.errors import ParameterError

LARGEST = 1000


def read_number(text, name="the number"):
    """Return a number that a person typed: 2, -0.5, 1/9, also with a comma or the sign −.

    Raises:
        ParameterError: it is none, or its size is above 1000.
    """
    above, _, below = text.replace("−", "-").replace(",", ".").partition("/")
    try:
        value = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not math.isfinite(value):
        raise ParameterError(f"{name} is {text!r}; it must be a number, such as 2, -0.5 or 1/9")
    if abs(value) > LARGEST:
        raise ParameterError(f"{name} is {text!r}; it must lie between −{LARGEST} and {LARGEST}")
    return value


def short(value):
    """Return a number with at most three decimals, with the sign −."""
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text.replace("-", "−")


def table(values, inside=None):
    """Return 3 × 3 numbers as an HTML table; with `inside`, on the grey of their pixel or as padding."""
    rows = []
    for i, row in enumerate(values.tolist()):
        cells = []
        for j, value in enumerate(row):
            style = "border: 1px solid #888; padding: 2px 6px; text-align: right; min-width: 44px"
            if inside and inside[i][j]:
                ink = "black" if value > 127 else "white"
                style += f"; background: rgb({value:.0f}, {value:.0f}, {value:.0f}); color: {ink}"
            elif inside:
                style = style.replace("solid", "dashed")  # the padding's 0
            cells.append(f'<td style="{style}">{short(value)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(rows)}</table>"
