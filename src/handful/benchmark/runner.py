"""All runs of a plan that are not there yet; several processes may work on one results file."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from handful.benchmark.exam import Exam
from handful.benchmark.one_run import run_once, task_of
from handful.benchmark.plan import Plan
from handful.benchmark.results import ResultsFile
from handful.errors import HandfulError
from handful.progress import progress
from handful.task import FewShotTask

__all__ = ["Ran", "run_plan"]

PAUSE_S = 0.2


@dataclass(frozen=True)
class Ran:
    """How many runs a plan has, how many were there already, and how many came to be.

    What another process at work on the same file made meanwhile is counted, too.

    Attributes:
        runs: of the plan.
        there: that were there already.
        made: now.
        sources: digests of what was learnt from.
    """

    runs: int
    there: int
    made: int
    sources: tuple[str, ...] = field(default=(), compare=False)


def run_plan(plan: Plan, out: Path, jobs: int = 1) -> Ran:
    """Run what is not in the results file yet.

    Args:
        plan: what to run.
        out: results file, appended to.
        jobs: processes. Each keeps one core busy; with one job, the heads use all cores.

    Raises:
        InputError: a source cannot be read, or the protocol cannot be followed on it.
        HandfulError: a process ended early.
    """
    exams = plan.exams()
    keys = {run.key for exam in exams for runs in plan.runs(*exam.given).values() for run in runs}
    # Said before the work: a draw may be impossible.
    for exam in exams:
        for shots, seed in plan.runs(*exam.given):
            drawn = exam.drawn(shots, seed)
            exam.elsewhere(shots, seed)
            exam.check_select(plan.select, drawn)
    plan.check(list(dict.fromkeys(source for exam in exams for source in exam.given)))
    file = ResultsFile(out)
    there = len(keys & file.read().runs.keys())
    try:
        if there < len(keys):
            with progress("running", len(keys), "runs") as advance:
                seen = 0

                def tell() -> None:
                    nonlocal seen
                    now = len(keys & file.read().runs.keys())
                    advance(now - seen)
                    seen = now

                tell()
                if jobs == 1:
                    _work(plan, exams, file, tell)
                else:
                    _share(plan, out, jobs, tell)
            if left := len(keys - file.read().runs.keys()):
                raise HandfulError(
                    f"{left} of {len(keys)} runs are missing, because a process ended early: run"
                    " the same command again to go on, with --jobs 1 to see why."
                )
    finally:
        file.close()
    sources = tuple(exam.source.digest for exam in exams)
    return Ran(len(keys), there, len(keys) - there, sources)


def _work(plan: Plan, exams: list[Exam], file: ResultsFile, tell: Callable[[], None]) -> None:
    """Do every run that nobody has done or is doing, until all are there."""
    left = True
    while left:
        left, made = False, False
        for exam in exams:
            done = file.read().runs.keys()
            for (shots, seed), runs in plan.runs(*exam.given).items():
                todo = [run for run in runs if run.key not in done]
                if not todo:
                    continue
                drawn, elsewhere = exam.drawn(shots, seed), exam.elsewhere(shots, seed)
                tasks: dict[tuple[bool, bool], FewShotTask] = {}
                for run in todo:
                    with file.claim(run.key) as mine:
                        if not mine:
                            left = True
                            continue
                        # Somebody may have ended it between our reading and our claim.
                        if run.key in file.read().runs:
                            continue
                        seen = exam.learnt_from.seen_by(run.method, dict(run.settings))
                        kind = seen.before_projection, seen.corrected
                        if kind not in tasks:
                            tasks[kind] = task_of(seen, drawn, plan.select)
                        row = run_once(run, seen, drawn, tasks[kind], elsewhere)
                        for source in exam.given:
                            file.add(source.to_json())
                        file.add(row)
                        made = True
                    tell()
        if left and not made:
            time.sleep(PAUSE_S)


def _share(plan: Plan, out: Path, jobs: int, tell: Callable[[], None]) -> None:
    """Let several processes work on the file."""
    context = multiprocessing.get_context("spawn")
    before = os.environ.get("OMP_NUM_THREADS")
    # Threads of several processes on few cores wait for one another.
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    workers = [context.Process(target=_worker, args=(plan, out)) for _ in range(jobs)]
    try:
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            time.sleep(PAUSE_S)
            tell()
    finally:
        for worker in workers:
            if worker.is_alive():
                worker.terminate()
        for worker in workers:
            if worker.pid is not None:
                worker.join()
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _worker(plan: Plan, out: Path) -> None:
    # Ctrl-C is for the process that started this one, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def stop_alone() -> None:
        if parent is not None and not parent.is_alive():
            sys.exit(1)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said by the process that started this one
            exams = plan.exams()
        _work(plan, exams, ResultsFile(out), stop_alone)
    except HandfulError as error:
        sys.exit(f"handful: {error}")
