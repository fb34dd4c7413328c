/* The tile machine: every opcode at every length of a tail, special values, broadcasting, bools, sums. */
#include "check.h"

static double pick_max(double a, double b) { return isnan(a) || isnan(b) ? NAN : a > b ? a : b; }
static double pick_min(double a, double b) { return isnan(a) || isnan(b) ? NAN : a < b ? a : b; }

static double exact(int op, double a, double b, double c, double k, double k2) {
    switch (op) {
    case MG_OP_CONST: return k;
    case MG_OP_COPY: return a;
    case MG_OP_NEG: return -a;
    case MG_OP_ABS: return fabs(a);
    case MG_OP_SIGN: return isnan(a) ? a : (a > 0) - (a < 0);
    case MG_OP_SQUARE: return a * a;
    case MG_OP_SQRT: return sqrt(a);
    case MG_OP_EXP: return exp(a);
    case MG_OP_EXPM1: return expm1(a);
    case MG_OP_LOG: return log(a);
    case MG_OP_LOG1P: return log1p(a);
    case MG_OP_TANH: return tanh(a);
    case MG_OP_ERF: return erf(a);
    case MG_OP_SIN: return sin(a);
    case MG_OP_COS: return cos(a);
    case MG_OP_FLOOR: return floor(a);
    case MG_OP_CEIL: return ceil(a);
    case MG_OP_RINT: return rint(a);
    case MG_OP_TRUNC: return trunc(a);
    case MG_OP_ISNAN: return isnan(a) != 0;
    case MG_OP_ISFINITE: return isfinite(a) != 0;
    case MG_OP_NOT: return a == 0;
    case MG_OP_SIGMOID: return 1 / (1 + exp(-a));
    case MG_OP_SILU: return a / (1 + exp(-a));
    case MG_OP_GATE: return a / (1 + exp(b));
    case MG_OP_RATIO: return a / (sqrt(b) + k);
    case MG_OP_ADD: return a + b;
    case MG_OP_SUB: return a - b;
    case MG_OP_MUL: return a * b;
    case MG_OP_DIV: return a / b;
    case MG_OP_MAX: return pick_max(a, b);
    case MG_OP_MIN: return pick_min(a, b);
    case MG_OP_POW: return pow(a, b);
    case MG_OP_LT: return a < b;
    case MG_OP_LE: return a <= b;
    case MG_OP_EQ: return a == b;
    case MG_OP_NE: return a != b;
    case MG_OP_AND: return a != 0 && b != 0;
    case MG_OP_OR: return a != 0 || b != 0;
    case MG_OP_ADD_K: return a + k;
    case MG_OP_MUL_K: return a * k;
    case MG_OP_RSUB_K: return k - a;
    case MG_OP_DIV_K: return a / k;
    case MG_OP_RDIV_K: return k / a;
    case MG_OP_MAX_K: return pick_max(a, k);
    case MG_OP_MIN_K: return pick_min(a, k);
    case MG_OP_POW_K: return pow(a, k);
    case MG_OP_LT_K: return a < k;
    case MG_OP_LE_K: return a <= k;
    case MG_OP_GT_K: return a > k;
    case MG_OP_GE_K: return a >= k;
    case MG_OP_EQ_K: return a == k;
    case MG_OP_NE_K: return a != k;
    case MG_OP_FMA: return a * b + c;
    case MG_OP_FMS: return a * b - c;
    case MG_OP_FNMA: return c - a * b;
    case MG_OP_FMA_K: return a * k + b;
    case MG_OP_FMS_K: return a * k - b;
    case MG_OP_FMAK: return a * b + k;
    case MG_OP_AFFINE: return a * k + k2;
    case MG_OP_CUBIC: return a * (a * a * k + k2);
    case MG_OP_SLOPE: return a + a * (1 - a) * pick_max(pick_min(b * (b * b * k + k2), MG_SLOPE_LIMIT), -MG_SLOPE_LIMIT);
    case MG_OP_WHERE: return a != 0 ? b : c;
    default: CHECK(0, "opcode %d has no formula", op);
    }
}

