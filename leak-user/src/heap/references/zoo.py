"""Many kinds of objects, and what the collector says that they refer to."""
import abc
import array
import ast
import asyncio
import collections
import concurrent.futures
import contextvars
import csv
import ctypes
import datetime
import decimal
import enum
import fractions
import functools
import gc
import io
import itertools
import json
import operator
import os
import pickle
import random
import re
import socket
import sqlite3
import struct
import sys
import threading
import types
import typing
import weakref
import zlib
from dataclasses import dataclass

gc.disable()
zoo = []


def kind(name, *objects):
    for one in objects:
        zoo.append((name, one))


class Plain:
    def __init__(self):
        self.one, self.two = [1], {2: 3}

    def method(self):
        return self


class Slots:
    __slots__ = ("a", "b", "__weakref__")

    def __init__(self):
        self.a, self.b = [1], (2, [])


class MoreSlots(Slots):
    __slots__ = ("c", "__dict__")


class Large:
    def __init__(self, many):
        for n in range(many):
            setattr(self, "field%d" % n, [n])


plain = Plain()
kind("instance", plain)
changed = Plain()
changed.__dict__["three"] = []
del changed.one
kind("instance with a dict", changed)
replaced = Plain()
replaced.__dict__ = {"other": [], 7: []} if False else {"other": []}
kind("instance with another's dict", replaced)
kind("instance of many attributes", Large(20), Large(100), Large(200))
slots = Slots()
kind("slots", slots)
more = MoreSlots()
more.a, more.b, more.c, more.d = [], {}, set(), []
kind("slots and a dict", more)
empty = MoreSlots.__new__(MoreSlots)
kind("empty slots", empty)
kind("empty instance", Plain.__new__(Plain))


class Meta(type):
    pass


class OfMeta(Plain, metaclass=Meta):
    attribute = [1]


kind("class", Plain, Slots, Large)
kind("class of a metaclass", OfMeta, Meta)
kind("abstract class", abc.ABC, collections.abc.Mapping)


class Color(enum.Enum):
    RED = [1]


kind("enumeration", Color, Color.RED)


@dataclass
class Data:
    a: list
    b: dict


kind("dataclass", Data([], {}))
kind("list", [[], {}], [], [None] * 100, list(range(5000)))
kind("tuple", ([], {}), ([],), tuple([[]] * 1000))
kind("dict", {"a": [], "b": {}}, {1: [], (2, 3): {}}, dict.fromkeys(map(str, range(2000)), plain))
gone = {n: [n] for n in range(20)}
for n in range(0, 20, 2):
    del gone[n]
kind("dict with gaps", gone)
mixed = {"text": []}
mixed[1] = {}
kind("dict of mixed keys", mixed)
kind("dict that was an instance's", vars(Plain()), vars(changed))
kind("set", {1, (2, 3)}, set(map(str, range(1000))), set())
less = set(map(str, range(50)))
less.discard("7")
kind("set with gaps", less)
kind("frozenset", frozenset([(1, 2), "x"]), frozenset(map(str, range(100))))
kind("deque", collections.deque([[], {}]), collections.deque(map(str, range(1000))), collections.deque())
turned = collections.deque(map(str, range(200)), maxlen=200)
turned.extend(map(str, range(100)))
kind("deque with a bound", turned)
kind("OrderedDict", collections.OrderedDict(a=[], b={}))
ordered = collections.OrderedDict(a=[])
ordered.attribute = []
kind("OrderedDict with an attribute", ordered)
kind("defaultdict", collections.defaultdict(list, a=[]), collections.defaultdict(lambda: 1))
kind("Counter", collections.Counter("abc"))
kind("ChainMap", collections.ChainMap({}, {"a": []}))
kind("namedtuple", collections.namedtuple("Pair", "a b")([], {}))


class MyDict(dict):
    pass


class MyList(list):
    pass


class MyTuple(tuple):
    pass


class MyStr(str):
    pass


class MyInt(int):
    pass


class MySet(set):
    pass


for made in (MyDict(a=[]), MyList([[]]), MyTuple(([],)), MyStr("text"), MyInt(7), MyInt(2**200), MySet("ab")):
    made.attribute = []
    kind("subclass of " + type(made).__mro__[1].__name__, made)


def closure(x, default=[1], *, keyword={}):
    y = [x]

    def inner():
        return x, y, inner

    return inner


closed = closure([1])
kind("function", closure, closed, lambda: 1)
closed.attribute = []
kind("cell", *closed.__closure__)
kind("bound method", plain.method)
kind("builtin", len, [].append, {}.get)
kind("class method", Plain.__dict__["method"], classmethod(closure), staticmethod(closure))
kind("property", property(closure, None, None, "text"))
kind("member", Slots.a, Plain.__dict__["__dict__"], str.join, str.__add__, int.__dict__["real"])
kind("method wrapper", plain.__str__, [].__add__)
kind("mappingproxy", Plain.__dict__, types.MappingProxyType({"a": []}))
kind("module", json, collections, types.ModuleType("made"))
kind("SimpleNamespace", types.SimpleNamespace(a=[], b={}))


def generate(argument):
    local = [argument]
    other = {}
    for item in [local, other]:
        yield item
    try:
        raise ValueError(local)
    except ValueError as error:
        kept = error
        yield kept


