"""The command line: `cnnlib`, or `python -m cnnlib`."""

import argparse
import concurrent.futures
import contextlib
import io
import math
import os
import shlex
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

from cnnlib import __version__
from cnnlib.course.jobs import run_jobs
from cnnlib.ground.env import ROOT, report
from cnnlib.ground.errors import CnnlibError, ParameterError, check_whole
from cnnlib.ground.files import as_path, atomic_path

DASK_SECONDS = 10  # a scheduler that does not answer by then is not there


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="cnnlib", description="What can be done with the course's lessons from outside."
    )
    parser.add_argument("--version", action="version", version=f"cnnlib {__version__}")
    parser.set_defaults(call=lambda options: parser.print_help(sys.stderr) or 2)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    run = add_command(commands, "run", "execute lessons and print a table of what became of them")
    run.add_argument("lessons", nargs="*", metavar="LESSON", help="03, 03_mnist_cnn or a path; default: all")
    run.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="such as seed=7, several times if you like; `cnnlib parameters LESSON` lists them",
    )
    run.add_argument(
        "-o", "--output", type=path, default=ROOT / "outputs", metavar="FOLDER", help="default: outputs"
    )
    run.add_argument("--timeout", type=int, metavar="SECONDS", help="limit for each cell; default: none")
    add_jobs_argument(run)
    run.add_argument(
        "--in-place", action="store_true", help="put each lesson that is ok in the place of its source"
    )
    run.set_defaults(call=run_command, dask=None)

    sweep = add_command(commands, "sweep", "run a lesson with many values of its parameters")
    sweep.add_argument("lesson", metavar="LESSON", help="such as 03")
    sweep.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="such as seed=0..900:100 or lr=0.1,0.01; several: every combination",
    )
    sweep.add_argument("-o", "--output", type=path, metavar="FOLDER", help="default: outputs/sweep-LESSON")
    sweep.add_argument(
        "--resume", action="store_true", help="go on with an interrupted sweep, or a larger one"
    )
    sweep.add_argument("--timeout", type=int, metavar="SECONDS", help="limit for each cell; default: none")
    add_executor_arguments(sweep)
    sweep.set_defaults(call=sweep_command)

    show = add_command(commands, "parameters", "list the parameters of a lesson")
    show.add_argument("lesson", metavar="LESSON", help="such as 03")
    show.set_defaults(call=parameters_command)

    if Path(__file__).with_name("grading").is_dir():  # a learners' copy has none
        add_grading_commands(commands)
    progress = add_command(commands, "progress", "list which exercises are solved, and what to do next")
    progress.add_argument(
        "folders", nargs="*", type=path, metavar="FOLDER", help="with your copies; default: notebooks"
    )
    progress.add_argument("--json", action="store_true", help="for other programs")
    progress.set_defaults(call=progress_command)
    add_command(commands, "lessons", "list the lessons").set_defaults(call=lessons_command)
    add_command(commands, "report", "print versions, device and threads").set_defaults(call=report_command)
    return parser.parse_args(arguments)


def add_command(commands, name, text):
    """Add a command that `cnnlib --help` and its own help explain with the same words; return its parser."""
    return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")


