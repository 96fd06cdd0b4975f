/* An extension module with a leak: it copies what it is given, many times, and forgets one copy. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>

char *kept[1 << 20];
size_t used;

__attribute__((noinline)) static char *duplicate(const char *text, size_t length)
{
    char *copy = malloc(length);
    if (copy)
        memcpy(copy, text, length);
    return copy;
}

__attribute__((noinline)) static size_t parse(const char *text, size_t length)
{
    char *copy = duplicate(text, length);
    size_t sum = 0;
    for (size_t i = 0; copy && i < length; i++)
        sum += (unsigned char)copy[i];
    free(copy);
    return sum;
}

__attribute__((noinline)) static size_t remember(const char *text, size_t length)
{
    char *copy = duplicate(text, length);
    if (used < sizeof kept / sizeof *kept)
        kept[used++] = copy;
    return used;
}

static PyObject *handle(PyObject *module, PyObject *args)
{
    const char *text;
    Py_ssize_t length;
    int keep;
    size_t sum = 0;
    if (!PyArg_ParseTuple(args, "y#p", &text, &length, &keep))
        return NULL;
    for (int i = 0; i < 40; i++)
        sum += parse(text, length);
    if (keep)
        sum += remember(text, length);
    return PyLong_FromSize_t(sum);
}

static PyMethodDef methods[] = {{"handle", handle, METH_VARARGS, NULL}, {NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "extension", NULL, -1, methods};

PyMODINIT_FUNC PyInit_extension(void)
{
    return PyModule_Create(&module);
}
