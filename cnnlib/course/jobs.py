"""The loop over jobs that sweeps and grading share: one after the other, or with any executor."""

import concurrent.futures
import time


def run_jobs(function, jobs, executor, finish, watch=None, stop=None):
    """Do jobs, and hand over each result as soon as it is there.

    Whatever ends this early, an interrupt or an error, cancels the jobs that have not begun, and stops those
    that have.

    Args:
        function: takes one job and returns its result; importable, for an executor may send it elsewhere.
        jobs: dict from a key to a job.
        executor: concurrent.futures.Executor; None: one job after the other in this process.
        finish: function of a key and a result, called in this thread.
        watch: function without arguments, called in this thread every second while an executor works.
        stop: function without arguments that ends what jobs in threads of this process wait for; it is called
            until they have ended.
    """
    if executor is None:
        for key, job in jobs.items():
            finish(key, function(job))
        return
    futures = {executor.submit(function, job): key for key, job in jobs.items()}
    running, seconds = set(futures), 1 if watch else None
    try:
        while running:
            done, running = concurrent.futures.wait(running, seconds, concurrent.futures.FIRST_COMPLETED)
            for future in done:
                finish(futures[future], future.result())
            if watch:
                watch()
    except BaseException:
        for future in futures:
            future.cancel()
        while stop and any(future.running() for future in futures):  # one may be about to begin to wait
            stop()
            time.sleep(0.05)
        raise
