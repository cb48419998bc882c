/* The kernel as a Python type: Model(buffer), which answers lists of texts with the interpreter's lock let go. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

enum { CHUNK_TOKENS = 192, CHUNK_TEXTS = 64 }; /* texts computed together: enough to share weights, few enough to stay in cache */

/* Memory for one call at a time; kept and handed to the next. */
typedef struct scratch {
    struct scratch *next;
    void *block;        /* the workspace, and behind it what the tokenizer works in */
    size_t size;
    int32_t ids[1];     /* CHUNK_TOKENS, and room for one text more */
} scratch;

typedef struct {
    PyObject_HEAD
    Py_buffer file;
    mk_model model;
    scratch *spare;
} Model;

static const char *fault(int code)
{
    switch (code) {
    case MK_NO_MODEL: return "it is no kernel file";
    case MK_NEWER: return "it was written by a newer minikin";
    case MK_TRUNCATED: return "it is cut off or has something behind it";
    case MK_CHANGED: return "its checksum differs";
    default: return "its sections do not fit each other";
    }
}

static PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *source;
    Model *self;
    int code;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "O", &source))
        return NULL;
    self = (Model *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self)
        return NULL;
    if (PyObject_GetBuffer(source, &self->file, PyBUF_SIMPLE) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    code = mk_open(&self->model, self->file.buf, (size_t)self->file.len);
    if (code != MK_OK) {
        PyErr_SetString(code == MK_NEWER ? PyExc_NotImplementedError : PyExc_ValueError, fault(code));
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void model_dealloc(PyObject *object)
{
    Model *self = (Model *)object;
    PyTypeObject *type = Py_TYPE(object);
    while (self->spare) {
        scratch *next = self->spare->next;
        free(self->spare->block);
        free(self->spare);
        self->spare = next;
    }
    if (self->file.obj)
        PyBuffer_Release(&self->file);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static scratch *borrow(Model *self)
{
    scratch *s = self->spare;
    if (s) {
        self->spare = s->next;
        return s;
    }
    s = calloc(1, sizeof *s + sizeof(int32_t) * (CHUNK_TOKENS + (size_t)mk_ids_room(&self->model)));
    if (!s)
        PyErr_NoMemory();
    return s;
}

static void give_back(Model *self, scratch *s)
{
    if (s) {
        s->next = self->spare;
        self->spare = s;
    }
}

/* At least so many bytes at an address divisible by 64. */
static void *room(scratch *s, size_t size)
{
    if (s->size < size) {
        free(s->block);
        s->block = malloc(size + MK_ALIGN);
        s->size = s->block ? size : 0;
        if (!s->block) {
            PyErr_NoMemory();
            return NULL;
        }
    }
    return (void *)(((uintptr_t)s->block + MK_ALIGN - 1) / MK_ALIGN * MK_ALIGN);
}

/* The UTF-8 of a str, lone surrogates read as U+FFFD; *made is a reference to drop, or NULL. */
static const char *utf8_of(PyObject *text, Py_ssize_t *size, PyObject **made)
{
    const char *bytes;
    char *halves;
    PyObject *encoded;
    int little_endian = -1;
    *made = NULL;
    if (!PyUnicode_Check(text)) {
        PyErr_SetString(PyExc_TypeError, "a text must be a str");
        return NULL;
    }
    bytes = PyUnicode_AsUTF8AndSize(text, size);
    if (bytes)
        return bytes;
    PyErr_Clear();
    encoded = PyUnicode_AsEncodedString(text, "utf-16-le", "surrogatepass");
    if (encoded && PyBytes_AsStringAndSize(encoded, &halves, size) == 0)
        *made = PyUnicode_DecodeUTF16(halves, *size, "replace", &little_endian);
    Py_XDECREF(encoded);
    return *made ? PyUnicode_AsUTF8AndSize(*made, size) : NULL;
}

/* Read one item, a str or a tuple of two, into ids. */
static int read_item(Model *self, scratch *s, PyObject *item, int32_t *ids, mk_text *text)
{
    PyObject *first = item, *second = NULL, *made_first = NULL, *made_second = NULL;
    Py_ssize_t size = 0, second_size = 0;
    const char *bytes, *second_bytes = NULL;
    size_t work_size;
    void *work = NULL;
    int done = 0;
    if (self->model.pair) {
        if (!PyTuple_Check(item) || PyTuple_Size(item) != 2) {
            PyErr_SetString(PyExc_TypeError, "a pair must be a tuple of two str");
            return 0;
        }
        first = PyTuple_GetItem(item, 0);
        second = PyTuple_GetItem(item, 1);
    }
    bytes = utf8_of(first, &size, &made_first);
    if (bytes && second)
        second_bytes = utf8_of(second, &second_size, &made_second);
    if (bytes && (!second || second_bytes)) {
        work_size = mk_tokenizer_work(&self->model.tokenizer, (size_t)(size > second_size ? size : second_size));
        if (work_size == 0 || (work = room(s, work_size)) != NULL) {
            *text = mk_read(&self->model, bytes, (size_t)size, second_bytes, (size_t)second_size, ids, work, work_size);
            done = 1;
        }
    }
    Py_XDECREF(made_first);
    Py_XDECREF(made_second);
    return done;
}

static int floats_of(PyObject *source, Py_buffer *view, Py_ssize_t rows, Py_ssize_t width)
{
    if (PyObject_GetBuffer(source, view, PyBUF_WRITABLE) < 0)
        return 0;
    if (view->len == rows * width * (Py_ssize_t)sizeof(float) && ((uintptr_t)view->buf & 3) == 0)
        return 1;
    PyBuffer_Release(view);
    PyErr_SetString(PyExc_ValueError, "the buffer does not have the size of the answers");
    return 0;
}

/* answer(texts, probabilities, pooled or None) -> bytes, 1 for each text that was cut off */
static PyObject *model_answer(PyObject *object, PyObject *args)
{
    Model *self = (Model *)object;
    const mk_model *m = &self->model;
    PyObject *texts, *out, *pooled_out, *cut = NULL;
    Py_buffer probabilities, pooled;
    Py_ssize_t count, done = 0;
    scratch *s;
    char *flags;
    int fine = 1, wants_pooled;
    if (!PyArg_ParseTuple(args, "O!OO", &PyList_Type, &texts, &out, &pooled_out))
        return NULL;
    count = PyList_Size(texts);
    wants_pooled = pooled_out != Py_None;
    if (!floats_of(out, &probabilities, count, m->classes))
        return NULL;
    if (wants_pooled && !floats_of(pooled_out, &pooled, count, mk_pooled_width(m))) {
        PyBuffer_Release(&probabilities);
        return NULL;
    }
    s = borrow(self);
    cut = s ? PyBytes_FromStringAndSize(NULL, count) : NULL;
    fine = cut != NULL;
    flags = cut ? PyBytes_AsString(cut) : NULL;
    while (fine && done < count) {
        mk_text text_B[CHUNK_TEXTS];
        int32_t texts_here = 0, tokens = 0;
        void *workspace;
        while (fine && done + texts_here < count && texts_here < CHUNK_TEXTS && tokens < CHUNK_TOKENS) {
            PyObject *item = PyList_GetItem(texts, done + texts_here);
            fine = item && read_item(self, s, item, s->ids + tokens, &text_B[texts_here]);
            if (fine) {
                flags[done + texts_here] = (char)text_B[texts_here].truncated;
                tokens += text_B[texts_here].length;
                texts_here++;
            }
        }
        if (!fine)
            break;
        workspace = room(s, mk_workspace(m, tokens, texts_here));
        if (!workspace) {
            fine = 0;
            break;
        }
        Py_BEGIN_ALLOW_THREADS
        mk_answer(m, s->ids, text_B, texts_here, workspace, (float *)probabilities.buf + done * m->classes,
                  wants_pooled ? (float *)pooled.buf + done * mk_pooled_width(m) : NULL);
        Py_END_ALLOW_THREADS
        done += texts_here;
    }
    give_back(self, s);
    PyBuffer_Release(&probabilities);
    if (wants_pooled)
        PyBuffer_Release(&pooled);
    if (!fine) {
        Py_XDECREF(cut);
        return NULL;
    }
    return cut;
}

/* read(text) -> (ids, where the second text begins, whether it was cut off) */
static PyObject *model_read(PyObject *object, PyObject *item)
{
    Model *self = (Model *)object;
    scratch *s = borrow(self);
    PyObject *list = NULL;
    mk_text text = {0, 0, 0};
    if (s && read_item(self, s, item, s->ids, &text)) {
        list = PyList_New(text.length);
        for (int32_t i = 0; list && i < text.length; i++)
            PyList_SetItem(list, i, PyLong_FromLong(s->ids[i]));
    }
    give_back(self, s);
    return list ? Py_BuildValue("(NiO)", list, (int)text.second, text.truncated ? Py_True : Py_False) : NULL;
}

static PyObject *model_classes(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(((Model *)self)->model.classes);
}

static PyObject *model_pair(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((Model *)self)->model.pair);
}

static PyObject *model_width(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(mk_pooled_width(&((Model *)self)->model));
}

static PyMethodDef model_methods[] = {
    {"answer", model_answer, METH_VARARGS, "answer(texts, probabilities, pooled) -> bytes of truncation flags"},
    {"read", model_read, METH_O, "read(text) -> (ids, second, truncated)"},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef model_values[] = {
    {"classes", model_classes, NULL, "number of labels", NULL},
    {"pair", model_pair, NULL, "whether it reads pairs of texts", NULL},
    {"pooled_width", model_width, NULL, "width of the vectors that the classifier reads", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot model_slots[] = {
    {Py_tp_new, (void *)model_new},
    {Py_tp_dealloc, (void *)model_dealloc},
    {Py_tp_methods, model_methods},
    {Py_tp_getset, model_values},
    {Py_tp_doc, "Model(buffer): a kernel file in memory, at an address divisible by 64"},
    {0, NULL},
};

static PyType_Spec model_spec = {"minikin.kernel._kernel.Model", sizeof(Model), 0, Py_TPFLAGS_DEFAULT, model_slots};

static PyObject *instructions(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyUnicode_FromString(mk_instructions());
}

static PyObject *use(PyObject *module, PyObject *name)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(name, &size);
    (void)module;
    return text ? PyBool_FromLong(mk_use(text)) : NULL;
}

enum { JUDGED_WIDTH = 256, JUDGED_BLOCK = 32, JUDGED = 8, NUMBERS = 14 };

/* Sums of p log p and of weight * log p over one row of probabilities. */
static void log_sums(const float *row, const float *weights, Py_ssize_t n, double *entropy, double *linear)
{
    *entropy = *linear = 0.0;
    for (Py_ssize_t i = 0; i < n; i++) {
        float log_p = logf(row[i] > 1e-30f ? row[i] : 1e-30f);
        *entropy += (double)(row[i] * log_p);
        *linear += (double)(weights[i] * log_p);
    }
}

/* z = pooled @ projection - shift, a block of columns at a time: whole blocks stay in registers. */
static void project(const float *pooled, Py_ssize_t features, const float *projection, const float *shift,
                    Py_ssize_t width, float *z)
{
    for (Py_ssize_t start = 0; start < width; start += JUDGED_BLOCK) {
        float sums[JUDGED_BLOCK] = {0};
        Py_ssize_t n = width - start < JUDGED_BLOCK ? width - start : JUDGED_BLOCK;
        for (Py_ssize_t f = 0; f < features; f++) {
            const float *row = projection + f * width + start;
            if (n == JUDGED_BLOCK)
                for (int q = 0; q < JUDGED_BLOCK; q++)
                    sums[q] += pooled[f] * row[q];
            else
                for (Py_ssize_t q = 0; q < n; q++)
                    sums[q] += pooled[f] * row[q];
        }
        for (Py_ssize_t q = 0; q < n; q++)
            z[start + q] = sums[q] - shift[start + q];
    }
}

/* The parts of a score that come from where z lies: length, nearest labelled example of the class, its mean. */
static double nearness(const float *z, Py_ssize_t width, const float *near, Py_ssize_t rows, const double *numbers)
{
    double squared = 0.0, norm, away;
    float best = -INFINITY, last = 0.0f;
    for (Py_ssize_t q = 0; q < width; q++)
        squared += (double)z[q] * z[q];
    norm = sqrt(squared) + 1e-9;
    if (rows == 0)
        return numbers[7] * log(norm) - numbers[8] + numbers[9] * numbers[10];
    for (Py_ssize_t r = 0; r < rows; r++) {
        last = 0.0f;
        for (Py_ssize_t q = 0; q < width; q++)
            last += z[q] * near[r * width + q];
        if (r < rows - 1 && last > best)
            best = last;
    }
    away = squared - 2.0 * last + numbers[13];
    away = log1p(away > 0.0 ? away : 0.0);
    return numbers[7] * log(norm) + numbers[8] * best / norm +
           numbers[9] * (away < numbers[10] ? away : numbers[10]);
}

/* Whether the bit of a piece of six bytes and of a class is set; a table has a power of two of bytes. */
static int is_held(const uint8_t *bits, size_t bytes, uint64_t piece, int place)
{
    uint32_t x = (uint32_t)(piece * 0x9E3779B97F4A7C15u >> 32) ^ (uint32_t)(place + 1) * 0x9E3779B1u;
    x = (x ^ x >> 16) * 0x85EBCA6Bu;
    x = (x ^ x >> 13) * 0xC2B2AE35u;
    x ^= x >> 16;
    return bits[(x >> 3) & (bytes - 1)] >> (x & 7) & 1;
}

/* The likeliest class beside the one answered. */
static int runner_up(const float *row, Py_ssize_t n, int best)
{
    int found = best == 0 && n > 1;
    for (int i = found + 1; i < n; i++)
        if (i != best && row[i] > row[found])
            found = i;
    return found;
}

/* The shares of a text's pieces that two classes know, weighted: `shares` in trust/words.py. */
static double familiar(const uint8_t *bits, size_t bytes, const char *text, Py_ssize_t size, int best, int other,
                       const double *weights)
{
    const uint64_t six = 0xFFFFFFFFFFFFu;
    uint64_t piece = ' ';
    int length = 1, count = 0, held = 0, held_by_other = 0;
    for (Py_ssize_t i = 0; i <= size; i++) {
        uint8_t c = i < size ? (uint8_t)text[i] : ' ';
        if (c >= 'A' && c <= 'Z')
            c |= 0x20;
        if (c < '0' || (c > '9' && c < 'a') || (c > 'z' && c < 0x80))
            c = ' ';
        if (c == ' ' && (piece & 0xFF) == ' ')
            continue;
        piece = (piece << 8 | c) & six;
        if (++length >= 6) {
            count++;
            held += is_held(bits, bytes, piece, best);
            held_by_other += is_held(bits, bytes, piece, other);
        }
    }
    return count ? (weights[0] * held + weights[1] * held_by_other) / count : 0.0;
}

/* score(row, linear, pooled, projection, shift, near, numbers, bits, top, best, text) -> one answer's score: see
   `judge` in trust/scores.py, which says what the arguments are. Without pooled vectors four of them are empty. */
static PyObject *score(PyObject *module, PyObject *args)
{
    Py_buffer b[JUDGED];
    PyObject *text, *made = NULL;
    double top, entropy, linear, odds, total = 0.0;
    float z[JUDGED_WIDTH];
    int best;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*y*y*y*y*y*diO", b, b + 1, b + 2, b + 3, b + 4, b + 5, b + 6, b + 7, &top, &best,
                          &text))
        return NULL;
    const double *numbers = b[6].buf;
    Py_ssize_t classes = b[0].len / 4, features = b[2].len / 4, width = b[4].len / 4;
    int fits = b[1].len == b[0].len && width <= JUDGED_WIDTH && b[3].len == features * width * 4 &&
               (width ? b[5].len % (width * 4) == 0 : b[5].len == 0) && b[6].len == NUMBERS * 8 &&
               (b[7].len & (b[7].len - 1)) == 0 && numbers[4] >= 0.0 && numbers[4] < (double)classes;
    if (fits) {
        const float *row = b[0].buf;
        float rejected = row[(Py_ssize_t)numbers[4]];
        double reject = (double)logf(rejected > 1e-30f ? rejected : 1e-30f);
        log_sums(row, b[1].buf, classes, &entropy, &linear);
        odds = log(top > 1e-30 ? top : 1e-30) - log(1.0 - top > 1e-7 ? 1.0 - top : 1e-7);
        total = numbers[0] + odds * (numbers[1] + numbers[3] * odds + numbers[6] * reject) +
                numbers[5] * reject * reject + numbers[2] * entropy + linear;
        if (width) {
            project(b[2].buf, features, b[3].buf, b[4].buf, width, z);
            total += nearness(z, width, b[5].buf, b[5].len / 4 / width, numbers);
        }
        if (b[7].len) {
            Py_ssize_t size;
            const char *bytes = utf8_of(text, &size, &made);
            if (bytes)
                total += familiar(b[7].buf, (size_t)b[7].len, bytes, size, best, runner_up(row, classes, best),
                                  numbers + 11);
            Py_XDECREF(made);
        }
    }
    for (int i = 0; i < JUDGED; i++)
        PyBuffer_Release(b + i);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "the arrays of the score don't fit each other");
        return NULL;
    }
    if (PyErr_Occurred())
        return NULL;
    return PyFloat_FromDouble(total);
}

static PyMethodDef functions[] = {
    {"score", score, METH_VARARGS, "one answer's score: see trust/scores.py"},
    {"instructions", instructions, METH_NOARGS, "the set of instructions in use"},
    {"use", use, METH_O, "use(name) -> whether this processor has that set of instructions; it is used from now on"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_kernel", "minikin's kernel", -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void)
{
    PyObject *module = PyModule_Create(&definition), *type;
    if (!module)
        return NULL;
    type = PyType_FromSpec(&model_spec);
    if (!type || PyModule_AddObject(module, "Model", type) < 0) {
        Py_XDECREF(type);
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
