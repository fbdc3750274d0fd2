"""What was handed in: folders, zips, downloads of LMSs; and the rosters that say whose it is."""

import io
import os
import re
import stat
import zipfile

import pytest

from cnnlib.course.grading import collect as module
from cnnlib.course.grading.collect import collect
from cnnlib.course.grading.roster import name_keys, read_roster, recogniser
from cnnlib.ground.errors import ParameterError

LESSON = "02_parts_of_a_cnn"


def folder(path, names):
    """Write files whose content is their own name; a name with a slash at its end is a folder."""
    for name in names:
        place = path / name
        (place if name.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            place.write_text(name)
    return path


def zipped(path, names):
    """Write the same as a zip."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path


def handed_in(what, tmp_path, **options):
    """Return ({student: content of the kept copy, or the problem}, {path: reason}, submissions, layout)."""
    found, passed, layout = collect(what, tmp_path / "run", LESSON, **options)
    texts = {
        s.student: (tmp_path / "run" / s.path).read_text() if s.path else f"! {s.problem}" for s in found
    }
    return texts, dict(passed), found, layout


# --- layouts ----------------------------------------------------------------------------------------

PLAIN = ["ann.ipynb", "bob/02.ipynb", "eve/deep/er/x.ipynb", "zoe.IPYNB", "max.ipynb.txt", "kim/"]
MOODLE = [
    "Li Wei_33333_assignsubmission_file_/02.ipynb",
    "Ann-Marie Lee_33334_assignsubmission_file/a/b.ipynb",
    "Bob Ode_33335_assignsubmission_onlinetext_/onlinetext.html",
    "Eve Poe_33336_assignsubmission_file_02_parts.ipynb",
]
ENTERED = "a text or a link that was entered in the LMS"
CANVAS = [
    "doejane_12345_67890_02.ipynb",
    "leeann_LATE_222_333_02-1.ipynb",
    "oneal_smithbob_23_34_my_lab_02.ipynb",
    "anon_x7Yz_24_02.ipynb",
    "poeeve_25_35_02.pdf",
    "raykim_26_text.html",
]


def test_a_plain_folder_names_learners_by_file_or_folder(tmp_path):
    texts, passed, found, layout = handed_in(folder(tmp_path / "in", PLAIN), tmp_path)
    assert layout == "plain"
    assert texts == {
        "ann": "ann.ipynb",
        "bob": "bob/02.ipynb",
        "eve": "eve/deep/er/x.ipynb",
        "zoe": "zoe.IPYNB",
        "max": "max.ipynb.txt",
        "kim": "! an empty folder; hand in exactly one notebook",
    }
    assert passed == {"kim/": "an empty folder"}
    assert {s.folder for s in found} == {""}


@pytest.mark.parametrize("write", [folder, zipped])
def test_moodles_download_is_recognised(write, tmp_path):
    texts, passed, found, layout = handed_in(write(tmp_path / "in", MOODLE), tmp_path)
    assert layout == "moodle"
    assert texts == {
        "33333": MOODLE[0],
        "33334": MOODLE[1],
        "33336": MOODLE[3],
        "33335": f"! onlinetext.html: {ENTERED}; hand in exactly one notebook",
    }
    assert [(s.name, s.folder) for s in found] == [
        ("Li Wei", "Li Wei_33333_assignsubmission_file_/"),
        ("Ann-Marie Lee", "Ann-Marie Lee_33334_assignsubmission_file/"),
        ("Eve Poe", "Eve Poe_33336_assignsubmission_file_"),
        ("Bob Ode", "Bob Ode_33335_assignsubmission_onlinetext_/"),
    ]
    assert passed == {MOODLE[2]: ENTERED}


@pytest.mark.parametrize("shape", ["{}_assignsubmission_file/{}", "{}_assignsubmission_file_{}"])
def test_who_handed_in_something_else_handed_in(shape, tmp_path):
    """With folders and without: that person is told why, and is not among those who handed in nothing."""
    names = [
        shape.format("Ann_7", "02.ipynb"),
        shape.format("Bob_8", "a.pdf"),
        shape.format("Eve_9", "b.zip"),
    ]
    names += [shape.format("Eve_9", "a.txt"), shape.format("Ann_7", "plan.pdf")]
    texts, _, found, _ = handed_in(zipped(tmp_path / "in.zip", names), tmp_path)
    assert texts == {
        "7": names[0],
        "8": "! a.pdf: no .ipynb file; hand in exactly one notebook",
        "9": "! a.txt: no .ipynb file; b.zip: an archive within; put the notebook itself in its place; "
        "hand in exactly one notebook",
    }
    assert [s.folder for s in found] == [name[: name.index("_file") + 6] for name in names[:3]]


def test_a_learners_name_is_not_taken_for_another_learners_number(tmp_path):
    """Moodle lets people change their names, and writes a space for each "_" in them."""
    mallory = "Bob 5009 assignsubmission file_5036_assignsubmission_file_/02.ipynb"
    forged = "Bob_5009_assignsubmission_file_5036_assignsubmission_file_/02.ipynb"
    (_, _, found, _) = handed_in(folder(tmp_path / "in", [mallory]), tmp_path)
    assert [submission.student for submission in found] == ["5036"]
    assert module.MOODLE.fullmatch(mallory)["name"] == "Bob 5009 assignsubmission file"
    assert module.MOODLE.fullmatch(f"x_{forged}") is None


@pytest.mark.parametrize("write", [folder, zipped])
def test_canvass_download_is_recognised(write, tmp_path):
    texts, passed, found, layout = handed_in(write(tmp_path / "in", CANVAS), tmp_path)
    assert layout == "canvas"
    assert texts == {
        "12345": CANVAS[0],
        "222": CANVAS[1],
        "23": CANVAS[2],
        "anon_x7Yz": CANVAS[3],
        "25": "! 02.pdf: no .ipynb file; hand in exactly one notebook",
        "26": f"! text.html: {ENTERED}; hand in exactly one notebook",
    }
    by_student = {s.student: s for s in found}
    assert [(s.name, s.attempt, s.late, s.folder) for s in map(by_student.get, texts)] == [
        ("doejane", 1, False, "doejane_12345_67890_"),
        ("leeann", 2, True, "leeann_LATE_222_333_"),
        ("oneal_smithbob", 1, False, "oneal_smithbob_23_34_"),
        ("", 1, False, "anon_x7Yz_24_"),
        ("poeeve", 1, False, "poeeve_25_35_"),
        ("raykim", 1, False, "raykim_26_"),
    ]
    assert passed == {
        "poeeve_25_35_02.pdf": "no .ipynb file",
        "raykim_26_text.html": ENTERED,
    }


def test_one_file_that_looks_like_canvass_is_not_taken_for_it(tmp_path):
    names = ["lab_2024_11_final.ipynb", "ann.ipynb", "bob.ipynb"]
    texts, _, _, layout = handed_in(folder(tmp_path / "in", names), tmp_path)
    assert layout == "plain"
    assert set(texts) == {"lab_2024_11_final", "ann", "bob"}


def test_a_zip_may_be_wrapped_in_a_folder_and_made_on_a_mac(tmp_path):
    names = [
        "subs/ann.ipynb",
        "subs/bob.ipynb",
        "__MACOSX/subs/._ann.ipynb",
        "subs/._ann.ipynb",
        "subs/.DS_Store",
    ]
    texts, passed, *_ = handed_in(zipped(tmp_path / "in.zip", names), tmp_path)
    assert texts == {"ann": "subs/ann.ipynb", "bob": "subs/bob.ipynb"}
    assert set(passed.values()) == {"a system's or hidden file"}
    assert len(passed) == 3
    wrapped = zipped(tmp_path / "moodle.zip", [f"Course-Lab 2/{name}" for name in MOODLE])
    assert handed_in(wrapped, tmp_path)[3] == "moodle"
    alone = zipped(tmp_path / "alone.zip", ["ann/02.ipynb"])
    assert set(handed_in(alone, tmp_path)[0]) == {"ann"}


def test_one_notebook_is_a_submission(tmp_path):
    texts, *_ = handed_in(folder(tmp_path, ["ann.ipynb", "bob.ipynb"]) / "ann.ipynb", tmp_path)
    assert texts == {"ann": "ann.ipynb"}


def test_a_pattern_reads_any_other_form(tmp_path):
    names = ["week1/ann+2+late.ipynb", "week1/bob+1+.ipynb", "week1/notes.ipynb"]
    _, passed, found, layout = handed_in(
        folder(tmp_path / "in", names),
        tmp_path,
        pattern=r"(?P<student>\w+)\+(?P<attempt>\d+)\+(?P<late>late)?\.ipynb$",
    )
    assert layout == "pattern"
    assert [(s.student, s.attempt, s.late) for s in found] == [("ann", 2, True), ("bob", 1, False)]
    assert passed == {"week1/notes.ipynb": "its path does not match the pattern"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "is no regular expression"),
        ("x", "must have the group"),
        ("(?P<student>.)(?P<id>.)", "it has id"),
    ],
)
def test_a_pattern_that_is_none_says_so(pattern, message, tmp_path):
    with pytest.raises(ParameterError, match=message):
        handed_in(folder(tmp_path / "in", PLAIN), tmp_path, pattern=pattern)


# --- several of one learner -------------------------------------------------------------------------


def test_several_files_of_a_learner_are_attempts_and_stop_nothing(tmp_path):
    base = folder(tmp_path / "in", ["ann.ipynb", "ann/02.ipynb", "bob/a.ipynb", "bob/b.ipynb"])
    for name, time in (("ann.ipynb", 200), ("ann/02.ipynb", 100), ("bob/a.ipynb", 5), ("bob/b.ipynb", 6)):
        os.utime(base / name, (time, time))
    (base / "02.ipynb").write_text("x")
    texts, passed, *_ = handed_in(base, tmp_path)
    assert texts["bob"] == "bob/b.ipynb"
    assert passed["bob/a.ipynb"] == "bob has a later one: bob/b.ipynb"
    found = handed_in(base, tmp_path, attempt="best")[2]
    attempts = [(s.student, s.attempt) for s in found]
    assert attempts == [("02", 1), ("ann", 1), ("bob", 2), ("bob", 1)]  # ann/02.ipynb begins with the number


def test_canvass_numbers_decide_and_ten_comes_behind_nine(tmp_path):
    names = [f"doejane_1_{upload}_02{again}.ipynb" for upload, again in ((9, "-9"), (10, "-10"), (8, ""))]
    _, _, (latest,), _ = handed_in(folder(tmp_path / "in", names), tmp_path)
    assert (latest.attempt, latest.folder) == (11, "doejane_1_10_")


def test_of_several_lessons_in_a_learners_folder_the_one_that_is_graded_counts(tmp_path):
    names = ["ann/02_parts_of_a_cnn.ipynb", "ann/03_mnist_cnn.ipynb", "ann/notes.ipynb", "bob/3.ipynb"]
    texts, passed, *_ = handed_in(folder(tmp_path / "in", names), tmp_path)
    assert texts == {"ann": "ann/02_parts_of_a_cnn.ipynb", "bob": "bob/3.ipynb"}
    assert passed["ann/03_mnist_cnn.ipynb"] == "not of lesson 02, as another of this learner is"


def test_of_files_of_one_time_the_copy_with_a_number_is_later(tmp_path):
    names = [f"ann/02{again}.ipynb" for again in ("", " (1)", " (2)", " (10)")] + [
        "bob/02-Copy1.ipynb",
        "bob/02.ipynb",
        f"eve/02-{'9' * 5000}.ipynb",
        "eve/02-10.ipynb",
    ]
    texts, *_ = handed_in(zipped(tmp_path / "in.zip", names), tmp_path)
    eve = f"eve/02-{'9' * 5000}.ipynb"
    assert texts == {"ann": "ann/02 (10).ipynb", "bob": "bob/02-Copy1.ipynb", "eve": eve}


def test_equal_files_are_graded_once_as_the_first_that_came(tmp_path):
    names = ["doejane_1_5_a.ipynb", "doejane_LATE_1_6_a-1.ipynb"]
    base = folder(tmp_path / "in", names)
    for name in names:
        (base / name).write_text("the same")
    (only,) = handed_in(base, tmp_path, attempt="best")[2]
    assert not only.late


# --- hostile and damaged ----------------------------------------------------------------------------


def test_nothing_leaves_the_folder_of_a_run(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in (
            "../../evil.ipynb",
            "/abs.ipynb",
            "C:/win.ipynb",
            "a/../b.ipynb",
            "..\\..\\back.ipynb",
            "ok.ipynb",
        ):
            archive.writestr(name, name)
        link = zipfile.ZipInfo("link.ipynb")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    before = set(tmp_path.iterdir())
    texts, passed, *_ = handed_in(tmp_path / "in.zip", tmp_path)
    assert texts == {"ok": "ok.ipynb", "link": "! it is a link, not a file"}
    assert list(passed.values()) == ["its path leads out of the zip"] * 5
    assert set(tmp_path.iterdir()) - before == {tmp_path / "run"}
    kept = [
        path.relative_to(tmp_path / "run").parts for path in (tmp_path / "run").rglob("*") if path.is_file()
    ]
    assert [len(parts) for parts in kept] == [2]


def test_a_bomb_is_not_unpacked_whatever_size_it_claims(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SIZE_LIMIT", 1000)
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.ipynb", b"0" * 10_000_000)
        archive.writestr("ann.ipynb", "x")
    texts, *_ = handed_in(tmp_path / "in.zip", tmp_path)
    problem = "! it has more than 1,000 bytes; at most so many are read: clear the outputs of its cells"
    assert texts == {"ann": "x", "bomb": problem}


def test_many_small_bombs_are_no_more_than_a_large_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TOTAL_LIMIT", 25)
    texts, *_ = handed_in(zipped(tmp_path / "in.zip", [f"{i}{'x' * 10}.ipynb" for i in range(4)]), tmp_path)
    assert [text.startswith("! the notebooks of the zip have more than 25") for text in texts.values()] == [
        *(False, False, True, True)
    ]


def test_too_many_files_are_somebody_elses_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ENTRY_LIMIT", 3)
    with pytest.raises(ParameterError, match="more than 3 files"):
        handed_in(folder(tmp_path / "in", PLAIN), tmp_path)
    with pytest.raises(ParameterError, match="more than 3 files"):
        handed_in(zipped(tmp_path / "in.zip", PLAIN), tmp_path)


def test_a_damaged_member_is_unreadable_and_a_damaged_zip_an_error(tmp_path):
    text = io.BytesIO()
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("ann.ipynb", "content of ann")
        archive.writestr("bob.ipynb", "content of bob")
    content = text.getvalue()
    (tmp_path / "in.zip").write_bytes(content.replace(b"content of ann", b"CONTENT of ann"))
    texts, *_ = handed_in(tmp_path / "in.zip", tmp_path)
    assert texts["bob"] == "content of bob"
    assert texts["ann"].startswith("! it cannot be read from the zip")
    for damaged, why in ((content[:50], "only the beginning of a zip; download"), (b"", ""), (b"PK", "")):
        (tmp_path / "in.zip").write_bytes(damaged)
        with pytest.raises(ParameterError, match=f"is no folder, zip or notebook: .*{why}"):
            handed_in(tmp_path / "in.zip", tmp_path)


def test_a_zip_with_a_password_is_an_error_and_no_learners_fault(tmp_path):
    names = ["ann.ipynb", "bob.ipynb", "notes.txt"]
    content = zipped(tmp_path / "in.zip", names).read_bytes()
    starts = [at.start() for at in re.finditer(b"PK\1\2", content)]  # each file's line in the list of all

    def encrypted(count):
        locked = bytearray(content)
        for start in starts[:count]:
            locked[start + 8] |= 1
        return locked

    (tmp_path / "in.zip").write_bytes(encrypted(2))
    with pytest.raises(ParameterError, match="is encrypted; unpack it with its password"):
        handed_in(tmp_path / "in.zip", tmp_path)
    assert not (tmp_path / "run").exists()
    (tmp_path / "in.zip").write_bytes(encrypted(1))
    texts, *_ = handed_in(tmp_path / "in.zip", tmp_path)
    assert texts == {"ann": "! it is encrypted; zip it without a password", "bob": "bob.ipynb"}


def test_an_archive_within_and_other_files_are_listed(tmp_path):
    names = ["ann/02.zip", "bob.pdf", "conftest.py", "eve.ipynb", ".ipynb_checkpoints/eve-checkpoint.ipynb"]
    texts, passed, *_ = handed_in(folder(tmp_path / "in", names), tmp_path)
    reason = "an archive within; put the notebook itself in its place"
    assert texts == {"eve": "eve.ipynb", "ann": f"! 02.zip: {reason}; hand in exactly one notebook"}
    assert passed == {
        "ann/02.zip": reason,
        "bob.pdf": "no .ipynb file",
        "conftest.py": "no .ipynb file",
        ".ipynb_checkpoints/eve-checkpoint.ipynb": "a system's or hidden file",
    }


def test_names_in_utf8_that_the_zip_does_not_declare_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("Ångström.ipynb", "x")
    content = (tmp_path / "in.zip").read_bytes()
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + offset
        content = content[:at] + b"\0\0" + content[at + 2 :]
    (tmp_path / "in.zip").write_bytes(content)
    assert set(handed_in(tmp_path / "in.zip", tmp_path)[0]) == {"Ångström"}


def test_a_name_that_is_falsely_said_to_be_utf8_makes_no_other_unreadable(tmp_path):
    content = zipped(tmp_path / "in.zip", ["ann.ipynb", "Jörg.ipynb", "Zoë.ipynb"]).read_bytes()
    (tmp_path / "in.zip").write_bytes(content.replace("Jörg".encode(), b"J\xf6xrg"))
    texts, *_ = handed_in(tmp_path / "in.zip", tmp_path)
    assert texts["ann"] == "ann.ipynb"
    assert texts["Zoë"] == "Zoë.ipynb"
    (third,) = texts.keys() - {"ann", "Zoë"}
    assert third[0] == "J"
    assert third.endswith("xrg")
    assert "Jxrg.ipynb" in re.sub(r"[^ -~]", "", texts[third])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "it has no .ipynb file"),
        (["a.pdf", "b.txt"], "a.pdf: no .ipynb file; b.txt: no .ipynb file"),
        ([f"{i}.pdf" for i in range(5)], "2.pdf: no .ipynb file; and 2 more"),
        (["\x1b[2J.ipynb"], ".ipynb: its path does not match the pattern"),
    ],
)
def test_nothing_to_grade_is_an_error_that_says_what_there_is(names, message, tmp_path):
    (tmp_path / "in").mkdir()
    pattern = "(?P<student>none)" if ".ipynb" in str(names) else None
    with pytest.raises(ParameterError, match="in holds nothing to grade: ") as error:
        handed_in(folder(tmp_path / "in", names), tmp_path, pattern=pattern)
    assert str(error.value).endswith(message)
    assert "\x1b" not in str(error.value)


def test_a_zip_whose_paths_lead_out_says_so(tmp_path):
    with pytest.raises(ParameterError, match=r"to grade: \.\./ann\.ipynb: its path leads out of the zip"):
        handed_in(zipped(tmp_path / "in.zip", ["../ann.ipynb"]), tmp_path)


# --- rosters ----------------------------------------------------------------------------------------

CANVAS_ROSTER = (
    "Student,ID,SIS User ID,SIS Login ID,Section,02 Parts (777),Final Score\n"
    ",,,,,Manual Posting,\n"
    "    Points Possible,,,,,10,(read only)\n"
    '"Doe, Jane",12345,u1,jane@x.org,A,,90\n'
    '"Lee, Ann Marie",222,u2,ann,A,,80\n'
)
MOODLE_ROSTER = (
    "Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,"
    "Last modified (submission),Last modified (grade),Feedback comments\n"
    "Participant 33333,Li Wei,li@x.org,Submitted for grading - 2 hours late,,100.00,Yes,-,-,\n"
    "Participant 33334,Wei Li,wei@x.org,Submitted for grading,,100.00,Yes,-,-,\n"
)


def roster(tmp_path, text):
    (tmp_path / "roster.csv").write_text(text, encoding="utf-8")
    return read_roster(tmp_path / "roster.csv")


def test_canvass_gradebook_is_a_roster(tmp_path):
    people = roster(tmp_path, CANVAS_ROSTER)
    assert people["kind"] == "canvas"
    assert [(p["student_id"], p["name"], p["email"], p["row"]) for p in people["learners"]] == [
        ("12345", "Doe, Jane", "jane@x.org", 2),
        ("222", "Lee, Ann Marie", "", 3),
    ]
    _, _, found, _ = handed_in(folder(tmp_path / "in", CANVAS[:3]), tmp_path, recognise=recogniser(people))
    assert [(s.student, s.name, s.late) for s in found] == [
        ("12345", "Doe, Jane", False),
        ("222", "Lee, Ann Marie", True),
        ("23", "oneal_smithbob", False),
    ]


def test_moodles_worksheet_is_a_roster_whose_ids_last(tmp_path):
    people = roster(tmp_path, MOODLE_ROSTER)
    assert people["kind"] == "moodle"
    assert [(p["student_id"], p["late"]) for p in people["learners"]] == [
        ("li@x.org", True),
        ("wei@x.org", False),
    ]
    _, _, found, _ = handed_in(folder(tmp_path / "in", MOODLE[:1]), tmp_path, recognise=recogniser(people))
    assert [(s.student, s.name, s.late) for s in found] == [("li@x.org", "Li Wei", True)]


OWN = (
    "student_id;Name;email;login;tutor\n7;Jane Doe;jane@x.org;jd1;T\n"
    "33333;Bob Ode;bob@x.org;;T\n12345;Li Wei;;;T\n"
)


@pytest.mark.parametrize(
    "student", ["7", "jane@x.org", "JANE@X.ORG", "jd1", "jane", "Jane Doe", "Doe, Jane", "doe_jane"]
)
def test_a_learner_is_known_by_id_mail_login_or_name(student, tmp_path):
    people = roster(tmp_path, OWN)
    _, _, (found,), _ = handed_in(
        folder(tmp_path / "in", [f"{student}.ipynb"]), tmp_path, recognise=recogniser(people)
    )
    assert (found.student, found.name) == ("7", "Jane Doe")


def test_numbers_of_an_lms_mean_nothing_in_a_roster_of_ones_own(tmp_path):
    recognise = recogniser(roster(tmp_path, OWN))
    _, _, moodle, _ = handed_in(folder(tmp_path / "m", [MOODLE[0], MOODLE[1]]), tmp_path, recognise=recognise)
    assert {(s.student, s.name) for s in moodle} == {("12345", "Li Wei"), ("33334", "Ann-Marie Lee")}
    _, _, canvas, _ = handed_in(folder(tmp_path / "c", [CANVAS[0]]), tmp_path, recognise=recognise)
    assert [(s.student, s.name) for s in canvas] == [("7", "Jane Doe")]


def test_an_lmss_number_is_nobodys_number_of_another_kind(tmp_path):
    """A stranger's number in the download may be a learner's own id, or what a spreadsheet leaves of it."""
    moodle = (
        MOODLE_ROSTER.replace("Email", "ID number,Email")
        .replace("li@", "00041,li@")
        .replace("wei@", "42,wei@")
    )
    recognise = recogniser(roster(tmp_path, moodle))
    names = ["Max Ray_41_assignsubmission_file/02.ipynb", "Max Ray_42_assignsubmission_file/02.ipynb"]
    _, _, found, _ = handed_in(folder(tmp_path / "m", [*names, MOODLE[0]]), tmp_path, recognise=recognise)
    assert [(s.student, s.name) for s in found] == [("00041", "Li Wei"), ("41", "Max Ray"), ("42", "Max Ray")]
    canvas = CANVAS_ROSTER.replace("u1", "55")
    recognise = recogniser(roster(tmp_path, canvas))
    _, _, found, _ = handed_in(
        folder(tmp_path / "c", ["raymax_55_6_02.ipynb"]), tmp_path, recognise=recognise
    )
    assert [s.name for s in found] == ["raymax"]


def test_a_column_of_the_roster_may_say_who_is_late(tmp_path):
    people = roster(tmp_path, "student_id\tlate\nann\tyes\nbob\t\n")
    base = folder(tmp_path / "in", ["ann.ipynb", "bob.ipynb"])
    _, _, found, _ = handed_in(base, tmp_path, recognise=recogniser(people))
    assert [(s.student, s.late) for s in found] == [("ann", True), ("bob", False)]


def test_a_name_that_two_learners_share_tells_neither(tmp_path):
    people = roster(tmp_path, "student_id,name\n1,Li Wei\n2,Wei Li\n")
    _, _, found, _ = handed_in(
        folder(tmp_path / "in", ["Li Wei.ipynb"]), tmp_path, recognise=recogniser(people)
    )
    assert [s.student for s in found] == ["Li Wei"]


def test_two_files_under_two_names_of_one_learner_are_attempts(tmp_path):
    people = roster(tmp_path, OWN)
    texts, passed, *_ = handed_in(
        folder(tmp_path / "in", ["7.ipynb", "jd1/x.ipynb"]), tmp_path, recognise=recogniser(people)
    )
    assert set(texts) == {"7"}
    assert len(passed) == 1


def test_names_are_compared_without_order_and_punctuation():
    assert set(name_keys("van der Berg, Jan")) & set(name_keys("Jan van der Berg"))
    assert set(name_keys("O'Neill-Smith, Zoë")) & set(name_keys("zoë oneillsmith"))
    assert "doejane" in name_keys("Doe, Jane")
    assert "doejane" in name_keys("Jane Doe")
    assert name_keys("—") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,name\n1,Ann\n", "must have the columns student_id, name, email"),
        ("", "must have the columns student_id"),
        ("student_id,name\n", "has no row for a learner"),
        ("student_id,name\n1,Ann\n,Bob\n,\n", "has no id for Bob"),
        ("sep=;\nstudent_id;tutor\n1;Ann\n\n;Bob\n", "has no id for line 5"),
        ("student_id,name\n1,Müller, Jörg\n", "more cells than columns in line 2"),
        ('student_id,name\n1,"Ann\n2,Bob\n', "the quotation mark that opens behind line 1 is not closed"),
        ("student_id,name\n1,Ann\n2,Bob\n1,Eve\n", "more than one row for 1"),
    ],
)
def test_a_roster_that_cannot_serve_says_why(text, message, tmp_path):
    with pytest.raises(ParameterError, match=message):
        roster(tmp_path, text)