def add_grading_commands(commands):
    release = add_command(commands, "release", "write the learners' copy of the course, without solutions")
    release.add_argument("folder", type=path, metavar="FOLDER", help="new folder")
    release.set_defaults(call=release_command)

    grade = add_command(commands, "grade", "grade what was handed in for a lesson")
    grade.add_argument("lesson", metavar="LESSON", help="such as 03")
    grade.add_argument(
        "what",
        type=path,
        metavar="WHAT",
        help="folder or zip of STUDENT.ipynb or STUDENT/*.ipynb, Moodle's or Canvas's download, one notebook",
    )
    grade.add_argument("-o", "--output", type=path, metavar="FOLDER", help="default: outputs/grades-LESSON")
    grade.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    grade.add_argument(
        "--roster",
        type=path,
        metavar="CSV",
        help="student_id, name, email; or Canvas's gradebook, or Moodle's grading worksheet",
    )
    grade.add_argument(
        "--pattern",
        metavar="REGEX",
        help="of the submissions' paths, with groups student, name, attempt, late",
    )
    grade.add_argument(
        "--attempt", choices=("latest", "best"), help="of several by one learner; default: latest"
    )
    grade.add_argument("--exercises", type=names, metavar="IDS", help="such as 02.a,02.b: only these count")
    grade.add_argument(
        "--points", type=points, action="append", default=[], metavar="ID=N", help="what an exercise is worth"
    )
    grade.add_argument(
        "--partial",
        action="store_true",
        default=None,
        help="points by the share of cases that came out right",
    )
    grade.add_argument("--late-penalty", type=float, metavar="PERCENT", help="off a late submission's score")
    grade.add_argument(
        "--export",
        action="append",
        choices=("canvas", "moodle"),
        help="a file that it imports; default: of the roster's kind",
    )
    grade.add_argument(
        "--assignment", metavar="TEXT", help="in the name of the assignment in Canvas's gradebook"
    )
    grade.add_argument("--seed", type=int, help="decides the cases; default: a fresh one")
    grade.add_argument("--isolation", choices=("namespaces", "process"), help="default: namespaces")
    add_executor_arguments(grade)
    grade.set_defaults(call=grade_command)

    regrade = add_command(commands, "regrade", "grade again what a run graded, after an exercise was mended")
    regrade.add_argument("run", type=path, metavar="RUN", help="folder that `cnnlib grade` wrote")
    regrade.add_argument("students", nargs="*", metavar="STUDENT", help="default: all")
    add_executor_arguments(regrade)
    regrade.set_defaults(call=regrade_command)

    challenge = add_command(
        commands, "challenge", "train the entries to lesson 11's open challenge and write the leaderboard"
    )
    challenge.add_argument("what", type=path, metavar="WHAT", help="as for grade")
    challenge.add_argument("-o", "--output", type=path, metavar="FOLDER", help="default: outputs/challenge")
    challenge.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    challenge.add_argument("--roster", type=path, metavar="CSV", help="as for grade")
    challenge.add_argument("--pattern", metavar="REGEX", help="as for grade")
    challenge.add_argument(
        "--seconds", type=float, help="of one core, for each entry to be trained in; default: 60"
    )
    challenge.add_argument(
        "--seed", type=int, help="draws which images train and which judge; default: a fresh one"
    )
    challenge.add_argument("--isolation", choices=("namespaces", "process"), help="default: namespaces")
    add_jobs_argument(challenge)
    challenge.set_defaults(call=challenge_command, dask=None)

    book = add_command(commands, "gradebook", "one table of all lessons' runs; reads each overrides.csv anew")
    book.add_argument("runs", nargs="+", type=path, metavar="RUN", help="folders that `cnnlib grade` wrote")
    where = ROOT / "outputs" / "gradebook.csv"
    book.add_argument(
        "-o", "--output", type=path, default=where, metavar="FILE", help="default: outputs/gradebook.csv"
    )
    book.add_argument(
        "--attempt",
        default="best",
        choices=("best", "latest"),
        help="of several runs of a lesson; default: best",
    )
    book.set_defaults(call=gradebook_command)


