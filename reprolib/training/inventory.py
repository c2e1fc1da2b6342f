"""What a stage's folder holds and what it lacks: a summary read off the files, true whenever it is written."""

from __future__ import annotations

from typing import Any

from reprolib import provenance, store
from reprolib.training import budget, pool, zoo
from reprolib.training.budget import Call
from reprolib.training.specs import Spec, shown


def summarise(call: Call, seconds: float | None = None) -> dict[str, Any]:
    """What is there and what is missing, read off the folder; written to summary.json. seconds: of the whole call, once it has ended."""
    away = budget.absent(budget.missing(call.staged))
    networks = [_entry(call, spec, away) for scale in call.staged for spec in pool.specs(scale)]
    states = [network["state"] for network in networks]
    where = shown(call.folder)
    again = f"make gpu-stage MINUTES={budget.minutes_for_more(call):g} STAGE={where}" + (f" JOBS={call.jobs}" if call.jobs > 1 else "")
    is_done = set(states) <= {"there", "not applicable"}
    told = {
        "minutes": call.minutes,
        "seconds": None if seconds is None else round(seconds, 1),
        "jobs": call.jobs,
        "hardware": provenance.hardware(call.device),
        "counts": {state: states.count(state) for state in dict.fromkeys(states)},
        "networks": networks,
        "waiting_for": away,
        "next": "nothing is missing" if is_done else again,
        "bring_home": f"cp -rn {where}/zoo/. {shown(store.root() / 'data' / 'zoo')}/",
    }
    store.write_json(call.folder / "summary.json", told)
    return told


def lines(told: dict[str, Any]) -> list[str]:
    """A summary in a few lines: how many networks of each state, those that are neither there nor untouched, the next command."""
    counts = ", ".join(f"{n} {state}" for state, n in told["counts"].items())
    trained = sum(network.get("trained_here", False) for network in told["networks"])
    said = [f"{counts}; {trained} trained in this folder, on {told['hardware'].get('gpu') or told['hardware']['capability']}"]
    for network in told["networks"]:
        if "error" in network:
            said.append(f"{network['network']} of {network['scale']} {network['state']}: {network['error']}")
        elif network["state"] == "interrupted":
            said.append(f"{network['network']} of {network['scale']} interrupted after epoch {network['epochs_done']}/{network['epochs']}")
    return [*said, f"next: {told['next']}", f"to bring the networks home: {told['bring_home']}"]


def _entry(call: Call, spec: Spec, away: dict[str, str]) -> dict[str, Any]:
    """One network's entry in the summary."""
    record = call.record(spec)
    told: dict[str, Any] = {"network": spec.name, "scale": spec.scale, "state": "missing"}
    if card := zoo.card_of(spec) if spec.path.exists() else None:
        told |= {
            "state": "there",
            "trained_here": bool(record.get("finished")),
            "clean": card["clean"]["value"],
            "adversarial": card["adversarial"][0]["value"],
            "file": str(spec.path.relative_to(call.folder)),
            "hardware": card["hardware"],
        }
    elif zoo.not_applicable(spec):
        told["state"] = "not applicable"
    elif done := budget.epochs_done(spec):
        told |= {"state": "interrupted", "epochs_done": done, "epochs": spec.schedule.epochs}
    elif record.get("error"):
        told["state"] = "failed"
    elif spec.dataset in away:
        told["state"] = f"waiting for {spec.dataset}"
    return told | {name: record[name] for name in ("seconds", "calls", "measured", "error") if record.get(name)}
