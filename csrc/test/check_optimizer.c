/* SGD and Adam on lists of tensors of awkward sizes, in every mode. */
#include "check.h"

enum { TENSORS = 12, STEPS = 3 };
static const int64_t sizes[TENSORS] = {5, 1, 0, 15, 16, 17, 8191, 8193, 0, 20001, 33, 0};

struct tensors {
    struct mg_parameter list[TENSORS];
    double *p[TENSORS], *m[TENSORS], *v[TENSORS], *top[TENSORS];   /* what they should be */
};

static double *doubles(int type, int64_t n, const void *x) {
    double *y = calloc((size_t)n + 1, sizeof *y);
    CHECK(y, "memory");
    for (int64_t i = 0; i < n && x; i++) y[i] = get(type, x, i);
    return y;
}

static void *nothing(int type, int64_t n) {
    void *x = numbers(type, n);
    memset(x, 0, (size_t)n * size_of(type));
    return x;
}

static void make(struct tensors *t, int type, int moment, int second, int top) {
    for (int i = 0; i < TENSORS; i++) {
        const int64_t n = sizes[i];
        t->list[i] = (struct mg_parameter){fresh(type, n), fresh(type, n), moment ? nothing(type, n) : NULL,
                                           second ? nothing(type, n) : NULL, top ? nothing(type, n) : NULL, n};
        t->p[i] = doubles(type, n, t->list[i].p);
        t->m[i] = doubles(type, n, NULL), t->v[i] = doubles(type, n, NULL), t->top[i] = doubles(type, n, NULL);
    }
}

static void clear(struct tensors *t) {
    for (int i = 0; i < TENSORS; i++) {
        drop(t->list[i].p), drop((void *)t->list[i].g);
        if (t->list[i].m) drop(t->list[i].m);
        if (t->list[i].v) drop(t->list[i].v);
        if (t->list[i].top) drop(t->list[i].top);
        free(t->p[i]), free(t->m[i]), free(t->v[i]), free(t->top[i]);
    }
}

static void sgd(int type, struct mg_sgd o) {
    struct tensors t;
    make(&t, type, o.momentum != 0, 0, 0);
    for (int step = 0; step < STEPS; step++) {
        o.first = step == 0;
        CHECK(mg_sgd(type, TENSORS, t.list, &o) == MG_OK, "status");
        for (int i = 0; i < TENSORS; i++)
            for (int64_t e = 0; e < sizes[i]; e++) {
                double *p = &t.p[i][e], *m = &t.m[i][e], g = get(type, t.list[i].g, e) * (o.maximize ? -1 : 1) + o.weight_decay * *p;
                if (o.momentum != 0) {
                    *m = step == 0 ? g : o.momentum * *m + (1 - o.dampening) * g;
                    g = o.nesterov ? g + o.momentum * *m : *m;
                    CHECK(near(type, get(type, t.list[i].m, e), *m, 40 * epsilon(type)), "momentum %d [%ld]", i, (long)e);
                }
                *p -= o.lr * g;
                CHECK(near(type, get(type, t.list[i].p, e), *p, 40 * epsilon(type)), "parameter %d [%ld]", i, (long)e);
            }
    }
    clear(&t);
}

static void adam(int type, struct mg_adam o, int top) {
    struct tensors t;
    make(&t, type, 1, 1, top);
    for (o.step = 1; o.step <= STEPS; o.step++) {
        CHECK(mg_adam(type, TENSORS, t.list, &o) == MG_OK, "status");
        for (int i = 0; i < TENSORS; i++)
            for (int64_t e = 0; e < sizes[i]; e++) {
                double *p = &t.p[i][e], *m = &t.m[i][e], *v = &t.v[i][e], g = get(type, t.list[i].g, e) * (o.maximize ? -1 : 1);
                if (o.decoupled) *p *= 1 - o.lr * o.weight_decay;
                else g += o.weight_decay * *p;
                *m = o.beta1 * *m + (1 - o.beta1) * g;
                *v = o.beta2 * *v + (1 - o.beta2) * g * g;
                if (*v > t.top[i][e]) t.top[i][e] = *v;
                const double second = (top ? t.top[i][e] : *v) / (1 - pow(o.beta2, (double)o.step));
                *p -= o.lr * *m / (1 - pow(o.beta1, (double)o.step)) / (sqrt(second) + o.eps);
                CHECK(near(type, get(type, t.list[i].p, e), *p, 100 * epsilon(type)) && near(type, get(type, t.list[i].m, e), *m, 40 * epsilon(type)) &&
                      near(type, get(type, t.list[i].v, e), *v, 40 * epsilon(type)) &&
                      (!top || near(type, get(type, t.list[i].top, e), t.top[i][e], 40 * epsilon(type))), "tensor %d [%ld]: %g, not %g", i, (long)e,
                      get(type, t.list[i].p, e), *p);
            }
    }
    clear(&t);
}

void check_optimizer(void) {
    static const struct mg_sgd ways[] = {
        {.lr = 0.1}, {.lr = 0.1, .weight_decay = 0.1, .maximize = 1}, {.lr = 0.1, .momentum = 0.9, .dampening = 0.3, .weight_decay = 0.01},
        {.lr = 0.1, .momentum = 0.8, .nesterov = 1}};
    static const struct mg_adam adams[] = {{.lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-3},
                                           {.lr = 0.01, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-3, .weight_decay = 0.1, .maximize = 1},
                                           {.lr = 0.01, .beta1 = 0.8, .beta2 = 0.99, .eps = 1e-3, .weight_decay = 0.1, .decoupled = 1}};
    FOR_EACH_SETTING
        for (int type = MG_F32; type <= MG_F64; type++) {
            for (int i = 0; i < COUNT(ways); i++) sgd(type, ways[i]);
            for (int i = 0; i < COUNT(adams); i++) adam(type, adams[i], i % 2);
            CHECK(mg_sgd(type, 0, NULL, &ways[0]) == MG_OK, "no tensors");
        }
    const struct mg_parameter lacking = {.n = 1};
    CHECK(mg_sgd(MG_F32, 1, &lacking, &ways[2]) == MG_EARG && mg_adam(MG_F32, 1, &lacking, &adams[0]) == MG_EARG, "status");
}
