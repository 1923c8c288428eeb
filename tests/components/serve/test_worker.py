import asyncio
import threading

import pytest

from components.serve.worker import Batcher, Worker


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


def _batches(items, *, most, function=None):
    """The batches in which items are answered that come while the first is at work, and their answers."""
    begun, release, batches = threading.Event(), threading.Event(), []

    def answer(batch):
        batches.append(batch)
        begun.set()
        assert release.wait(20)
        return function(batch) if function else [10 * item for item in batch]

    async def main():
        model = Batcher(answer, size_of=lambda item: item, most=most)
        first, *others = items
        tasks = [asyncio.create_task(model.answer(first, timeout_s=20))]
        await asyncio.to_thread(begun.wait, 20)
        tasks += [asyncio.create_task(model.answer(item, timeout_s=20)) for item in others]
        await asyncio.sleep(0)
        release.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        model.close()
        return answers

    return asyncio.run(main()), batches


def test_whoever_comes_during_a_batch_is_in_the_next_in_order_and_up_to_its_size():
    answers, batches = _batches([1, 2, 3, 4, 9, 1], most=6)
    assert batches == [[1], [2, 3], [4], [9], [1]]
    assert answers == [10, 20, 30, 40, 90, 10]


def test_one_that_comes_alone_is_answered_at_once_and_alone():
    answers, batches = _batches([1], most=6)
    assert (answers, batches) == ([10], [[1]])


def test_an_item_that_fails_does_not_spoil_the_others_of_its_batch():
    def function(batch):
        if 3 in batch:
            raise ValueError("three")
        return [10 * item for item in batch]

    answers, batches = _batches([1, 2, 3, 4], most=100, function=function)
    assert batches == [[1], [2, 3, 4], [2], [3], [4]]
    assert [answer if isinstance(answer, int) else str(answer) for answer in answers] == [10, 20, "three", 40]


def test_who_waits_too_long_for_a_batch_is_dropped_from_it():
    release, batches = threading.Event(), []

    def answer(batch):
        batches.append(batch)
        release.wait(20)
        return batch

    async def main():
        model = Batcher(answer, size_of=lambda _: 1, most=10)
        first = asyncio.create_task(model.answer(1, timeout_s=0.2))
        await asyncio.sleep(0.05)
        with pytest.raises(TimeoutError):
            await model.answer(2, timeout_s=0.05)
        with pytest.raises(TimeoutError):
            await first
        assert model.stuck
        release.set()
        assert await model.answer(3, timeout_s=5) == 3
        assert not model.stuck
        model.close()

    asyncio.run(main())
    assert batches == [[1], [3]]
