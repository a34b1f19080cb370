"""Random numbers in forked workers: they differ from worker to worker, unless the import sets a seed.

Without this all forked workers would draw the same numbers, those that the zygote would have drawn
next. So each worker seeds the global generators again. If the import has set a seed, each worker starts
from the state that the import left, like a worker that is started by exec.

The state of a generator does not show whether a seed was set, because drawing changes it too. So the
functions that set a seed are watched while the application is imported.
"""

import random
import sys
import weakref
from typing import Any, Callable, Optional

from keelback.origins import Recorder

_STATES_MAX = 64


class _Global:
    """One module's global generator. `seeded`: the application decided what it draws next."""

    def __init__(self) -> None:
        self.module: Any = None
        self.seeded = False
        self._states: list[
            tuple[Any, bool]
        ] = []  # that get_state gave away, and `seeded` at that time

    def watch(self, recorder: Recorder, module: Any, seeds: str, gets: str, sets: str) -> None:
        self.module = module
        recorder.patch_function(module, seeds, self._seed)
        recorder.patch_function(module, gets, self._get)
        recorder.patch_function(module, sets, self._set)

    def _seed(self, seed: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        answer = seed(*args, **kwargs)
        self.seeded = _first(args, kwargs) is not None
        return answer

    def _get(self, get: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        state = get(*args, **kwargs)
        self._states = [(state, self.seeded), *self._states[: _STATES_MAX - 1]]
        return state

    def _set(self, set: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        answer = set(*args, **kwargs)
        state = _first(args, kwargs)
        # Code that seeds for a while gives back what it found.
        self.seeded = next((seeded for known, seeded in self._states if known is state), True)
        return answer


class Seeds:
    """Made before the application is imported."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._random, self._numpy, self._torch = _Global(), _Global(), _Global()
        self._state: Any = None  # that the import left in `random`, if it seeded it
        # The application's own generators that were given a seed.
        self._given: weakref.WeakSet[random.Random] = weakref.WeakSet()
        recorder.after("random", self._watch_random)
        recorder.after("numpy.random.mtrand", self._watch_numpy)
        recorder.after("torch.random", self._watch_torch)

    def _watch_random(self, module: Any) -> None:
        self._random.watch(self._recorder, module, "seed", "getstate", "setstate")
        self._recorder.patch(module.Random, "seed", self._seed_of_its_own)

    def _watch_numpy(self, module: Any) -> None:
        self._numpy.watch(self._recorder, module, "seed", "get_state", "set_state")

    def _watch_torch(self, module: Any) -> None:
        self._torch.watch(self._recorder, module, "manual_seed", "get_rng_state", "set_rng_state")

    def _seed_of_its_own(self, seed: Any, generator: Any, /, *args: Any, **kwargs: Any) -> Any:
        if _first(args, kwargs) is not None:
            self._given.add(generator)
        else:
            self._given.discard(generator)
        return seed(generator, *args, **kwargs)

    def finish(self) -> None:
        """After the import."""
        if self._random.seeded:
            self._state = random.getstate()

    def unseeded(self, generators: list[Any]) -> list[Any]:
        """Those of the application's own generators that nobody is known to have given a seed."""
        return [
            thing for thing in generators if thing not in self._given and not _numpy_seeded(thing)
        ]

    def in_worker(self) -> None:
        """In a forked worker, before any user code."""
        if self._state is not None:
            random.setstate(self._state)  # the module seeds itself anew in every fork
        numpy_random = sys.modules.get("numpy.random")
        if numpy_random is not None and not self._numpy.seeded:
            numpy_random.seed()
        generator = getattr(sys.modules.get("torch"), "default_generator", None)
        if generator is not None and not self._torch.seeded:
            generator.seed()


def _numpy_seeded(generator: Any) -> bool:
    """True if this generator of NumPy's says that it has a seed that somebody wrote down."""
    bits = getattr(generator, "bit_generator", None) or getattr(generator, "_bit_generator", None)
    sequence = getattr(bits, "seed_seq", bits)  # a RandomState with a seed has none
    entropy = getattr(sequence, "entropy", 0)
    return (
        bits is not None
        and sequence is not bits
        and not (isinstance(entropy, int) and entropy >= 1 << 64)
    )


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Optional[Any]:
    return args[0] if args else next(iter(kwargs.values()), None)
