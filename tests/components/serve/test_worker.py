import asyncio
import threading

import pytest

from components.serve.worker import Worker


def test_results_and_exceptions_come_back():
    async def main():
        worker = Worker(1)
        assert await worker.run(lambda: 6 * 7, timeout_s=5) == 42
        with pytest.raises(ZeroDivisionError):
            await worker.run(lambda: 1 // 0, timeout_s=5)
        assert not worker.stuck
        worker.close()

    asyncio.run(main())


def test_functions_run_one_after_another():
    running, most = 0, 0

    def count():
        nonlocal running, most
        running += 1
        most = max(most, running)
        threading.Event().wait(0.01)
        running -= 1

    async def main():
        worker = Worker(1)
        await asyncio.gather(*(worker.run(count, timeout_s=5) for _ in range(5)))
        worker.close()

    asyncio.run(main())
    assert most == 1


def test_a_function_that_waits_too_long_is_dropped_and_the_running_one_marks_the_worker_stuck():
    release, called = threading.Event(), []

    async def main():
        worker = Worker(1)
        first = asyncio.create_task(worker.run(lambda: release.wait(20), timeout_s=0.1))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await worker.run(lambda: called.append(1), timeout_s=0.05)
        with pytest.raises(TimeoutError):
            await first
        assert worker.stuck
        release.set()
        assert await worker.run(lambda: "next", timeout_s=5) == "next"
        assert not worker.stuck
        worker.close()

    asyncio.run(main())
    assert called == []
