"""The explorer of the simplicity biases: one unit, what it looks for or where it is active, its concept, and how many kinds of image it answers to."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

from reprolib.figures import style
from reprolib.figures.page import pixels
from reprolib.findings.simplicity_biases import dissecting, kinds
from reprolib.front_end import is_wanted, moved_by
from reprolib.models.networks import Network
from reprolib.study import Study

if TYPE_CHECKING:
    import ipywidgets

SCREEN_DPI = 110
N_SHOWN = 9
HEADLESS = 'explorer: nobody is watching, so no menus are drawn (interactive="on" draws them)'
NO_IMAGES = "explorer: the images are not here, and committed rows hold no pictures to look at"


def units(study: Study, nets: Mapping[str, Sequence[Network]], interactive: str = "auto") -> ipywidgets.VBox | None:
    """A network, a layer and a number to choose. Leave it as the last value of a cell, which shows it.

    interactive: "auto" (JupyterLab only), "on", "off". Without a person, or without the images, it prints one line and returns None.
    """
    if not is_wanted(interactive):
        print(HEADLESS)
        return None
    if not study.can_measure:
        print(NO_IMAGES)
        return None
    import ipywidgets  # only where a person is: a headless run needs no widget library

    screen = Screen(study, nets)
    network = ipywidgets.Dropdown(options=list(screen.networks), description="network")
    layer = ipywidgets.Dropdown(options=list(screen.networks[network.value].layer_names), description="layer")
    number = ipywidgets.BoundedIntText(value=0, min=0, max=10_000, description="unit")

    def follow(_: object) -> None:
        names = screen.networks[network.value].layer_names
        if tuple(layer.options) != tuple(names):
            layer.options = names

    network.observe(follow, names="value")
    return moved_by((network, layer, number), screen.png, [(network, layer, number)])


class Screen:
    """Draws one unit: its filter, of a first layer, and its nine top images, each with its map over it."""

    def __init__(self, study: Study, nets: Mapping[str, Sequence[Network]]) -> None:
        self.images, self.concepts = kinds.shown(study), dissecting.ceilings(study)
        self.networks = {
            f"{style.role(role).label}, {network.card['description']['seed']}": network for role, of in nets.items() for network in of
        }
        rows = study.rows[study.rows["quantity"].isin(["concept", "iou", "second", "iou_second", "diversity"])]
        keys = ["network", "quantity", "unit"]  # of a network in two roles the same is said twice
        self.values = rows.drop_duplicates(keys).set_index(keys)[["value", "reached"]].to_dict("index")

    def png(self, name: str, layer: str, number: int) -> bytes:
        """The picture. name: of a network as in `networks`; number: of a channel, the last one where there are fewer."""
        network = self.networks[name]
        if layer not in network.layer_names:  # the menus change one after the other
            layer = network.layer_names[0]
        units = kinds.unit_names(network, self.images)
        own = [k for k, unit in enumerate(units) if unit.rpartition(":")[0] == layer]
        place = own[min(number, len(own) - 1)]
        top = kinds.top_images(network, self.images).by_largest[:N_SHOWN, place]
        maps = next(kinds.maps(network, self.images.x[top]))[network.layer_names.index(layer)][:, place - own[0]].cpu()
        weight = self._filter(network, layer, place - own[0])
        with style.context():
            figure = style.figure(style.WIDE, 1.9)
            columns = N_SHOWN // 2 + 1
            grid = figure.add_gridspec(2, columns + (weight is not None))
            for k in range(len(top)):
                ax = figure.add_subplot(grid[k // columns, k % columns + (weight is not None)])
                x = self.images.x[top[k]]
                ax.imshow(pixels(x), extent=(0, 1, 1, 0))
                outline(ax, maps[k])
                ax.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
            if weight is not None:
                ax = figure.add_subplot(grid[:, 0])
                ax.imshow(pixels(0.5 + 0.5 * weight / weight.abs().max().clamp(min=1e-12)))
                ax.set(xticks=[], yticks=[])
                ax.set_xlabel("its filter", fontsize=7)
            figure.suptitle(self.told(network, units[place]), fontsize=8, ha="left", x=0.01)
            figure.set_dpi(SCREEN_DPI)
            buffer = io.BytesIO()
            FigureCanvasAgg(figure).print_png(buffer)
        return buffer.getvalue()

    def told(self, network: Network, unit: str) -> str:
        """What rows say of a unit: concept, IoU, ceiling and runner-up, diversity; that it is dead where they have none."""
        said = {q: self.values.get((network.sha256[:12], q, unit)) for q in ("concept", "iou", "second", "iou_second", "diversity")}
        if not any(said.values()):
            return f"{unit}: dead, or not measured"
        words = [unit]
        if (best := said["concept"]) and (iou := said["iou"]):
            (category, name), ceiling = self.concepts.index[int(best["value"])], self.concepts.iloc[int(best["value"])]
            second = f", runner-up {said['iou_second']['value']:.3f}" if said["iou_second"] else ""
            second += f" ({self.concepts.index[int(said['second']['value'])][1]})" if said["second"] and second else ""
            kind = "detects" if best["reached"] else "no detector; nearest"
            words.append(f"{kind} {category} {name}, IoU {iou['value']:.3f} of at most {ceiling:.2f}{second}")
        if of := said["diversity"]:
            words.append(f"diversity {of['value']:.2f}")
        return "; ".join(words)

    def _filter(self, network: Network, layer: str, channel: int) -> torch.Tensor | None:
        """The weights (c, k, k) of a unit of the first layer, where that is a convolution of at least 5 px on colours or greys."""
        conv = next((part for part in network.modules() if isinstance(part, torch.nn.Conv2d)), None)
        if conv is None or layer != network.layer_names[0] or conv.kernel_size[0] < 5 or conv.in_channels not in (1, 3):
            return None
        return conv.weight[channel].detach().cpu() if channel < len(conv.weight) else None


def outline(ax: Axes, one: torch.Tensor) -> None:
    """Where a map (h, w), enlarged bilinearly, exceeds half its maximum, on axes on which a picture fills (0, 1) with its first row at 0."""
    if float(one.max()) > 0:
        larger = torch.nn.functional.interpolate(one[None, None], (32, 32), mode="bilinear", align_corners=False)[0, 0].numpy()
        ax.contour(larger, levels=[0.5 * float(one.max())], colors="white", linewidths=0.9, extent=(0, 1, 0, 1), origin="lower")
