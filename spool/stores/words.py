"""What a remote says, made fit for a line of ours."""

_LONGEST = 200


def words(said: object) -> str:
    """One line of visible characters, at most 200: no control, escape or bidirectional character is left."""
    text = str(said)[: 4 * _LONGEST]
    shown = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
