/* The pool: many small jobs, three callers at once, a fork while it is running. */
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static void *caller(void *result) {
    enum { N = 96 };
    float *a = fresh(MG_F32, N * N), *c = numbers(MG_F32, N * N), *first = numbers(MG_F32, N * N);
    mg_matmul(MG_F32, N, N, N, a, N, 1, a, 1, N, first);
    *(int *)result = 1;
    for (int i = 0; i < 200; i++) {
        mg_matmul(MG_F32, N, N, N, a, N, 1, a, 1, N, c);
        if (memcmp(c, first, N * N * sizeof *c) != 0) *(int *)result = 0;
    }
    drop(a), drop(c), drop(first);
    return NULL;
}

static void callers_at_once(void) {
    int fine[3] = {0, 0, 0};
    pthread_t others[2];
    mg_set_num_threads(4);
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&others[i], NULL, caller, &fine[i]) == 0, "thread");
    caller(&fine[2]);
#if !defined(__SANITIZE_THREAD__)   /* a fork with threads is beyond ThreadSanitizer */
    pid_t child = fork();
    if (child == 0) {
        int ok = 0;
        caller(&ok);
        _exit(ok ? 0 : 1);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child of a fork");
#endif
    for (int i = 0; i < 2; i++) pthread_join(others[i], NULL);
    for (int i = 0; i < 3; i++) CHECK(fine[i], "caller %d", i);
}

void check_threads(void) {
    FOR_EACH_SETTING callers_at_once();
}
