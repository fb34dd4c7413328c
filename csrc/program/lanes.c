/* One elementwise program over many tensors: what an optimizer does to all parameters, in one pass over memory.
 *
 * Contract.   As struct mg_lanes in minigrad.h. Every element is computed on its own, so chunks and threads do not change the
 *             result.
 * Idea.       As the tile machine (elementwise/program.c): every step of the program on a block in L1 before the next block.
 *             Learning rates and bias corrections are values of the program too, different for each tensor and each call;
 *             written into the immediates of a copy of the code, they cost nothing in the loop.
 * Chains.     The steps of Adam leave and enter L1 five times more often than they must: for such programs, known by their
 *             operations, there is a loop that keeps to registers, and takes half the time. So too for momentum, and for the
 *             gradient of relu.
 * Budget.     A chunk is MG_LANE_CHUNK elements, about 5 us; up to ALONE elements, waking somebody costs more than it saves. */
#include "../gemm/gemm.h"
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
    int a[MG_MAX_PATCHED], b[MG_MAX_PATCHED], c[MG_MAX_PATCHED], now[MG_MAX_VALUES];
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

static int is_input(int value) { return value < 0; }

/* Fill in which number of the program a chain's arrays are: inputs (as -1 - input), and the outputs that hold these steps. */
static int found(const struct makers *s, int chain, int inputs, const int *input, int outputs, const int *step, int32_t *array) {
    if (s->p->inputs != inputs || s->p->outputs != outputs) return MG_CHAIN_NONE;
    for (int i = 0; i < inputs; i++) array[i] = -1 - input[i];
    for (int i = 0; i < outputs; i++) {
        array[inputs + i] = -1;
        for (int o = inputs; o < inputs + outputs; o++) if (s->now[o] == step[i]) array[inputs + i] = o;
        if (array[inputs + i] < 0) return MG_CHAIN_NONE;
    }
    return chain;
}

/* p - rate m / (sqrt(v) + eps), perhaps with p times a number, where m and v are means of what they were and of g, g^2. */
static int is_adam(const struct makers *s, int result, int32_t *array, int32_t *immediate) {
    const int decoupled = is_step(s, result, MG_OP_FMS_K), rate = decoupled ? s->b[result] : result;
    const int p = s->a[result], other = s->b[result];
    if (rate < 0 || !is_step(s, rate, decoupled ? MG_OP_MUL_K : MG_OP_FMA_K)) return 0;
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
    for (int i = 0; i < 7; i++) immediate[i] = immediates[i];
    return found(s, decoupled ? MG_CHAIN_ADAMW : MG_CHAIN_ADAM, 4, inputs, 3, steps, array);
}

/* y <= 0 ? 0 : g */
static int is_mask(const struct makers *s, int result, int32_t *array) {
    if (!is_step(s, result, MG_OP_WHERE)) return MG_CHAIN_NONE;
    const int below = s->a[result], zero = s->b[result], g = s->c[result];
    if (!is_step(s, below, MG_OP_LE_K) || !is_step(s, zero, MG_OP_CONST) || !is_input(g) || !is_input(s->a[below])) return MG_CHAIN_NONE;
    if (s->p->code[below].k != 0 || s->p->code[zero].k != 0 || s->p->steps != 3) return MG_CHAIN_NONE;
    return found(s, MG_CHAIN_MASK, 2, (const int[]){g, s->a[below]}, 1, &result, array);
}

/* p + k d, where d is m, or l m + g (Nesterov); m is n times what it was, + g; g is the gradient, perhaps + o p (decay). */
static int is_momentum(const struct makers *s, int result, int32_t *array, int32_t *immediate) {
    if (!is_step(s, result, MG_OP_FMA_K) || !is_step(s, s->a[result], MG_OP_FMA_K)) return MG_CHAIN_NONE;
    const int p = s->b[result], d = s->a[result], nesterov = is_step(s, s->a[d], MG_OP_FMA_K), m = nesterov ? s->a[d] : d;
    const int g = s->b[m], decay = is_step(s, g, MG_OP_FMA_K), gradient = decay ? s->b[g] : g;
    if (!is_input(p) || !is_input(s->a[m]) || !is_input(gradient) || (nesterov && s->b[d] != g) || (decay && s->a[g] != p)) return MG_CHAIN_NONE;
    if (s->p->steps != 2 + nesterov + decay) return MG_CHAIN_NONE;
    immediate[0] = m, immediate[1] = result, immediate[2] = decay ? g : 0, immediate[3] = nesterov ? d : 0;
    return found(s, MG_CHAIN_MOMENTUM + (decay ? MG_CHAIN_DECAY : 0) + (nesterov ? MG_CHAIN_NESTEROV : 0), 3,
                 (const int[]){gradient, s->a[m], p}, 2, (const int[]){m, result}, array);
}

