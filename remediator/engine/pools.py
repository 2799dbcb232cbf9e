"""Threads by kind of work: what is slow of one kind keeps no other kind waiting."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Pools:
    """A bounded pool for each kind, made when it is first needed; first come, first served."""

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._lock = threading.Lock()
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def submit(self, kind: str, act: Callable[[], None]) -> None:
        """Have *act* called by a thread of *kind* once one is free."""
        with self._lock:
            pool = self._pools.get(kind)
            if pool is None:
                pool = ThreadPoolExecutor(self._size, thread_name_prefix=f"{self._name} {kind}")
                self._pools[kind] = pool
        pool.submit(act)

    def shut_down(self) -> None:
        """Take nothing more; what is being done comes to its end."""
        with self._lock:
            for pool in self._pools.values():
                pool.shutdown(wait=False)
