"""A network as it was during its training: the states kept at the end of epochs, where they are here."""

from __future__ import annotations

import copy
from pathlib import Path

from reprolib import store
from reprolib.errors import CorruptFile
from reprolib.models.networks import Network
from reprolib.training.specs import Spec, snapshot_folder


def spec_of_card(network: Network) -> Spec:
    """Which network of the zoo it is, from its card."""
    card = network.card
    described = card["description"]
    return Spec(described["recipe"]["id"], described["architecture"], card["data"]["name"], described["seed"], card["scale"])


def snapshots(network: Network) -> dict[int, Path]:
    """The states kept at the end of each epoch of a network's training: epochs done -> file. Empty where none are here."""
    kept = {float(path.stem): path for path in sorted(snapshot_folder(spec_of_card(network)).glob("*.safetensors"))}
    return {int(epochs): path for epochs, path in kept.items() if epochs == int(epochs)}


def at(network: Network, path: Path) -> Network:
    """The network as it was when the state in `path` was kept; its own weights are not touched. Raises CorruptFile."""
    try:
        state, _ = store.read_safetensors(path)
    except CorruptFile as error:
        raise CorruptFile(
            f"{store.reason(error)}; delete its folder: what needs these states is then carried over from committed rows until the "
            "network is trained again"
        ) from error
    past = copy.deepcopy(network)
    past.load_state_dict({name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()})
    return past.eval()
