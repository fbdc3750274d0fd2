"""Tables that spreadsheets read and write: UTF-8 that Excel knows, no formulas, no control characters."""

import csv
import io
import re
from pathlib import Path

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


SEPARATOR = re.compile(r"""['"]?sep=([,;\t|])['"]?[,;\t|]*\r?(\n|$)""", re.IGNORECASE)
"""The first line by which a table tells Excel what separates its columns."""


def read_table(path):
    """Read a table that a person or a spreadsheet wrote, separated by commas, semicolons or tabs.

    Args:
        path: of a text in UTF-8, with or without a byte order mark, or in UTF-16 with one. A first line such
            as "sep=;" is obeyed.

    Returns:
        (columns, rows): a list of str, and a list of (number of the line, list of str) of what is not blank;
        a row has a cell for each column, and perhaps more.

    Raises:
        ParameterError: it cannot be read, or is no such text; the message names the file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ParameterError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ParameterError(
            f"{path} cannot be read: it is no text in UTF-8; save the table as “CSV UTF-8” in the spreadsheet"
        )
    told = SEPARATOR.match(text)
    text = text[told.end() :] if told else text
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = told[1] if told else max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        table = [(reader.line_num + bool(told), row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ParameterError(f"{path} cannot be read: line {reader.line_num}: {error}") from None
    if opened := _stays_open(text, delimiter):
        raise ParameterError(
            f"{path} cannot be read: the quotation mark that opens behind line {opened + bool(told)} is not "
            "closed"
        )
    (_, columns), *rows = table or [(0, [])]
    return columns, [(number, [*row, *[""] * (len(columns) - len(row))]) for number, row in rows]


def _stays_open(text, delimiter):
    """Return the number of the last line that is whole where a quotation mark is never closed, else 0.

    All below it would be one cell.
    """
    reader, last = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), 0
    try:
        for _ in reader:
            last = reader.line_num
    except csv.Error as error:
        return last if "end of data" in str(error) else 0
    return 0


def check_width(path, columns, rows):
    """Check that no row of `read_table` has more cells than there are columns: where a comma splits a cell.

    Raises:
        ParameterError: one has; the lines are named.
    """
    wide = [str(number) for number, row in rows if any(cell.strip() for cell in row[len(columns) :])]
    if wide:
        raise ParameterError(
            f"{path} cannot be read: more cells than columns in line {', '.join(wide[:5])}; a text with a "
            "comma or semicolon in it belongs in quotation marks"
        )


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
