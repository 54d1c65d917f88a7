/* Which part of the gateway runs, seen from inside the process; loaded with LD_PRELOAD.

   Two uses of one table (start of a source file's path -> part), driven through a FIFO:
     s  sample: a timer of each thread's own processor time, whose signal handler reads the innermost Python frame of a
        known part, and whether the thread was in a system call. Nothing is paused, nothing waits for the interpreter
        lock, and a thread that waits is not seen.
     e  end sampling, and write the counts.
     h  hook (PEP 523): a frame of another part than its caller's is run through an arc, a C function of its own for
        (depth, caller's part, part), so that callgrind has what each part costs inclusive of what it calls.
     a  write which arc is which.

   Programs without Python load it too, so it refers to none of Python's data, only to functions, bound when called.
   CPython 3.11 and 3.12. */
#define _GNU_SOURCE
#define Py_BUILD_CORE 1
#include <Python.h>
#include <internal/pycore_frame.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#if PY_VERSION_HEX < 0x030B0000 || PY_VERSION_HEX >= 0x030D0000
#error "written for CPython 3.11 and 3.12"
#endif

enum { STARTS = 1024, PARTS = 1024, CODES = 1 << 16, ARCS = 4096, SLOTS = 1 << 14, DEEP = 512, NAME = 160, TIMERS = 256 };
enum { INHERITS = -1 };

static struct { char start[128]; size_t length; int part; } starts[STARTS];
static int starts_n;
static char output[4096];

/* -- code object -> part, without locks or memory: also used in a signal handler -- */

static struct code {
    PyCodeObject *code;
    int part;
    unsigned samples;
    char name[NAME];
} codes[CODES];

static const char *shortened(const char *path) {
    static const char *folders[] = {"/src/", "/site-packages/", "/python3.11/", "/python3.12/"};
    const char *found = path;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        for (const char *at = path; (at = strstr(at, folders[i])); at++)
            if (at + strlen(folders[i]) > found) found = at + strlen(folders[i]);
    return found;
}

static struct code *known(PyCodeObject *code) {
    size_t at = ((uintptr_t)code >> 4) * 0x9E3779B97F4A7C15ull % CODES;
    while (codes[at].code && codes[at].code != code) at = (at + 1) % CODES;
    struct code *found = &codes[at];
    if (found->code) return found;
    const char *path = shortened((const char *)PyUnicode_DATA(code->co_filename));
    found->part = INHERITS;
    for (int i = 0; i < starts_n; i++)
        if (!strncmp(path, starts[i].start, starts[i].length)) {
            found->part = starts[i].part;
            break;
        }
    if (PyUnicode_IS_ASCII(code->co_qualname))
        snprintf(found->name, NAME, "%s (%s)", (const char *)PyUnicode_DATA(code->co_qualname), path);
    found->code = code;
    return found;
}

/* -- sampling -- */

static unsigned samples[2][2][PARTS]; /* main thread or another; running or in a system call; part */
static timer_t timers[TIMERS];
static int timers_n;

