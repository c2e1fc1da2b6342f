"""What a notebook talks to: one object that validates, finds networks and images, saves figures, judges claims, and finishes.

study = reprolib.start("shape_bias", globals())
nets = study.networks("standard", "robust")
rows = study.ask(nets, question, images, claim="SHP-1")
study.claim("SHP-1")
study.figure(fig, "bias", caption="...")
study.finish()
"""

from __future__ import annotations

import atexit
import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from reprolib import data, front_end, parameters, provenance, registry, store
from reprolib.data import Images, shapetexture
from reprolib.display import claim_line, escaped, show, show_table
from reprolib.errors import BadInput, CorruptFile, MissingData, StorageError
from reprolib.figures import style
from reprolib.figures.verdicts import forest
from reprolib.judging import claims
from reprolib.judging.audit import comparison_lines, read_results, read_seen
from reprolib.judging.evidence import Evidence
from reprolib.judging.ledger import claims_sha256
from reprolib.judging.tidy import COLUMNS, card_rows, identity, joined, read_rows, rows_hash, write_rows
from reprolib.models.checkpoints import open_checkpoint
from reprolib.models.mine import Own
from reprolib.models.networks import MINE, Network
from reprolib.parameters import Settings
from reprolib.perturb.attacks import predictions
from reprolib.roles import Roles
from reprolib.training import pool, zoo

Question = Callable[[Network, Images], Mapping[str, torch.Tensor]]
"""What is asked of one network: network, images -> {quantity: values (n,)}."""

N_CHECKED = 250  # test images on which the accuracy of a reader's own network is told


def start(finding: str, namespace: Mapping[str, Any]) -> Study:
    """Validate a notebook's parameters, seed everything, say what the run will cost and where it writes.

    namespace: the notebook's `globals()`. Names of the finding's parameters are read from it; names that papermill injected, or that
    the parameters cell assigns, are checked one by one, other variables of the reader are left alone.
    Raises BadInput before any work for an unknown name or a bad value, MissingData when the data set is nowhere and no
    committed rows can stand in for it.
    """
    interactive = parameters.in_words(namespace.get("interactive"), front_end.MODES)
    if front_end.is_wanted(interactive if interactive in front_end.MODES else "auto"):
        front_end.tell_in_one_sentence()
    known = parameters.of(finding)
    parameters.check_names(finding, parameters.written(namespace.get("In", ()), known))
    return Study(parameters.validate(finding, {name: namespace[name] for name in known if name in namespace}))


