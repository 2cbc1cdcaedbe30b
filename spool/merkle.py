"""Merkle trees as in RFC 6962 section 2.1 and RFC 9162 section 2.1: roots, proofs that an entry is in a tree,
proofs that one tree is the beginning of another, and how both are checked.

Pure. A tree is known by its size and its root, 32 bytes (SHA-256). Whoever makes a proof gives a function
that knows the hash of any range of leaves; see :class:`Leaves` for the simplest.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

HASH_BYTES = 32
EMPTY = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""

RangeHash = Callable[[int, int], bytes]
"""The Merkle tree hash of the leaves from the first number up to, not including, the second."""

_sha256 = hashlib.sha256


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry."""
    return _sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees side by side."""
    return _sha256(b"\1" + left + right).digest()


def split(size: int) -> int:
    """How many of ``size`` leaves (2 or more) are left of the root: the largest power of two below it."""
    return 1 << (size - 1).bit_length() - 1


def root(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.add(leaf)
    return frontier.root()


class Frontier:
    """A tree that grows by one leaf after another, kept as the roots of its perfect subtrees: as many as its
    size has binary digits that are 1."""

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Append a leaf hash."""
        at = self.size
        self.size += 1
        while at & 1:
            leaf = node_hash(self._roots.pop(), leaf)
            at >>= 1
        self._roots.append(leaf)

    def root(self) -> bytes:
        """The root of what was appended so far."""
        if not self._roots:
            return EMPTY
        result = self._roots[-1]
        for left in reversed(self._roots[:-1]):
            result = node_hash(left, result)
        return result


class Leaves:
    """The leaf hashes of a small tree, as a :data:`RangeHash`."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._leaves = leaves

    def __call__(self, first: int, end: int) -> bytes:
        """The hash of a range."""
        return root(self._leaves[first:end])


def inclusion_path(leaf: int, size: int, hashes: RangeHash) -> list[bytes]:
    """The proof that leaf number ``leaf`` is in the tree of ``size`` leaves (PATH of RFC 6962 section
    2.1.1)."""
    if not 0 <= leaf < size:
        raise ValueError("no such leaf in a tree of this size")
    path = []
    first, end = 0, size
    while end - first > 1:
        middle = first + split(end - first)
        if leaf < middle:
            path.append(hashes(middle, end))
            end = middle
        else:
            path.append(hashes(first, middle))
            first = middle
    path.reverse()
    return path


def verify_inclusion(leaf: bytes, number: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether ``path`` proves that the leaf hash is number ``number`` of the tree (RFC 9162 section
    2.1.3.2)."""
    if not 0 <= number < size:
        return False
    at, last = number, size - 1
    result = leaf
    for sibling in path:
        if not last:
            return False
        if at & 1 or at == last:
            result = node_hash(sibling, result)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and result == root


def consistency_path(old: int, new: int, hashes: RangeHash) -> list[bytes]:
    """The proof that the tree of ``old`` leaves is how that of ``new`` ones began (PROOF of RFC 6962 section
    2.1.2); empty where there is nothing to prove."""
    if not 0 <= old <= new:
        raise ValueError("the old tree is not larger than the new one")
    if old in (0, new):
        return []
    path = []
    first, end, whole = 0, new, True
    while old != end:
        middle = first + split(end - first)
        if old <= middle:
            path.append(hashes(middle, end))
            end = middle
        else:
            path.append(hashes(first, middle))
            first, whole = middle, False
    if not whole:
        path.append(hashes(first, end))
    path.reverse()
    return path


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether ``path`` proves that the old tree is how the new one began (RFC 9162 section 2.1.4.2)."""
    if old > new or old < 0:
        return False
    if old == 0:
        return not path and old_root == EMPTY
    if old == new:
        return not path and old_root == new_root
    rest = list(path)
    if old & (old - 1) == 0:
        rest.insert(0, old_root)
    if not rest:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    was = now = rest[0]
    for sibling in rest[1:]:
        if not last:
            return False
        if at & 1 or at == last:
            was, now = node_hash(sibling, was), node_hash(sibling, now)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            now = node_hash(now, sibling)
        at, last = at >> 1, last >> 1
    return last == 0 and was == old_root and now == new_root
