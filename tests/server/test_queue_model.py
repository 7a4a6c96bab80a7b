# SPDX-License-Identifier: Apache-2.0
"""The queue beside a model of what it promises: jobs sent, moved, cancelled, done, failed; workers and servers lost."""

import asyncio
import json
import re
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import new_id
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from server.artifacts import Artifacts
from server.endings import MOST_LOSSES
from server.executor import Cancelled, Failed, Finished, Report, WorkerLost
from server.failures import IdConflict
from server.jobs import JobQueue
from server.store import Store
from shared_protocol.messages import SubmitJob

WORKERS = 2
PATIENCE_S = 20.0
ENDED = ("done", "failed", "cancelled")
EVENTS = {"queued": "q", "started": "s", "stage": "g", "requeued": "r", "done": "d", "failed": "f", "cancelled": "c"}
LEGAL = re.compile("q(sg?r)*(sg?)?[dfc]?")
LAST = {"queued": "qr", "running": "sg", "done": "d", "failed": "f", "cancelled": "c"}


class Hand:
    """A worker that ends its job when the test says so; it may be deaf to a cancel."""

    device, worker_pid, ready, last_report = "CPU", None, True, 0.0

    def __init__(self) -> None:
        self.task, self.outcome, self.is_deaf = None, None, False

    async def run(self, task, on_report, cancel):
        on_report(Report("Working", 1, 2))
        self.outcome, self.task = asyncio.get_running_loop().create_future(), task
        heard = asyncio.create_task(self._hear(cancel))
        try:
            return await self.outcome
        finally:
            self.task, self.is_deaf = None, False
            heard.cancel()

    async def _hear(self, cancel):
        await cancel.wait()
        if not self.is_deaf:
            self.outcome.set_result(Cancelled(killed=False))

    def rest(self):
        pass


class Key:
    """In place of the real circumstances: the request alone decides."""

    def result_key(self, kind, params, inputs):
        return json.dumps([kind, params])


@dataclass
class Expected:
    """What should be known of a job."""

    request: SubmitJob
    number: int
    state: str = "queued"
    priority: int = 0
    attempt: int = 0
    is_cancelling: bool = False
    losses: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MOST_LOSSES, 0))

    @property
    def place(self):
        return -self.priority, self.losses["server_lost"] + self.losses["machine_lost"], self.number


