# SPDX-License-Identifier: Apache-2.0
"""What may be done with a picture: the strictest of everything that helped to make it."""


def allowed_by_all(*allowed: bool | None) -> bool | None:
    """Whether paid work is allowed: False when one part forbids it, else None when one part does not say."""
    if False in allowed:
        return False
    return None if None in allowed else True


def licence_notices(source: str, licence: str, commercial_use: bool | None) -> tuple[str, ...]:
    """What everything made with a source carries along.

    Args:
        source: what helped to make it, as shown to the artist.
        licence: its licence.
        commercial_use: whether that allows paid work.
    """
    if commercial_use is not False:
        return ()
    return (f"Not for paid work: made with {source}. Its licence: {licence}.",)
