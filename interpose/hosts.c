/*
 * hosts.c: collectors of host languages and the allocator's purge, found in the
 * process at run time. Only the helper's thread comes here.
 */
#include <dlfcn.h>

#include "api.h"

#define FIND(pointer, name) (*(void **)&(pointer) = hl_symbol(name))

/* ---- CPython: https://docs.python.org/3/c-api/init.html, gcsupport.html ---- */

/*
 * Not Py_AddPendingCall, which a main thread that waits never serves. At an
 * interpreter's end taking the lock may block for ever or end the thread: it is
 * only ours.
 */
bool hl_python_collect(void)
{
    int (*initialized)(void), (*finalizing)(void), (*enabled)(void), (*ensure)(void);
    void (*release)(int);
    long (*collect)(void);
    FIND(initialized, "Py_IsInitialized");
    FIND(ensure, "PyGILState_Ensure");
    FIND(release, "PyGILState_Release");
    FIND(collect, "PyGC_Collect");
    if (!initialized || !ensure || !release || !collect)
        return false;
    if (!FIND(finalizing, "Py_IsFinalizing")) /* Python 3.13 */
        FIND(finalizing, "_Py_IsFinalizing");
    if (!initialized() || (finalizing && finalizing()))
        return false;
    int state = ensure();
    /* A program that switched its collector off meant it; PyGC_Collect then does nothing. */
    bool on = !FIND(enabled, "PyGC_IsEnabled") /* Python 3.10 */ || enabled();
    if (on)
        collect();
    release(state);
    return on;
}

/* ---- the JVM: JNI's and JVMTI's tables of functions, by the places that their specifications give ---- */

/* https://docs.oracle.com/en/java/javase/17/docs/specs/jni/invocation.html, "The Invocation API" */
enum { VM_DETACH = 5, VM_GET_ENV = 6, VM_ATTACH_AS_DAEMON = 7 };
/* .../specs/jni/functions.html, "Interface Function Table" */
enum {
    JNI_FIND_CLASS = 6,
    JNI_EXCEPTION_CLEAR = 17,
    JNI_DELETE_LOCAL_REF = 23,
    JNI_IS_SAME_OBJECT = 24,
    JNI_ALLOC_OBJECT = 27,
    JNI_GET_STATIC_METHOD_ID = 113,
    JNI_CALL_STATIC_BOOLEAN_METHOD = 117,
    JNI_CALL_STATIC_VOID_METHOD = 141,
    JNI_NEW_WEAK_GLOBAL_REF = 226,
    JNI_DELETE_WEAK_GLOBAL_REF = 227,
};
#define JNI_VERSION 0x00010006
/* .../specs/jvmti.html: functions 108 and 127, counted from 1 */
enum { TI_FORCE_COLLECTION = 107, TI_DISPOSE = 126 };
#define TI_VERSION 0x30010200

/* A JavaVM, JNIEnv or jvmtiEnv points to its table of functions. */
typedef void **const *host;
#define CALL(object, place, result, ...) ((result(*)(__VA_ARGS__))(*(object))[place])

static void clear(host env)
{
    CALL(env, JNI_EXCEPTION_CLEAR, void, host)(env);
}

/* Something that no collection leaves; NULL: refused. */
static void *make_garbage(host env)
{
    void *class = CALL(env, JNI_FIND_CLASS, void *, host, const char *)(env, "java/lang/Object");
    void *object = class ? CALL(env, JNI_ALLOC_OBJECT, void *, host, void *)(env, class) : NULL;
    void *weak = object ? CALL(env, JNI_NEW_WEAK_GLOBAL_REF, void *, host, void *)(env, object) : NULL;
    clear(env);
    CALL(env, JNI_DELETE_LOCAL_REF, void, host, void *)(env, object);
    CALL(env, JNI_DELETE_LOCAL_REF, void, host, void *)(env, class);
    return weak;
}

/* Both NULL where it has none such. The class is the caller's to delete. */
static void *static_method(host env, const char *of, const char *name, const char *signature, void **class)
{
    *class = CALL(env, JNI_FIND_CLASS, void *, host, const char *)(env, of);
    void *method = *class ? CALL(env, JNI_GET_STATIC_METHOD_ID, void *, host, void *, const char *, const char *)(
                                env, *class, name, signature)
                          : NULL;
    clear(env);
    return method;
}