static double magnitude(double x) { return isfinite(x) ? fabs(x) : 0; }

/* One opcode on arrays of n elements. special: NaN, infinities, zeros, subnormal and large numbers among them; fixed: which
 * of the three operands are single numbers. */
static void one_step(int op, int type, int64_t n, int special, int fixed) {
    static const double odd[] = {NAN, INFINITY, -INFINITY, 0, -0.0, 1, -1, 0.5, 2, -2.5, 0x1p-140, -0x1p-149, 1e6, -1e6};
    const double k = special ? (double)(op % 3) - 1 : 0.75, k2 = 0.25;
    void *in[3];
    int64_t strides[3];
    for (int i = 0; i < 3; i++) {
        strides[i] = fixed >> i & 1 ? 0 : 1;
        const int64_t count = strides[i] ? n : 1;
        in[i] = fresh(type, count);
        for (int64_t e = 0; e < count; e++)
            put(type, in[i], e, special ? odd[i == 0 ? e % 14 : i == 1 ? (e / 14 + e) % 14 : pick(0, 13)] : 3 * get(type, in[i], e));
    }
    const struct mg_step code = {.op = op, .dst = 3, .a = 0, .b = 1, .c = 2, .k = k, .k2 = k2};
    const struct mg_program p = {.type = type, .inputs = 3, .outputs = 1, .values = 4, .steps = 1, .code = &code};
    void *y = numbers(type, n), *const out[] = {y};
    CHECK(mg_run(&p, 1, &n, (const void *const *)in, strides, out, NULL) == MG_OK, "opcode %d", op);
    for (int64_t e = 0; e < n; e++) {
        const double a = get(type, in[0], strides[0] * e), b = get(type, in[1], strides[1] * e), c = get(type, in[2], strides[2] * e);
        if (op == MG_OP_SLOPE && isinf(a)) continue;   /* a is a logistic function, and a tiny q counts as 0 in its type */
        const double want = exact(op, a, b, c, k, k2), scale = magnitude(want) + magnitude(a) + magnitude(b) + magnitude(c) + magnitude(a * b) + 1;
        const double size = special ? magnitude(want) + (op >= MG_OP_FMA ? scale : 0) : op < MG_OP_FMA ? fabs(want) : scale;
        CHECK(near(type, get(type, y, e), want, 4 * epsilon(type) * size + 0x1p-148), "opcode %d of type %d: [%ld of %ld], %g %g %g: %g, not %g", op,
              type, (long)e, (long)n, a, b, c, get(type, y, e), want);
    }
    if (fixed == 0) {
        void *flat = numbers(type, n);
        CHECK(mg_run_flat(&p, n, in[0], in[1], in[2], flat) == MG_OK && memcmp(flat, y, (size_t)n * size_of(type)) == 0, "flat");
        drop(flat);
    }
    drop(in[0]), drop(in[1]), drop(in[2]), drop(y);
}

static void every_opcode(void) {
    static const int64_t sizes[] = {0, 1, 3, 15, 16, 17, 127, 128, 129, 255, 257, 1000};
    for (int op = 0; op < MG_OPS; op++)
        for (int type = MG_F32; type <= MG_F64; type++) {
            for (int s = 0; s < COUNT(sizes); s++) one_step(op, type, sizes[s], 0, (op + s) % 8);
            one_step(op, type, 14 * 14, 1, 0);
        }
}

/* --- whole programs ----------------------------------------------------------------------------------------------------- */

enum { RANK = 5 };

/* A view into an array of exactly the right length. */
struct view {
    void *memory;
    const char *data;
    int64_t strides[RANK];
    int type, is_bool;
};

