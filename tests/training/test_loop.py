from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from reprolib.errors import BadInput
from reprolib.models.networks import ConvNet, build
from reprolib.scales import Schedule
from reprolib.training.loop import choose_precision, estimate_batch_norm, learning_rate, radius_share, train
from reprolib.training.recipes import recipe

SCHEDULE = Schedule(n_images=96, epochs=3, attack_steps=2, batch_size=32)
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    """96 images of 16 px whose class is their brightness."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(96) % 2
    x = (torch.rand(96, 3, 16, 16, generator=generator) * 120 + 100 * y.view(-1, 1, 1, 1)).to(torch.uint8)
    return x, y


def trained(
    images: tuple[Tensor, Tensor], recipe_id: str = "std", schedule: Schedule = SCHEDULE, state: Path | None = None, **more: object
) -> ConvNet:
    network = build("tinycnn", 2, MEAN, STD, seed=0)
    train(network, *images, recipe(recipe_id), schedule, 0, ("l2", 0.5), state, precision="fp32", **more)  # type: ignore[arg-type]
    return network  # type: ignore[return-value]


def weights(network: torch.nn.Module) -> list[Tensor]:
    return list(network.state_dict().values())


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 100, SCHEDULE) for step in range(100)]
    assert max(rates) == rates[20] == SCHEDULE.peak_lr
    assert rates[0] == pytest.approx(SCHEDULE.peak_lr / 25)
    assert all(a < b for a, b in zip(rates[:20], rates[1:21], strict=True))
    assert all(a > b for a, b in zip(rates[20:-1], rates[21:], strict=True))
    assert learning_rate(100, 100, SCHEDULE) == 0


def test_training_learns_and_is_the_same_twice(images: tuple[Tensor, Tensor]) -> None:
    seen: list[str] = []
    one = trained(images, report=seen.append)
    torch.rand(7)  # what others draw from the global generator does not matter
    other = trained(images)
    assert [line.split("  loss")[0] for line in seen] == ["epoch  1/3", "epoch  2/3", "epoch  3/3"]
    assert "accuracy 100.0%" in seen[-1]
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.mark.parametrize("recipe_id", ["std", "l2_05", "linf_8", "snnl_m01", "snnl_p003"])
def test_a_training_stopped_after_any_epoch_resumes_to_the_same_weights(
    images: tuple[Tensor, Tensor], recipe_id: str, tmp_path: Path
) -> None:
    whole = trained(images, recipe_id)

    class Stop(Exception):
        pass

    def stop_after_epoch_2(line: str) -> None:
        if line.startswith("epoch  2/"):
            raise Stop

    state = tmp_path / "state.safetensors"
    with pytest.raises(Stop):
        trained(images, recipe_id, state=state, report=stop_after_epoch_2)
    resumed = build("tinycnn", 2, MEAN, STD, seed=5)  # its own weights must not matter
    seen: list[str] = []
    told = train(resumed, *images, recipe(recipe_id), SCHEDULE, 0, ("l2", 0.5), state, report=seen.append)
    assert [line[:10] for line in seen] == ["epoch  3/3"]  # what was reported was kept
    assert told["resumed"] == 1
    assert told["precision"] == "fp32"  # kept from the first part
    assert len(told["history"]) == 3
    assert all(("snnl" in past) == recipe_id.startswith("snnl") for past in told["history"])
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


def test_the_arms_of_a_comparison_see_the_same_images_in_the_same_order(
    images: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    import reprolib.training.loop as loop

    seen: dict[str, list[Tensor]] = {"std": [], "l2_05": []}
    original = loop.Batches.epoch
    for name, kept in seen.items():

        def epoch(self: object, generator: torch.Generator, kept: list[Tensor] = kept) -> object:
            for x, y in original(self, generator):  # type: ignore[arg-type]
                kept.append(x.clone())
                yield x, y

        monkeypatch.setattr(loop.Batches, "epoch", epoch)
        trained(images, name, replace(SCHEDULE, epochs=1, pad_px=2, flip=True))
    assert all(torch.equal(a, b) for a, b in zip(seen["std"], seen["l2_05"], strict=True))


def test_snapshots_are_named_by_the_epochs_done(images: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    trained(images, schedule=replace(SCHEDULE, epochs=2), snapshots=(tmp_path, 3))
    assert sorted(p.stem for p in tmp_path.iterdir()) == ["000.333", "000.667", "001.000", "001.333", "001.667", "002.000"]


def test_parameters_and_mode_are_left_as_promised(images: tuple[Tensor, Tensor]) -> None:
    assert not trained(images).training


def test_the_untrained_control_gets_the_statistics_of_the_images(images: tuple[Tensor, Tensor]) -> None:
    network = build("tinycnn", 2, MEAN, STD, seed=0)
    before = network.convs[0].conv.weight.clone()  # type: ignore[union-attr]
    estimate_batch_norm(network, images[0], batch_size=96)
    bn = network.convs[0].bn  # type: ignore[union-attr]
    maps = network.convs[0].conv(network.normaliser(images[0].float() / 255))  # type: ignore[operator,union-attr]
    assert torch.allclose(bn.running_mean, maps.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.equal(network.convs[0].conv.weight, before)  # type: ignore[union-attr]
    assert bn.momentum == 0.1
    assert not network.training


def test_bf16_is_chosen_where_the_processor_has_it_and_the_choice_is_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPROLIB_PRECISION", raising=False)
    chosen = {choose_precision(torch.device("cpu")) for _ in range(5)}
    assert chosen in ({"bf16"}, {"fp32"})
    assert choose_precision(torch.device("cuda")) == "bf16"
    has = torch.cpu.get_capabilities()
    if not (has.get("amx_bf16") or has.get("avx512_bf16")):
        assert chosen == {"fp32"}
    elif not {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"} & set(os.environ):
        assert chosen == {"bf16"}


@pytest.mark.parametrize(("name", "cap"), [("ONEDNN_MAX_CPU_ISA", "AVX2"), ("DNNL_MAX_CPU_ISA", "AVX512_CORE")])
def test_bf16_that_torch_would_emulate_is_not_chosen(name: str, cap: str) -> None:
    """In a process of its own: the cap is read once. Emulated, bf16 is 3 (AVX512_CORE) to 15 times (AVX2) slower than fp32."""
    code = "import torch; from reprolib.training.loop import choose_precision; print(choose_precision(torch.device('cpu')))"
    plain = {key: value for key, value in os.environ.items() if key not in ("REPROLIB_PRECISION", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")}
    said = subprocess.run([sys.executable, "-c", code], env=plain | {name: cap}, check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "fp32"


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_the_precision_asked_for_in_the_environment_is_used_and_told(
    images: tuple[Tensor, Tensor], asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPROLIB_PRECISION", asked)
    assert choose_precision(torch.device("cuda")) == asked
    network = build("tinycnn", 2, MEAN, STD, seed=0)
    dtypes = set()
    network.convs[0].conv.register_forward_hook(lambda *call: dtypes.add(call[-1].dtype))  # type: ignore[union-attr]
    told = train(network, *images, recipe("std"), replace(SCHEDULE, epochs=1), 0, ("l2", 0.5))
    assert told["precision"] == asked
    assert (torch.bfloat16 in dtypes) == (asked == "bf16")


def test_a_precision_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPROLIB_PRECISION", "fp16")
    with pytest.raises(BadInput, match="REPROLIB_PRECISION=fp16 is none of auto, bf16, fp32"):
        choose_precision(torch.device("cpu"))


def test_a_loss_that_is_not_a_number_stops_the_training(images: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(FloatingPointError, match=r"not a number in epoch|not finite"):
        trained(images, schedule=replace(SCHEDULE, peak_lr=1e20))


def test_the_radius_grows_over_the_ramp_and_a_ramp_of_nothing_is_no_ramp() -> None:
    ramped = replace(SCHEDULE, eps_ramp=0.4)
    assert [radius_share(step, 100, ramped) for step in (0, 20, 40, 99)] == [0, 0.5, 1, 1]
    assert {radius_share(step, 100, SCHEDULE) for step in range(100)} == {1.0}
    assert "eps_ramp" not in SCHEDULE.describe()
    assert ramped.describe()["eps_ramp"] == 0.4
