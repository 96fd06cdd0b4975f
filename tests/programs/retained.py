"""Keeps objects alive in many ways, each of a class of its own, and says by which chain."""
import asyncio
import collections
import contextvars
import functools
import gc
import json
import logging
import sys
import threading
import types
import weakref

COUNT = 30
#: Class name -> the words of the chain that a programmer would point at, keys as `*`.
truth = {}
#: Class name -> a word that a cycle among its unreachable objects has.
cycles = {}


def kept(name, *chain):
    """A class whose objects will be kept so."""
    made = type(name, (), {"__module__": "app", "__slots__": ("v", "__weakref__", "__dict__")})
    truth[name] = list(chain) + ["app." + name]
    return made


app = types.ModuleType("app")
sys.modules["app"] = app

# A global dict, and one within an object.
InDict = kept("InDict", "module app", "app.cache", "dict[*]")
app.cache = {"user-%d" % n: InDict() for n in range(COUNT)}


class Service:
    __module__ = "app"
    registry = []

    def __init__(self):
        self.sessions = {}


InAttribute = kept("InAttribute", "module app", "app.service", "Service.sessions", "dict[*]")
app.service = Service()
app.service.sessions = {n: InAttribute() for n in range(COUNT)}

# A class's attribute.
InClass = kept("InClass", "class app.Service", "list[*]")
truth["InClass"][0:1] = ["class app.Service", "app.Service.registry"]
Service.registry.extend(InClass() for n in range(COUNT))

# What an instance with slots has.


class Node:
    __slots__ = ("item", "next")
    __module__ = "app"

    def __init__(self, item, after):
        self.item, self.next = item, after


InSlot = kept("InSlot", "module app", "app.node", "Node.item", "list[*]")
app.node = Node([InSlot() for n in range(COUNT)], None)

# The results of a bounded and of an unbounded lru_cache.
InLruCache = kept("InLruCache", "module app", "app.lookup", "lru_cache lookup: cached result for *")
InCache = kept("InCache", "module app", "app.lookup_all", "lru_cache lookup_all: cached result for *")


def lookup(n):
    return InLruCache()


def lookup_all(n):
    return InCache()


app.lookup = functools.lru_cache(maxsize=100)(lookup)
app.lookup_all = functools.lru_cache(maxsize=None)(lookup_all)
for n in range(COUNT):
    app.lookup(n), app.lookup_all(n)
del lookup, lookup_all

# A closure's variable.
InClosure = kept("InClosure", "module app", "app.hook", "function make.<locals>.hook: closure variable seen", "list[*]")


def make():
    seen = [InClosure() for n in range(COUNT)]

    def hook():
        return seen

    return hook


app.hook = make()

# A default argument.
InDefault = kept("InDefault", "module app", "app.collect", "function collect.__defaults__", "tuple[*]", "list[*]")


def collect(item, seen=[]):
    seen.append(item)


app.collect = collect
for n in range(COUNT):
    collect(InDefault())
del collect

# A bound method among callbacks.
InMethod = kept("InMethod", "module app", "app.callbacks", "list[*]", "method Owner.on_event.__self__", "Owner.data", "list[*]")


class Owner:
    __module__ = "app"

    def __init__(self):
        self.data = [InMethod() for n in range(COUNT)]

    def on_event(self):
        pass


app.callbacks = [Owner().on_event]

# Suspended generators, and a coroutine that waits.
InGenerator = kept("InGenerator", "module app", "app.streams", "list[*]", "generator stream: local batch", "list[*]")


def stream():
    batch = [InGenerator() for n in range(COUNT)]
    yield 1
    yield batch


app.streams = [stream()]
next(app.streams[0])
del stream

InCoroutine = kept("InCoroutine", "module app", "app.waiting", "list[*]", "coroutine worker: local inbox", "list[*]")


class Never:
    def __await__(self):
        yield


async def worker():
    inbox = [InCoroutine() for n in range(COUNT)]
    await Never()
    del inbox


app.waiting = [worker()]
app.waiting[0].send(None)
del worker