class QueueBesideModel(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        (self.folder / "artifacts").mkdir()
        self.loop = asyncio.new_event_loop()
        self.jobs: dict[str, Expected] = {}
        self.results: set[str] = set()
        self.dead = []  # what killed servers left; collected, their tasks would complain
        self.boot = 0
        self.start_server()

    def start_server(self):
        self.store = Store(self.folder / "jobs.sqlite")
        self.hands = [Hand() for _ in range(WORKERS)]
        parts = self.store, Artifacts(self.folder / "artifacts"), self.hands, self.folder / "work", self.folder / "logs"
        self.queue = JobQueue(*parts, lambda message: None, Key(), machine=f"boot {self.boot}")
        self.queue.recover()
        self.work = self.loop.create_task(self.queue.work())

    def teardown(self):
        if hasattr(self, "loop"):
            self.stop_work()
            for loop, task, store in self.dead:
                task.cancel()
                loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
                store.close()
                loop.close()
            self.loop.close()
            shutil.rmtree(self.folder)

    def stop_work(self):
        self.work.cancel()
        self.loop.run_until_complete(asyncio.gather(self.work, return_exceptions=True))
        self.store.close()

    # What clients do

    @rule(numbers=st.lists(st.integers(0, 5), min_size=1, max_size=4), priority=st.integers(-1, 1), fresh=st.booleans())
    def submit(self, numbers, priority, fresh):
        for number in numbers:
            request = SubmitJob(new_id(), "take", {"number": number}, priority=priority, fresh=fresh)
            self.call(self.queue.submit, request)
            job = self.jobs[request.job_id] = Expected(request, len(self.jobs), priority=priority)
            if self.is_known(job):
                job.state = "done"

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def submit_again(self, data):
        job = self.any_job(data)
        self.call(self.queue.submit, job.request)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def submit_other_content(self, data):
        job = self.any_job(data)
        with pytest.raises(IdConflict):
            self.call(self.queue.submit, SubmitJob(job.request.job_id, "take", {"number": -1}))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data):
        job = self.any_job(data)
        is_heard = job.state == "queued" or (job.state == "running" and not job.is_cancelling)
        self.call(self.queue.cancel, job.request.job_id)
        if is_heard:
            job.state = "cancelled"

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def cancel_the_deaf(self, data):
        job = self.any_job(data, self.running())
        self.hand_of(job).is_deaf = True
        self.call(self.queue.cancel, job.request.job_id)
        job.is_cancelling = True

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), priority=st.integers(-2, 2))
    def prioritise(self, data, priority):
        job = self.any_job(data, self.waiting())
        self.call(self.queue.prioritise, job.request.job_id, priority)
        job.priority = priority

    # What happens to workers and servers

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def finish(self, data):
        job = self.any_job(data, self.running())
        file = self.hand_of(job).task.workdir / "result"
        file.write_bytes(json.dumps(job.request.params).encode())
        self.end(job, Finished({"result": file}))
        if job.is_cancelling:
            job.state = "cancelled"
        else:
            job.state = "done"
            self.results.add(self.key(job))

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def fail(self, data):
        job = self.any_job(data, self.running())
        self.end(job, Failed("input", "It makes no sense"))
        job.state = "cancelled" if job.is_cancelling else "failed"

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def lose_worker(self, data):
        job = self.any_job(data, self.running())
        self.end(job, WorkerLost(-9))
        self.lose(job, "worker_lost")

    @rule(reboot=st.booleans())
    def kill_server(self, reboot):
        self.dead.append((self.loop, self.work, self.store))  # its loop never runs again
        self.loop = asyncio.new_event_loop()
        self.boot += reboot
        for job in self.running():
            self.lose(job, "machine_lost" if reboot else "server_lost")
        self.start_server()

    @rule()
    def stop_server(self):
        self.stop_work()
        for job in self.running():
            job.state = "cancelled" if job.is_cancelling else "queued"
        self.start_server()

    # What must hold

    @invariant()
    def it_is_as_expected(self):
        if not hasattr(self, "loop"):
            return
        self.give_work()
        self.settle()
        for job_id, job in self.jobs.items():
            stored, events = self.store.job(job_id), self.store.events(job_id)
            assert (stored.state, stored.attempt) == (job.state, job.attempt), job
            assert {name: getattr(stored, name) for name in MOST_LOSSES} == job.losses
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            story = "".join(EVENTS[event.name] for event in events)
            assert LEGAL.fullmatch(story), story
            assert story[-1] in LAST[job.state]
            if job.state == "done":
                artifact = events[-1].outputs[0].artifact
                assert (self.folder / "artifacts" / artifact.sha256).read_bytes() == json.dumps(
                    job.request.params
                ).encode()
        for ahead, job in enumerate(self.waiting(), start=len(self.running())):
            assert self.queue.status(job.request.job_id).ahead == ahead

    def give_work(self):
        """Free workers take the first of those that wait, unless their result is known."""
        while len(self.running()) < WORKERS and self.waiting():
            job = self.waiting()[0]
            if self.is_known(job):
                job.state = "done"
            else:
                job.state, job.attempt = "running", job.attempt + 1

    def settle(self):
        """Let the queue do what it can."""
        deadline = time.monotonic() + PATIENCE_S
        running, waiting = ([job.request.job_id for job in jobs] for jobs in (self.running(), self.waiting()))
        while self.at_work() != (set(running),) * 2 or [job.job_id for job in self.store.queued()] != waiting:
            assert time.monotonic() < deadline, (running, waiting)
            assert not self.work.done(), self.work.exception()
            self.loop.run_until_complete(asyncio.sleep(0.001))

    def at_work(self):
        """The jobs that workers have, as workers and queue know them."""
        return {hand.task.job_id for hand in self.hands if hand.task}, set(self.queue.attempts)

    # Small things

    def call(self, function, *arguments):
        """As the front does: in the loop."""

        async def run():
            return function(*arguments)

        return self.loop.run_until_complete(run())

    def end(self, job, outcome):
        job_id = job.request.job_id
        known = self.store.last_seq(job_id)
        self.hand_of(job).outcome.set_result(outcome)

        async def until_recorded():
            while self.store.last_seq(job_id) == known:
                await asyncio.sleep(0.001)

        self.loop.run_until_complete(asyncio.wait_for(until_recorded(), PATIENCE_S))

    def lose(self, job, loss):
        if job.is_cancelling:
            job.state, job.is_cancelling = "cancelled", False
        elif job.losses[loss] + 1 >= MOST_LOSSES[loss]:
            job.state = "failed"
        else:
            job.losses[loss] += 1
            job.state = "queued"

    def any_job(self, data, among=None):
        return data.draw(st.sampled_from(list(self.jobs.values()) if among is None else among))

    def hand_of(self, job):
        return next((hand for hand in self.hands if hand.task and hand.task.job_id == job.request.job_id), None)

    def running(self):
        return [job for job in self.jobs.values() if job.state == "running"]

    def waiting(self):
        return sorted((job for job in self.jobs.values() if job.state == "queued"), key=lambda job: job.place)

    def key(self, job):
        return json.dumps(job.request.params)

    def is_known(self, job):
        return not job.request.fresh and self.key(job) in self.results


TestQueueBesideModel = QueueBesideModel.TestCase
TestQueueBesideModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
