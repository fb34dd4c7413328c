/* One elementwise program over many tensors: what an optimizer does to all parameters, in one pass over memory.
 *
 * Contract.   As struct mg_lanes in minigrad.h. Every element is computed on its own, so chunks and threads do not change the
 *             result.
 * Idea.       As the tile machine (elementwise/program.c): every step of the program on a block in L1 before the next block.
 *             Learning rates and bias corrections are values of the program too, different for each tensor and each call;
 *             written into the immediates of a copy of the code, they cost nothing in the loop.
 * Budget.     A chunk is MG_LANE_CHUNK elements, about 5 us; up to ALONE elements, waking somebody costs more than it saves. */
#include "../isa.h"
#include "../pool.h"
#include "program.h"

#include <string.h>

/* steps take whole vectors, four of any table */
enum { ALONE = 2 * MG_LANE_CHUNK, LINE_ELEMENTS = 64 };

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
    for (int v = 0; v < p->values; v++) value[v] = blocks[v];
    for (int v = 0; v < numbers; v++) array[v] = mg_at(j->memory, &operand[v]);
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
