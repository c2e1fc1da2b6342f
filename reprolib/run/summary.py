"""What results.json says, in lines for a person: verdicts, whether they were measured here, how two runs differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_COLUMN = 48  # a longer verdict does not push every other line's reason to the right


def verdict_lines(results: Mapping[str, Any]) -> list[str]:
    """One line a claim (id, verdict, reason), then whether the numbers were measured in this run or come from committed rows."""
    claims = results["claims"]
    wide_id = max((len(claim["id"]) for claim in claims), default=0)
    wide_verdict = max((len(claim["verdict"]) for claim in claims if len(claim["verdict"]) <= MAX_COLUMN), default=0)
    lines = [f"{claim['id']:{wide_id}}  {claim['verdict']:{wide_verdict}}  {claim.get('reason') or ''}".rstrip() for claim in claims]
    return [*lines, f"measured: {results.get('measured', 'yes')}"]


def differences(committed: Mapping[str, Any], made: Mapping[str, Any]) -> list[str]:
    """One sentence for each claim whose verdict is not the same in both."""
    before, after = ({claim["id"]: claim["verdict"] for claim in results["claims"]} for results in (committed, made))
    ids = [*before, *(claim for claim in after if claim not in before)]
    return [
        f"{claim}: {after.get(claim, 'absent')} here, {before.get(claim, 'absent')} in the committed results"
        for claim in ids
        if before.get(claim) != after.get(claim)
    ]