int mg_lanes_chain(const struct mg_program *p, int32_t *array, int32_t *immediate) {
    struct makers s = {.p = p};
    for (int i = 0; i < 8; i++) array[i] = immediate[i] = 0;
    if (p->steps > MG_MAX_PATCHED || p->values > MG_MAX_VALUES || p->inputs > 4 || p->outputs > 3) return MG_CHAIN_NONE;
    for (int v = 0; v < p->values; v++) s.now[v] = v < p->inputs ? -1 - v : p->steps;
    for (int v = 0; v < p->inputs + p->outputs; v++) if (p->is_bool[v]) return MG_CHAIN_NONE;
    for (int i = 0; i < p->steps; i++) {
        s.a[i] = s.now[p->code[i].a], s.b[i] = s.now[p->code[i].b], s.c[i] = s.now[p->code[i].c];
        s.now[p->code[i].dst] = i;
    }
    for (int o = p->inputs; o < p->inputs + p->outputs; o++) {
        const int result = s.now[o];
        int chain = MG_CHAIN_NONE;
        if (result < 0 || result >= p->steps) continue;   /* an input, handed through */
        if (!chain) chain = is_adam(&s, result, array, immediate);
        if (!chain) chain = is_mask(&s, result, array);
        if (!chain) chain = is_momentum(&s, result, array, immediate);
        if (chain) return chain;
    }
    return MG_CHAIN_NONE;
}

/* --- running them ------------------------------------------------------------------------------------------------- */

/* A lane that is ready: where its arrays are, and its code with the immediates of this call. */
struct lane {
    const struct mg_lanes *l;
    const struct mg_elementwise_kernels *kernels;
    int size, constants;           /* the first steps, which make constants, are done once a run */
    char *array[MG_MAX_INPUTS + MG_MAX_OUTPUTS];
    struct mg_step code[MG_MAX_PATCHED];
    double k[8];                   /* of a chain */
};

static void prepare(struct lane *r, const struct mg_lanes *l, const struct mg_operand *operand, void *const *memory) {
    const struct mg_program *p = l->program;
    const int numbers = p->inputs + p->outputs;
    r->l = l;
    r->kernels = &mg_table()->elementwise[p->type];
    r->size = p->type == MG_F32 ? 4 : 8;
    for (int v = 0; v < numbers; v++) r->array[v] = mg_at(memory, &operand[v]);
    if (!l->chain) memcpy(r->code, p->code, (size_t)p->steps * sizeof *r->code);
    else for (int i = 0; i < 8; i++) r->k[i] = p->code[l->immediate[i]].k;
    for (int i = 0; i < l->patches; i++) {
        const struct mg_patch *q = &l->patch[i];
        const void *x = mg_at(memory, &operand[numbers + q->scalar]);
        const double k = (r->size == 4 ? (double)*(const float *)x : *(const double *)x) * q->sign;
        if (l->chain) {
            for (int c = 0; c < 8; c++) if (l->immediate[c] == q->step) r->k[c] = k;
        } else if (q->second) r->code[q->step].k2 = k;
        else r->code[q->step].k = k;
    }
    if (l->chain) return;
    for (r->constants = 0; r->constants < p->steps && p->code[r->constants].op == MG_OP_CONST;) r->constants++;
}

