import os

from penstock.monitoring.process import Process, memory_allowed, memory_used


def test_what_the_process_uses_is_a_share_of_what_it_may():
    process = Process(memory_bytes=10 * memory_used())
    first = process.gauges(1.0)
    assert 0.05 < first["memory_share"] < 0.5
    assert 0 < first["descriptors_share"] < 1
    assert first["threads"] >= 1
    assert "cpu_share" not in first  # takes two looks
    sum(range(200_000))
    assert process.gauges(2.0)["cpu_share"] > 0


def test_more_open_files_are_a_larger_share():
    process = Process()
    before = process.gauges(1.0)["descriptors_share"]
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(50)]
    try:
        assert process.gauges(2.0)["descriptors_share"] > before
    finally:
        for descriptor in held:
            os.close(descriptor)


def test_the_machine_has_memory():
    assert memory_allowed() > memory_used()
