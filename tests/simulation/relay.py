"""The relay: its disk, which outlives it, and its runs."""

from __future__ import annotations

from collab_server.gateway.fence import Fence
from collab_server.room import Reader
from tests.simulation.chat_files import new_log
from tests.simulation.checkers import Checks
from tests.simulation.disk import Disk
from tests.simulation.network import Network, Wire
from tests.simulation.plan import Plan
from tests.simulation.relay_chats import RelayChats, RelayHooks
from tests.simulation.relay_log import LogFile, RelayLog
from tests.simulation.relay_rooms import RelayRooms
from tests.simulation.session import Session
from tests.simulation.world import Life, World


class Relay:
    """What outlives a crash is ``disk``; everything else belongs to one run."""

    def __init__(self, world: World, network: Network, plan: Plan, checks: Checks) -> None:
        self.world = world
        self.plan = plan
        self.checks = checks
        self.network = network
        self.disk: Disk[LogFile] = Disk(world, self.empty_file(), plan.commit)
        self.life = Life()
        self.life.end()
        self.swaps = 0  # how many runs are still to be sent out of their order
        self.is_mended = False
        self.log: RelayLog
        self.rooms: RelayRooms
        self.chats: RelayChats | None = None
        self.hooks: RelayHooks | None = None

    def empty_file(self) -> LogFile:
        """A log in which nothing is."""
        return LogFile(None if self.plan.chat is None else new_log())

    def mend(self) -> None:
        """The application says neither "later" nor "busy" from now on."""
        self.is_mended = True
        if self.hooks is not None:
            self.hooks.is_mild = True

    @property
    def is_up(self) -> bool:
        return self.life.alive

    def start(self) -> None:
        """Come up from what was committed."""
        self.life = life = Life()
        self.disk.restart()
        self.checks.relay_starts(self.disk.state)
        self.fence = Fence()
        self.sessions: dict[int, Session] = {}
        self._session_numbers = 0
        self._woken: set[int] = set()
        log = self.log = RelayLog(
            self.world, self.disk, life, self.checks, bound=self.plan.tail_updates
        )
        self.rooms = RelayRooms(self.world, life, self.plan, log, self.disk)
        self.rooms.wake_readers = self._wake_readers
        self._start_chats()

        def serve() -> None:
            self.world.note("relay is up from offset %d", log.head)
            self.network.accept = self._accept

        log.open(serve)

    def _start_chats(self) -> None:
        plan = self.plan.chat
        if plan is None:
            return
        self.chats = RelayChats(
            self.world, self.disk, self.life, plan, self.log.chat, self.rooms, self.checks.chat
        )
        self.hooks = RelayHooks(self.world, self.life, plan) if plan.hook else None
        if self.is_mended:
            self.mend()

    def crash(self) -> None:
        """Die, with all that was not committed."""
        self.world.note("relay dies; committed %d of %d", self.log.committed, self.log.head)
        self.life.end()
        self.network.accept = None
        for session in self.sessions.values():
            session.wire.relay_dies()

    def _accept(self, wire: Wire) -> None:
        self._session_numbers += 1
        Session(self, wire, self._session_numbers)

    def wake(self, number: int) -> None:
        """Let a session write in the next turn. A set of readers has no order of its own."""
        if not self._woken:
            self.world.after(0.0, self._turn, self.life)
        self._woken.add(number)

    def _turn(self) -> None:
        woken, self._woken = sorted(self._woken), set()
        for number in woken:
            session = self.sessions.get(number)
            if session is not None:
                session.write()

    def _wake_readers(self, readers: list[Reader]) -> None:
        for reader in readers:
            reader.wake()