/* Elements begin .. end-1; those of input `given`, if it is not -1, lie at `there`. */
static void run_lane(const struct lane *r, int64_t begin, int64_t end, int given, const void *there) {
    const struct mg_program *p = r->l->program;
    const struct mg_step *code = r->code;
    const int size = r->size, tile = MG_TILE_BYTES / size, numbers = p->inputs + p->outputs;
    if (r->l->chain) {
        void *x[8];
        for (int i = 0; i < numbers; i++) {
            const int v = r->l->array[i];
            x[i] = v == given ? (void *)(uintptr_t)there : r->array[v] + begin * size;
        }
        r->kernels->chains[r->l->chain](end - begin, x, r->k);
        return;
    }
    _Alignas(64) char blocks[MG_MAX_VALUES][MG_TILE_BYTES];
    char *value[MG_MAX_VALUES];
    for (int v = 0; v < p->values; v++) value[v] = blocks[v];
    for (int s = 0; s < r->constants; s++)
        r->kernels->steps[MG_OP_CONST](tile, value[code[s].dst], NULL, NULL, NULL, code[s].k, 0);

    for (int64_t at = begin; at < end; at += tile) {
        const int n = (int)(end - at < tile ? end - at : tile), padded = (n + LINE_ELEMENTS - 1) / LINE_ELEMENTS * LINE_ELEMENTS;
        for (int v = 0; v < numbers; v++) {
            const int bytes = p->is_bool[v] ? 1 : size;
            char *from = v == given ? (char *)(uintptr_t)there + (at - begin) * bytes : r->array[v] + at * bytes;
            if (n == padded && !p->is_bool[v]) value[v] = from;
            else if (v < p->inputs) {
                value[v] = blocks[v];
                if (p->is_bool[v]) r->kernels->from_bool(n, (const uint8_t *)from, blocks[v]);
                else memcpy(blocks[v], from, (size_t)(n * size));
                memset(blocks[v] + n * size, 0, (size_t)((padded - n) * size));
            } else value[v] = blocks[v];
        }
        for (int s = r->constants; s < p->steps; s++) {
            const struct mg_step *q = &code[s];
            r->kernels->steps[q->op](padded, value[q->dst], value[q->a], value[q->b], value[q->c], q->k, q->k2);
        }
        for (int v = p->inputs; v < numbers; v++) {
            if (p->is_bool[v]) r->kernels->to_bool(n, blocks[v], (uint8_t *)r->array[v] + at);
            else if (n != padded) memcpy(r->array[v] + at * size, blocks[v], (size_t)(n * size));
        }
    }
}

struct job {
    const struct mg_lanes *l;
    const struct mg_operand *operand;
    void *const *memory;
};

static void run_part(const struct job *j, int lane, int64_t begin, int64_t end) {
    const struct mg_lanes *l = j->l;
    struct lane r;
    prepare(&r, l, j->operand + lane * (l->program->inputs + l->program->outputs + l->scalars), j->memory);
    run_lane(&r, begin, end, -1, NULL);
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
    run_part(j, low, begin, begin + (rest < MG_LANE_CHUNK ? rest : MG_LANE_CHUNK));
}

int mg_do_lanes(const struct mg_lanes *l, const struct mg_operand *operand, void *const *memory) {
    if (l->program->steps > MG_MAX_PATCHED) return MG_EARG;
    struct job j = {l, operand, memory};
    int64_t total = 0;
    for (int lane = 0; lane < l->lanes; lane++) total += l->n[lane];
    if (total <= ALONE) for (int lane = 0; lane < l->lanes; lane++) run_part(&j, lane, 0, l->n[lane]);
    else mg_parallel(chunk, &j, (int)l->first[l->lanes]);
    return MG_OK;
}

/* --- right behind a product ----------------------------------------------------------------------------------------- */

struct behind {
    struct lane lane;
    int input;                     /* the one that the product is */
    int64_t n;                     /* columns of it */
};

static void rows_done(const void *arg, int64_t at, int64_t rows, int64_t columns, const void *c) {
    const struct behind *b = arg;
    if (columns == b->n) columns *= rows, rows = 1;   /* they follow each other */
    for (int64_t r = 0; r < rows; r++, at += b->n)
        run_lane(&b->lane, at, at + columns, b->input, (const char *)c + r * columns * b->lane.size);
}

int mg_do_product(const struct mg_product *p, const struct mg_operand *operand, void *const *memory) {
    if (p->lanes.program->steps > MG_MAX_PATCHED || p->lanes.program->type != p->gemm.type) return MG_EARG;
    struct behind b;
    prepare(&b.lane, &p->lanes, operand + 2 + p->has_bias, memory);
    b.input = p->input, b.n = p->gemm.n;
    const struct mg_then then = {rows_done, &b};
    const void *factor = p->gemm.packed_b ? p->gemm.b : mg_at(memory, &operand[1]);   /* the descriptor has it if packed */
    return mg_gemm_at(&p->gemm, mg_at(memory, &operand[0]), factor, NULL, p->has_bias ? mg_at(memory, &operand[2]) : NULL, &then);
}
