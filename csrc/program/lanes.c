/* One elementwise program over many tensors: what an optimizer does to all parameters, in one pass over memory.
 *
 * Contract.   As struct mg_lanes in minigrad.h. Every element is computed on its own, so chunks and threads do not change the
 *             result.
 * Idea.       As the tile machine (elementwise/program.c): every step of the program on a block in L1 before the next block.
 *             Learning rates and bias corrections are values of the program too, different for each tensor and each call;
 *             written into the immediates of a copy of the code, they cost nothing in the loop.
 * Chains.     The steps of Adam leave and enter L1 five times more often than they must: for such programs, known by their
 *             operations, there is a loop that keeps to registers, and takes half the time.
 * Budget.     A chunk is MG_LANE_CHUNK elements, about 5 us; up to ALONE elements, waking somebody costs more than it saves. */
#include "../isa.h"
#include "../pool.h"
#include "program.h"

#include <string.h>

/* steps take whole vectors, four of any table */
enum { ALONE = 2 * MG_LANE_CHUNK, LINE_ELEMENTS = 64 };

/* --- programs that have a loop of their own, known by what they compute ------------------------------------------ */

/* Who made the operands of each step: a step, or -1 - input. */
struct makers {
    const struct mg_program *p;
    int a[MG_MAX_PATCHED], b[MG_MAX_PATCHED], now[MG_MAX_VALUES];
};

static int is_step(const struct makers *s, int value, int op) { return value >= 0 && s->p->code[value].op == op; }

struct term {
    int of, step;                  /* what is multiplied, and the step by whose immediate */
};

/* Whether a value is k x + l y: the two terms. */
static int is_mean(const struct makers *s, int value, struct term t[2]) {
    if (!is_step(s, value, MG_OP_FMA_K) || !is_step(s, s->b[value], MG_OP_MUL_K)) return 0;
    t[0] = (struct term){s->a[value], value};
    t[1] = (struct term){s->a[s->b[value]], s->b[value]};
    return 1;
}

static void swap(struct term t[2]) {
    const struct term first = t[0];
    t[0] = t[1], t[1] = first;
}

/* p - rate m / (sqrt(v) + eps), perhaps with p times a number, where m and v are means of what they were and of g, g^2. */
static int is_adam(const struct makers *s, int result, int32_t *array, int32_t *immediate) {
    if (result < 0) return 0;                              /* an input, handed through */
    const int decoupled = is_step(s, result, MG_OP_FMS_K), rate = decoupled ? s->b[result] : result;
    const int p = s->a[result], other = s->b[result];
    if (!(decoupled && is_step(s, rate, MG_OP_MUL_K)) && !is_step(s, result, MG_OP_FMA_K)) return 0;
    const int ratio = s->a[rate], parameter = decoupled ? p : other;
    struct term m[2], v[2];
    if (!is_step(s, ratio, MG_OP_RATIO) || !is_mean(s, s->a[ratio], m) || !is_mean(s, s->b[ratio], v)) return 0;
    if (is_step(s, v[0].of, MG_OP_MUL)) swap(v);           /* now v[1] is of g^2, m[1] of g */
    const int square = v[1].of, g = is_step(s, square, MG_OP_MUL) ? s->a[square] : 0;
    if (g >= 0 || s->b[square] != g) return 0;
    if (m[0].of == g) swap(m);
    if (m[1].of != g || m[0].of >= 0 || v[0].of >= 0 || parameter >= 0 || s->p->steps != (decoupled ? 8 : 7)) return 0;
    const int inputs[] = {g, m[0].of, v[0].of, parameter}, steps[] = {s->a[ratio], s->b[ratio], result};
    const int immediates[] = {m[0].step, m[1].step, v[0].step, v[1].step, ratio, rate, result};
    for (int i = 0; i < 4; i++) array[i] = -1 - inputs[i];
    for (int i = 0; i < 7; i++) immediate[i] = immediates[i];
    for (int i = 0; i < 3; i++) {
        array[4 + i] = -1;
        for (int o = s->p->inputs; o < s->p->inputs + s->p->outputs; o++) if (s->now[o] == steps[i]) array[4 + i] = o;
        if (array[4 + i] < 0) return 0;
    }
    return decoupled ? MG_CHAIN_ADAMW : MG_CHAIN_ADAM;
}

int mg_lanes_chain(const struct mg_program *p, int32_t *array, int32_t *immediate) {
    struct makers s = {.p = p};
    if (p->steps > MG_MAX_PATCHED || p->values > MG_MAX_VALUES || p->inputs != 4 || p->outputs != 3) return MG_CHAIN_NONE;
    for (int v = 0; v < p->values; v++) s.now[v] = v < p->inputs ? -1 - v : p->steps;
    for (int v = 0; v < p->inputs + p->outputs; v++) if (p->is_bool[v]) return MG_CHAIN_NONE;
    for (int i = 0; i < p->steps; i++) {
        s.a[i] = s.now[p->code[i].a], s.b[i] = s.now[p->code[i].b];
        s.now[p->code[i].dst] = i;
    }
    for (int o = p->inputs; o < p->inputs + p->outputs; o++) {
        const int found = s.now[o] < p->steps ? is_adam(&s, s.now[o], array, immediate) : MG_CHAIN_NONE;
        if (found) return found;
    }
    return MG_CHAIN_NONE;
}

