"""Plug-ins found by entry point: verifiers, retrievers, policy modules, toolsets and seams.

One registry per group of entry points. Nothing is imported before it is asked for; a plug-in that
cannot be used is an error about that one, by name, and never takes the rest away.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from fmos.errors import DriverError, FmosError, MissingExtraError, NotFoundError
from fmos.settings import DriverSettings
from fmos.types import Operation, Principal

#: What a plug-in says it was written for, as `fmos_api`; raised when a protocol here changes.
API_VERSION = 1

#: So many runs of one plug-in may be overdue at once; further ones are refused.
_OVERDUE = 4

_OWN_DISTRIBUTION = "fmos"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a source that a retriever found, and where it comes from.

    `digest` is the SHA-256 of the whole source in hex: the passage can be checked against it.
    """

    text: str
    source: str
    digest: str
    score: float = 0.0


@runtime_checkable
class Retriever(Protocol):
    """Finds passages for a question; it only reads."""

    name: str

    def search(self, query: str, k: int, principal: Principal) -> Sequence[Passage]:
        """Return at most `k` passages, best first, each with its source and digest."""
        ...


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What a policy module is told about a call beside the operation itself; times in UTC."""

    capability: str
    effect: str
    paths: tuple[str, ...]
    recipients: tuple[str, ...]
    labels: tuple[str, ...]
    now_ns: int


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a call is denied, or needs a person's consent; there is no way to allow one."""

    decision: Literal["deny", "ask"]
    message: str
    code: str = "objection"


@runtime_checkable
class PolicyModule(Protocol):
    """Judges calls that contract and policies would let by."""

    name: str

    def judge(self, operation: Operation, facts: CallFacts) -> Sequence[Objection]:
        """Return what is against the call: nothing, denials, or wishes for consent."""
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """One kind of plug-in.

    Args:
        name: The group of entry points.
        what: The kind in a message, such as `verifier`.
        own: Those of this distribution, which need no entry point: a checkout has none.
        versioned: Whether a plug-in says as `fmos_api` which driver API it was written for.
        open: Whether everything that is installed may be used, without a permission of the home.
        extras: Which of our extras one of our own needs, where it is not called as the plug-in.
    """

    name: str
    what: str
    own: Mapping[str, str]
    versioned: bool = True
    open: bool = False
    extras: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Offer:
    """One plug-in as it is installed; `target` is `module:attribute`."""

    name: str
    target: str
    distribution: str = _OWN_DISTRIBUTION

    @property
    def is_own(self) -> bool:
        """Whether it comes with this distribution."""
        return self.distribution.partition(" ")[0] == _OWN_DISTRIBUTION


VERIFIERS = Group(
    "fmos.verifiers",
    "verifier",
    {
        "arithmetic": "fmos.verify.arithmetic:ArithmeticVerifier",
        "units": "fmos.verify.units:UnitsVerifier",
        "json": "fmos.verify.json_text:JsonVerifier",
        "sql": "fmos.verify.sql:SqlVerifier",
        "citations": "fmos.verify.citations:CitationVerifier",
    },
    extras={"units": "verifiers", "sql": "verifiers", "json": "verifiers"},
)
RETRIEVERS = Group("fmos.retrievers", "retriever", {"files": "fmos.plugins.files:FileRetriever"})
POLICIES = Group(
    "fmos.policies",
    "policy module",
    {"working-hours": "fmos.plugins.working_hours:WorkingHours"},
)