fresh = generate([])
at_work = generate([])
next(at_work)
inside = generate([])
next(inside), next(inside), next(inside)
over = generate([])
list(over)
kind("fresh generator", fresh)
kind("suspended generator", at_work)
kind("generator in an exception", inside)
kind("finished generator", over)
kind("generator expression", (x for x in [[]]))


async def coroutine(argument):
    local = [argument]
    await asyncio.sleep(1, local)


waiting = coroutine([])
kind("coroutine", waiting)


async def agen(x):
    y = [x]
    yield y


kind("asynchronous generator", agen([]))


def fail(argument):
    local = [argument]
    raise KeyError(local)


try:
    try:
        fail([])
    except KeyError as first:
        raise OSError(2, "text", "name") from first
except OSError as error:
    raised = error
kind("exception", raised, raised.__cause__)
kind("traceback", raised.__traceback__, raised.__cause__.__traceback__)
kind("frame", raised.__cause__.__traceback__.tb_next.tb_frame)
kind("other exceptions", StopIteration([]), SystemExit([]), ImportError("x", name="n", path="p"), AttributeError("x"),
     UnicodeDecodeError("utf8", b"x", 0, 1, "why"), SyntaxError("x", ("f", 1, 2, "t")))


class MyError(Exception):
    pass


mine = MyError([])
mine.attribute = []
kind("own exception", mine)
kind("weakref", weakref.ref(plain), weakref.ref(plain, closure), weakref.WeakMethod(plain.method))
kind("weak proxy", weakref.proxy(plain, closure))
kind("weak containers", weakref.WeakValueDictionary(a=plain), weakref.WeakKeyDictionary({plain: []}), weakref.WeakSet([plain]))
kind("partial", functools.partial(closure, [], default={}))


@functools.lru_cache(maxsize=10)
def cached(x):
    return [x]


@functools.lru_cache(maxsize=None)
def all_cached(x, y=1):
    return [x]


[cached(n) for n in range(5)]
[all_cached(n) for n in range(5)]
kind("lru_cache", cached, all_cached)
kind("slice", slice([], {}, ()))
kind("super", super(MyDict, MyDict()))
kind("memoryview", memoryview(bytearray(10)), memoryview(b"text"))
iterated = [[], {}]
kind("iterators", iter(iterated), iter(tuple(iterated)), iter({1: []}), iter({1}), enumerate(iterated), zip(iterated, [1]),
     map(closure, iterated), filter(None, iterated), reversed(iterated), iter(collections.deque([1])))
kind("views", {1: []}.keys(), {1: []}.values(), {1: []}.items())
kind("itertools", itertools.chain(iterated, [1]), itertools.cycle(iterated), itertools.repeat([]), itertools.islice(iterated, 1),
     itertools.count([1] and 1), itertools.product(iterated, [1]), itertools.groupby(iterated, id), itertools.accumulate([1]))
kind("operator", operator.itemgetter(1, 2), operator.attrgetter("a"), operator.methodcaller("a", []))
kind("array", array.array("i", [1]))
kind("datetime", datetime.datetime.now(datetime.timezone.utc))
kind("decimal", decimal.Decimal("1.5"), decimal.getcontext())
kind("fraction", fractions.Fraction(1, 2))
kind("regular expression", re.compile("a(b)"), re.match("a(b)", "ab"))
kind("bytes io", io.BytesIO(b"text"), io.StringIO("text"))
kind("file", open(os.__file__), open(os.__file__, "rb"), open(os.__file__, "rb", 0))
kind("lock", threading.Lock(), threading.RLock(), threading.Event(), threading.Condition())
kind("thread", threading.Thread(target=closure, args=([],)))
local = threading.local()
local.attribute = []
kind("thread local", local)
variable = contextvars.ContextVar("variable", default=[])
context = contextvars.copy_context()
context.run(variable.set, [7])
kind("context variable", variable)
kind("future", concurrent.futures.Future())
loop = asyncio.new_event_loop()
kind("asyncio future", loop.create_future())
task = loop.create_task(coroutine([]))
kind("asyncio task", task)
kind("event loop", loop)
kind("queue", asyncio.Event())
kind("generic alias", typing.List[int], typing.Dict[str, int])
if sys.version_info >= (3, 9):
    kind("generic alias", list[int])
kind("socket", socket.socket())
database = sqlite3.connect(":memory:")
kind("sqlite", database.cursor())
kind("struct", struct.Struct("i"))
kind("random", random.Random(1))
kind("csv", csv.reader([]), csv.DictReader([]))
kind("json", json.JSONDecoder(), json.JSONEncoder())


class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.py_object), ("b", ctypes.c_int)]


kind("syntax tree", ast.parse("a = 1"))
kind("pickler", pickle.Pickler(io.BytesIO()))

# PyType_Type, PyCode_Type
print(id(type), id(type(closure.__code__)))
for name, one in zoo:
    if gc.is_tracked(one) or gc.get_referents(one):
        print("%s: %s" % (name, " ".join(str(id(x)) for x in [one] + gc.get_referents(one))))
print("end")
sys.stdout.flush()
sys.stdin.read()
