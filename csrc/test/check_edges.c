/* The edges of graphs: products with heads, products sampled at edges, maximum, softmax, rows taken, grouping; and samples
 * of neighbourhoods. */
#include "check.h"

/* A graph of targets and sources with empty rows, edges that occur twice, and one row that has many. */
static int64_t graph(int64_t rows, int64_t columns, int most, int32_t **starts, int32_t **index) {
    *starts = space((size_t)(rows + 1) * 4);
    int64_t n = 0;
    for (int64_t r = 0; r <= rows; r++) {
        (*starts)[r] = (int32_t)n;
        if (r < rows && columns > 0) n += r == rows / 2 ? 3 * most : pick(0, 3) ? pick(0, most) : 0;
    }
    *index = space((size_t)n * 4);
    for (int64_t k = 0; k < n; k++) (*index)[k] = (int32_t)pick(0, columns - 1);
    return n;
}

static void products(int type, int64_t rows, int64_t columns, int64_t heads, int64_t features, int most) {
    int32_t *starts, *index;
    const int64_t n = graph(rows, columns, most, &starts, &index), stride = heads * features;
    void *values = fresh(type, n * heads), *x = fresh(type, columns * stride), *left = fresh(type, rows * stride);
    void *y = numbers(type, rows * stride), *first = numbers(type, rows * stride);
    void *v = numbers(type, n * heads), *first_v = numbers(type, n * heads);
    FOR_EACH_SETTING {
        blank(y, (size_t)(rows * stride) * size_of(type));
        blank(v, (size_t)(n * heads) * size_of(type));
        CHECK(mg_spmm_heads(type, rows, heads, features, starts, index, values, x, y) == MG_OK, "status");
        CHECK(mg_sddmm(type, rows, heads, features, starts, index, left, x, v) == MG_OK, "status");
        same_bits(first, y, (size_t)(rows * stride) * size_of(type), "product");
        same_bits(first_v, v, (size_t)(n * heads) * size_of(type), "sampled product");
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < stride; i++) {
                double sum = 0, size = 0;
                for (int64_t k = starts[r]; k < starts[r + 1]; k++) {
                    const double term = get(type, values, k * heads + i / features) * get(type, x, index[k] * stride + i);
                    sum += term, size += fabs(term);
                }
                CHECK(near(type, get(type, y, r * stride + i), sum, 80 * epsilon(type) * size), "[%ld][%ld]", (long)r, (long)i);
            }
        for (int64_t r = 0; r < rows; r++)
            for (int64_t k = starts[r]; k < starts[r + 1]; k++)
                for (int64_t h = 0; h < heads; h++) {
                    double sum = 0, size = 0;
                    for (int64_t f = h * features; f < (h + 1) * features; f++) {
                        const double term = get(type, left, r * stride + f) * get(type, x, index[k] * stride + f);
                        sum += term, size += fabs(term);
                    }
                    CHECK(near(type, get(type, v, k * heads + h), sum, 80 * epsilon(type) * size), "edge %ld, head %ld", (long)k, (long)h);
                }
    }
    drop(starts), drop(index), drop(values), drop(x), drop(left), drop(y), drop(first), drop(v), drop(first_v);
}

