/* Sampling the neighbourhood of some nodes, hop by hop.
 *
 * Contract.   As in minigrad.h. Of every node of a hop at most fanout neighbours are drawn without replacement (fanout < 0:
 *             all). What is drawn depends on the seed and the node alone, not on the order or the number of threads: node v
 *             in hop h draws from the Philox stream of the seed at a block that is a function of (h, v), so that batches can
 *             be made in any order.
 * Source.     Hamilton, Ying & Leskovec 2017 (arXiv 1706.02216); sampling without replacement by Floyd's algorithm (Bentley &
 *             Floyd, CACM 30, 1987), which needs as many random numbers as it draws.
 * Budget.     One table of the size of the graph maps nodes to their place in the batch. It belongs to the caller, who keeps it
 *             from batch to batch; it is left as it was found, all -1, without being swept. */
#include "isa.h"

enum { WORDS = 64 };

struct stream {
    uint64_t key, block;
    int at;
    uint32_t words[WORDS];
};

/* A whole number in 0 .. n - 1, by Lemire's multiplication (arXiv 1805.10941), without bias. */
static uint32_t below(struct stream *s, uint32_t n) {
    for (;;) {
        if (s->at == WORDS) {
            mg_table()->philox(s->key, s->block, WORDS / 4, s->words);
            s->block += WORDS / 4;
            s->at = 0;
        }
        const uint64_t product = (uint64_t)s->words[s->at++] * n;
        if ((uint32_t)product >= n || (uint32_t)product >= -n % n) return (uint32_t)(product >> 32);
    }
}

/* The place of a node in the batch, given one if it has none. */
static int32_t place(struct mg_sample *b, int32_t node) {
    int32_t at = b->local[node];
    if (at < 0) {
        at = b->local[node] = (int32_t)b->nodes_found++;
        b->nodes[at] = node;
    }
    return at;
}

static void take(struct mg_sample *b, int64_t k) {
    b->edges[b->edges_found] = (int32_t)k;
    b->sources[b->edges_found++] = place(b, b->index[k]);
}

static void draw(struct mg_sample *b, struct stream *s, int64_t first, uint32_t degree, uint32_t fanout) {
    const int64_t begin = b->edges_found;
    for (uint32_t j = degree - fanout; j < degree; j++) {   /* Floyd: t, or j itself where t is there already */
        const uint32_t t = below(s, j + 1);
        int64_t edge = first + t;
        for (int64_t e = begin; e < b->edges_found; e++)
            if (b->edges[e] == edge) {
                edge = first + j;
                break;
            }
        take(b, edge);
    }
}

int mg_sample_neighbors(struct mg_sample *b) {
    int status = MG_OK;
    b->nodes_found = b->edges_found = 0;
    for (int64_t i = 0; i < b->seeds_given; i++) {
        if (b->seeds[i] < 0 || b->seeds[i] >= b->rows || b->local[b->seeds[i]] >= 0) {
            status = MG_EARG;
            break;
        }
        place(b, b->seeds[i]);
    }
    int64_t begin = 0;
    b->starts[0] = 0;
    for (int hop = 0; hop < b->hops && status == MG_OK; hop++) {
        const int64_t end = b->nodes_found;
        for (int64_t v = begin; v < end; v++) {
            const int32_t node = b->nodes[v];
            const int64_t first = b->starts_of[node], degree = b->starts_of[node + 1] - first;
            const int64_t wanted = b->fanouts[hop] < 0 || b->fanouts[hop] > degree ? degree : b->fanouts[hop];
            if (b->edges_found + wanted > b->edges_room || b->nodes_found + wanted > b->nodes_room) {
                status = MG_ENOMEM;
                break;
            }
            if (wanted == degree)
                for (int64_t k = first; k < first + degree; k++) take(b, k);
            else {
                /* 2^20 blocks for each node in each hop: more than any fanout uses */
                struct stream s = {.key = b->seed, .block = ((uint64_t)hop << 52) | ((uint64_t)(uint32_t)node << 20), .at = WORDS};
                draw(b, &s, first, (uint32_t)degree, (uint32_t)wanted);
            }
            b->starts[v + 1] = (int32_t)b->edges_found;
        }
        begin = end;
        b->nodes_after[hop] = b->nodes_found;
    }
    for (int64_t v = begin; v < b->nodes_found && status == MG_OK; v++) b->starts[v + 1] = (int32_t)b->edges_found;
    for (int64_t v = 0; v < b->nodes_found; v++) b->local[b->nodes[v]] = -1;
    return status;
}
