"""Classes left out of anybody's networks: who is trained on what, numbers by the plain formulas, the picture, and each wrong input in one sentence."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from drawing import assert_on_page, words
from torch import Tensor, nn

import reprolib
from reprolib import front_end
from reprolib.errors import BadInput
from reprolib.measures import raw_zero_shot

N = 4
Y = torch.arange(40) % N
X = (torch.eye(N)[Y].view(-1, 1, 2, 2) + 0.1 * torch.rand(40, 1, 2, 2, generator=torch.Generator().manual_seed(0))) / 1.1
"""Each class has a bright pixel of its own."""
TEST_X, TEST_Y = X.flip(0) ** 1.1, Y.flip(0)


def build(n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, n_classes))


def train(network: nn.Module, x: Tensor, y: Tensor) -> None:
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(20):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()


def asked(**more: Any) -> Any:
    given = {"build": build, "train": train, "images": X, "labels": Y, "test_images": TEST_X, "test_labels": TEST_Y}
    return reprolib.leave_one_out(**(given | more))


@pytest.fixture(scope="module")
def found() -> Any:
    return asked()


def test_a_row_a_class_holds_what_the_measures_give_on_its_test_images(found: Any) -> None:
    columns = ["class", "n", "dbm", "dbm_matched", "am", "entropy", "confidence", "off_class_mass", "is_below_floor"]
    assert list(found.columns) == columns
    assert found["class"].tolist() == [*range(N)]
    assert found["n"].tolist() == [10] * N
    assert found.n_classes == N
    for k, row in found.iterrows():
        z, full = found.without[k], found.full[k]
        assert (z.shape, full.shape) == ((10, N - 1), (10, N))
        q = z.softmax(dim=1)
        assert row["dbm"] == pytest.approx(float((q - q.mean(dim=0)).square().sum(dim=1).mean().sqrt()))
        assert row["dbm_matched"] == raw_zero_shot.davies_bouldin_metric_matched(z).value
        assert row["am"] == pytest.approx(raw_zero_shot.amalgam_metric(q, full.softmax(dim=1), int(k)))
        assert row["entropy"] == pytest.approx(float(-(q * q.log()).sum(dim=1).mean()))
        assert row["confidence"] == pytest.approx(float(q.max(dim=1).values.mean()))
        assert row["off_class_mass"] == pytest.approx(float((1 - full.softmax(dim=1)[:, k]).median()))
    assert not found["is_below_floor"].any()
    assert (found["entropy"] > 0).all()
    assert (found["entropy"] < math.log(N - 1)).all()


def test_each_network_is_trained_on_the_other_classes_with_shifted_labels_and_asked_in_eval_mode() -> None:
    seen: list[tuple[int, Tensor, Tensor]] = []

    def spoils(network: nn.Module, x: Tensor, y: Tensor) -> None:
        seen.append((network[-1].out_features, x.clone(), y.clone()))  # type: ignore[index, arg-type, operator]
        train(network, x, y)
        x.zero_(), y.zero_()  # its own

    images = X.clone()
    found = asked(train=spoils, images=images)
    assert torch.equal(images, X)
    assert [n for n, *_ in seen] == [N, *[N - 1] * N]
    assert torch.equal(seen[0][1], X)
    assert torch.equal(seen[0][2], Y)
    for k, (_, x, y) in enumerate(seen[1:]):
        assert torch.equal(x, X[k != Y])
        assert torch.equal(raw_zero_shot.original(y, k), Y[k != Y])
    torch.manual_seed(0)
    by_hand = build(N - 1)
    train(by_hand, X[Y != 2], raw_zero_shot.shifted(Y[Y != 2], 2))
    with torch.no_grad():
        torch.testing.assert_close(found.without[2].float(), by_hand.eval()(TEST_X[TEST_Y == 2]))


def test_networks_start_alike_from_the_seed_and_the_callers_generator_is_handed_back() -> None:
    starts: list[Tensor] = []

    def remembers(network: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
        starts.append(network[1].weight.detach().clone())  # type: ignore[index, union-attr, operator]
        return network

    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    first = asked(train=remembers)
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(start, starts[0]) for start in starts)
    assert asked(train=remembers).equals(first)
    assert not asked(train=remembers, seed=1).equals(first)
    with torch.inference_mode():
        assert asked(images=X.clone()).equals(asked())


def test_a_network_that_train_gives_back_counts_and_probabilities_are_what_their_logits_are(found: Any) -> None:
    def ends_in_softmax(network: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
        train(network[0], x, y)  # type: ignore[index, operator]
        return nn.Sequential(network[0], nn.Softmax(dim=1))  # type: ignore[index, operator]

    def softmaxed(n: int) -> nn.Module:
        return nn.Sequential(build(n), nn.Softmax(dim=1))

    other = asked(build=softmaxed, train=ends_in_softmax, outputs="probabilities")
    for column in ("dbm", "dbm_matched", "am", "entropy"):
        assert other[column].tolist() == pytest.approx(found[column].tolist(), abs=1e-5)


def test_without_test_images_the_training_images_are_asked_about(found: Any) -> None:
    own = asked(test_images=None, test_labels=None)
    assert own.equals(asked(test_images=X, test_labels=Y))
    assert not own.equals(found)


def test_a_network_that_learnt_nothing_has_no_scatter_and_the_largest_entropy_beside_it() -> None:
    class Constant(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(n))

        def forward(self, x: Tensor) -> Tensor:
            return self.bias.expand(len(x), -1)

    nothing = asked(build=Constant, train=lambda *given: None)
    assert nothing["dbm"].tolist() == pytest.approx([0] * N, abs=1e-9)
    assert nothing["dbm_matched"].isna().all()
    assert nothing["entropy"].tolist() == pytest.approx([math.log(N - 1)] * N)
    assert nothing.plot()._repr_png_()


def test_the_flag_is_up_where_the_full_network_leaves_nothing_to_the_others() -> None:
    class Sure(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.n, self.weight = n, nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return 100 * x.flatten(1)[:, : self.n] * self.weight

    flagged = asked(build=Sure, train=lambda *given: None)
    assert flagged["is_below_floor"].all()
    panel = flagged.plot().axes[2]
    assert not panel.collections[0].get_facecolor().any()  # hollow


def test_the_picture_shows_metrics_beside_entropy_and_refuses_what_does_not_compare(found: Any) -> None:
    drawn = found.plot({"theirs": asked(seed=1)})
    assert {"mine", "theirs", "DBM", "AM", "mean entropy\n/ its largest", "class left out; line: mean"} <= set(words(drawn))
    assert drawn.axes[0].collections[0].get_offsets()[:, 0].tolist() == found["dbm"].tolist()
    assert_on_page(drawn)
    assert found[found["class"] < 2].plot() is not None
    assert pickle.loads(pickle.dumps(found)).n_classes == N
    three = asked(**{name: of[(TEST_Y if "test" in name else Y) < 3] for name, of in sets().items()})
    with pytest.raises(BadInput, match="'three' is of 3 classes, mine of 4: give networks of the same classes"):
        found.plot({"three": three})
    with pytest.raises(BadInput, match="'mean' is a float: give what `leave_one_out` gave"):
        found.plot({"mean": 0.5})


def sets() -> dict[str, Tensor]:
    return {"images": X, "labels": Y, "test_images": TEST_X, "test_labels": TEST_Y}


def test_a_line_a_network_says_how_far_the_work_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(front_end, "QUIET_S", 0.0)
    asked()
    assert capsys.readouterr().err.splitlines() == [
        "0/5: the full network",
        *[f"{k + 1}/5: the network without class {k}" for k in range(N)],
    ]


def test_the_lines_of_the_page_run() -> None:
    page = (Path(__file__).parents[1] / "docs" / "library.md").read_text()
    (block,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "leave_one_out" in block)
    given: dict[str, Any] = {"reprolib": reprolib, "build": build, "train": train, **sets()}
    exec(block, given)
    row = given["found"].set_index("class").loc[3]
    assert (given["tightness"], given["agreement"]) == (pytest.approx(row["dbm"]), pytest.approx(row["am"]))


# --- what is refused


def never(network: nn.Module, x: Tensor, y: Tensor) -> None:
    raise AssertionError("nothing may be trained before input is checked")


SHARED = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"build": lambda n: build(N)}, r"the network of build\(3\) has 4 outputs: 3 are needed, the number that build is given"),
        ({"build": build(N)}, r"build is a Sequential: give a function build\(n_classes\) -> network"),
        ({"build": lambda n: "net"}, r"build\(4\) gives a str: give a network"),
        ({"build": lambda n: nn.Sequential(nn.Flatten(), SHARED, nn.Linear(4, n))}, "networks that build gives share weights"),
        ({"build": lambda n: nn.Sequential(nn.Flatten(), nn.Linear(4, n), nn.Softmax(1))}, r'sum to 1, .*: say outputs="probabilities"'),
        ({"build": lambda n: nn.Flatten(2)}, r"gives a Tensor of shape \(2, 1, 4\) for 2 images: floats \(2, 4\) are needed"),
        ({"outputs": "probabilities"}, r'are negative or do not sum to 1, .*: say outputs="logits"'),
        ({"outputs": "logit"}, "outputs='logit' is unknown; allowed: logits, probabilities; did you mean 'logits'"),
        ({"train": None}, r"train is a NoneType: give a function train\(network, images, labels\)"),
        ({"batch_size": 0}, "batch_size=0 is not allowed"),
        ({"labels": Y[:30]}, r"labels are torch.int64 of shape \(30,\) for 40 images: give whole class numbers \(40,\)"),
        ({"labels": Y.float()}, "labels are torch.float32 .*: give whole class numbers"),
        ({"labels": Y - 1}, "labels name class -1: classes are numbered from 0"),
        ({"labels": Y % 2}, "labels name 2 classes: at least 3 are needed"),
        ({"labels": Y + 2 * (Y == 3)}, "no image is of class 3, and labels go up to 5: number the classes from 0 without gaps"),
        ({"images": X[:, 0]}, r"images are torch.float32 of shape \(40, 2, 2\): give a tensor of floats"),
        ({"images": (255 * X).byte()}, "images are torch.uint8 .*: give a tensor of floats"),
        ({"images": X.numpy()}, "images are a ndarray: give a tensor of floats"),
        ({"images": X[:0], "labels": Y[:0]}, r"images of shape \(0, 1, 2, 2\) are empty"),
        ({"images": X / (X[7, 0, 0, 0] != X)}, r"images \[7\] hold values that are not finite"),
        ({"test_images": TEST_X / 0}, r"test_images \[0, 1, .*\] hold values that are not finite"),
        ({"test_labels": None}, "test_images are given and test_labels are not: give both, or neither"),
        ({"test_images": None}, "test_labels are given and test_images are not"),
        ({"test_images": TEST_X[:, :, :1]}, r"test_images are of shape \(1, 1, 2\), the training images of \(1, 2, 2\)"),
        ({"test_labels": TEST_Y + 1}, "test_labels name class 4: allowed are those of the training images, 0 to 3"),
        ({"test_images": TEST_X[:15], "test_labels": TEST_Y[:15]}, "class 0 has 3 test images: at least 4 are needed"),
        (
            {"images": X[:15], "labels": Y[:15], "test_images": None, "test_labels": None},
            "class 3 has 3 images, which stand for test images",
        ),
    ],
)
def test_wrong_input_is_refused_in_words_before_any_training(more: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        asked(**({"train": never} | more))


def broken(network: nn.Module, what: Callable[[Tensor], object]) -> None:
    with torch.no_grad():
        what(network[-1].bias)  # type: ignore[index, arg-type, operator]


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (lambda net: broken(net, lambda bias: bias.fill_(torch.nan)), "has a parameter 4.bias that is not finite after train: it diverged"),
        (
            lambda net: broken(net, lambda bias: net[2].running_mean.fill_(torch.nan)),
            r"gives outputs that are not finite for images \[0, 1, ",
        ),
        (lambda net: [0.5], "train gives a list for the network without class 1: give the trained network back, or nothing"),
    ],
)
def test_a_network_that_is_no_good_once_trained_is_named(breaks: Callable[[Any], Any], words: str) -> None:
    calls: list[int] = []

    def train_until_the_third(network: nn.Module, x: Tensor, y: Tensor) -> Any:
        calls.append(1)
        return breaks(network) if len(calls) == 3 else None

    with pytest.raises(BadInput, match=words) as error:
        asked(train=train_until_the_third)
    assert "the network without class 1" in str(error.value)
