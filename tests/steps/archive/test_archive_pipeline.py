from __future__ import annotations

import threading
import time

import pytest

from portunix_vdisk.platform.errors import Interrupted
from portunix_vdisk.steps.archive.pipeline import Pipeline


def nothing() -> None:
    return None


def test_results_come_in_the_order_of_the_items() -> None:
    pipeline = Pipeline(lambda item: (time.sleep((item * 7 % 3) / 500), item)[1], iter(range(40)), threads=4)
    try:
        for number in range(40):
            assert pipeline.head == number
            assert pipeline.take(nothing) == number
        assert pipeline.head is None
    finally:
        pipeline.close()


def test_never_more_than_three_items_a_thread_are_taken_up() -> None:
    begun: list[int] = []
    pipeline = Pipeline(lambda item: begun.append(item), iter(range(100)), threads=2)
    try:
        for taken in range(50):
            time.sleep(0.001)
            assert len(begun) <= taken + 6
            pipeline.take(nothing)
    finally:
        pipeline.close()


def test_polls_even_when_every_result_is_ready() -> None:
    def stop() -> None:
        raise Interrupted("stop")

    pipeline = Pipeline(lambda item: item, iter(range(3)), threads=2)
    try:
        time.sleep(0.05)
        with pytest.raises(Interrupted):
            pipeline.take(stop)
    finally:
        pipeline.close()


def test_polls_while_it_waits() -> None:
    gate, polled = threading.Event(), []

    def poll() -> None:
        polled.append(1)
        if len(polled) == 3:
            gate.set()

    pipeline = Pipeline(lambda item: gate.wait(10), iter(range(1)), threads=2)
    try:
        assert pipeline.take(poll) is True
        assert len(polled) >= 3
    finally:
        gate.set()
        pipeline.close()


@pytest.mark.parametrize("error", [TimeoutError("of the device"), OSError(5, "io"), KeyError("x")])
def test_what_work_raises_is_raised(error: Exception) -> None:
    def work(item: int) -> int:
        if item == 2:
            raise error
        return item

    pipeline = Pipeline(work, iter(range(5)), threads=2)
    try:
        assert [pipeline.take(nothing), pipeline.take(nothing)] == [0, 1]
        with pytest.raises(type(error)) as caught:
            pipeline.take(nothing)
        assert caught.value is error
    finally:
        pipeline.close()
