/* Elementwise programs on numbers of several types: labels and masks, counters, the bias corrections of Adam.
 *
 * Contract.   As struct mg_mixed in minigrad.h. Integers wrap around in their type. Integers to floats and back are rounded
 *             and cut off as C does it; what does not fit becomes the smallest integer.
 * Idea.       Inside, there are two types: int64 for all integers and truth values, double for all floats. For + - * / and
 *             sqrt, a double rounded to float is what float arithmetic gives (53 >= 2 * 24 + 2 bits; Figueroa 1995), and
 *             int64 arithmetic cut to fewer bits is that of the shorter type.
 *             A lane is an element if each has only one: the bias corrections of all parameters are one vector.
 * Budget.     Eight bytes an element and a conversion on the way in and out: meant for what is small. */
#include "../isa.h"
#include "program.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 128, VECTOR = 8 };    /* elements of a block; n is rounded up to a vector of any table (what is quick takes four) */

union block {
    _Alignas(64) double f[BLOCK];
    int64_t i[BLOCK];
};

static int is_float(int type) { return type == MG_T_F32 || type == MG_T_F64; }

static int size_of(int type) {
    switch (type) {
    case MG_T_F64: case MG_T_I64: return 8;
    case MG_T_F32: case MG_T_I32: return 4;
    case MG_T_I16: return 2;
    default: return 1;
    }
}

#define ALL(expression)                            \
    for (int i = 0; i < n; i++) (expression);      \
    break;

/* One element, or, each with its neighbour, n of them. */
static void load(int type, const void *x, int64_t step, int n, union block *d) {
    if (step == 0) {
        union block one;
        load(type, x, 1, 1, &one);
        for (int i = 0; i < n; i++) d->i[i] = one.i[0];
        return;
    }
    switch (type) {
    case MG_T_F32: ALL(d->f[i] = (double)((const float *)x)[i])
    case MG_T_BOOL: ALL(d->i[i] = ((const uint8_t *)x)[i] != 0)
    case MG_T_U8: ALL(d->i[i] = ((const uint8_t *)x)[i])
    case MG_T_I8: ALL(d->i[i] = ((const int8_t *)x)[i])
    case MG_T_I16: ALL(d->i[i] = ((const int16_t *)x)[i])
    case MG_T_I32: ALL(d->i[i] = ((const int32_t *)x)[i])
    default: memcpy(d, x, (size_t)n * 8);
    }
}

static void store(int type, const union block *s, int n, void *y) {
    switch (type) {
    case MG_T_F32: ALL(((float *)y)[i] = (float)s->f[i])
    case MG_T_BOOL: case MG_T_U8: ALL(((uint8_t *)y)[i] = (uint8_t)s->i[i])
    case MG_T_I8: ALL(((int8_t *)y)[i] = (int8_t)s->i[i])
    case MG_T_I16: ALL(((int16_t *)y)[i] = (int16_t)s->i[i])
    case MG_T_I32: ALL(((int32_t *)y)[i] = (int32_t)s->i[i])
    default: memcpy(y, s, (size_t)n * 8);
    }
}

/* Cut to the type that a value has. */
static void fit(int type, int n, union block *d) {
    switch (type) {
    case MG_T_F32: ALL(d->f[i] = (double)(float)d->f[i])
    case MG_T_U8: ALL(d->i[i] = (uint8_t)d->i[i])
    case MG_T_I8: ALL(d->i[i] = (int8_t)d->i[i])
    case MG_T_I16: ALL(d->i[i] = (int16_t)d->i[i])
    case MG_T_I32: ALL(d->i[i] = (int32_t)d->i[i])
    }
}

static int64_t whole(double x) { return x >= -0x1p63 && x < 0x1p63 ? (int64_t)x : INT64_MIN; }

/* COPY is a conversion. */
static void convert(int to, int from, int n, union block *d, const union block *a) {
    for (int i = 0; i < n; i++) {
        if (is_float(to)) d->f[i] = is_float(from) ? a->f[i] : (double)a->i[i];
        else if (to == MG_T_BOOL) d->i[i] = is_float(from) ? a->f[i] != 0 : a->i[i] != 0;
        else d->i[i] = is_float(from) ? whole(a->f[i]) : a->i[i];
    }
}

#define EACH(expression)                                        \
    for (int i = 0; i < n; i++) {                               \
        const uint64_t A = (uint64_t)a->i[i], B = (uint64_t)b->i[i];    \
        (void)A, (void)B;                                       \
        d->i[i] = (int64_t)(expression);                        \
    }                                                           \
    break;
#define SA ((int64_t)A)
#define SB ((int64_t)B)

