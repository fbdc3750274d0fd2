"""Tables that spreadsheets read: UTF-8 that Excel recognises, no formulas, no control characters."""

import csv
import io
import re

from cnnlib.ground.errors import ParameterError

CONTROL = re.compile(
    r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?)"  # a terminal's escape sequence, whole
    r"|[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"  # or what turns a line round
)


def shown(text):
    """Return a text in one line, without what a terminal or a spreadsheet would act upon."""
    return CONTROL.sub(lambda match: "" if match[1] else " ", text)


def inert(value):
    """Keep a text from being read as a formula by a spreadsheet: a leading apostrophe shows it as it is."""
    if not isinstance(value, str):
        return value
    value = shown(value)
    if re.fullmatch(r"-(\d+(\.\d+)?)?", value):  # a number, or the sign for none
        return value
    value = re.sub(r";(\s*)(?=[=+@-])", r";\1'", value)  # where a spreadsheet takes ";" for the end of a cell
    return f"'{value}" if value.lstrip()[:1] in ("=", "+", "-", "@") and value.lstrip() else value


def csv_text(header, rows):
    """Return a table as CSV with a byte order mark, by which Excel knows that it is UTF-8."""
    return "\ufeff" + csv_as_it_is([[inert(value) for value in row] for row in (header, *rows)])


def csv_as_it_is(rows):
    """Return rows as CSV, without a byte order mark: an LMS compares the first column's name."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def separator(line):
    """Return what separates the columns of a table whose first line this is: a comma, semicolon or tab."""
    return max(",;\t", key=line.count)


def columns_at(names, wanted=()):
    """Return {a column's name, in small letters and without blanks around it: its index}.

    Raises:
        ParameterError: one of the names that are wanted stands there twice.
    """
    compared = [name.strip().casefold() for name in names]
    twice = [name for name in wanted if compared.count(name) > 1]
    if twice:
        raise ParameterError(f"the column {twice[0]} stands there {compared.count(twice[0])} times; keep one")
    return {name: i for i, name in reversed(list(enumerate(compared)))}
