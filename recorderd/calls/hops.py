"""Which hop of the signalling a message travelled on, and which transaction it belongs to.

A tap on a host that runs a proxy sees each message of a dialog several times: caller to proxy, proxy to
callee. Call-ID and tags are the same, the session descriptions may differ (a media relay), and each hop is
a conversation of its own. Each hop is a *leg* here, numbered in the order in which they were seen.

Requests find their leg by the pair of addresses, responses by the transaction of their request (RFC 3261
section 17.1.3): a response may come back to another port than the request came from (section 18.2.2).
"""

from dataclasses import dataclass
from typing import Final

from recorderd.calls.identity import MAX_ID, bounded_id
from recorderd.wire.endpoint import Endpoint
from recorderd.wire.sip import SipMessage

MAX_LEGS: Final = 8  #: hops of one call; what comes by further ones counts for the first
MAX_TRANSACTIONS: Final = 48  #: remembered of one call; the oldest go first
MAX_PATHS: Final = 32

COOKIE: Final = "z9hG4bK"  #: how every branch begins that is unique (RFC 3261 section 8.1.1.7)


@dataclass(slots=True, eq=False)
class Transaction:
    """A request and its responses on one leg.

    Attributes:
        branch: of the topmost Via, see `bounded_id`.
        cseq: of the request.
        leg: the hop.
        vias: how many elements an INVITE has gone through; more on the hops behind a proxy.
        toward: where the request went.
        forming: it is an INVITE that forms the dialog, not one within it.
        open: no final response was seen.
        requested: the request itself was seen, not only a response.
        cancelled: a CANCEL for it was seen.
    """

    branch: str
    cseq: int
    leg: int
    vias: int
    toward: Endpoint
    forming: bool
    open: bool = True
    requested: bool = False
    cancelled: bool = False


class Hops:
    """The legs and transactions of one call."""

    __slots__ = ("_paths", "_transactions", "legs", "weight")

    def __init__(self) -> None:
        self.legs = 0
        self.weight = 0
        """Roughly how many bytes this takes."""
        self._paths: dict[tuple[Endpoint, Endpoint], int] = {}
        self._transactions: dict[tuple[str, int, str, str], Transaction] = {}

    def leg(self, source: Endpoint, destination: Endpoint, *, forming: bool = False) -> int:
        """The leg of a request by its pair of addresses; an INVITE that forms the dialog may open another.

        Later requests may bypass the proxies, or come from another port.
        """
        path = _path(source, destination)
        leg = self._paths.get(path)
        if leg is None:
            leg = None if forming else self._by_hosts(path)
            if leg is None:
                leg = self.legs if self.legs < MAX_LEGS else 0
            self._learn(path, leg)
        return leg

    def find(self, message: SipMessage) -> Transaction | None:
        """The transaction of a request that was seen before, or of a response."""
        return self._transactions.get(_key(message, message.request_method))

    def begin(
        self, message: SipMessage, source: Endpoint, destination: Endpoint, *, forming: bool
    ) -> Transaction:
        """Remember a transaction by the first message seen of it, which on a mirror may be a response."""
        vias = _vias(message) if message.request_method == "INVITE" else 0
        toward = destination if message.method is not None else source
        again = self._again(vias, toward) if forming else None
        if again is not None:
            self.learn(again, source, destination)
            leg = again.leg
        else:
            leg = self.leg(source, destination, forming=forming)
        key = _key(message, message.request_method)
        begun = Transaction(key[0], message.cseq, leg, vias, toward, forming)
        self._transactions[key] = begun
        if len(self._transactions) > MAX_TRANSACTIONS:
            del self._transactions[next(iter(self._transactions))]
        self._weigh()
        return begun

    def _again(self, vias: int, toward: Endpoint) -> Transaction | None:
        """An earlier INVITE on the same hop: as far from the caller, to the same place; over TCP the next one
        may come by another connection.
        """
        for known in self._transactions.values():
            if known.forming and known.vias == vias and known.toward == toward:
                return known
        return None

    def learn(self, transaction: Transaction, source: Endpoint, destination: Endpoint) -> None:
        """A message of a known transaction went this way: so did its leg."""
        path = _path(source, destination)
        if path not in self._paths:
            self._learn(path, transaction.leg)

    def forming(self) -> list[Transaction]:
        """The INVITEs that would form the dialog, oldest first."""
        return [known for known in self._transactions.values() if known.forming]

    def decides(self, done: Transaction) -> bool:
        """Whether the end of one such INVITE is the end of the attempt.

        A forking proxy takes a refusal from one branch and waits for the others, so as long as another INVITE
        is waited for on the same stretch of the way, or nearer to the caller, it is not. What is open further
        away does not count: the proxy has already given up.
        """
        return not any(
            known.open and not known.cancelled and known.cseq >= done.cseq and known.vias <= done.vias
            for known in self.forming()
            if known is not done
        )

    def cancelled_by(self, cancel: SipMessage) -> Transaction | None:
        """The INVITE that a CANCEL is for: same branch, same number (RFC 3261 section 9.1)."""
        return self._transactions.get(_key(cancel, "INVITE"))

    def _by_hosts(self, path: tuple[Endpoint, Endpoint]) -> int | None:
        hosts = {path[0].host, path[1].host}
        matching = (leg for known, leg in self._paths.items() if {known[0].host, known[1].host} == hosts)
        return next(matching, None)

    def _learn(self, path: tuple[Endpoint, Endpoint], leg: int) -> None:
        self.legs = max(self.legs, leg + 1)
        if len(self._paths) < MAX_PATHS:
            self._paths[path] = leg
        self._weigh()

    def _weigh(self) -> None:
        self.weight = 500 * len(self._transactions) + 200 * len(self._paths)


def _path(source: Endpoint, destination: Endpoint) -> tuple[Endpoint, Endpoint]:
    return (source, destination) if source <= destination else (destination, source)


def _key(message: SipMessage, method: str) -> tuple[str, int, str, str]:
    """What one transaction has in common, also where the branch is not unique (RFC 2543 had none)."""
    branch, tag = message.branch, message.from_.tag
    if len(branch) > MAX_ID or len(tag) > MAX_ID:
        branch, tag = bounded_id(branch), bounded_id(tag)
    return branch, message.cseq, method, tag


def _vias(message: SipMessage) -> int:
    return sum([value.count(",") + 1 for value in message.all("via")])
