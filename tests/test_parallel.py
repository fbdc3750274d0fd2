"""side_by_side: order, equal results for any number of workers, interrupts, and workers that die."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from jupyter_client.manager import start_new_kernel
from loky import get_reusable_executor
from processes import below, wait_for_the_end_of

from cnnlib.data import Dataset
from cnnlib.ground.errors import ParameterError
from cnnlib.models import make_model
from cnnlib.train import fit, parallel, side_by_side, start_workers
from cnnlib.train.parallel import RunFailed


def quietly(function, settings, **options):
    return side_by_side(function, settings, progress=False, **options)


def test_results_come_in_order_and_from_several_processes():
    def pid(setting):
        time.sleep(0.3 if setting == "a" else 0.1)
        return setting, os.getpid()

    results = quietly(pid, ["a", "b", "c"], workers=2)
    assert [setting for setting, _ in results] == ["a", "b", "c"]
    assert os.getpid() not in {process for _, process in results}
    assert len({process for _, process in results}) == 2


def test_workers_can_be_started_ahead(monkeypatch):
    monkeypatch.setattr(parallel, "_cores", lambda: 2)
    get_reusable_executor().shutdown(wait=True)
    start_workers("cpu")
    ahead = set(parallel._executor(2)._processes)
    assert set(quietly(lambda _: os.getpid(), range(20))) <= ahead
    with pytest.raises(ParameterError, match="abacus"):
        start_workers("abacus")


def test_training_gives_the_same_numbers_for_any_number_of_workers(blobs):
    # A train set that is larger than one thread's share, and global generators beside the seeded ones.
    train = Dataset(blobs.images.repeat(5, 1, 1, 1), blobs.labels.repeat(5))

    def run(seed):
        torch.manual_seed(seed)
        model = make_model("simple_cnn")
        history = fit(model, train, epochs=1, batch_size=64, seed=seed, progress=False)
        return history.step_losses, [p.detach() for p in model.parameters()], torch.rand(1), np.random.rand()

    runs = [quietly(run, [0, 1, 2], workers=workers) for workers in (1, 2, 3)]
    for other in runs[1:]:
        for (losses, weights, rand, number), (losses_2, weights_2, rand_2, number_2) in zip(
            runs[0], other, strict=True
        ):
            assert losses == losses_2
            assert all(map(torch.equal, weights, weights_2))
            assert (rand, number) == (rand_2, number_2)
    assert runs[0][0][0] != runs[0][1][0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_is_seeded_and_keeps_no_state_of_others(workers):
    seen = []

    def draw(seed):
        seen.append(seed)
        return seen.copy(), torch.rand(1).item(), np.random.rand(), random.random()

    results = quietly(draw, [5, 6, 5], workers=workers)
    assert [r[0] for r in results] == [[5], [6], [5]]
    assert results[0][1:] == results[2][1:] != results[1][1:]
    assert seen == []


def test_the_callers_generators_and_threads_stay_as_they_were():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    threads = torch.get_num_threads()
    quietly(lambda seed: torch.rand(1), [1], workers=1)
    quietly(lambda seed: torch.rand(1), [1], device="meta")
    found = random.random(), np.random.rand(), torch.rand(1).item(), torch.get_num_threads()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert found == (random.random(), np.random.rand(), torch.rand(1).item(), threads)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_run_has_one_thread(workers):
    assert quietly(lambda _: torch.get_num_threads(), range(3), workers=workers) == [1, 1, 1]


def test_on_another_device_runs_follow_each_other_in_this_process():
    assert quietly(lambda _: os.getpid(), range(3), device="meta", workers=2) == [os.getpid()] * 3


def test_a_run_inside_a_run_is_made_in_turn():
    def outer(seed):
        return [quietly(lambda _: os.getpid(), range(2), workers=2), os.getpid()]

    for inner, process in quietly(outer, range(2), workers=2):
        assert inner == [process] * 2


def test_a_worker_may_need_much_memory():
    """More than 300 MB more than before: loky would take it for a leak, warn and start the worker anew."""

    def grow(megabytes):
        os.kept = torch.ones(megabytes, 1 << 18)
        time.sleep(1.1)  # loky looks once a second
        return os.getpid()

    assert len(set(quietly(grow, [1, 1, 400, 400, 1, 1, 1, 1], workers=2))) == 2


def test_what_is_shown_says_how_many_runs_there_are_at_a_time(capsys):
    side_by_side(abs, range(3), workers=2)
    side_by_side(abs, range(3), workers=2, device="meta")
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("3 runs in ")]
    assert [line.rpartition(", ")[2] for line in shown] == ["2 at a time", "1 at a time"]


def test_one_run_at_a_time_shows_how_far_it_is_before_the_first_has_ended(monkeypatch, tmp_path):
    with open(tmp_path / "screen", "w+", encoding="utf-8") as screen:
        monkeypatch.setattr("cnnlib.ground.progress._rewrites", lambda stream: True)
        monkeypatch.setattr("sys.stdout", screen)
        side_by_side(abs, range(3), workers=1)
        screen.seek(0)
        assert "0 of 3 runs" in screen.read()


def test_omp_num_threads_limits_the_workers(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert quietly(lambda _: os.getpid(), range(2)) == [os.getpid()] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_what_runs_print_is_printed_in_order(workers, capsys):
    def speak(word):
        time.sleep(0.2 if word == "first" else 0)
        print("10 %\r20 %\r30 %")
        print(word)

    side_by_side(speak, ["first", "second"], workers=workers)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line in ("first", "second")] == ["first", "second"]
    assert lines[-1].startswith("2 runs in ")
    assert not any("20 %" in line for line in lines)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_names_its_setting(workers):
    def fail(seed):
        if seed == 7:
            raise ValueError("too large")
        return seed

    with pytest.raises(ValueError, match="too large") as caught:
        quietly(fail, [6, 7, 8], workers=workers)
    assert "This happened in the run 7." in caught.value.__notes__
    assert quietly(fail, [1, 2], workers=workers) == [1, 2]  # and the next call works


def test_an_error_that_cannot_be_copied_is_told():
    class OwnError(Exception):
        def __init__(self, name, size):
            super().__init__(f"{name} is {size}")  # pickle would build it from this one text

    def fail(seed):
        if seed == 7:
            raise OwnError("width", seed)

    with pytest.raises(RuntimeError, match="OwnError: width is 7") as caught:
        quietly(fail, [7, 8], workers=2)
    assert "This happened in the run 7." in caught.value.__notes__


def test_a_worker_that_dies_names_its_setting():
    def die(seed):
        if seed == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return seed

    with pytest.raises(RunFailed, match="the run 3 died, and once more"):
        quietly(die, range(5), workers=2)
    assert quietly(die, [1, 2], workers=2) == [1, 2]


def test_a_worker_that_dies_once_is_forgiven(tmp_path):
    def die_once(seed):
        if seed == 1 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 10 * seed

    assert quietly(die_once, range(4), workers=2) == [0, 10, 20, 30]


def test_an_interrupt_stops_the_workers(tmp_path):
    program = textwrap.dedent(
        f"""
        import os, pathlib, sys, time
        from cnnlib.train import side_by_side
        def slow(seed):
            pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()
            time.sleep(60)
        try:
            side_by_side(slow, range(4), workers=2, progress=False)
        except KeyboardInterrupt:
            sys.exit(7)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 7
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name), 0)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_a_wrong_number_of_workers_is_refused(workers):
    with pytest.raises(ParameterError, match="workers is"):
        side_by_side(print, [1], workers=workers)