def path(text):
    """Return the path that an argument names; "~" is the user's own folder."""
    try:
        return as_path("it", text)
    except ParameterError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def names(text):
    """Return the names of a list that is separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def points(text):
    """Return (exercise id, points) of a text such as "02.a=3"."""
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 02.a=3 or 02.a=2.5")
    return name.strip(), int(number) if number == int(number) else number


def add_jobs_argument(parser):
    parser.add_argument(
        "-j", "--jobs", type=int, default=1, metavar="N", help="so many at a time; default: 1"
    )


def add_executor_arguments(parser):
    where = parser.add_mutually_exclusive_group()
    add_jobs_argument(where)
    where.add_argument(
        "--dask", metavar="ADDRESS", help="scheduler of a Dask cluster that sees the same files"
    )


@contextlib.contextmanager
def executor_of(options):
    """Yield the executor that -j or --dask asks for; None for one job after the other."""
    if options.dask:
        try:
            from dask.distributed import Client
        except ImportError:
            raise ParameterError(
                "--dask needs the package distributed: pip install -e '.[dask]' in the folder of the course"
            ) from None
        try:
            client = Client(options.dask, timeout=DASK_SECONDS)
        except (OSError, ValueError) as error:
            raise ParameterError(f"no Dask scheduler answers at {options.dask}: {error}") from None
        with client, client.get_executor() as executor:
            yield executor
    elif options.jobs == 1:
        yield None
    else:
        check_whole("-j", options.jobs)
        threads = os.environ.get("OMP_NUM_THREADS")
        # Two kernels with a thread for every core slow each other by far more than half.
        os.environ["OMP_NUM_THREADS"] = threads or str(max(1, os.cpu_count() // options.jobs))
        try:
            with concurrent.futures.ThreadPoolExecutor(options.jobs) as executor:  # each job is a process
                yield executor
        finally:
            if threads is None:
                del os.environ["OMP_NUM_THREADS"]


def release_command(options):
    from cnnlib.course.release import release

    release(options.folder)
    folder = shlex.quote(str(options.folder))
    print(f"The learners' copy is in {options.folder}; try it: make -C {folder} lab")
    return 0


def grade_command(options):
    from cnnlib.course import runner
    from cnnlib.course.grading.batch import grade

    lesson = runner.find_lesson(options.lesson)
    if twice := [name for name, n in Counter(name for name, _ in options.points).items() if n > 1]:
        raise ParameterError(f"--points {twice[0]} is given twice")
    output = options.output or ROOT / "outputs" / f"grades-{lesson.stem}"
    with executor_of(options) as executor:
        results = grade(
            lesson,
            options.what,
            output,
            executor=executor,
            resume=options.resume,
            roster=options.roster,
            isolation=options.isolation,
            seed=options.seed,
            pattern=options.pattern,
            attempt=options.attempt,
            exercises=options.exercises,
            points=dict(options.points) or None,
            partial=options.partial,
            late_penalty=options.late_penalty,
            export=options.export,
            assignment=options.assignment,
        )
    if lesson.stem == "11_capstone":
        print(f"Entries to its open challenge are trained by: cnnlib challenge {options.what}")
    return print_grades(results, output)


def challenge_command(options):
    from cnnlib.course.grading.leaderboard import challenge
    from cnnlib.course.grading.tables import shown

    output = options.output or ROOT / "outputs" / "challenge"
    with executor_of(options) as executor:
        rows = challenge(
            options.what,
            output,
            executor=executor,
            resume=options.resume,
            roster=options.roster,
            isolation=options.isolation,
            seconds=options.seconds,
            seed=options.seed,
            pattern=options.pattern,
        )
    for row in rows:
        told = (
            f"{float(row['accuracy']):.2%} {row['level_with_first']}" if row["accuracy"] else row["why_not"]
        )
        print(shown(f"{row['rank'] or '-':>4}  {row['student_id']:<20} {told}").rstrip())
    print(f"leaderboard.csv, leaderboard.html and all else is in {output}")
    return 0


def regrade_command(options):
    from cnnlib.course.grading.batch import regrade

    with executor_of(options) as executor:
        results, changes = regrade(options.run, options.students, executor=executor)
    from cnnlib.course.grading.tables import shown

    for student, exercise, before, now in changes:
        print(shown(f"{student}: {exercise} had {before}, has {now}"))
    return print_grades(results, options.run)


def gradebook_command(options):
    from cnnlib.course.grading.course_book import gradebook

    rows = gradebook(options.runs, options.output, options.attempt)
    print(f"{len(rows)} learners; {options.output}")
    return 0


def print_grades(results, output):
    print((output / "summary.txt").read_text(encoding="utf-8"), end="")
    print(f"gradebook.csv and all else is in {output}")
    return 1 if any(result["status"] == "grader error" for result in results) else 0


def run_command(options):
    import nbformat  # it and papermill take seconds to import, for which --help need not wait

    from cnnlib.course import runner

    check_run(options)
    paths = {p.resolve(): p for p in map(runner.find_lesson, options.lessons)}  # each once
    paths = list(paths.values()) or runner.lessons()
    check_results(paths, options.output)
    given = given_parameters(options)
    if options.in_place and given:
        raise ParameterError("--in-place keeps the lessons' own parameters; give -p or --in-place, not both")
    for path in paths:  # all of them before the first one runs
        runner.check_parameters(path, given)

    labels = {path: f"[{number}/{len(paths)}] {path.stem}" for number, path in enumerate(paths, start=1)}
    found, begun = {}, time.monotonic()

    def execute(path):
        bar = labels[path] if sys.stdout.isatty() and options.jobs == 1 else None
        if bar is None:
            print(f"{labels[path]} …")
        return runner.run_lesson(
            path, options.output / path.name, given, progress=bar, timeout=options.timeout
        )

    def finish(path, result):
        found[path] = result
        if options.in_place and result.status == "ok":
            notebook = runner.clean(nbformat.read(result.output, as_version=4))
            with atomic_path(path) as temporary:
                nbformat.write(notebook, temporary)
        to_go = len(paths) - len(found)
        left = (time.monotonic() - begun) / len(found) * to_go
        after = f"; {to_go} to go, about {_duration(left)}" if to_go else ""
        print(f"{labels[path]}: {result.status}, {result.seconds:.0f} s{after}")

    interrupted = False
    try:
        with executor_of(options) as executor:
            jobs = {path: path for path in paths}
            run_jobs(execute, jobs, executor, finish, stop=runner.stop_kernels)
    except KeyboardInterrupt:
        interrupted = True
        print("\nInterrupted. Finished until here:")
    results = [found[path] for path in paths if path in found]
    if results:
        print("\n" + runner.summarize(results))
    if interrupted:
        return 130
    return 0 if all(result.status == "ok" for result in results) else 1


def _duration(seconds):
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def check_run(options):
    """Check a limit on the time and a folder for the results, before anything runs."""
    if options.timeout is not None:
        check_whole("--timeout", options.timeout)
    if options.output and options.output.exists() and not options.output.is_dir():
        raise ParameterError(f"-o {options.output} is a file; name a folder for the results")


def check_results(paths, output):
    """Check that notebooks can leave their results in a folder, without one taking another file's place."""
    if twice := [name for name, n in Counter(path.name for path in paths).items() if n > 1]:
        raise ParameterError(
            f"{twice[0]} is the name of several of these notebooks, whose results would take each other's "
            "place; run them one by one, each with a folder of its own: -o FOLDER"
        )
    for path in paths:
        if (output / path.name).resolve() == path.resolve():
            raise ParameterError(
                f"-o {output} is the folder of {path.name} itself, whose place the result would take; name "
                "another folder; with --in-place a lesson that is ok comes back from there"
            )


