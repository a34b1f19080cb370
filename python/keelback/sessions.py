"""The sessions of a worker: their state stays in this process until the supervisor ends them."""

from typing import Any, Optional


class Session:
    """What `keelback.session()` gives. `state` is the application's own; it lives as long as the session
    stays on this worker, and beyond it if snapshots are taken. `epoch` is 1 when the session opens and grows with
    each restore or move."""

    __slots__ = ("id", "birth", "epoch", "state", "opened", "given")

    def __init__(self, id: str, birth: int, epoch: int) -> None:
        self.id = id
        self.birth = birth
        self.epoch = epoch
        self.state: dict[Any, Any] = {}
        self.opened = False  # the open hooks have run, or its state is restored
        self.given: Optional[tuple[int, bytes]] = None  # the snapshot that it is still to be restored from

    def __repr__(self) -> str:
        return f"<keelback session {self.id!r} {self.birth:016x}.{self.epoch}>"


class SessionNotHere(Exception):
    """The supervisor sent a call of a session that this worker does not hold; no user code ran."""


SessionNotHere.__module__ = "keelback"


class SessionTable:
    """Bounded by the supervisor: it opens and ends sessions, this table follows."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, id: bytes, birth: int, epoch: int) -> Session:
        """The session, in exactly this epoch. Raises SessionNotHere: never a silently new state."""
        session = self._sessions.get(id)
        if session is None:
            raise SessionNotHere(f"session {id.decode(errors='replace')!r} is not open on this worker")
        if session.birth != birth or session.epoch != epoch:
            raise SessionNotHere(
                f"session {session.id!r} is {session.birth:016x}.{session.epoch} here, not {birth:016x}.{epoch}")
        return session

    def get(self, id: bytes) -> "Session | None":
        return self._sessions.get(id)

    def open(self, id: bytes, birth: int, epoch: int) -> Session:
        """A new session with an empty state; it takes the place of one with the same id."""
        session = self._sessions[id] = Session(id.decode(), birth, epoch)
        return session

    def admit(self, id: bytes, birth: int, epoch: int,
              given: Optional[tuple[int, bytes]]) -> "tuple[Session, Optional[Session]]":
        """The session of a call that opens it, or restores it from `given`; and the open one that was in
        its place, whose end hooks are still to run."""
        session = stale = self._sessions.get(id)
        if session is None or session.opened or (session.birth, session.epoch) != (birth, epoch):
            session = self.open(id, birth, epoch)
        else:
            stale = None
        session.given = given
        return session, stale if stale is not None and stale.opened else None

    def drop(self, id: bytes) -> None:
        self._sessions.pop(id, None)

    def ids(self) -> "list[bytes]":
        return list(self._sessions)
