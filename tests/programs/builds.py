"""Compiles native code for a program, into a directory that is gone once the code is loaded."""

import ctypes
import importlib.util
import os
import subprocess
import sysconfig
import tempfile

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "native")


def build(source, command):
    """Runs a compiler; the caller removes what it made."""
    folder = tempfile.mkdtemp(prefix="native-")
    name = os.path.splitext(source)[0]
    path = os.path.join(folder, name + ".so")
    subprocess.run([*command, os.path.join(SOURCES, source), "-o", path], check=True)
    return path


def remove(path):
    os.unlink(path)
    os.rmdir(os.path.dirname(path))


def extension(source):
    """A module of C code."""
    include = sysconfig.get_paths()["include"]
    path = build(source, ["cc", "-g", "-O2", "-fPIC", "-shared", "-I" + include])
    name = os.path.splitext(source)[0]
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    remove(path)
    return module


def load(source, command):
    """A library."""
    path = build(source, command)
    loaded = ctypes.CDLL(path)
    remove(path)
    return loaded


def library(source, command):
    """A library with a function `handle(number, keep)`."""
    loaded = load(source, command)
    loaded.handle.restype = ctypes.c_size_t
    loaded.handle.argtypes = [ctypes.c_size_t, ctypes.c_int]
    return loaded
