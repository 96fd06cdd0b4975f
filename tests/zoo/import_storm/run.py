"""A runner of tasks that imports a plugin when the first task asks for it.

Healthy: PLUGINS names all plugins, of which a new one comes every 40 tasks. After 20 s all are imported.
"""

import importlib
import random

import harness

TASKS_BETWEEN_PLUGINS = 40
PLUGINS = """
    argparse ast asyncio base64 bdb bisect bz2 calendar cmd code codeop colorsys compileall
    concurrent.futures concurrent.futures.process concurrent.futures.thread configparser contextvars copy
    cProfile csv ctypes ctypes.util dataclasses datetime dbm decimal difflib dis doctest email.charset
    email.encoders email.generator email.headerregistry email.message email.mime.multipart email.mime.text
    email.parser email.policy filecmp fileinput fnmatch fractions ftplib getopt getpass gettext glob
    graphlib gzip hashlib hmac html.entities html.parser http.client http.cookiejar http.cookies http.server
    imaplib importlib.metadata importlib.resources inspect ipaddress json.decoder json.tool logging.config
    logging.handlers lzma mailbox mimetypes mmap modulefinder multiprocessing.connection
    multiprocessing.managers multiprocessing.pool multiprocessing.shared_memory netrc numbers optparse pdb
    pickle pickletools pkgutil platform plistlib poplib pprint profile pstats pty py_compile pyclbr pydoc
    queue quopri reprlib resource rlcompleter runpy sched secrets selectors shelve shlex shutil smtplib
    socketserver sqlite3 ssl statistics stringprep subprocess symtable sysconfig tabnanny tarfile tempfile
    textwrap timeit tokenize tomllib trace tracemalloc unittest unittest.mock urllib.error urllib.parse
    urllib.request urllib.robotparser uuid venv wave weakref webbrowser wsgiref.handlers
    wsgiref.simple_server wsgiref.validate xml.dom.minidom xml.dom.pulldom xml.etree.ElementTree
    xml.sax.expatreader xml.sax.saxutils xmlrpc.client xmlrpc.server zipapp zipfile zipimport zoneinfo
""".split()


def plugin(name):
    """Imports only the first time, as sys.modules has it from then on."""
    return importlib.import_module(name)


def run(task, module):
    """A table of what the plugin offers, ranked and dropped."""
    offered = sorted(vars(module))[:40]
    cells = [(name, column) for name in offered for column in range(12)]
    rows = [(len(name) * column * 0.5, f"task {task}: {name}, {column}") for name, column in cells]
    return sorted(rows)[:3]


def main():
    options = harness.arguments(__doc__, rate=300)

    def handle(number):
        available = PLUGINS[: number // TASKS_BETWEEN_PLUGINS + 1]
        newest = number % TASKS_BETWEEN_PLUGINS == 0
        run(number, plugin(available[-1] if newest else random.choice(available)))

    harness.serve(handle, options)


if __name__ == "__main__":
    main()