def test_workers_end_with_their_process_whatever_ended_it():
    program = """
        import time
        from cnnlib.train import side_by_side
        side_by_side(lambda run: run, range(2), workers=2, device="cpu", progress=False)
        print("begun", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        workers = below(process.pid)
        process.kill()
    assert len(workers) >= 2
    wait_for_the_end_of(workers)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ParameterError, match="device is 'gpu'"):
        side_by_side(print, [1], device="gpu")


def test_what_is_no_function_is_refused():
    with pytest.raises(ParameterError, match="function is 3"):
        side_by_side(3, [1])


def test_the_stop_button_of_a_notebook_stops_the_workers(tmp_path):
    code = textwrap.dedent(
        f"""
        import os, pathlib, time
        from cnnlib.train import side_by_side
        def slow(seed):  # defined in the notebook
            pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch()
            time.sleep(60)
        side_by_side(slow, range(4), workers=2)
        """
    )
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        message = client.execute(code)
        deadline = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=30)
        while reply["parent_header"]["msg_id"] != message:
            reply = client.get_shell_msg(timeout=30)
        assert reply["content"]["status"] == "error"  # with it, JupyterLab drops the cells that were waiting
        assert reply["content"]["ename"] == "Stopped"
        assert reply["content"]["traceback"] == [
            "Stopped when 0 of 4 runs were finished; run the cell again to have all."
        ]
        for path in tmp_path.iterdir():
            with pytest.raises(ProcessLookupError):
                os.kill(int(path.name), 0)
        time.sleep(1)  # a kernel turns away what is asked for just after an error
        shown = []
        client.execute_interactive(
            "print(side_by_side(lambda seed: seed, [1, 2], progress=False))",
            timeout=60,
            output_hook=lambda message: shown.append(message["content"].get("text", "")),
        )
        assert "".join(shown) == "[1, 2]\n"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