static bool system_gc(host env)
{
    void *class, *method = static_method(env, "java/lang/System", "gc", "()V", &class);
    if (method)
        CALL(env, JNI_CALL_STATIC_VOID_METHOD, void, host, void *, void *, ...)(env, class, method);
    clear(env);
    CALL(env, JNI_DELETE_LOCAL_REF, void, host, void *)(env, class);
    return method != NULL;
}

/*
 * What a collection found dead, direct buffers among it, another thread frees after
 * the call has returned, which on a busy machine is a good while later. The JDK waits
 * for that thread before it gives up on direct memory, by a method of its own that
 * says whether there was anything to wait for. A JDK without it is not waited for.
 */
#define REFERENCES_STEP_NS 1000000u
#define REFERENCES_NS 1000000000u

static void await_references(host env)
{
    static const uint32_t nobody_wakes = 0;
    void *class, *method = static_method(env, "java/lang/ref/Reference", "waitForReferenceProcessing", "()Z", &class);
    uint64_t begun_ns = hl_mono_ns();
    for (bool more = method; more && hl_mono_ns() - begun_ns < REFERENCES_NS;) {
        more = CALL(env, JNI_CALL_STATIC_BOOLEAN_METHOD, unsigned char, host, void *, void *, ...)(env, class, method);
        clear(env);
        if (more)
            hl_wait(&nobody_wakes, 0, REFERENCES_STEP_NS);
    }
    CALL(env, JNI_DELETE_LOCAL_REF, void, host, void *)(env, class);
}

static bool force_collection(host vm)
{
    host tools = NULL;
    if (CALL(vm, VM_GET_ENV, int, host, void *, int)(vm, &tools, TI_VERSION) != 0 || !tools)
        return false;
    bool done = CALL(tools, TI_FORCE_COLLECTION, int, host)(tools) == 0;
    CALL(tools, TI_DISPOSE, int, host)(tools);
    return done;
}

/* -XX:+DisableExplicitGC makes System.gc do nothing and say nothing: garbage that is still there tells. */
static bool collect_attached(host vm, host env)
{
    void *weak = make_garbage(env);
    bool called = system_gc(env);
    bool gone = weak && CALL(env, JNI_IS_SAME_OBJECT, unsigned char, host, void *, void *)(env, weak, NULL);
    if (weak)
        CALL(env, JNI_DELETE_WEAK_GLOBAL_REF, void, host, void *)(env, weak);
    bool collected = (called && gone) || force_collection(vm);
    if (collected)
        await_references(env);
    return collected;
}

typedef int (*vms)(host *, int, int *);

/* A JVM that was loaded for one library alone is in nobody's scope, and found by its file's name. */
static vms find_vms(void)
{
    vms created;
    void *(*open)(const char *, int), *(*look)(void *, const char *);
    int (*close)(void *);
    if (FIND(created, "JNI_GetCreatedJavaVMs"))
        return created;
    if (!FIND(open, "dlopen") || !FIND(look, "dlsym") || !FIND(close, "dlclose"))
        return NULL;
    void *library = open("libjvm.so", RTLD_LAZY | RTLD_NOLOAD);
    if (!library)
        return NULL;
    *(void **)&created = look(library, "JNI_GetCreatedJavaVMs");
    close(library); /* as loaded as before */
    return created;
}

bool hl_jvm_collect(void)
{
    vms created = find_vms();
    host vm = NULL, env = NULL;
    int count = 0;
    if (!created || created(&vm, 1, &count) != 0 || count < 1)
        return false;
    struct {
        int version;
        const char *name;
        void *group;
    } arguments = {JNI_VERSION, "heapledger", NULL};
    if (CALL(vm, VM_ATTACH_AS_DAEMON, int, host, void *, void *)(vm, &env, &arguments) != 0)
        return false;
    bool collected = collect_attached(vm, env);
    CALL(vm, VM_DETACH, int, host)(vm);
    return collected;
}

/* ---- glibc ---- */

bool hl_allocator_trim(void)
{
    int (*trim)(size_t);
    if (!hl.proven_glibc || !FIND(trim, "malloc_trim"))
        return false;
    trim(0);
    return true;
}

int hl_do_allocator_trim(void)
{
    return hl_allocator_trim() ? 0 : -1;
}