static struct view view_of(int type, int is_bool, int rank, const int64_t *shape) {
    struct view v = {.type = type, .is_bool = is_bool};
    int order[RANK];
    int64_t before = 0, after = 0, step = 1;
    for (int d = 0; d < rank; d++) order[d] = d;
    if (rank > 1 && pick(0, 3) == 0) order[0] = rank - 1, order[rank - 1] = 0;   /* transposed */
    const int gap = pick(0, 4) == 0;
    for (int i = rank - 1; i >= 0; i--) {
        const int d = order[i];
        if (pick(0, 4) == 0) continue;      /* repeated */
        v.strides[d] = (pick(0, 6) == 0 ? -1 : 1) * step * (gap ? 2 : 1);
        step *= shape[d] * (gap ? 2 : 1);
        *(v.strides[d] < 0 ? &before : &after) += (shape[d] - 1) * v.strides[d];
    }
    const int64_t n = after - before + 1;
    const size_t size = is_bool ? 1 : size_of(type);
    if (is_bool) {
        v.memory = space((size_t)n);
        for (int64_t i = 0; i < n; i++) ((uint8_t *)v.memory)[i] = (uint8_t)(pick(0, 1) * pick(1, 255));
    } else v.memory = fresh(type, n);
    v.data = (const char *)v.memory - before * (int64_t)size;
    return v;
}

static double element(const struct view *v, int rank, const int64_t *shape, int64_t i) {
    int64_t at = 0;
    for (int d = rank - 1; d >= 0; d--) at += i % shape[d] * v->strides[d], i /= shape[d];
    return v->is_bool ? (double)(((const uint8_t *)v->data)[at] != 0) : get(v->type, v->data, at);
}

/* where(m, a, b), a < b, sums of a * b, a / 4 + b: the four outputs in two orders. */
static void program(int type, int rank, const int64_t *shape, int turned) {
    enum { A, B, M, WHERE };
    const int less = turned ? 3 : 4, where = turned ? 4 : 3, sum = 5, mixed = 6, quarter = 7;
    const struct mg_step code[] = {
        {.op = MG_OP_CONST, .dst = quarter, .k = 0.25},
        {.op = MG_OP_WHERE, .dst = where, .a = M, .b = A, .c = B},
        {.op = MG_OP_LT, .dst = less, .a = A, .b = B},
        {.op = MG_OP_MUL, .dst = sum, .a = A, .b = B},
        {.op = MG_OP_FMA, .dst = mixed, .a = A, .b = quarter, .c = B},
    };
    struct mg_program p = {.type = type, .inputs = 3, .outputs = 4, .values = 8, .steps = 5, .code = code};
    p.is_bool[M] = p.is_bool[less] = 1;
    int64_t n = 1, strides[3 * RANK];
    for (int d = 0; d < rank; d++) n *= shape[d];
    const int keep = (int)pick(0, rank);
    int64_t lanes = 1;
    for (int d = rank - keep; d < rank; d++) lanes *= shape[d];
    struct view v[3];
    const void *in[3];
    for (int i = 0; i < 3; i++) {
        v[i] = view_of(type, i == M, rank, shape);
        in[i] = v[i].data;
        for (int d = 0; d < rank; d++) strides[i * rank + d] = v[i].strides[d];
    }
    const size_t bytes[4] = {(size_t)n * (turned ? 1 : size_of(type)), (size_t)n * (turned ? size_of(type) : 1),
                             (size_t)lanes * size_of(type), (size_t)n * size_of(type)};
    void *out[4], *first[4];
    for (int o = 0; o < 4; o++) out[o] = space(bytes[o]), first[o] = space(bytes[o]);
    const int kept[4] = {-1, -1, keep, -1};
    double *total = calloc((size_t)lanes, sizeof *total), *size = calloc((size_t)lanes, sizeof *size);
    CHECK(total && size, "memory");
    for (int64_t i = 0; i < n; i++) {
        const double term = element(&v[A], rank, shape, i) * element(&v[B], rank, shape, i);
        total[i % lanes] += term, size[i % lanes] += fabs(term);
    }
    FOR_EACH_SETTING {
        for (int o = 0; o < 4; o++) blank(out[o], bytes[o]);
        CHECK(mg_run(&p, rank, shape, in, strides, out, kept) == MG_OK, "status");
        for (int o = 0; o < 4; o++) same_bits(first[o], out[o], bytes[o], "program");
        for (int64_t i = 0; i < n; i++) {
            const double a = element(&v[A], rank, shape, i), b = element(&v[B], rank, shape, i), m = element(&v[M], rank, shape, i);
            CHECK(get(type, out[where - 3], i) == (m != 0 ? a : b), "where [%ld]", (long)i);
            CHECK(((uint8_t *)out[less - 3])[i] == (a < b), "less [%ld]", (long)i);
            CHECK(near(type, get(type, out[3], i), a / 4 + b, 2 * epsilon(type)), "mixed [%ld]", (long)i);
        }
        for (int64_t i = 0; i < lanes; i++)
            CHECK(near(type, get(type, out[2], i), total[i], 60 * epsilon(type) * size[i]), "sum [%ld]", (long)i);
    }
    free(total), free(size);
    for (int i = 0; i < 3; i++) drop(v[i].memory);
    for (int o = 0; o < 4; o++) drop(out[o]), drop(first[o]);
}

