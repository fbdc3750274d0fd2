"""The loop over jobs that sweeps and grading share: one after the other, or with any executor."""

import concurrent.futures


def run_jobs(function, jobs, executor, finish):
    """Do jobs, and hand over each result as soon as it is there.

    Whatever ends this early, an interrupt or an error, cancels the jobs that have not begun.

    Args:
        function: takes one job and returns its result; importable, for an executor may send it elsewhere.
        jobs: dict from a key to a job.
        executor: concurrent.futures.Executor; None: one job after the other in this process.
        finish: function of a key and a result, called in this thread.
    """
    if executor is None:
        for key, job in jobs.items():
            finish(key, function(job))
        return
    futures = {executor.submit(function, job): key for key, job in jobs.items()}
    try:
        for future in concurrent.futures.as_completed(futures):
            finish(futures[future], future.result())
    except BaseException:
        for future in futures:
            future.cancel()
        raise