/* Maximum over neighbours; softmax over edges that are in order, or not; rows that are taken. */
static void neighbours(int type, int64_t rows, int64_t columns, int64_t width, int most) {
    int32_t *starts, *index;
    const int64_t n = graph(rows, columns, most, &starts, &index), size = (int64_t)size_of(type);
    int32_t *places = space((size_t)n * 4);
    for (int64_t k = 0; k < n; k++) places[k] = (int32_t)k;
    void *x = fresh(type, columns * width), *y = numbers(type, rows * width), *first = numbers(type, rows * width);
    void *e = fresh(type, n * width), *p = numbers(type, n * width), *first_p = numbers(type, n * width);
    for (int shuffled = 0; shuffled < 2; shuffled++) {
        for (int64_t k = n - 1; shuffled && k > 0; k--) {
            const int64_t other = pick(0, k);
            const int32_t was = places[k];
            places[k] = places[other], places[other] = was;
        }
        FOR_EACH_SETTING {
            blank(y, (size_t)(rows * width * size));
            blank(p, (size_t)(n * width * size));
            CHECK(mg_segment_max(type, rows, width, starts, index, x, y) == MG_OK, "status");
            CHECK(mg_segment_softmax(type, rows, width, starts, places, e, p) == MG_OK, "status");
            same_bits(first, y, (size_t)(rows * width * size), "maximum");
            same_bits(first_p, p, (size_t)(n * width * size), "softmax");
            for (int64_t r = 0; r < rows; r++)
                for (int64_t f = 0; f < width; f++) {
                    double top = starts[r] < starts[r + 1] ? -INFINITY : 0;
                    long double sum = 0;   /* of thousands of terms, for a result that is double itself */
                    for (int64_t k = starts[r]; k < starts[r + 1]; k++) {
                        top = fmax(top, get(type, x, index[k] * width + f));
                        sum += exp(get(type, e, places[k] * width + f));
                    }
                    CHECK(get(type, y, r * width + f) == top, "maximum [%ld][%ld]", (long)r, (long)f);
                    for (int64_t k = starts[r]; k < starts[r + 1]; k++) {
                        const double want = (double)(exp(get(type, e, places[k] * width + f)) / sum);
                        CHECK(near(type, get(type, p, places[k] * width + f), want, 16 * epsilon(type) * want), "softmax, edge %ld", (long)k);
                    }
                }
            blank(p, (size_t)(n * width * size));
            CHECK(mg_take_rows(n, width * size, index, x, p) == MG_OK, "status");
            for (int64_t k = 0; k < n; k++)
                for (int64_t f = 0; f < width; f++)
                    CHECK(get(type, p, k * width + f) == get(type, x, index[k] * width + f), "taken %ld", (long)k);
        }
    }
    drop(starts), drop(index), drop(places), drop(x), drop(y), drop(first), drop(e), drop(p), drop(first_p);
}

static void groups(int64_t n, int64_t bound) {
    int32_t *keys = space((size_t)n * 4), *starts = space((size_t)(bound + 1) * 4), *order = space((size_t)n * 4);
    for (int64_t i = 0; i < n; i++) keys[i] = (int32_t)pick(0, bound - 1);
    CHECK(mg_group(n, bound, keys, starts, order) == MG_OK, "status");
    CHECK(starts[0] == 0 && starts[bound] == n, "ends");
    for (int64_t b = 0; b < bound; b++)
        for (int64_t i = starts[b]; i < starts[b + 1]; i++)
            CHECK(keys[order[i]] == b && (i == starts[b] || order[i - 1] < order[i]), "place %ld", (long)i);
    if (n > 0) {
        keys[n - 1] = (int32_t)bound;
        CHECK(mg_group(n, bound, keys, starts, order) == MG_EARG, "a key out of range");
        keys[n - 1] = -1;
        CHECK(mg_group(n, bound, keys, starts, order) == MG_EARG, "a negative key");
    }
    drop(keys), drop(starts), drop(order);
}