# An asyncio task that never ends.
InTask = kept("InTask", "module app", "app.tasks", "set: an element", "Task*", "coroutine poll: local backlog", "list[*]")


async def poll():
    backlog = [InTask() for n in range(COUNT)]
    await asyncio.get_running_loop().create_future()
    del backlog


async def start():
    task = asyncio.get_running_loop().create_task(poll())
    await asyncio.sleep(0)
    return task


app.loop = asyncio.new_event_loop()
app.tasks = {app.loop.run_until_complete(start())}
del start, poll

# An exception kept with its traceback.
InTraceback = kept("InTraceback", "module app", "app.errors", "list[*]", "*Error.__traceback__", "traceback.tb_next",
                   "traceback.tb_frame", "frame of fail: local payload", "list[*]")


def fail():
    payload = [InTraceback() for n in range(COUNT)]
    raise ValueError(len(payload))


app.errors = []
try:
    fail()
except ValueError as error:
    app.errors.append(error)
del fail

# A weakref's callback.
InWeakCallback = kept("InWeakCallback", "module app", "app.watchers", "list[*]", "*.__callback__",
                      "function watch.<locals>.gone: closure variable log", "list[*]")


class Watched:
    pass


def watch(one):
    log = [InWeakCallback() for n in range(COUNT)]

    def gone(_):
        log.append(1)

    return weakref.ref(one, gone)


app.watched = Watched()
app.watchers = [watch(app.watched)]
del watch

# A logging handler, a deque, a set, a partial.
InHandler = kept("InHandler", "module logging", "logging._handlers", "*", "*", "*")
truth["InHandler"] = None
app.logger = logging.getLogger("app")
InLogging = kept("InLogging", "module app", "app.logger", "Logger.handlers", "list[*]", "Buffer.records", "list[*]")


class Buffer(logging.Handler):
    def __init__(self):
        logging.Handler.__init__(self)
        self.records = [InLogging() for n in range(COUNT)]


app.logger.addHandler(Buffer())
del truth["InHandler"]

InDeque = kept("InDeque", "module app", "app.queue", "deque[*]")
app.queue = collections.deque(InDeque() for n in range(200))
InSet = kept("InSet", "module app", "app.live", "set: an element")
app.live = {InSet() for n in range(COUNT)}
InPartial = kept("InPartial", "module app", "app.later", "partial.keywords", "dict[*]", "list[*]")
app.later = functools.partial(print, what=[InPartial() for n in range(COUNT)])

# A thread's local variables, and what only that thread has.
InThread = kept("InThread", "thread *", "serve: local requests", "list[*]")
InThreadLocal = kept("InThreadLocal", "module app", "app.local", "*", "dict[*]", "dict[*]", "list[*]")
app.local = threading.local()
ready, stop = threading.Event(), threading.Event()


def serve():
    requests = [InThread() for n in range(COUNT)]
    app.local.items = [InThreadLocal() for n in range(COUNT)]
    ready.set()
    stop.wait()
    del requests


threading.Thread(target=serve, daemon=True).start()
ready.wait()

# A context variable.
InContext = kept("InContext", "module app", "app.context", "*", "*", "*")
truth["InContext"] = ["module app", "app.context", "…", "app.InContext"]
request = contextvars.ContextVar("request")
app.context = contextvars.copy_context()
app.context.run(request.set, [InContext() for n in range(COUNT)])

# Cycles that nothing holds: the collector is off.
gc.collect()
gc.disable()
InCycle = kept("InCycle")
del truth["InCycle"]
cycles["InCycle"] = "InCycle.other"
for n in range(COUNT):
    one, two = InCycle(), InCycle()
    one.other, two.other = two, one
Hooked = kept("Hooked")
del truth["Hooked"]
cycles["Hooked"] = "function hook_up.<locals>.hook: closure variable target"


def hook_up():
    target = Hooked()

    def hook():
        return target

    target.hook = hook


for n in range(COUNT):
    hook_up()
one = two = error = n = task = None

print("ready", json.dumps({"truth": truth, "cycles": cycles}))
sys.stdout.flush()
sys.stdin.read()