/* --- running them ------------------------------------------------------------------------------------------------- */

struct job {
    const struct mg_lanes *l;
    const struct mg_operand *operand;
    void *const *memory;
    const struct mg_elementwise_kernels *kernels;
    int size, constants;
};

static void run_lane(const struct job *j, int lane, int64_t begin, int64_t end) {
    const struct mg_lanes *l = j->l;
    const struct mg_program *p = l->program;
    const int size = j->size, tile = MG_TILE_BYTES / size, numbers = p->inputs + p->outputs;
    const struct mg_operand *operand = j->operand + lane * (numbers + l->scalars);
    _Alignas(64) char blocks[MG_MAX_VALUES][MG_TILE_BYTES];
    char *value[MG_MAX_VALUES], *array[MG_MAX_INPUTS + MG_MAX_OUTPUTS];
    struct mg_step code[MG_MAX_PATCHED];

    memcpy(code, p->code, (size_t)p->steps * sizeof *code);
    for (int i = 0; i < l->patches; i++) {
        const struct mg_patch *q = &l->patch[i];
        const void *x = mg_at(j->memory, &operand[numbers + q->scalar]);
        const double k = (size == 4 ? (double)*(const float *)x : *(const double *)x) * q->sign;
        if (q->second) code[q->step].k2 = k;
        else code[q->step].k = k;
    }
    for (int v = 0; v < numbers; v++) array[v] = mg_at(j->memory, &operand[v]);
    if (l->chain) {
        void *x[8];
        double k[8];
        for (int r = 0; r < numbers; r++) x[r] = array[l->array[r]] + begin * size;
        for (int i = 0; i < 8; i++) k[i] = code[l->immediate[i]].k;
        j->kernels->chains[l->chain](end - begin, x, k);
        return;
    }
    for (int v = 0; v < p->values; v++) value[v] = blocks[v];
    for (int s = 0; s < j->constants; s++)
        j->kernels->steps[MG_OP_CONST](tile, value[code[s].dst], NULL, NULL, NULL, code[s].k, 0);

    for (int64_t at = begin; at < end; at += tile) {
        const int n = (int)(end - at < tile ? end - at : tile), padded = (n + LINE_ELEMENTS - 1) / LINE_ELEMENTS * LINE_ELEMENTS;
        for (int v = 0; v < numbers; v++) {
            const int bytes = p->is_bool[v] ? 1 : size;
            if (n == padded && !p->is_bool[v]) value[v] = array[v] + at * size;
            else if (v < p->inputs) {
                value[v] = blocks[v];
                if (p->is_bool[v]) j->kernels->from_bool(n, (const uint8_t *)array[v] + at, blocks[v]);
                else memcpy(blocks[v], array[v] + at * bytes, (size_t)(n * size));
                memset(blocks[v] + n * size, 0, (size_t)((padded - n) * size));
            } else value[v] = blocks[v];
        }
        for (int s = j->constants; s < p->steps; s++) {
            const struct mg_step *q = &code[s];
            j->kernels->steps[q->op](padded, value[q->dst], value[q->a], value[q->b], value[q->c], q->k, q->k2);
        }
        for (int v = p->inputs; v < numbers; v++) {
            if (p->is_bool[v]) j->kernels->to_bool(n, blocks[v], (uint8_t *)array[v] + at);
            else if (n != padded) memcpy(array[v] + at * size, blocks[v], (size_t)(n * size));
        }
    }
}

static void chunk(void *arg, int c, int chunks) {
    const struct job *j = arg;
    const struct mg_lanes *l = j->l;
    (void)chunks;
    int low = 0, high = l->lanes;      /* the last lane that begins at or before chunk c */
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (l->first[middle] <= c) low = middle;
        else high = middle;
    }
    const int64_t begin = (c - l->first[low]) * MG_LANE_CHUNK, rest = l->n[low] - begin;
    run_lane(j, low, begin, begin + (rest < MG_LANE_CHUNK ? rest : MG_LANE_CHUNK));
}

int mg_do_lanes(const struct mg_lanes *l, const struct mg_operand *operand, void *const *memory) {
    const struct mg_program *p = l->program;
    if (p->steps > MG_MAX_PATCHED) return MG_EARG;
    struct job j = {.l = l, .operand = operand, .memory = memory, .kernels = &mg_table()->elementwise[p->type],
                    .size = p->type == MG_F32 ? 4 : 8};
    while (j.constants < p->steps && p->code[j.constants].op == MG_OP_CONST) j.constants++;
    int64_t total = 0;
    for (int lane = 0; lane < l->lanes; lane++) total += l->n[lane];
    if (total <= ALONE) for (int lane = 0; lane < l->lanes; lane++) run_lane(&j, lane, 0, l->n[lane]);
    else mg_parallel(chunk, &j, (int)l->first[l->lanes]);
    return MG_OK;
}
