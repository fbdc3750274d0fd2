"""The command line: `python -m cnnlib`, also installed as `cnnlib`."""

import argparse
import sys
from pathlib import Path

import nbformat

from cnnlib import __version__
from cnnlib.env import ROOT, report
from cnnlib.errors import CnnlibError, ParameterError
from cnnlib.files import atomic_path


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="cnnlib", description="Run the course's lessons.")
    parser.add_argument("--version", action="version", version=f"cnnlib {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    run = commands.add_parser("run", help="execute lessons and print a table of what became of them")
    run.add_argument("lessons", nargs="*", metavar="LESSON", help="03, 03_mnist_cnn or a path; default: all")
    run.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    run.add_argument(
        "-o", "--output", type=Path, default=ROOT / "outputs", metavar="FOLDER", help="default: outputs"
    )
    run.add_argument("--timeout", type=int, metavar="SECONDS", help="limit for each cell; default: none")
    run.add_argument(
        "--in-place", action="store_true", help="put each lesson that is ok in the place of its source"
    )
    run.set_defaults(call=run_command)

    show = commands.add_parser("parameters", help="list the parameters of a lesson")
    show.add_argument("lesson", metavar="LESSON")
    show.set_defaults(call=parameters_command)

    commands.add_parser("lessons", help="list the lessons").set_defaults(call=lessons_command)
    commands.add_parser("report", help="print versions, device and threads").set_defaults(call=report_command)
    return parser.parse_args(arguments)


def run_command(options):
    from cnnlib import runner  # papermill takes a second to import; --help need not wait for it

    paths = [runner.find_lesson(name) for name in options.lessons] or runner.lessons()
    given = {}
    for pair in options.parameter:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ParameterError(f"-p {pair} has no value; write it as -p NAME=VALUE")
        given[name] = value
    if options.in_place and given:
        raise ParameterError("--in-place keeps the lessons' own parameters; give -p or --in-place, not both")
    for path in paths:  # all of them before the first one runs
        runner.check_parameters(path, given)

    results = []
    try:
        for number, path in enumerate(paths, start=1):
            label = f"[{number}/{len(paths)}] {path.stem}"
            bar = label if sys.stdout.isatty() else None
            if bar is None:
                print(f"{label} …", flush=True)
            output = options.output / path.name
            result = runner.run_lesson(path, output, given, progress=bar, timeout=options.timeout)
            if options.in_place and result.status == "ok":
                notebook = runner.clean(nbformat.read(output, as_version=4))
                with atomic_path(path) as temporary:
                    nbformat.write(notebook, temporary)
            results.append(result)
            print(f"{label}: {result.status}, {result.seconds:.0f} s", flush=True)
    except KeyboardInterrupt:
        print("\nInterrupted. Finished until here:")
    if results:
        print("\n" + runner.summarize(results))
    return 0 if len(results) == len(paths) and all(r.status == "ok" for r in results) else 1


def parameters_command(options):
    from cnnlib import runner

    for parameter in runner.read_parameters(runner.find_lesson(options.lesson)).values():
        kind = type(parameter.default).__name__
        print(f"{parameter.name:<12} {kind:<6} {parameter.default!r:<10} {parameter.comment}")
    return 0


def lessons_command(options):
    from cnnlib import runner

    print("\n".join(path.stem for path in runner.lessons()))
    return 0


def report_command(options):
    for name, value in report().items():
        print(f"{name:<14} {value}")
    return 0


def main(arguments=None):
    """Run the command line and return its exit status: 0 all well, 1 a lesson failed, 2 a wrong call."""
    options = parse_arguments(arguments)
    try:
        return options.call(options)
    except (CnnlibError, OSError) as error:
        print(f"cnnlib: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
