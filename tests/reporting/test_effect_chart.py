"""The plot of an effect and its confidence sequence."""

from xml.etree import ElementTree

from penstock.reporting.effect_chart import Track, effect_chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*tracks):
    return ElementTree.fromstring(effect_chart("cost <of> tone", tracks, "{:.2g}".format))


def test_each_arm_has_a_panel_with_its_band_and_its_line():
    track = Track("warm & plain", [1, 50, 100], [0.0, 0.2, 0.3], [-9.0, -0.1, 0.1], [9.0, 0.5, 0.5])
    chart = drawn(track, track._replace(name="hot"))
    assert len(chart.findall(f"{SVG}polygon")) == len(chart.findall(f"{SVG}polyline")) == 2
    words = [text.text for text in chart.iter(f"{SVG}text")]
    assert {"cost <of> tone", "warm & plain", "hot", "100"} <= set(words)
    assert "9" not in words  # the first intervals, wide as they are, do not stretch the scale


def test_all_that_is_drawn_is_inside():
    chart = drawn(Track("warm", [1, 50, 100], [5.0, 0.2, 0.3], [-9.0, -0.1, 0.1], [9.0, 0.5, 0.5]))
    places = [float(place.split(",")[1]) for shape in (*chart.iter(f"{SVG}polygon"), *chart.iter(f"{SVG}polyline"))
              for place in shape.get("points").split()]  # fmt: skip
    assert min(places) > 0
    assert max(places) < float(chart.get("height"))


def test_an_experiment_without_units_yet_has_an_empty_panel():
    chart = drawn(Track("warm", [], [], [], []))
    assert chart.find(f"{SVG}polygon") is None
    assert chart.find(f"{SVG}line") is not None
