"""A zoo of stacks: each of its threads stands still, every one in a stack of another kind.

Says `ready` and then, as JSON, each thread's stack as the interpreter itself sees it. For every line on its
standard input each thread that can maps memory in its innermost frame, keeps it, and stands still again in
the same place; then it says `mapped`. Ends with its input. Arguments: kinds to leave out.
"""

import asyncio
import contextlib
import functools
import importlib
import itertools
import json
import linecache
import mmap
import os
import re
import sys
import tempfile
import threading
import time
import traceback

try:
    import ctypes
except ImportError:  # where it was built without libffi
    ctypes = None

SIZE = 256 * 1024
DEPTH = 200
EPOLL_WAIT, EPOLL_PWAIT = 232, 281

folder = tempfile.mkdtemp()


class Spot:
    """Where one thread stands: it arrives, waits until it is told, maps memory and keeps it.

    All three are C code, and every innermost frame calls them on one line; so what is true of a thread that
    has arrived is true of it while it waits and while it maps.
    """

    def __init__(self, kind, maps=True):
        self.kind, self.maps = kind, maps
        here, gate, kept = threading.Lock(), threading.Lock(), []
        here.acquire()
        gate.acquire()
        self.arrive, self.await_arrival = here.release, here.acquire
        self.wait, self.go = gate.acquire, gate.release
        self.map = functools.partial(
            mmap.mmap, -1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        self.keep = kept.append
        self.tid = None


KINDS = []

codes = []


def kind(function):
    KINDS.append(function)
    return function


def stay(spot):
    spot.keep((spot.arrive(), spot.wait(), spot.map()))


@kind
def plain(spot):
    stay(spot)


@kind
def innermost_in_a_branch(spot):
    for number in range(3):
        if number == 1:
            try:
                raise ValueError(number)
            except ValueError:
                spot.keep((spot.arrive(), spot.wait(), spot.map()))
            finally:
                number += 1


@kind
def a_call_over_many_lines(spot):
    stay(
        functools.reduce(
            lambda one, other: one,
            [
                spot,
                spot,
            ],
        ),
    )


@kind
def recursion(spot, depth=DEPTH):
    if depth:
        return recursion(spot, depth - 1)
    return stay(spot)


@kind
def recursion_through_c(spot, depth=30):
    if depth:
        return sorted([depth - 1], key=functools.partial(recursion_through_c, spot))
    return stay(spot)


def numbers(spot):
    yield 1
    spot.keep((spot.arrive(), spot.wait(), spot.map()))
    yield 2


def all_numbers(spot):
    yield 0
    yield from numbers(spot)


@kind
def generator(spot):
    for _ in numbers(spot):
        pass


@kind
def generator_that_delegates(spot):
    list(all_numbers(spot))


@kind
def generator_expression(spot):
    sum(1 for one in (another for another in [spot]) if not stay(one))


@kind
def innermost_in_a_generator_expression(spot):
    any(spot.keep((spot.arrive(), spot.wait(), spot.map())) for _ in "1")


@kind
def list_comprehension(spot):
    [spot.keep((spot.arrive(), spot.wait(), spot.map())) for _ in "1"]


@kind
def dict_comprehension(spot):
    {
        key: stay(value)
        for key, value in {"spot": spot}.items()
    }


@kind
def innermost_in_a_lambda(spot):
    (lambda: spot.keep((spot.arrive(), spot.wait(), spot.map())))()


@kind
def called_by_map(spot):
    list(map(lambda one: stay(one), [spot]))


@kind
def called_by_sorted(spot):
    sorted([1], key=lambda _: stay(spot))


@kind
def called_by_partial(spot):
    functools.partial(functools.partial(stay), spot)()


@kind
def called_by_ctypes(spot):
    ctypes.CFUNCTYPE(None)(lambda: stay(spot))()


@kind
def called_by_re(spot):
    re.sub("b", lambda match: stay(spot) or "x", "abc")


@kind
def called_by_groupby(spot):
    for _, _ in itertools.groupby([1], lambda _: stay(spot)):
        pass


class Outer:
    class Inner:
        def __init__(self, spot):
            self.spot = spot

        def method(self):
            def closure():
                stay(self.spot)

            return closure()

        @property
        def value(self):
            return self.method()

        @classmethod
        def of_class(cls, spot):
            return cls(spot).value

        @staticmethod
        def of_nothing(spot):
            return Outer.Inner.of_class(spot)

        def __lt__(self, other):
            return self.value

        def __getattr__(self, name):
            return stay(self.spot)

        def __del__(self):
            if "last" in vars(self):
                stay(self.spot)


@kind
def methods_of_a_nested_class(spot):
    Outer.Inner.of_nothing(spot)


@kind
def special_method(spot):
    sorted([1, Outer.Inner(spot)])


@kind
def missing_attribute(spot):
    return Outer.Inner(spot).missing


@kind
def finalizer(spot):
    inner = Outer.Inner(spot)
    inner.last = True
    del inner


@kind
def class_body(spot):
    class Body:
        stay(spot)


def decorated(function):
    @functools.wraps(function)
    def wrapper(*arguments, **keywords):
        return function(*arguments, **keywords)

    return wrapper


@kind
@decorated
@decorated
def decorators(spot):
    stay(spot)


@kind
def cached_function(spot):
    functools.lru_cache(maxsize=None)(lambda one: stay(one))(spot)


@functools.singledispatch
def dispatched(spot):
    stay(spot)


@kind
def single_dispatch(spot):
    dispatched(spot)


@contextlib.contextmanager
def context(spot):
    stay(spot)
    yield


@kind
def context_manager(spot):
    with context(spot), contextlib.suppress(KeyError):
        pass


@functools.lru_cache(maxsize=None)
def compiled(source, file, mode):
    """Kept: of code that is gone by the time that its frames are looked up, nothing can be said."""
    return compile(source, file, mode)


@kind
def executed_code(spot):
    source = "def made(spot):\n\n    stay(spot)\n\nmade(spot)"
    exec(compiled(source, "<string>", "exec"), {"stay": stay, "spot": spot})


@kind
def evaluated_code(spot):
    eval(compiled("(lambda: stay(spot))()", "<made up>", "eval"), {"stay": stay, "spot": spot})


@kind
def a_file_whose_name_is_not_ascii(spot):
    path = os.path.join(folder, "büro_蛇_🐍.py")
    source = "def größe(жук):\n    stay(жук)\n\n\ngröße(spot)\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(source)
    exec(compiled(source, path, "exec"), {"stay": stay, "spot": spot})


@kind
def a_long_function(spot):
    """Lines and bytecode so far in that every table needs its wide forms."""
    lines = ["def long(spot):", " x = 0"]
    lines += [f" x = x + {n} if x else {n}" for n in range(3000)]
    lines += [" " + "\n" * 500 + " stay(spot)", "long(spot)"]
    exec(compiled("\n".join(lines), "<long>", "exec"), {"stay": stay, "spot": spot})


@kind
def import_of_a_module(spot):
    name = f"imported_{spot.tid}"
    with open(os.path.join(folder, name + ".py"), "w") as file:
        # Keeps its code, as `compiled` does.
        file.write("import __main__, sys\n__main__.codes.append(sys._getframe().f_code)\n")
        file.write("__main__.stay(__main__.importing)\n")
    global importing
    importing = spot
    sys.modules.pop(name, None)
    importlib.invalidate_caches()
    importlib.import_module(name)


async def stay_in_coroutine(spot):
    spot.keep((spot.arrive(), spot.wait(), spot.map()))


async def awaits(spot, depth):
    if depth:
        await awaits(spot, depth - 1)
    else:
        await stay_in_coroutine(spot)


@kind
def coroutine(spot):
    asyncio.run(awaits(spot, 3))


@kind
def task_of_a_loop(spot):
    async def main():
        await asyncio.gather(asyncio.sleep(0), awaits(spot, 1))

    asyncio.run(main())


async def tick(spot):
    yield 1
    stay(spot)
    yield 2


@kind
def asynchronous_generator(spot):
    async def main():
        async for _ in tick(spot):
            pass
        [_ async for _ in tick(spot)]

    asyncio.run(main())


@kind
def callback_of_a_loop(spot):
    loop = asyncio.new_event_loop()
    loop.call_soon(stay, spot)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()


def loop_that_waits(spot):
    """A coroutine that waits is on no stack: only its loop is."""

    async def main():
        await asyncio.get_running_loop().create_future()

    asyncio.run(main())


def event_that_never_comes(spot):
    threading.Event().wait()


def greenlets(spot):
    import greenlet

    def inner(one):
        stay(one)

    def outer(one):
        greenlet.greenlet(inner).switch(one)

    greenlet.greenlet(outer).switch(spot)


def gevent_pool(spot):
    import gevent.pool

    pool = gevent.pool.Pool(2)
    pool.spawn(stay, spot)
    pool.join()


def installed(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def live(spot, function):
    spot.tid = threading.get_native_id()
    try:
        while True:
            function(spot)
    except BaseException:
        # One kind less would be waited for in vain.
        traceback.print_exc()
        os._exit(1)


def frames(frame):
    """What the interpreter itself says, from the innermost frame outwards."""
    stack = []
    while frame is not None:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        stack.append({"function": name, "file": code.co_filename, "line": frame.f_lineno})
        frame = frame.f_back
    return stack


def in_system_call(thread, numbers):
    with open(f"/proc/self/task/{thread.native_id}/syscall") as file:
        return file.read().split()[0] in map(str, numbers)


def waits_in_line(thread, text):
    """Has the thread come to a line with this text, in its innermost frame?"""
    frame = sys._current_frames().get(thread.ident)
    return frame is not None and text in linecache.getline(
        frame.f_code.co_filename, frame.f_lineno
    )


def until(condition, *arguments):
    while not condition(*arguments):
        time.sleep(0.001)


def tell(threads):
    """Says each thread's stack; of the main thread, that of the caller."""
    current = sys._current_frames()
    told = [{"kind": "main", "tid": os.getpid(), "maps": False, "stack": frames(sys._getframe(1))}]
    for spot, thread in threads:
        stack = frames(current[thread.ident])
        told.append({"kind": spot.kind, "tid": thread.native_id, "maps": spot.maps, "stack": stack})
    print("ready", json.dumps({"threads": told}), flush=True)


def main():
    sys.path.insert(0, folder)
    # musl's threads have little room of themselves.
    threading.stack_size(8 << 20)
    functions = [(function, True) for function in KINDS if ctypes or function is not called_by_ctypes]
    functions += [(loop_that_waits, False), (event_that_never_comes, False)]
    functions += [(greenlets, True)] if installed("greenlet") else []
    functions += [(gevent_pool, True)] if installed("gevent") else []
    functions = [pair for pair in functions if pair[0].__name__ not in sys.argv[1:]]
    threads = []
    for function, maps in functions:
        spot = Spot(function.__name__, maps)
        thread = threading.Thread(target=live, args=(spot, function), daemon=True)
        thread.start()
        if maps:
            spot.await_arrival()
        elif function is loop_that_waits:
            until(in_system_call, thread, [EPOLL_WAIT, EPOLL_PWAIT])
        else:
            until(waits_in_line, thread, "waiter.acquire()")
        threads.append((spot, thread))
    # On one line, so that what is told of this frame stays true.
    line = (tell(threads), sys.stdin.readline())[1]
    while line:
        for spot, _ in threads:
            if spot.maps:
                spot.go()
                spot.await_arrival()
        print("mapped", flush=True)
        line = sys.stdin.readline()
    # The threads stand still for ever, some in the midst of what an orderly end would wait for.
    os._exit(0)


if __name__ == "__main__":
    main()