def given_parameters(options):
    """Return {name: text} of the -p options."""
    given = {}
    for pair in options.parameter:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ParameterError(f"-p {pair} has no value; write it as -p NAME=VALUE")
        if name in given:
            raise ParameterError(f"-p {name} is given twice")
        given[name] = value
    return given


def sweep_command(options):
    from cnnlib.course import runner, sweep, sweep_report

    check_run(options)
    lesson = runner.find_lesson(options.lesson)
    given = {name: sweep.parse_values(text) for name, text in given_parameters(options).items()}
    if not given:
        raise ParameterError("a sweep needs values, such as -p seed=0..900:100")
    output = options.output or ROOT / "outputs" / f"sweep-{lesson.stem}"
    with executor_of(options) as executor:
        results = sweep.sweep(
            lesson, given, output, executor=executor, resume=options.resume, timeout=options.timeout
        )
    print(f"\n{sweep_report.summarize(results)}")
    print(f"\nresults.csv, summary.txt, results.png and runs/ are in {output}")
    return 0 if all(result["status"] == "ok" for result in results) else 1


def parameters_command(options):
    from cnnlib.course import runner

    for parameter in runner.read_parameters(runner.find_lesson(options.lesson)).values():
        kind = type(parameter.default).__name__
        print(f"{parameter.name:<12} {kind:<6} {parameter.default!r:<10} {parameter.comment}")
    return 0


def progress_command(options):
    from cnnlib.course import progress

    found = progress.read(*options.folders)
    print(progress.as_json(found) if options.json else progress.table(found))
    return 0


def lessons_command(options):
    from cnnlib.course import runner

    print("\n".join(path.stem for path in runner.lessons()))
    return 0


def report_command(options):
    for name, value in report().items():
        print(f"{name:<14} {value}")
    return 0


def main(arguments=None):
    """Run the command line; return its exit status.

    0: all well, 1: a lesson failed, 2: a wrong call, 130: interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Where the locale lacks a character, "?" stands for it; a log has each line when it is there.
            stream.reconfigure(errors="replace", line_buffering=True)
    options = None
    try:
        options = parse_arguments(arguments)
        return options.call(options)
    except CnnlibError as error:
        print(f"cnnlib: {error}", file=sys.stderr)
        return 2
    except shutil.Error as error:  # of a folder that was copied: (source, target, what is wrong) of each file
        print(f"cnnlib: {error.args[0][0][2]}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in ("fcntl", "resource"):
            raise
        print(
            "cnnlib: grading needs Linux or macOS, whose limits keep what was handed in within bounds; on "
            "Windows use the Windows Subsystem for Linux",
            file=sys.stderr,
        )
        return 2
    except OSError as error:  # such as a disk that is full, or a folder that is not ours
        place = error.filename2 or error.filename  # what a temporary file was to become
        told = f"{place}: {error.strerror}" if place and error.strerror else error
        print(f"cnnlib: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        go_on = "What was finished stays; go on with --resume." if hasattr(options, "resume") else ""
        print("\nInterrupted.", go_on or "To have it all, give the same command again.", file=sys.stderr)
        return 130