/* Unsigned arithmetic, since that wraps around. */
static void integers(int op, int n, union block *d, const union block *a, const union block *b) {
    switch (op) {
    case MG_OP_NEG: EACH(0 - A)
    case MG_OP_ABS: EACH(SA < 0 ? 0 - A : A)
    case MG_OP_SIGN: EACH((SA > 0) - (SA < 0))
    case MG_OP_SQUARE: EACH(A * A)
    case MG_OP_ADD: EACH(A + B)
    case MG_OP_SUB: EACH(A - B)
    case MG_OP_MUL: EACH(A * B)
    case MG_OP_MAX: EACH(SA > SB ? A : B)
    case MG_OP_MIN: EACH(SA < SB ? A : B)
    case MG_OP_LT: EACH(SA < SB)
    case MG_OP_LE: EACH(SA <= SB)
    case MG_OP_EQ: EACH(A == B)
    case MG_OP_NE: EACH(A != B)
    case MG_OP_NOT: EACH(A == 0)
    case MG_OP_AND: EACH(A != 0 && B != 0)
    case MG_OP_OR: EACH(A != 0 || B != 0)
    }
}

static void step(const struct mg_isa *isa, const struct mg_mixed *m, const struct mg_mixed_step *q, int n, union block *v) {
    union block *d = &v[q->dst];
    const union block *a = &v[q->a], *b = &v[q->b], *c = &v[q->c];
    const int from = m->type[q->a];
    if (q->op == MG_OP_CONST) {
        for (int i = 0; i < n; i++) {
            if (is_float(q->type)) d->f[i] = q->k;
            else d->i[i] = q->i;
        }
    } else if (q->op == MG_OP_COPY) convert(q->type, from, n, d, a);
    else if (q->op == MG_OP_WHERE) for (int i = 0; i < n; i++) d->i[i] = a->i[i] ? b->i[i] : c->i[i];   /* bits of either kind */
    else if (is_float(from)) {
        isa->elementwise[MG_F64].steps[q->op](n, d->f, a->f, b->f, c->f, q->k, 0);
        if (!is_float(q->type)) for (int i = 0; i < n; i++) d->i[i] = d->f[i] != 0;
    } else integers(q->op, n, d, a, b);
    fit(q->type, n, d);
}

/* A lane that has one element is an element: all lanes together. */
static void lanes_as_elements(const struct mg_isa *isa, const struct mg_mixed *m, const struct mg_operand *operand,
                              void *const *memory) {
    union block v[MG_MAX_VALUES];
    const int each = m->inputs + m->outputs;
    for (int first = 0; first < m->lanes; first += BLOCK) {
        const int n = m->lanes - first < BLOCK ? m->lanes - first : BLOCK, padded = (n + VECTOR - 1) / VECTOR * VECTOR;
        for (int x = 0; x < m->inputs; x++) {
            memset(&v[x], 0, (size_t)padded * 8);   /* what is computed of these is nobody's, but must be something */
            for (int l = 0; l < n; l++) {
                union block one;
                load(m->type[x], mg_at(memory, &operand[(first + l) * each + x]), 1, 1, &one);
                v[x].i[l] = one.i[0];
            }
        }
        for (int s = 0; s < m->steps; s++) step(isa, m, &m->code[s], padded, v);
        for (int y = m->inputs; y < each; y++)
            for (int l = 0; l < n; l++) {
                union block one;
                one.i[0] = v[y].i[l];
                store(m->type[y], &one, 1, mg_at(memory, &operand[(first + l) * each + y]));
            }
    }
}

int mg_do_mixed(const struct mg_mixed *m, const struct mg_operand *operand, void *const *memory) {
    const struct mg_isa *isa = mg_table();
    if (m->values > MG_MAX_VALUES) return MG_EARG;
    if (m->n == 1) {
        lanes_as_elements(isa, m, operand, memory);
        return MG_OK;
    }
    union block v[MG_MAX_VALUES];
    const int each = m->inputs + m->outputs;
    for (int lane = 0; lane < m->lanes; lane++, operand += each)
        for (int64_t at = 0; at < m->n; at += BLOCK) {
            const int n = (int)(m->n - at < BLOCK ? m->n - at : BLOCK), padded = (n + VECTOR - 1) / VECTOR * VECTOR;
            for (int x = 0; x < m->inputs; x++) {
                if (n != padded) memset(&v[x], 0, sizeof v[x]);
                load(m->type[x], (const char *)mg_at(memory, &operand[x]) + at * m->apart[x] * size_of(m->type[x]), m->apart[x],
                     n, &v[x]);
            }
            for (int s = 0; s < m->steps; s++) step(isa, m, &m->code[s], padded, v);
            for (int y = m->inputs; y < each; y++)
                store(m->type[y], &v[y], n, (char *)mg_at(memory, &operand[y]) + at * size_of(m->type[y]));
        }
    return MG_OK;
}
