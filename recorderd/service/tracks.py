"""What is known of each speaker's track when a recording is over."""

from collections import Counter
from collections.abc import Iterable

from recorderd.calls.events import SIDES
from recorderd.codecs.formats import Format
from recorderd.media.following import take_over
from recorderd.media.lane import Span
from recorderd.media.reception import together
from recorderd.media.sequence import Sequencer
from recorderd.media.streams import StreamTable
from recorderd.quality.review import DISK, Gap, TrackFacts
from recorderd.service.hearing import Hearing
from recorderd.service.session import Session, Stream
from recorderd.service.track import Track, with_pauses
from recorderd.service.unwritten import Unwritten


def tracks_of(session: Session, table: StreamTable, sequencer: Sequencer, hearing: Hearing) -> list[Track]:
    """What is known of each speaker's track, caller and callee first."""
    for stream in session.streams:
        take_over(table, stream.row, stream.lane)
    span = session.span()
    start = span.start_us if span is not None else 0.0
    unwritten = session.unwritten()
    heard: dict[str, list[Stream]] = {}
    for stream in session.streams:
        if not stream.displaced:
            heard.setdefault(stream.label, []).append(stream)
    labels = [*(side for side in SIDES if side in heard), *sorted(heard.keys() - SIDES)]
    return [
        _track(session, label, heard[label], table, sequencer, hearing, start, unwritten) for label in labels
    ]


def _track(
    session: Session,
    label: str,
    mine: list[Stream],
    table: StreamTable,
    sequencer: Sequencer,
    hearing: Hearing,
    start_us: float,
    unwritten: Unwritten,
) -> Track:
    packets = unmeasured = lost = late = duplicates = withheld = undecodable = unsaved = timed = 0
    jitter_us = 0.0
    lacking: list[tuple[Span, str]] = []
    torn: list[tuple[Span, str]] = []
    spans: list[Span] = []
    for stream in mine:
        row, lane = stream.row, stream.lane
        packets += table.packets.item(row)
        timed += table.jitter_packets.item(row)
        jitter_us += table.jitter_sum_us.item(row)
        lost += table.lost.item(row)
        late += table.late.item(row)
        duplicates += table.duplicates.item(row)
        unmeasured += table.unmeasured.item(row) + hearing.unheard(row)
        undecodable += hearing.undecodable(row)
        withheld += session.withheld.get(row, 0)
        if holes := sequencer.holes(row):
            for gap in lane.gaps(holes):
                lacking.append((gap, "capture" if session.losses.overlap(gap) else "network"))
        if unwritten.packets:
            unsaved += unwritten.packets[stream.number]
            torn += [(gap, DISK) for gap in unwritten.gaps(stream.number, lane)]
        if (span := lane.span()) is not None:
            spans.append(span)
    begin = min([span.start_us for span in spans], default=start_us)
    end = max([span.end_us for span in spans], default=begin)
    gaps = _gaps(lacking + torn, start_us)
    facts = TrackFacts(
        label=label,
        packets=packets,
        lost=lost,
        late=late,
        duplicates=duplicates,
        gaps=tuple(with_pauses(gaps, session.pauses, start_us, begin, end)),
        duration_s=round((end - begin) / 1e6, 6),
        figures=hearing.figures(session.meters[label]),
        measured=round(1 - min(packets, unmeasured) / packets, 4) if packets else 1.0,
        withheld=withheld,
        paused_s=session.pauses.total_s(begin, end),
        delivery=together([each.reception.delivery for each in mine if each.reception is not None]),
        undecodable=undecodable,
        unwritten=unsaved,
    )
    return Track(
        label,
        facts,
        _format(mine, table),
        round((begin - start_us) / 1e6, 6),
        _clock_ppm(mine, table),
        round(jitter_us / timed / 1000, 2) if timed else None,
    )


def _gaps(found: list[tuple[Span, str]], start_us: float) -> list[Gap]:
    """Stretches that lack something, and why, in order."""
    found.sort(key=lambda each: each[0].start_us)
    return [
        Gap(
            at_s=round((gap.start_us - start_us) / 1e6, 6),
            length_s=round((gap.end_us - gap.start_us) / 1e6, 6),
            cause=cause,
        )
        for gap, cause in found
    ]


def _clock_ppm(streams: list[Stream], table: StreamTable) -> float | None:
    """By how much the speaker's clock is fast, by the stream that has most packets."""
    return max(streams, key=lambda stream: table.packets.item(stream.row)).lane.clock_ppm


def _format(streams: Iterable[Stream], table: StreamTable) -> Format | None:
    """What most packets were, events apart; None where signalling never said."""
    heard: list[tuple[Format, int]] = []
    for stream in streams:
        types = table.types[stream.row]
        for payload_type in types.nonzero()[0].tolist():
            known = stream.lane.format(payload_type)
            if known is not None and stream.lane.is_audio(payload_type):
                heard.append((known, types.item(payload_type)))
    if len(heard) > 1:
        counts: Counter[Format] = Counter()
        for known, packets in heard:
            counts[known] += packets
        # A listener who describes silence all the time still has a codec to speak with.
        spoken = [known for known, _ in counts.most_common() if known.name != "cn"]
        return spoken[0] if spoken else counts.most_common(1)[0][0]
    return heard[0][0] if heard else None
