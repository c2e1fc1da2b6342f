"""The grid of inverses from outside: every picture given is drawn, absent ones leave their place."""

from __future__ import annotations

from drawing import images, pictures

from reprolib.findings.invertibility.figures import outside


def given(sets=("tiny_imagenet_20", "fashion"), arms=("robust", "standard"), t=3):
    """Pictures of `t` targets a set; fashion has no standard inverses."""
    shown = images(t, 3, 8, 8)
    inverses = {name: {arm: shown for arm in arms if (name, arm) != ("fashion", "standard")} for name in sets}
    return {"targets": dict.fromkeys(sets, shown), "inverses": inverses, "tau": 0.2}


def test_every_target_and_inverse_is_drawn_and_an_absent_one_is_not():
    figure = outside(given(t=2))
    # 2 targets of 2 sets, 2 robust inverses of each, 2 standard ones of the first set alone
    assert len(pictures(figure)) == 4 + 4 + 2
    assert {text.get_text() for text in figure.texts} >= {"target", "photographs of other classes", "clothes"}


def test_the_standard_network_stands_above_the_robust_one():
    words = {text.get_text(): text.get_position()[1] for text in outside(given(("textures",))).texts}
    assert words["target"] > words["standard"] > words["robust"]