static void programs(void) {
    static const int64_t named[][RANK] = {{1, 1, 1, 1, 1}, {1, 1, 1, 7, 129}, {1, 1, 1, 1000, 10}, {1, 1, 1, 3, 400},
                                          {1, 2, 3, 40, 5}, {1, 1, 1, 1, 40000}, {1, 1, 300, 1, 200}};
    for (int type = MG_F32; type <= MG_F64; type++) {
        for (int i = 0; i < COUNT(named); i++)
            for (int turned = 0; turned < 2; turned++) program(type, RANK, named[i], turned);
        for (int i = 0; i < (RACES ? 0 : 300); i++) {
            int64_t shape[RANK];
            const int rank = (int)pick(0, RANK);
            for (int d = 0; d < rank; d++) shape[d] = pick(1, d == rank - 1 ? 40 : 6);
            program(type, rank, shape, i % 2);
        }
    }
}

/* Results so large that they are written past the caches. */
static void stream(int type) {
    const int64_t n = (24 << 20) / (int64_t)size_of(type) + 777, stride = 0;
    const struct mg_step code = {.op = MG_OP_COPY, .dst = 1};
    const struct mg_program p = {.type = type, .inputs = 1, .outputs = 1, .values = 2, .steps = 1, .code = &code};
    void *x = fresh(type, 1), *y = numbers(type, n), *const out[] = {y};
    const void *const in[] = {x};
    FOR_EACH_SETTING {
        blank(y, (size_t)n * size_of(type));
        CHECK(mg_run(&p, 1, &n, in, &stride, out, NULL) == MG_OK, "status");
        for (int64_t i = 0; i < n; i += i < 1000 || i > n - 1000 ? 1 : 7) CHECK(get(type, y, i) == get(type, x, 0), "[%ld]", (long)i);
    }
    drop(x), drop(y);
}

static void malformed(void) {
    const struct mg_step code[] = {{.op = MG_OP_COPY, .dst = 1}, {.op = MG_OPS, .dst = 1}, {.op = MG_OP_COPY, .dst = 0}, {.op = MG_OP_ADD, .dst = 1, .b = 9}};
    const int64_t none = 0, stride = 1;
    const int kept = 0;
    for (int s = 0; s < 4; s++) {
        const struct mg_program p = {.inputs = 1, .outputs = 1, .values = 2, .steps = 1, .code = code + s};
        const void *in[] = {NULL};
        void *const out[] = {NULL};
        CHECK(mg_run(&p, 1, &none, in, &stride, out, NULL) == (s ? MG_EARG : MG_OK), "step %d", s);
        CHECK(mg_run(&p, 1, &none, in, &stride, out, &kept) == MG_EARG, "an empty sum");
    }
}

void check_elementwise(void) {
    for (int i = 0; mg_isa_at(i) != NULL && !RACES; i++) {
        mg_set_isa(mg_isa_at(i));
        mg_set_num_threads(1);
        every_opcode();
    }
    programs();
    stream(MG_F32);
    if (!RACES) stream(MG_F64);
    malformed();
}
