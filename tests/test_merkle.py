"""Merkle trees: the numbers of Certificate Transparency, and each property that makes a proof one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorderd.spool.merkle import (
    EMPTY,
    Frontier,
    Leaves,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)
from tests.standalone import alone

# The reference vectors of the implementations of RFC 6962.
ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
MOST = 40


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(b"entry %d" % number) for number in range(count)]


def by_definition(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word by word."""
    if not hashes:
        return EMPTY
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return node_hash(by_definition(hashes[:k]), by_definition(hashes[k:]))


def test_the_roots_are_those_of_certificate_transparency() -> None:
    hashes = [leaf_hash(bytes.fromhex(entry)) for entry in ENTRIES]
    assert [root(hashes[:size]).hex() for size in range(1, 9)] == ROOTS
    assert EMPTY.hex().startswith("e3b0c44298fc1c14")


def test_a_frontier_has_the_root_of_every_size() -> None:
    frontier, hashes = Frontier(), leaves(MOST * 4)
    for size in range(len(hashes)):
        assert (frontier.size, frontier.root()) == (size, by_definition(hashes[:size]))
        frontier.add(hashes[size])


def test_every_leaf_of_every_tree_is_proved_and_no_other_is() -> None:
    hashes = leaves(MOST)
    for size in range(1, MOST):
        tree = by_definition(hashes[:size])
        for number in range(size):
            path = inclusion_path(number, size, Leaves(hashes[:size]))
            assert verify_inclusion(hashes[number], number, size, path, tree)
            alone.check_inclusion(b"entry %d" % number, number, size, path, tree)
            assert not verify_inclusion(hashes[number], number + 1, size, path, tree)
            assert not verify_inclusion(hashes[MOST - 1], number, size, path, tree)
            assert not verify_inclusion(hashes[number], number, size, [*path, EMPTY], tree)
            assert not verify_inclusion(hashes[number], number, size, path[:-1], tree) or not path


def test_every_tree_is_the_beginning_of_every_larger_one_and_of_no_other() -> None:
    hashes = leaves(MOST)
    roots = [by_definition(hashes[:size]) for size in range(MOST)]
    for old in range(MOST):
        for new in range(old, MOST):
            path = consistency_path(old, new, Leaves(hashes[:new]))
            assert verify_consistency(old, new, roots[old], roots[new], path)
            alone.check_consistency((old, roots[old]), (new, roots[new]), path)
            wrong = leaf_hash(b"another")
            assert not verify_consistency(old, new, wrong, roots[new], path)
            if old:
                assert not verify_consistency(old, new, roots[old], wrong, path)
            assert not verify_consistency(old, new, roots[old], roots[new], [*path, wrong])
            if path:
                assert not verify_consistency(old, new, roots[old], roots[new], path[1:])
                with pytest.raises(alone.Wrong):
                    alone.check_consistency((old, roots[old]), (new, roots[new]), path[1:])


@given(st.integers(1, 300), st.data())
def test_a_changed_proof_proves_nothing(size: int, data: st.DataObject) -> None:
    hashes = leaves(size)
    number = data.draw(st.integers(0, size - 1))
    path = inclusion_path(number, size, Leaves(hashes))
    if path:
        at, bit = data.draw(st.integers(0, len(path) - 1)), data.draw(st.integers(0, 255))
        path[at] = (int.from_bytes(path[at], "big") ^ 1 << bit).to_bytes(32, "big")
        assert not verify_inclusion(hashes[number], number, size, path, root(hashes))


@given(
    st.integers(-3, 1 << 70),
    st.integers(-3, 1 << 70),
    st.lists(st.binary(min_size=32, max_size=32), max_size=80),
)
def test_nonsense_is_refused_and_ends(number: int, size: int, path: list[bytes]) -> None:
    assert not verify_inclusion(EMPTY, number, size, path, leaf_hash(b"x"))
    assert not verify_consistency(number, size, leaf_hash(b"x"), leaf_hash(b"y"), path)


def test_what_is_not_there_cannot_be_proved() -> None:
    for number, size in ((0, 0), (3, 3), (-1, 3)):
        with pytest.raises(ValueError, match="no such leaf"):
            inclusion_path(number, size, Leaves(leaves(3)))
    with pytest.raises(ValueError, match="not larger"):
        consistency_path(3, 2, Leaves(leaves(3)))