static void sample(int number, siginfo_t *info, void *context) {
    int saved = errno, other = info->si_value.sival_int, part = 0;
    const uint8_t *at = (const uint8_t *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    int system = at[-2] == 0x0f && at[-1] == 0x05;
    PyThreadState *state = PyGILState_GetThisThreadState();
    struct code *innermost = NULL;
    if (state && state->cframe) {
        _PyInterpreterFrame *frame = state->cframe->current_frame;
        for (int deep = 0; frame && deep < DEEP; deep++, frame = frame->previous) {
            if (!frame->f_code) continue;
            struct code *code = known(frame->f_code);
            if (!innermost) innermost = code;
            if (code->part != INHERITS) {
                part = code->part;
                break;
            }
        }
    }
    samples[other][system][part]++;
    if (innermost && !other) innermost->samples++;
    errno = saved;
    (void)number;
}

static void begin(void) {
    struct sigaction action = {.sa_sigaction = sample, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(SIGPROF, &action, NULL);
    memset(samples, 0, sizeof samples);
    for (int i = 0; i < CODES; i++) codes[i].samples = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *each; tasks && (each = readdir(tasks));) {
        int thread = atoi(each->d_name);
        if (thread <= 0 || thread == (int)syscall(SYS_gettid) || timers_n == TIMERS) continue;
        struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
        event._sigev_un._tid = thread;
        event.sigev_value.sival_int = thread != getpid();
        /* CPUCLOCK_SCHED of one thread, as the kernel's posix-timers.h makes it */
        clockid_t clock = (clockid_t)((~(unsigned)thread << 3) | 6);
        struct itimerspec every = {{0, 1000000}, {0, 1000000}};
        if (!timer_create(clock, &event, &timers[timers_n])) timer_settime(timers[timers_n++], 0, &every, NULL);
    }
    if (tasks) closedir(tasks);
}

static void end(FILE *out) {
    while (timers_n) timer_delete(timers[--timers_n]);
    for (int other = 0; other < 2; other++)
        for (int system = 0; system < 2; system++)
            for (int part = 0; part < PARTS; part++)
                if (samples[other][system][part])
                    fprintf(out, "part\t%d\t%d\t%d\t%u\n", other, system, part, samples[other][system][part]);
    for (int i = 0; i < CODES; i++)
        if (codes[i].samples) fprintf(out, "function\t%u\t%s\n", codes[i].samples, codes[i].name);
}

/* -- the hook -- */

typedef PyObject *evaluate(PyThreadState *, _PyInterpreterFrame *, int);

#define ARC(n)                                                                                             \
    static __attribute__((noinline, noclone)) PyObject *arc_##n(                                           \
        PyThreadState *state, _PyInterpreterFrame *frame, int thrown) {                                    \
        PyObject *result = _PyEval_EvalFrameDefault(state, frame, thrown);                                 \
        __asm__ volatile("" ::"i"(0x##n) : "memory");                                                      \
        return result;                                                                                     \
    }
#define SIXTEEN(X, n) \
    X(n##0) X(n##1) X(n##2) X(n##3) X(n##4) X(n##5) X(n##6) X(n##7) \
    X(n##8) X(n##9) X(n##a) X(n##b) X(n##c) X(n##d) X(n##e) X(n##f)
#define ALL(X) ALL_1(X, 0) ALL_1(X, 1) ALL_1(X, 2) ALL_1(X, 3) ALL_1(X, 4) ALL_1(X, 5) ALL_1(X, 6) ALL_1(X, 7) \
    ALL_1(X, 8) ALL_1(X, 9) ALL_1(X, a) ALL_1(X, b) ALL_1(X, c) ALL_1(X, d) ALL_1(X, e) ALL_1(X, f)
#define ALL_1(X, n) \
    SIXTEEN(X, n##0) SIXTEEN(X, n##1) SIXTEEN(X, n##2) SIXTEEN(X, n##3) SIXTEEN(X, n##4) SIXTEEN(X, n##5) \
    SIXTEEN(X, n##6) SIXTEEN(X, n##7) SIXTEEN(X, n##8) SIXTEEN(X, n##9) SIXTEEN(X, n##a) SIXTEEN(X, n##b) \
    SIXTEEN(X, n##c) SIXTEEN(X, n##d) SIXTEEN(X, n##e) SIXTEEN(X, n##f)
ALL(ARC)
#define ENTRY(n) arc_##n,
static evaluate *const arcs[ARCS] = {ALL(ENTRY)};

static struct { uint32_t key; int arc; } slots[SLOTS];
static uint32_t keys[ARCS];
static int arcs_n;
static __thread int current, depth;

static PyObject *plain(PyThreadState *state, _PyInterpreterFrame *frame, int thrown) {
    return _PyEval_EvalFrameDefault(state, frame, thrown);
}

static evaluate *arc(int part) {
    uint32_t key = 1u << 31 | (uint32_t)depth << 20 | (uint32_t)current << 10 | (uint32_t)part;
    size_t at = key * 2654435761u % SLOTS;
    while (slots[at].key && slots[at].key != key) at = (at + 1) % SLOTS;
    if (!slots[at].key) {
        if (arcs_n == ARCS) return plain;
        keys[arcs_n] = key;
        slots[at].arc = arcs_n++;
        slots[at].key = key;
    }
    return arcs[slots[at].arc];
}

static PyObject *hook(PyThreadState *state, _PyInterpreterFrame *frame, int thrown) {
    int part = known(frame->f_code)->part, outer = current;
    if (part == INHERITS || part == outer) return _PyEval_EvalFrameDefault(state, frame, thrown);
    evaluate *through = arc(part);
    current = part;
    depth++;
    PyObject *result = through(state, frame, thrown);
    depth--;
    current = outer;
    return result;
}

/* -- commands -- */

static void *obey(void *fifo) {
    for (char command;;) {
        int in = open(fifo, O_RDONLY);
        if (in < 0) return NULL;
        while (read(in, &command, 1) == 1) {
            char name[sizeof output + 8];
            snprintf(name, sizeof name, "%s.new", output);
            FILE *out = fopen(name, "w");
            if (!out) return NULL;
            if (command == 's') begin();
            if (command == 'e') end(out);
            if (command == 'h') _PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Main(), hook);
            if (command == 'a')
                for (int i = 0; i < arcs_n; i++)
                    fprintf(out, "arc\t%03x\t%u\t%u\t%u\n", i, keys[i] >> 20 & 0x7ff, keys[i] >> 10 & 0x3ff, keys[i] & 0x3ff);
            fclose(out);
            rename(name, output);
        }
        close(in);
    }
}

__attribute__((constructor)) static void start(void) {
    static char fifo[4096];
    const char *folder = getenv("PROFILE_FOLDER"), *name = program_invocation_short_name;
    if (!folder || strncmp(name, "python", 6)) return;
    char path[4096];
    snprintf(path, sizeof path, "%s/parts", folder);
    FILE *table = fopen(path, "r");
    while (table && starts_n < STARTS &&
           fscanf(table, "%d\t%127[^\n]\n", &starts[starts_n].part, starts[starts_n].start) == 2) {
        starts[starts_n].length = strlen(starts[starts_n].start);
        starts_n++;
    }
    if (table) fclose(table);
    snprintf(fifo, sizeof fifo, "%s/commands", folder);
    snprintf(output, sizeof output, "%s/answer", folder);
    pthread_t thread;
    pthread_create(&thread, NULL, obey, fifo);
}