class Study(Roles):
    """One run of one finding: settings in, figures, rows and verdicts out.

    Attributes: `settings`, `folder` (where the run writes), `device`, `measured` ("yes", or "no (reason)" when the
    committed rows stand in for a data set that is not here), `can_measure`, `verdicts` (entries of the claims judged so far), `report`
    and `each` (how far the work is: `front_end.Progress`).
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.folder = settings.folder()
        self.began = time.monotonic()
        torch.set_num_threads(os.cpu_count() or 1 if settings.overridden and settings.scale.is_evidence else 1)
        torch.manual_seed(0)
        gc.freeze()  # a million imported objects stay anyway: the collector, a third of a second each time, need not look at them
        atexit.register(gc.unfreeze)  # or extension modules complain of leaks
        self._rows: pd.DataFrame | None = None
        self._added: list[pd.DataFrame] = []
        self._judged: Evidence | None = None
        self._figures: list[dict[str, Any]] = []
        self.verdicts: dict[str, dict[str, Any]] = {}
        has_rows = (self.committed / "rows.csv.gz").exists() and not settings.overridden and self.folder != self.committed
        if not self.can_measure and not has_rows:  # evidence is never written from committed rows
            data.load(settings.scale.dataset, "test")  # raises MissingData: what, where to put it, what works without it
        if not self.can_measure:
            self._rows = self.committed_rows()
        if checkpoint := settings.overridden.get("checkpoint"):
            self._admit([self._opened(checkpoint, settings.overridden.get("architecture"))])
        else:
            print(self._announcement())

    def _opened(self, checkpoint: str, architecture: str | None) -> nn.Module:
        try:
            return open_checkpoint(store.root() / checkpoint, architecture)
        except BadInput as error:
            raise BadInput(f"{error} (in a cell: study.networks(mine=reprolib.open_checkpoint(path, model, mean=..., std=...)))") from error

    def _admit(self, models: Sequence[nn.Module]) -> None:
        """Take in networks of the reader's own; where rows are committed and no knob is turned, they alone are measured."""
        super()._admit(models)
        if "checkpoint" not in self.settings.overridden:
            keys = " ".join(network.sha256[:12] for network in self.mine)
            self.settings = replace(self.settings, overridden={**self.settings.overridden, MINE: keys})
            self.folder = self.settings.folder()
        self.only_mine = self.settings.overridden.keys() <= {*parameters.OWN, MINE} and (self.committed / "rows.csv.gz").exists()
        self._rows, self._added, self._judged = self.committed_rows() if self.only_mine else None, [], None
        print(self._announcement())

    @property
    def committed(self) -> Path:
        """Where the committed evidence of this finding and scale is."""
        return self.settings.committed()

    def _announcement(self) -> str:
        scale, settings = self.settings.scale, self.settings
        if not registry.measures(settings.finding):
            return f"{settings.finding} at scale {scale.name}: drawn from what the other notebooks measured.\nWrites to {store.shown(self.folder)}."
        missing = [spec for spec in self._specs() if not spec.path.exists() and not zoo.not_applicable(spec)]
        training = sum(pool.estimated_minutes(spec) for spec in missing)
        lines = [f"{settings.finding} at scale {scale.name} on {self.device}: data {scale.dataset}, {settings['seeds']} networks per arm."]
        if settings.overridden:
            lines.append("Turned: " + ", ".join(f"{name}={value}" for name, value in settings.overridden.items()) + ".")
        if not self.can_measure:
            cure = "leave out --from-rows" if os.environ.get(parameters.FROM_ROWS) == "1" else f"`reprolib data fetch {scale.dataset}`"
            lines.append(f"Measured: {self.measured}. Figures and verdicts are made from the committed rows; to measure: {cure}.")
        elif self.only_mine:
            lines.append("Only yours is measured: all others are drawn from the committed rows, and most pictures show yours alone.")
        elif missing:
            lines.append(
                f"To train first: {', '.join(spec.name for spec in missing)}; about {max(1, round(training))} minutes of one core, kept for all findings."
            )
        for network in self.mine:
            classes = "" if network.has_classes else f"; it has {network.n_classes} classes, and is left out where labels matter"
            lines.append(f"Yours, in no verdict: {network.architecture} ({network.sha256[:12]}), {len(network.layer_names)} maps{classes}.")
        if self.can_measure and not self.only_mine:
            lines.append(f"Measuring takes about {settings['minutes']:g} minutes of one core, seconds when measured before.")
        return "\n".join([*lines, f"Writes to {store.shown(self.folder)}."])

    def first_training_images(self, n: int) -> Images:
        """The first n training images, or all: of a procedural set only so many are rendered, which takes longer than measuring them."""
        name = self.settings.scale.dataset
        if name not in shapetexture.WORLDS:
            return self.images("train")
        n = min(n, shapetexture.WORLDS[name][1]["train"])
        return shapetexture.items(shapetexture.world_of(name, "train"), n, name=f"{name}, first {n} of train")

    def committed_rows(self) -> pd.DataFrame:
        """The rows of the run that measured, kept beside its figures; none, and a line, where they are damaged and can be measured again."""
        try:
            return read_rows(self.committed / "rows.csv.gz")
        except CorruptFile as error:
            if not self.can_measure:
                raise
            print(f"{store.reason(error)}: what is measured here replaces them, and nothing is carried over.")
            return pd.DataFrame(columns=list(COLUMNS), dtype=str).astype({"seed": int, "value": float, "reached": bool})

    @property
    def rows(self) -> pd.DataFrame:
        """All rows added so far, as they are stored: checked, sorted, rounded; the committed ones where the images are not here."""
        if self._added:
            before = [] if self._rows is None else [self._rows]
            self._rows = joined([*before, *self._added])
            self._added, self._judged = [], None
        if self._rows is None:
            raise BadInput("there are no rows yet: study.ask(...) or study.add(...) first")
        return self._rows

    def add(self, measured: Any) -> Any:
        """Add rows to those that figures and claims are made from; rows that are there already are replaced. Returns what was given.

        measured: a frame of tidy rows, or anything with such `rows`.
        """
        frame = getattr(measured, "rows", measured)
        if len(frame) and self.can_measure:
            self._added.append(frame[frame["arm"] == MINE] if self.only_mine else frame)
        return measured

    def ask(self, nets: Mapping[str, Sequence[Network]], question: Question, images: Images, claim: str) -> pd.DataFrame:
        """Ask every network a question about images, once: its rows, added to the study's. Where the images are absent, the committed ones.

        question(network, images) -> {quantity: values (n,)}, one value an image. Kept under the network, the images and the question's
        code with all that it calls: asked again only where one of them changed.
        Raises BadInput for values that are not one finite number an image.
        """
        if not self.can_measure:
            return self.rows[self.rows["claim"] == claim]
        frames = []
        for role, network in self.each(nets):

            def compute(network: Network = network) -> dict[str, torch.Tensor]:
                self.report(f"{network.card['name']}: {question.__name__}, {len(images.x)} images")
                with torch.no_grad():
                    return {name: torch.as_tensor(values) for name, values in question(network, images).items()}

            described = {"network": network.sha256, "data": images.sha256, "images": images.name, "n": len(images.x)}
            for quantity, values in store.cache("asked", described, compute, question).items():
                if values.shape != (len(images.x),) or not bool(values.double().isfinite().all()):
                    raise BadInput(
                        f"{question.__name__} gives {quantity!r} of shape {tuple(values.shape)} for {len(images.x)} images: "
                        "one finite number an image is needed"
                    )
                told = {"claim": claim, "quantity": quantity, "unit_2": "", "reached": True}
                units = [str(k) for k in range(len(values))]
                frames.append(pd.DataFrame({**identity(role, network), **told, "unit": units, "value": values.double().numpy()}))
        return self.add(pd.concat(frames, ignore_index=True) if frames else pd.DataFrame())

    def cards(self, nets: Mapping[str, Sequence[Network]]) -> None:
        """Show what is known of each network: accuracies, clean, under attack and under noise of equal norm; and add it to the rows."""
        table = []
        known = set() if self._rows is None and not self._added else set(self.rows.loc[self.rows["claim"] == "networks", "network"])
        for role, networks in nets.items():
            for network in networks:
                if isinstance(network, Own):  # the one number that shows whether it was read as it should be
                    x, y = (one[:N_CHECKED].to(self.device) for one in (self.images("test").x, self.images("test").y))
                    clean = f"{(predictions(network, x / 255) == y).float().mean():.1%} of {len(x)}" if network.has_classes else ""
                    table.append({"role": MINE, "network": network.card["name"], "clean": clean, "sha256": network.sha256[:12]})
                    continue
                if network.sha256[:12] not in known:  # some finding's networks are held against another ball than their card's first
                    self.add(card_rows(role, network))
                card, attack = network.card, network.card["adversarial"][0]
                table.append({
                    "role": style.role(role).label if role in style.ROLES else role, "network": card["name"], "clean": f"{card['clean']['value']:.1%}",
                    f"PGD-{attack['steps']} x {attack['restarts']}, {attack['norm']} {attack['eps']:.3g}": f"{attack['first_value']:.1%}",
                    "noise of that norm": f"{attack['noise']:.1%}", "gradient zero": f"{attack['gradient_zero_share']:.1%}", "sha256": network.sha256[:12],
                })  # fmt: skip
        show_table(pd.DataFrame(table).fillna(""))

    def figure(self, figure: Any, name: str, caption: str, failure: str, drawn: str | Sequence[str]) -> None:
        """Save a figure as png and pdf with its stamp, and show it with its caption.

        figure: None, or no pictures at all, shows the committed one (where images are not here). failure: what a failed claim would look
        like. drawn: the claims whose rows it is drawn from, "<claim> <quantity>" where it is only some of a claim's. What was seen in it
        stands in seen.toml beside the committed figures, bound to these rows by their hash; of other rows nobody has looked at it yet.
        """
        path = self.folder / name
        if not figure:
            kept = [p for p in (self.committed / f"{name}.png", self.committed / f"{name}.pdf") if p.exists()]
            if not kept:
                shown, dataset = store.shown(self.committed / name), self.settings.scale.dataset
                raise MissingData(f"{shown}.png is not there and cannot be drawn without {dataset}: `reprolib data fetch {dataset}`")
            caption += " (Committed picture, without yours.)" if self.only_mine else " (Committed picture: the images are not here.)"
            files = [store.write_bytes(self.folder / p.name, p.read_bytes()) for p in kept]
        else:
            files = style.save(figure, path, self.stamp(name))
            figure.clear()
        rows = self._rows_hash([drawn] if isinstance(drawn, str) else drawn)
        told = read_seen(self.committed).get(name, {})
        seen = told["text"] if told.get("rows") == rows else ""  # a sentence on other rows is none on these
        of = sorted({one.partition(" ")[0] for one in ([drawn] if isinstance(drawn, str) else drawn)} - {"networks"})
        told_of = {"name": name, "files": [p.name for p in files], "caption": caption, "failure": failure, "claims": of}
        entry = {**told_of, "rows": rows, "seen": seen}
        self._figures = [*(one for one in self._figures if one["name"] != name), entry]
        show(
            {"image/png": path.with_suffix(".png").read_bytes(), "text/plain": caption},
            {"reprolib_file": f"{name}.png", "reprolib_caption": caption},
        )
        below = f"A failed claim: {failure}. {seen or f'Not looked at yet at scale {self.settings.scale.name}.'}"
        show({"text/markdown": f"*{escaped(caption)}* {escaped(below)}", "text/plain": f"{caption} {below}"})

    def _rows_hash(self, drawn: Sequence[str]) -> str:
        rows = self.rows
        return rows_hash(rows[rows["claim"].isin(list(drawn)) | (rows["claim"] + " " + rows["quantity"]).isin(list(drawn))])

    def stamp(self, name: str) -> dict[str, Any]:
        """What a figure's file says of itself; `reprolib explain` reads it back."""
        return {
            "finding": self.settings.finding,
            "scale": self.settings.scale.name,
            "parameters": dict(self.settings.overridden),
            "seeds": self.settings["seeds"],
            "tree": provenance.tree_hash(),
            "networks": self._network_names(),
            "figure": name,
        }

    def claim(self, claim_id: str) -> None:
        """Judge one claim by `claims.toml` from the rows added so far, show its verdict, and keep its entry in `verdicts`."""
        entry = claims.judge(claim_id, self._evidence())
        self.verdicts[claim_id] = entry
        show({"text/markdown": claim_line(entry), "text/plain": claim_line(entry)})
        if self.mine:
            print(claims.beside_standard(claim_id, MINE, self._evidence()))

    def finish(self) -> None:
        """Judge every claim, draw the verdicts, write rows.csv.gz and results.json, compare with the committed evidence.

        A notebook without claims of its own writes its rows and figures.
        """
        table, has_claims = self.rows, registry.measures(self.settings.finding)
        judged = claims.judge_finding(self.settings.finding, self._evidence()) if has_claims else []
        gone = [name for figure in self._figures for name in figure["files"] if not (self.folder / name).is_file()]
        if gone:
            raise StorageError(
                f"{store.shown(self.folder)} lost {', '.join(gone)} while the run drew into it: leave it alone, and run again"
            )
        if has_claims:
            draft = {"finding": self.settings.finding, "scale": self.settings.scale.name, "claims": judged}
            caption = "Every claim in units of its smallest effect, to the right as claimed; beside it, the share that each other kind of network explains."
            failure = "its interval crosses the band of what is too small to count"
            self.figure(forest([draft], self._evidence().claims), "verdicts", caption, failure, drawn=[entry["id"] for entry in judged])
        before = read_results(self.committed) if (self.committed / "results.json").is_file() else {}
        is_mine = table["arm"] == MINE
        write_rows(self.folder / "rows.csv.gz", table[~is_mine], is_rounded=True)
        if self.mine:
            store.write_text(self.folder / f"{MINE}.csv", table[is_mine].to_csv(index=False))
        described = self._provenance() if self.can_measure else before.get("provenance", {})  # of the run that measured
        results = {
            "finding": self.settings.finding,
            "scale": self.settings.scale.name,
            "measured": "the reader's own network alone" if self.only_mine else self.measured,
            "claims_sha256": claims_sha256(self.settings.finding),
            "claims": judged,
            "figures": self._figures,
            "provenance": described,
        }
        store.write_json(self.folder / "results.json", results)
        self.verdicts = {entry["id"]: entry for entry in judged}
        where = {"reprolib_folder": str(self.folder)}  # where the runner finds what this run did
        if has_claims:
            show_table(claims.verdict_table(results), where)
        else:
            show(dict.fromkeys(("text/markdown", "text/plain"), f"{len(self._figures)} figures, {len(table)} numbers."), where)
        if before and self.folder != self.committed:
            print("\n".join(comparison_lines(before, results, store.shown(self.committed))))

    def _evidence(self) -> Evidence:
        """The rows so far as evidence, made once: claims share resamples."""
        rows = self.rows
        if self._judged is None:
            self._judged = Evidence(rows, self.settings.scale.name, is_rounded=True)
        return self._judged

    def _network_names(self) -> list[str]:
        if self._added or self._rows is not None:
            return sorted(set(self.rows["network"]) - {"judge", "pca", "pixels", ""})
        return sorted(network.sha256[:12] for network in self._networks.values())

    def _provenance(self) -> dict[str, Any]:
        return {
            "tree": provenance.tree_hash(),
            "commit": provenance.commit(),
            "parameters": {"scale": self.settings.scale.name, **self.settings.overridden},
            "seeds": self.settings["seeds"],
            "threads": torch.get_num_threads(),
            "versions": provenance.versions(),
            "hardware": provenance.hardware(self.device),
            "networks": dict(sorted((self._named | {name: network.sha256 for name, network in self._networks.items()}).items())),
            # What is measured on; training images are named by the networks' cards, and a cached measurement does not load them.
            "data": dict(sorted(self._read.items())),
            "seconds": round(time.monotonic() - self.began, 1),
        }