class Drivers:
    """The plug-ins of one group, as the settings of a home allow them. Thread-safe."""

    def __init__(
        self,
        group: Group,
        settings: DriverSettings | None = None,
        *,
        installed: Callable[[str], Iterable[Offer]] | None = None,
    ) -> None:
        self.group = group
        self.settings = settings or DriverSettings()
        self._installed = installed or installed_offers
        self._offers: dict[str, list[Offer]] | None = None
        self._lock = threading.Lock()
        self._overdue: dict[str, list[threading.Thread]] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of all that are installed and allowed, usable or not; ours first."""
        return tuple(name for name, offers in self._known().items() if self._allows(offers))

    def offers(self) -> tuple[Offer, ...]:
        """Return everything that is installed, allowed or not."""
        return tuple(offer for offers in self._known().values() for offer in offers)

    def load(self, name: str) -> Any:
        """Import one plug-in and return what its entry point names.

        Raises:
            NotFoundError: if none of that name is installed.
            MissingExtraError: if it is ours and what it needs is not installed.
            DriverError: if it is not allowed, comes from two distributions, cannot be imported, or
                was written for another driver API.
        """
        offer = self._chosen(name)
        try:
            module, _, attribute = offer.target.partition(":")
            loaded: Any = import_module(module)
            for part in filter(None, attribute.split(".")):
                loaded = getattr(loaded, part)
        except FmosError:
            raise
        except ImportError as error:
            if offer.is_own:
                extra = self.group.extras.get(name, name)
                raise MissingExtraError(
                    f"the {self.group.what} {name!r} cannot be loaded: {error}",
                    hint=f'pip install "fmos[{extra}]"',
                ) from error
            raise self._broken(offer, error) from error
        except (Exception, SystemExit) as error:  # whatever a stranger does when imported
            raise self._broken(offer, error) from error
        self._require_version(offer, loaded)
        return loaded

    def make(self, name: str, *arguments: Any) -> Any:
        """Import one plug-in and call it with `arguments`; return what it makes.

        Raises:
            NotFoundError, MissingExtraError, DriverError: as `load` does.
        """
        factory = self.load(name)
        try:
            return factory(*arguments)
        except FmosError:
            raise
        except (Exception, SystemExit) as error:  # a stranger's constructor
            raise self._broken(self._chosen(name), error) from error

    def usable(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Return what can be loaded by name, and for each of the rest why it cannot."""
        found: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for name in self.names():
            try:
                found[name] = self.load(name)
            except FmosError as error:
                problems[name] = str(error)
        return found, problems

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Run a plug-in's work, and wait for it no longer than the settings say.

        What is overdue cannot be stopped, only left alone; once a few runs of one plug-in are, it
        is not run again before one of them has ended.

        Raises:
            DriverError: if it takes too long or fails, with its name and distribution.
        """
        with self._lock:
            late = [thread for thread in self._overdue.get(name, ()) if thread.is_alive()]
            self._overdue[name] = late
        if len(late) >= _OVERDUE:
            raise DriverError(
                f"the {self.group.what} {name!r} is not run: {len(late)} runs of it have not ended",
                hint="restart the process, and mend or leave out the plug-in",
            )
        running = _Running(work, f"{self.group.what} {name}")
        try:
            return running.wait(self.settings.timeout_s)
        except TimeoutError as error:
            with self._lock:
                self._overdue[name].append(running.thread)
            raise DriverError(
                f"the {self.group.what} {name!r} took longer than {self.settings.timeout_s:g} s",
                hint="raise `[drivers] timeout_s` in fmos.toml, or leave it out",
            ) from error
        except FmosError:
            raise
        except Exception as error:  # whatever a plug-in raises
            raise DriverError(
                f"the {self.group.what} {name!r} failed: {type(error).__name__}: {error}"
            ) from error

    def _known(self) -> dict[str, list[Offer]]:
        with self._lock:
            if self._offers is None:
                own = [Offer(name, target) for name, target in self.group.own.items()]
                found: dict[str, list[Offer]] = {}
                for offer in dict.fromkeys([*own, *self._installed(self.group.name)]):
                    same = found.setdefault(offer.name, [])
                    if not any(_is_same(offer, other) for other in same):
                        same.append(offer)
                self._offers = found
            return self._offers

    def _allows(self, offers: Sequence[Offer]) -> bool:
        return self.group.open or any(
            offer.is_own or any(fnmatchcase(offer.name, glob) for glob in self.settings.allowed)
            for offer in offers
        )

    def _chosen(self, name: str) -> Offer:
        what = self.group.what
        offers = self._known().get(name)
        if not offers:
            listed = ", ".join(self.names()) or "none"
            raise NotFoundError(f"there is no {what} {name!r}", hint=f"there is {listed}")
        if len(offers) > 1:
            both = " and ".join(repr(offer.distribution) for offer in offers)
            raise DriverError(
                f"the {what} {name!r} comes from {both}, and one of them must be meant",
                hint="uninstall all but one",
            )
        if not self._allows(offers):
            raise DriverError(
                f"the {what} {name!r} of {offers[0].distribution!r} is not allowed in this home",
                hint=f"add {name!r} to `allowed` in the table [drivers] of fmos.toml",
            )
        return offers[0]

    def _broken(self, offer: Offer, error: BaseException) -> DriverError:
        said = f"{type(error).__name__}: {error}"
        return DriverError(
            f"the {self.group.what} {offer.name!r} of {offer.distribution!r} cannot be loaded:"
            f" {said if len(said) <= 300 else said[:297] + '...'}",
            hint="mend it, or uninstall it",
        )

    def _require_version(self, offer: Offer, loaded: Any) -> None:
        if not self.group.versioned or offer.is_own:
            return
        said = getattr(loaded, "fmos_api", None)
        if said == API_VERSION:
            return
        wrong = "does not say for which driver API" if said is None else f"is for driver API {said}"
        raise DriverError(
            f"the {self.group.what} {offer.name!r} of {offer.distribution!r} {wrong}"
            f"{' it was written' if said is None else ''}, and this is {API_VERSION}",
            hint=f"give it `fmos_api = {API_VERSION}`" if said is None else "install a fitting one",
        )


def installed_offers(group: str) -> Iterator[Offer]:
    """Yield what the installed distributions offer in a group of entry points."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - reads every distribution

    for point in entry_points(group=group):
        distribution = point.dist
        if distribution is None or distribution.name == _OWN_DISTRIBUTION:
            yield Offer(point.name, point.value)
        else:
            whose = f"{distribution.name} {distribution.version}"
            yield Offer(point.name, point.value, whose)


class _Running:
    """Work on a thread of its own, in the context of whoever asked for it."""

    def __init__(self, work: Callable[[], Any], name: str) -> None:
        self._work = work
        self._done = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        context = contextvars.copy_context()
        self.thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"fmos {name}", daemon=True
        )

    def wait(self, seconds: float) -> Any:
        """Start, and return the result.

        Raises:
            TimeoutError: if it has not ended in time; it goes on.
        """
        self.thread.start()
        if not self._done.wait(seconds):
            raise TimeoutError
        if isinstance(self._error, Exception):
            raise self._error
        if self._error is not None:  # it tried to end the process
            raise RuntimeError(f"{type(self._error).__name__}: {self._error}")
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()


def _is_same(offer: Offer, other: Offer) -> bool:
    """Return whether two offers are one: a distribution may be found twice on the path."""
    return (offer.is_own and other.is_own) or offer == other
