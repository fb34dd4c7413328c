/* Sparse matrices times dense ones, their transposes, and rows picked or added by index. */
#include "check.h"

static int64_t at(int wide, const void *x, int64_t i) { return wide ? ((const int64_t *)x)[i] : ((const int32_t *)x)[i]; }
static void set(int wide, void *x, int64_t i, int64_t v) {
    if (wide) ((int64_t *)x)[i] = v;
    else ((int32_t *)x)[i] = (int32_t)v;
}

static void matrix(int type, int wide, int64_t rows, int64_t columns, int64_t features, int most, int valued) {
    const size_t index_size = wide ? 8 : 4, out = (size_t)(rows * features) * size_of(type);
    void *starts = space((size_t)(rows + 1) * index_size), *t_starts = space((size_t)(columns + 1) * index_size);
    int64_t nonzeros = 0;
    for (int64_t r = 0; r <= rows; r++) {
        set(wide, starts, r, nonzeros);
        if (r < rows && columns > 0) nonzeros += pick(0, 3) ? pick(0, most) : 0;
    }
    void *index = space((size_t)nonzeros * index_size), *t_index = space((size_t)nonzeros * index_size);
    void *values = valued ? fresh(type, nonzeros) : NULL, *t_values = valued ? numbers(type, nonzeros) : NULL;
    for (int64_t k = 0; k < nonzeros; k++) set(wide, index, k, pick(0, columns - 1));
    void *x = fresh(type, columns * features), *y = numbers(type, rows * features), *first = numbers(type, rows * features);
    CHECK(mg_csr_check(wide, rows, columns, nonzeros, starts, index) == MG_OK, "a good matrix");
    FOR_EACH_SETTING {
        blank(y, out);
        CHECK(mg_spmm(type, wide, rows, features, starts, index, values, x, y) == MG_OK, "status");
        same_bits(first, y, out, "product");
        for (int64_t r = 0; r < rows; r++)
            for (int64_t f = 0; f < features; f++) {
                double sum = 0, size = 0;
                for (int64_t k = at(wide, starts, r); k < at(wide, starts, r + 1); k++) {
                    const double term = (valued ? get(type, values, k) : 1) * get(type, x, at(wide, index, k) * features + f);
                    sum += term, size += fabs(term);
                }
                CHECK(near(type, get(type, y, r * features + f), sum, 20 * epsilon(type) * size), "%ldx%ld by %ld: [%ld][%ld]", (long)rows,
                      (long)columns, (long)features, (long)r, (long)f);
            }
    }
    CHECK(mg_csr_transpose(type, wide, rows, columns, starts, index, values, t_starts, t_index, t_values) == MG_OK, "status");
    CHECK(mg_csr_check(wide, columns, rows, nonzeros, t_starts, t_index) == MG_OK, "the transpose");
    int64_t *used = calloc((size_t)columns + 1, sizeof *used);
    CHECK(used, "memory");
    for (int64_t r = 0; r < rows; r++)   /* in order */
        for (int64_t k = at(wide, starts, r); k < at(wide, starts, r + 1); k++) {
            const int64_t c = at(wide, index, k), to = at(wide, t_starts, c) + used[c]++;
            CHECK(at(wide, t_index, to) == r && (!valued || get(type, t_values, to) == get(type, values, k)), "nonzero %ld", (long)k);
        }
    free(used);
    if (nonzeros > 0) {
        set(wide, index, nonzeros - 1, columns);
        CHECK(mg_csr_check(wide, rows, columns, nonzeros, starts, index) == MG_EARG, "a column out of range");
        set(wide, index, nonzeros - 1, 0), set(wide, starts, 0, 1);
        CHECK(mg_csr_check(wide, rows, columns, nonzeros, starts, index) == MG_EARG, "a first row that does not begin at 0");
    }
    drop(starts), drop(t_starts), drop(index), drop(t_index), drop(x), drop(y), drop(first);
    if (valued) drop(values), drop(t_values);
}

static void picked(int type, int64_t n, int64_t rows, int64_t width) {
    const int64_t size = (int64_t)size_of(type);
    int64_t *index = space((size_t)n * 8);
    for (int64_t i = 0; i < n; i++) index[i] = pick(0, rows - 1);
    void *x = fresh(type, rows * width), *y = numbers(type, n * width), *sum = numbers(type, rows * width), *first = numbers(type, rows * width);
    double *want = calloc((size_t)(rows * width) + 1, sizeof *want);
    CHECK(want, "memory");
    FOR_EACH_SETTING {
        blank(y, (size_t)(n * width * size));
        CHECK(mg_gather_rows(n, rows, width * size, index, x, y) == MG_OK, "status");
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < width; j++) CHECK(get(type, y, i * width + j) == get(type, x, index[i] * width + j), "row %ld", (long)i);
        memcpy(sum, x, (size_t)(rows * width * size));
        for (int64_t i = 0; i < rows * width; i++) want[i] = get(type, x, i);
        for (int64_t i = 0; i < n * width; i++) want[index[i / width] * width + i % width] += get(type, y, i);
        CHECK(mg_scatter_add_rows(type, n, rows, width, index, y, sum) == MG_OK, "status");
        same_bits(first, sum, (size_t)(rows * width * size), "scattered");
        for (int64_t i = 0; i < rows * width; i++)
            CHECK(near(type, get(type, sum, i), want[i], 4 * epsilon(type) * ((double)n + fabs(want[i]))), "element %ld", (long)i);
        if (n > 0) {
            const int64_t was = index[n - 1];
            index[n - 1] = rows;
            CHECK(mg_gather_rows(n, rows, width * size, index, x, y) == MG_EARG && mg_scatter_add_rows(type, n, rows, width, index, y, sum) == MG_EARG,
                  "an index out of range");
            index[n - 1] = was;
        }
    }
    free(want);
    drop(index), drop(x), drop(y), drop(sum), drop(first);
}

void check_sparse(void) {
    static const int64_t features[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 127, 128, 129, 255};
    for (int type = MG_F32; type <= MG_F64; type++)
        for (int wide = 0; wide < 2; wide++) {
            for (int f = 0; f < COUNT(features) && !RACES; f++) {
                matrix(type, wide, 13, 9, features[f], 11, f % 3 > 0);
                picked(type, f, 1 + f % 5, features[f]);
            }
            matrix(type, wide, 0, 5, 3, 4, 1);
            matrix(type, wide, 5, 0, 3, 4, 1);
            matrix(type, wide, 300, 200, 70, 20, 1);
            picked(type, 700, 100, 65);
            picked(type, 9000, 3, 20);
        }
    const int64_t none[1] = {0};
    CHECK(mg_gather_rows(-1, 1, 1, none, NULL, NULL) == MG_ESIZE && mg_spmm(MG_F32, 1, -1, 1, none, NULL, NULL, NULL, NULL) == MG_ESIZE, "status");
}
