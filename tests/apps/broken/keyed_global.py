"""State of a session, kept in a global under the session's id: it outlives the session."""

import keelback

_counts = {}


@keelback.function
def count():
    session = keelback.session().id
    _counts[session] = _counts.get(session, 0) + 1
    return _counts[session]