/* Every node of a hop has as many edges as it should, each of them its own and none twice; arrays have no room to spare. */
static void samples(int64_t rows, int most, int64_t given, const int64_t *fanouts, int hops) {
    int32_t *starts, *index;
    const int64_t n = graph(rows, rows, most, &starts, &index);
    int32_t *local = space((size_t)rows * 4), *seeds = space((size_t)given * 4);
    for (int64_t v = 0; v < rows; v++) local[v] = -1;
    for (int64_t i = 0; i < given; i++) seeds[i] = (int32_t)(i * rows / given);
    int64_t *after = space((size_t)hops * 8), *wide = space((size_t)hops * 8);
    memcpy(wide, fanouts, (size_t)hops * 8);
    const int64_t room = rows + n;
    struct mg_sample b = {.rows = rows, .seeds_given = given, .nodes_room = room, .edges_room = n, .hops = hops, .seed = 7,
                          .starts_of = starts, .index = index, .seeds = seeds, .fanouts = wide, .local = local,
                          .nodes = space((size_t)room * 4), .starts = space((size_t)(room + 1) * 4),
                          .sources = space((size_t)n * 4), .edges = space((size_t)n * 4), .nodes_after = after};
    CHECK(mg_sample_neighbors(&b) == MG_OK, "status");
    int64_t v = 0, end = given;
    for (int hop = 0; hop < hops; hop++) {
        for (; v < end; v++) {
            const int32_t node = b.nodes[v];
            const int64_t degree = starts[node + 1] - starts[node], found = b.starts[v + 1] - b.starts[v];
            CHECK(found == (wide[hop] < 0 || wide[hop] > degree ? degree : wide[hop]), "node %d has %ld edges", node, (long)found);
            for (int64_t k = b.starts[v]; k < b.starts[v + 1]; k++) {
                CHECK(b.edges[k] >= starts[node] && b.edges[k] < starts[node + 1], "edge %d", b.edges[k]);
                CHECK(b.nodes[b.sources[k]] == index[b.edges[k]], "source of edge %d", b.edges[k]);
                for (int64_t j = b.starts[v]; j < k; j++) CHECK(b.edges[j] != b.edges[k], "edge %d twice", b.edges[k]);
            }
        }
        end = after[hop];
    }
    CHECK(end == b.nodes_found, "nodes");
    for (; v < end; v++) CHECK(b.starts[v + 1] == b.edges_found, "a node of the last hop");
    for (int64_t u = 0; u < rows; u++) CHECK(local[u] == -1, "the table is left as it was");
    const int64_t edges = b.edges_found;
    if (edges > 0) {
        b.edges_room = edges - 1;
        CHECK(mg_sample_neighbors(&b) == MG_ENOMEM, "one edge too few");
        for (int64_t u = 0; u < rows; u++) CHECK(local[u] == -1, "the table after a failure");
        b.edges_room = n;
    }
    seeds[given - 1] = (int32_t)rows;
    CHECK(mg_sample_neighbors(&b) == MG_EARG, "a seed out of range");
    seeds[given - 1] = seeds[0];
    if (given > 1) CHECK(mg_sample_neighbors(&b) == MG_EARG, "a seed twice");
    drop(b.nodes), drop(b.starts), drop(b.sources), drop(b.edges);
    drop(starts), drop(index), drop(local), drop(seeds), drop(after), drop(wide);
}

void check_edges(void) {
    static const int64_t features[] = {1, 3, 4, 7, 8, 9, 16, 17, 33, 65, 70};
    for (int type = MG_F32; type <= MG_F64; type++) {
        for (int f = 0; f < COUNT(features) && !RACES; f++) {
            products(type, 13, 9, 1 + f % 3, features[f], 9);
            neighbours(type, 13, 9, features[f], 9);
        }
        for (int heads = 1; heads <= 15 && !RACES; heads += 7) products(type, 9, 7, heads, heads, 6);
        products(type, 0, 3, 2, 3, 4);
        products(type, 4, 0, 2, 3, 4);
        products(type, 300, 200, 2, 33, 20);
        neighbours(type, 0, 3, 2, 4);
        neighbours(type, 300, 200, 17, 20);
        neighbours(type, 600, 200, 1, 20);
        if (!RACES) neighbours(type, 5, 200, 1, 1500), neighbours(type, 5, 200, 3, 700);   /* softmax of long rows */
    }
    groups(0, 3), groups(1, 1), groups(500, 37);
    samples(60, 9, 5, (const int64_t[]){3, 2}, 2);
    samples(60, 9, 1, (const int64_t[]){-1}, 1);
    samples(200, 40, 8, (const int64_t[]){10, 0, 4}, 3);
    samples(200, 6, 20, (const int64_t[]){100, -1}, 2);
    CHECK(mg_sddmm(9, 1, 1, 1, NULL, NULL, NULL, NULL, NULL) == MG_EARG, "an unknown type");
    CHECK(mg_spmm_heads(MG_F32, -1, 1, 1, NULL, NULL, NULL, NULL, NULL) == MG_ESIZE, "a negative size");
    CHECK(mg_take_rows(-1, 1, NULL, NULL, NULL) == MG_ESIZE && mg_group(-1, 1, NULL, NULL, NULL) == MG_ESIZE, "a negative size");
}
