"""What is known of each speaker's track when a recording is over."""

from collections import Counter
from collections.abc import Iterable

from recorderd.calls.events import SIDES
from recorderd.codecs.formats import Format
from recorderd.media.following import take_over
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
    start = session.start_us() or 0.0
    unwritten = session.unwritten()
    heard = [stream for stream in session.streams if not stream.displaced]
    tracks = []
    labels = {stream.label for stream in heard}
    for label in [*SIDES, *sorted(labels.difference(SIDES))]:
        mine = [stream for stream in heard if stream.label == label]
        if mine:
            tracks.append(_track(session, label, mine, table, sequencer, hearing, start, unwritten))
    return tracks


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
    rows = [stream.row for stream in mine]
    lacking = [gap for stream in mine for gap in stream.lane.gaps(sequencer.holes(stream.row))]
    found = [(gap, "capture" if session.losses.overlap(gap) else "network") for gap in lacking]
    found += [(gap, DISK) for stream in mine for gap in unwritten.gaps(stream.number, stream.lane)]
    gaps = [
        Gap(
            at_s=round((gap.start_us - start_us) / 1e6, 6),
            length_s=round((gap.end_us - gap.start_us) / 1e6, 6),
            cause=cause,
        )
        for gap, cause in sorted(found, key=lambda each: each[0].start_us)
    ]
    spans = [span for stream in mine if (span := stream.lane.span())]
    begin = min([span.start_us for span in spans], default=start_us)
    end = max([span.end_us for span in spans], default=begin)
    counted = (table.packets, table.unmeasured, table.lost, table.late, table.duplicates)
    packets, unmeasured, lost, late, duplicates = (
        sum([column.item(row) for row in rows]) for column in counted
    )
    unmeasured = min(packets, unmeasured + sum(map(hearing.unheard, rows)))
    gaps = with_pauses(gaps, session.pauses, start_us, begin, end)
    facts = TrackFacts(
        label=label,
        packets=packets,
        lost=lost,
        late=late,
        duplicates=duplicates,
        gaps=tuple(gaps),
        duration_s=round((end - begin) / 1e6, 6),
        figures=hearing.figures(session.meters[label]),
        measured=round(1 - unmeasured / packets, 4) if packets else 1.0,
        withheld=sum(session.withheld.get(row, 0) for row in rows),
        paused_s=session.pauses.total_s(begin, end),
        delivery=together(s.reception.delivery for s in mine if s.reception is not None),
        undecodable=sum(map(hearing.undecodable, rows)),
        unwritten=sum(unwritten.packets[stream.number] for stream in mine),
    )
    return Track(
        label,
        facts,
        _format(mine, table),
        round((begin - start_us) / 1e6, 6),
        _clock_ppm(mine, table),
        _jitter_ms(rows, table),
    )


def _jitter_ms(rows: list[int], table: StreamTable) -> float | None:
    """The mean jitter of the packets of some streams."""
    packets = sum([table.jitter_packets.item(row) for row in rows])
    total = sum([table.jitter_sum_us.item(row) for row in rows])
    return round(total / packets / 1000, 2) if packets else None


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
