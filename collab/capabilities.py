"""What works in which state of the connection: one table, asked by programs and shown in README.

A feature is a row of data, so a module that brings one adds its row to ``FEATURES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from collab.protocol.connection_table import State

__all__ = ["FEATURES", "Availability", "Capability", "Feature", "capabilities", "markdown"]


class Availability(StrEnum):
    """How much of a feature there is."""

    AVAILABLE = "available"  # all of it
    QUEUED = "queued"  # what is done is kept on this device's disk, and done at the relay later
    CACHED = "cached"  # what is on this device already
    UNAVAILABLE = "unavailable"  # nothing; asking for it does not queue it


@dataclass(frozen=True, slots=True)
class Capability:
    """How a feature is now, and ``why``: a sentence for people."""

    availability: Availability
    why: str


@dataclass(frozen=True, slots=True)
class Feature:
    """One row: a feature while rooms catch up (``syncing``), ``live``, and in every other state.

    ``alone`` is for a client without a relay. Each ``why`` ends without a full stop; in the other
    states the state's own sentence follows it.
    """

    name: str
    live: Capability
    syncing: Capability
    away: Capability
    alone: Capability


_A, _Q, _C, _U = Availability

FEATURES: Final[tuple[Feature, ...]] = (
    Feature(
        "documents",
        live=Capability(_A, "edits are saved on this device and go up as they are made"),
        syncing=Capability(_A, "edits are saved on this device and go up once their room is open"),
        away=Capability(_Q, "edits are saved on this device and go up later"),
        alone=Capability(_A, "edits are saved on this device; no relay is configured"),
    ),
    Feature(
        "others' edits",
        live=Capability(_A, "they come as they are made"),
        syncing=Capability(_C, "what came so far is here, and the rest is on its way"),
        away=Capability(_C, "what came so far is here"),
        alone=Capability(_U, "no relay is configured"),
    ),
    Feature(
        "messages",
        live=Capability(_A, "they are saved on this device and go up at once, in order"),
        syncing=Capability(_A, "they are saved on this device and go up once their room is open"),
        away=Capability(_Q, "they are saved on this device and go up later, once and in order"),
        alone=Capability(_Q, "they are saved on this device; no relay is configured"),
    ),
    Feature(
        "history",
        live=Capability(_A, "what is not on this device is fetched"),
        syncing=Capability(_C, "what is on this device is here, and what was missed is on its way"),
        away=Capability(_C, "what is on this device is here; gaps are shown, and filled later"),
        alone=Capability(_C, "what was written on this device is here; no relay is configured"),
    ),
    Feature(
        "receipts",
        live=Capability(_A, "others see how far you are, and you see how far they are"),
        syncing=Capability(_A, "they come and go, in rooms that are open"),
        away=Capability(_Q, "how far you read is saved on this device and told later"),
        alone=Capability(_C, "how far you read is saved on this device; no relay is configured"),
    ),
    Feature(
        "membership",
        live=Capability(_A, "members and their roles are listed and can be changed"),
        syncing=Capability(_A, "members are listed and can be changed, in rooms that are open"),
        away=Capability(_C, "who was a member is here; changes need a connection"),
        alone=Capability(_U, "no relay is configured"),
    ),
    Feature(
        "broadcasts",
        live=Capability(_A, "they reach whoever is here now"),
        syncing=Capability(_A, "they reach whoever is here now, in rooms that are open"),
        away=Capability(_U, "they need a connection and are never queued"),
        alone=Capability(_U, "no relay is configured"),
    ),
    Feature(
        "calls to services",
        live=Capability(_A, "the relay's services answer: captions, recognition, moderation"),
        syncing=Capability(_A, "the relay's services answer, in rooms that are open"),
        away=Capability(_U, "they need a connection and are never queued"),
        alone=Capability(_U, "no relay is configured"),
    ),
    Feature(
        "presence",
        live=Capability(_A, "others see you and you see them"),
        syncing=Capability(_A, "others see you and you see them, in rooms that are open"),
        away=Capability(_U, "nobody is seen; what you set is announced when rooms are open again"),
        alone=Capability(_U, "no relay is configured"),
    ),
    Feature(
        "undo",
        live=Capability(_A, "it needs no network"),
        syncing=Capability(_A, "it needs no network"),
        away=Capability(_A, "it needs no network"),
        alone=Capability(_A, "it needs no network"),
    ),
    Feature("files", *[Capability(_U, "collab carries none; send where they are to be had")] * 4),
    Feature("audio and video", *[Capability(_U, "collab carries none")] * 4),
)

_AWAY: Final[Mapping[State, str]] = {
    State.OFFLINE: "the relay cannot be reached",
    State.CONNECTING: "the connection is being made",
    State.PROBING: "the connection is being looked into",
    State.CAPTIVE: "somebody else answers for the relay; log in to the network",
    State.SUSPENDED: "the program suspended the connection",
    State.FAILED: "the relay ended the connection for good; client.connection says why",
}


def capabilities(
    state: State | None, features: tuple[Feature, ...] = FEATURES
) -> dict[str, Capability]:
    """Every feature as it is in ``state``; None: no relay is configured."""
    return {feature.name: _in(feature, state) for feature in features}


def _in(feature: Feature, state: State | None) -> Capability:
    match state:
        case None:
            return feature.alone
        case State.LIVE:
            return feature.live
        case State.SYNCING:
            return feature.syncing
        case _ if feature.away == feature.live:
            return feature.away  # the connection has no part in it
        case _:
            return Capability(feature.away.availability, f"{feature.away.why}: {_AWAY[state]}")


def markdown(features: tuple[Feature, ...] = FEATURES) -> str:
    """The table as README shows it: a row a feature, a column for each kind of state."""
    away = ", ".join(f"`{state}`" for state in _AWAY)
    lines = [
        f"| | `{State.LIVE}` | `{State.SYNCING}` | {away} | without a relay |",
        "| --- | --- | --- | --- | --- |",
    ]
    for feature in features:
        cells = (feature.live, feature.syncing, feature.away, feature.alone)
        said = " | ".join(f"**{cell.availability}**: {cell.why}" for cell in cells)
        lines.append(f"| {feature.name} | {said} |")
    return "\n".join(lines)
