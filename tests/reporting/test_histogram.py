import math

from hypothesis import given
from hypothesis import strategies as st

from penstock.reporting import histogram

COUNTS = st.dictionaries(st.integers(0, 700), st.integers(1, 10**9), max_size=30)
TIMES = st.lists(st.integers(0, 10**13), min_size=1, max_size=200)


@given(COUNTS)
def test_a_histogram_survives_packing_and_storing(counts):
    packed = histogram.pack(counts)
    assert histogram.unpack(packed) == counts
    assert histogram.from_bytes(histogram.to_bytes(packed)) == packed


@given(st.lists(COUNTS, max_size=8))
def test_adding_histograms_adds_their_counts(several):
    total = sum(map(histogram.pack, several))
    expected = {}
    for counts in several:
        for number, count in counts.items():
            expected[number] = expected.get(number, 0) + count
    assert histogram.unpack(total) == expected


@given(TIMES, st.sampled_from([50, 95, 99, 100]))
def test_percentiles_are_within_two_and_a_half_percent(times, share):
    counts = {}
    for time in times:
        number = histogram.bucket(time)
        counts[number] = counts.get(number, 0) + 1
    exact = sorted(times)[math.ceil(len(times) * share / 100) - 1] / 1e6
    (found,) = histogram.percentiles(histogram.pack(counts), share)
    assert math.isclose(found, exact, rel_tol=0.025) or exact <= 1e-6


def test_nothing_has_no_percentiles():
    assert histogram.percentiles(0, 50, 95) == [None, None]
