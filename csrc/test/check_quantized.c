/* Integers: products, convolutions, poolings and all that is done to codes, bit by bit against the rule written plainly. */
#include "check.h"

static uint8_t *codes(int64_t n) {
    uint8_t *x = space((size_t)n);
    for (int64_t i = 0; i < n; i++) x[i] = (uint8_t)pick(0, 255);
    return x;
}
static int8_t *weights(int64_t n) {
    int8_t *w = space((size_t)n);
    for (int64_t i = 0; i < n; i++) w[i] = (int8_t)pick(-127, 127);
    return w;
}
static int8_t *packed(int64_t k, int64_t n, const int8_t *w) {
    int8_t *panels = space((size_t)mg_quantized_pack_bytes(k, n));
    CHECK(mg_quantized_pack(k, n, w, 1, k, panels) == MG_OK, "status");
    return panels;
}

/* What becomes of a sum, and whether y is that. */
static void expect(const struct mg_requantize *q, int32_t sum, float scale, float offset, const void *y, int64_t at) {
    volatile float v = (float)sum * scale;   /* volatile: no operation is joined with the next one */
    if (q->to_float) {
        v = v + offset;
        if (v <= q->least) v = q->least;
        if (v >= q->most) v = q->most;
        const float got = ((const float *)y)[at];
        CHECK(memcmp(&got, (const void *)&v, 4) == 0, "element %ld: %g, not %g", (long)at, (double)got, (double)v);
    } else {
        v = rintf(v) + (float)q->zero;
        const int want = v < (float)q->low ? q->low : v > (float)q->high ? q->high : (int)v;
        CHECK(((const uint8_t *)y)[at] == want, "element %ld: %d, not %d", (long)at, ((const uint8_t *)y)[at], want);
    }
}

static struct mg_requantize rule(int to_float, float *scale, int64_t n, float *offset) {
    for (int64_t j = 0; j < n; j++) scale[j] = (float)(0.002 + 0.001 * draw()), offset[j] = (float)draw();
    return (struct mg_requantize){.scale = scale, .offset = to_float ? offset : NULL, .to_float = to_float, .zero = 100,
                                  .low = to_float ? 0 : 60, .high = 250, .least = -2, .most = to_float == 2 ? 3 : INFINITY};
}

static void product(int64_t m, int64_t n, int64_t k, int to_float, int headers, int zero, int extreme) {
    const int64_t rsx = k + (headers ? 8 : 0);
    uint8_t *x = codes(m * rsx);
    int8_t *w = weights(n * k);
    if (extreme) memset(x, 255, (size_t)(m * rsx)), memset(w, 127, (size_t)(n * k));
    int8_t *panels = packed(k, n, w);
    int32_t *bias = space((size_t)n * 4);
    float *scale = space((size_t)n * 4), *offset = space((size_t)n * 4);
    for (int64_t j = 0; j < n; j++) bias[j] = (int32_t)pick(-9999, 9999);
    struct mg_requantize then = rule(to_float, scale, n, offset);
    float *own = space((size_t)m * 4);
    int32_t *zeros = space((size_t)m * 4);
    for (int64_t i = 0; i < m && headers; i++) {
        own[i] = (float)(1 + 0.5 * draw()), zeros[i] = (int32_t)pick(0, 255);
        memcpy(x + i * rsx, &own[i], 4), memcpy(x + i * rsx + 4, &zeros[i], 4);
    }
    void *y = space((size_t)(m * n) * (to_float ? 4 : 1));
    const struct mg_quantized_gemm g = {.m = m, .n = n, .k = k, .rsx = rsx, .rsy = n, .x = x + (headers ? 8 : 0), .w = panels,
                                        .bias = to_float ? NULL : bias, .y = y, .zero = zero, .headers = headers, .then = then};
    CHECK(mg_quantized_gemm(&g) == MG_OK, "status");
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            int64_t sum = to_float ? 0 : bias[j];
            for (int64_t p = 0; p < k; p++) sum += (g.x[i * rsx + p] - (headers ? zeros[i] : zero)) * w[j * k + p];
            volatile float both = headers ? own[i] * scale[j] : scale[j];
            expect(&then, (int32_t)sum, both, offset[j], y, i * n + j);
        }
    drop(x), drop(w), drop(panels), drop(bias), drop(scale), drop(offset), drop(own), drop(zeros), drop(y);
}

static void convolution(int64_t ci, int64_t co, int64_t groups, int64_t size, int64_t kernel, int64_t stride, int64_t dilation,
                        int64_t pad, int to_float) {
    enum { N = 2 };
    const int64_t h = size, w = size + 1, each = ci / groups, out = co / groups, k = kernel * kernel * each;
    struct mg_quantized_conv c = {.n = N, .ci = ci, .co = co, .groups = groups, .h = h, .w = w, .kh = kernel, .kw = kernel,
                                  .stride = {stride, 1}, .dilation = {dilation, 1}, .pad = {pad, 0, pad, pad}, .zero = 77};
    c.oh = (h + pad - dilation * (kernel - 1) - 1) / stride + 1, c.ow = w + 2 * pad - kernel + 1;
    uint8_t *x = codes(N * h * w * ci);
    int8_t *weight = weights(co * k);
    const int depthwise = groups == ci && groups == co && groups > 1;
    const int64_t parts = depthwise ? 1 : groups, one = mg_quantized_pack_bytes(k, co / parts);
    int8_t *panels = space((size_t)(one * parts));
    for (int64_t g = 0; g < parts; g++)
        CHECK(mg_quantized_pack(k, co / parts, weight + g * co / parts * k, 1, k, panels + g * one) == MG_OK, "status");
    float *scale = space((size_t)co * 4), *offset = space((size_t)co * 4);
    int32_t *bias = space((size_t)co * 4);
    for (int64_t j = 0; j < co; j++) bias[j] = (int32_t)pick(-999, 999);
    void *y = space((size_t)(N * c.oh * c.ow * co) * (to_float ? 4 : 1));
    c.x = x, c.weights = panels, c.bias = to_float ? NULL : bias, c.y = y, c.then = rule(to_float, scale, co, offset);
    CHECK(mg_quantized_conv2d(&c) == MG_OK, "status");
    for (int64_t at = 0; at < N * c.oh * c.ow * co; at++) {
        const int64_t o = at % co, ox = at / co % c.ow, oy = at / co / c.ow % c.oh, n = at / co / c.ow / c.oh;
        int64_t sum = to_float ? 0 : bias[o];
        for (int64_t p = 0; p < k; p++) {
            const int64_t row = oy * stride - pad + p / each / kernel * dilation, column = ox - pad + p / each % kernel;
            if (row < 0 || row >= h || column < 0 || column >= w) continue;
            sum += (x[((n * h + row) * w + column) * ci + o / out * each + p % each] - 77) * weight[o * k + p];
        }
        expect(&c.then, (int32_t)sum, scale[o], offset[o], y, at);
    }
    drop(x), drop(weight), drop(panels), drop(scale), drop(offset), drop(bias), drop(y);
}

static void pooling(int64_t channels, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
    enum { N = 2, H = 6, W = 5 };
    const int64_t reach = dilation * (kernel - 1) + 1;
    struct mg_quantized_pool p = {.n = N, .c = channels, .h = H, .w = W, .kh = kernel, .kw = kernel, .stride = {stride, 1},
                                  .dilation = {dilation, dilation}, .pad = {pad, pad}, .zero = 9};
    p.oh = (H + 2 * pad - reach) / stride + 1, p.ow = W + 2 * pad - reach + 1;
    uint8_t *x = codes(N * H * W * channels), *most = space((size_t)(N * p.oh * p.ow * channels));
    uint8_t *mean = space((size_t)(N * p.oh * p.ow * channels));
    CHECK(mg_quantized_max_pool2d(&p, x, most) == MG_OK, "status");
    if (dilation == 1) CHECK(mg_quantized_avg_pool2d(&p, x, mean) == MG_OK, "status");
    for (int64_t at = 0; at < N * p.oh * p.ow * channels; at++) {
        const int64_t c = at % channels, ox = at / channels % p.ow, oy = at / channels / p.ow % p.oh;
        int sum = 0, largest = 0, count = 0;
        for (int64_t t = 0; t < kernel * kernel; t++) {
            const int64_t row = oy * stride - pad + t / kernel * dilation, column = ox - pad + t % kernel * dilation;
            if (row < 0 || row >= H || column < 0 || column >= W) continue;
            const int v = x[((at / channels / p.ow / p.oh * H + row) * W + column) * channels + c];
            sum += v - 9, count++;
            if (v > largest) largest = v;
        }
        CHECK(most[at] == largest, "maximum %ld: %d, not %d", (long)at, most[at], largest);
        volatile float r = 1.0f / (float)count, v = (float)sum * r;
        if (dilation == 1) CHECK(mean[at] == (int)(rintf(v) + 9), "mean %ld", (long)at);
    }
    drop(x), drop(most), drop(mean);
}

static void one_by_one(int64_t n) {
    float *x = fresh(MG_F32, n), *z = space((size_t)n * 4);
    uint8_t *a = codes(n), *b = codes(n), *y = space((size_t)n), *table = codes(256), *rows = space((size_t)n + 8);
    if (n > 3) x[0] = NAN, x[1] = INFINITY, x[2] = -1e30f, x[3] = 0.5f / 64;
    CHECK(mg_quantize(n, x, 64, 30, y) == MG_OK, "status");
    for (int64_t i = 0; i < n; i++) {
        const float v = rintf(x[i] * 64) + 30;
        CHECK(y[i] == (v > 0 ? v < 255 ? (int)v : 255 : 0), "quantize %ld: %d of %g", (long)i, y[i], (double)x[i]);
    }
    CHECK(mg_dequantize(n, a, 0.3f, 30, z) == MG_OK, "status");
    for (int64_t i = 0; i < n; i++) CHECK(z[i] == (float)(a[i] - 30) * 0.3f, "dequantize");
    const struct mg_quantized_add q = {0.7f, 0.45f, 3, 200, 99, 20, 240};
    CHECK(mg_quantized_add(&q, n, a, b, y) == MG_OK, "status");
    for (int64_t i = 0; i < n; i++) {
        volatile float v = (float)(a[i] - 3) * 0.7f, w = (float)(b[i] - 200) * 0.45f, s = v + w;
        const int want = (int)rintf(s) + 99;
        CHECK(y[i] == (want < 20 ? 20 : want > 240 ? 240 : want), "add %ld", (long)i);
    }
    CHECK(mg_quantized_lookup(n, a, table, y) == MG_OK, "status");
    for (int64_t i = 0; i < n; i++) CHECK(y[i] == table[a[i]], "look-up");
    if (n > 3) {
        float scale;
        CHECK(mg_quantize_rows(1, n, x, rows) == MG_OK, "status");
        memcpy(&scale, rows, 4);
        CHECK(isnan(scale) && rows[8 + n / 2] == 0, "a row with NaN");
        x[0] = x[1] = x[2] = 0;
    }
    CHECK(mg_quantize_rows(1, n, x, rows) == MG_OK, "status");
    float low = 0, high = 0, scale;
    int32_t zero;
    for (int64_t i = 0; i < n; i++) low = fminf(low, x[i]), high = fmaxf(high, x[i]);
    memcpy(&scale, rows, 4), memcpy(&zero, rows + 4, 4);
    CHECK(scale == (high == low ? 1 : (high - low) * (float)(1.0 / 255.0)), "scale");
    const float nothing = rintf(-low * (1 / scale));
    CHECK(zero == (nothing < 255 ? (int)nothing : 255), "zero point");
    for (int64_t i = 0; i < n; i++) {
        volatile float v = x[i] * (1 / scale);
        const float r = rintf(v) + (float)zero;
        CHECK(rows[8 + i] == (r > 0 ? r < 255 ? (int)r : 255 : 0), "row %ld", (long)i);
    }
    drop(x), drop(z), drop(a), drop(b), drop(y), drop(table), drop(rows);
}

static void tables(int64_t m, int64_t n, int64_t k) {   /* float products with int8 weights; rows of a table */
    float *x = fresh(MG_F32, m * k), *scale = fresh(MG_F32, n), *bias = fresh(MG_F32, n), *y = numbers(MG_F32, m * n);
    int8_t *w = weights(n * k);
    const struct mg_weight_only g = {m, n, k, x, w, scale, bias, y};
    CHECK(mg_weight_only(&g) == MG_OK, "status");
    for (int64_t at = 0; at < m * n; at++) {
        const int64_t j = at % n;
        double sum = 0, size = 1;
        for (int64_t p = 0; p < k; p++) {
            const double term = (double)x[at / n * k + p] * w[j * k + p];
            sum += term, size += fabs(term);
        }
        const double want = sum * (double)scale[j] + (double)bias[j];
        CHECK(fabs((double)y[at] - want) <= 1e-6 * size, "element %ld", (long)at);
    }
    float *rows = numbers(MG_F32, m * k);
    int64_t *index = space((size_t)m * 8);
    for (int64_t i = 0; i < m; i++) index[i] = pick(0, n - 1);
    CHECK(mg_quantized_embedding(m, n, k, index, w, scale, rows) == MG_OK, "status");
    for (int64_t at = 0; at < m * k; at++) {
        const int64_t i = index[at / k];
        const float want = (float)w[i * k + at % k] * scale[i];
        CHECK(rows[at] == want, "row of a table");
    }
    index[m - 1] = n;
    CHECK(mg_quantized_embedding(m, n, k, index, w, scale, rows) == MG_EARG, "an index out of range");
    drop(x), drop(scale), drop(bias), drop(y), drop(w), drop(rows), drop(index);
}

static void all(void) {
    static const int64_t ms[] = {1, 2, 5, 15, 29}, ns[] = {1, 15, 16, 17, 40, 65}, ks[] = {0, 1, 3, 4, 66};
    for (int i = 0; i < COUNT(ms) && !RACES; i++)
        for (int j = 0; j < COUNT(ns); j++)
            for (int p = 0; p < COUNT(ks); p++) product(ms[i], ns[j], ks[p], (i + j + p) % 3, 0, 255 * (p % 2), 0);
    product(1, 33, 67, 1, 1, 0, 0), product(17, 33, 67, 2, 1, 0, 0), product(3, 20, 66, 0, 0, 128, 0);
    product(200, 100, 130, 0, 0, 3, 0), product(30, 700, 130, 1, 0, 3, 0);   /* on several threads */
    if (!RACES) product(2, 17, 65536, 0, 0, 0, 1), product(1, 17, 65536, 1, 0, 255, 1);
    convolution(3, 5, 1, 7, 3, 1, 1, 1, 0), convolution(8, 20, 1, 7, 3, 2, 1, 1, 1), convolution(4, 6, 2, 8, 3, 1, 2, 2, 0);
    convolution(37, 37, 37, 7, 3, 1, 1, 1, 0), convolution(5, 5, 5, 7, 2, 2, 2, 0, 2), convolution(1, 3, 1, 6, 5, 1, 1, 2, 0);
    convolution(12, 9, 1, 5, 1, 1, 1, 0, 0), convolution(64, 64, 1, 16, 3, 1, 1, 1, 0), convolution(2, 4, 2, 4, 3, 1, 1, 4, 0);
    pooling(1, 2, 2, 0, 1), pooling(37, 3, 2, 1, 1), pooling(130, 2, 1, 1, 2);
    one_by_one(1), one_by_one(67), one_by_one(300000);
    tables(1, 9, 37), tables(7, 30, 16), tables(64, 64, 70);
}

void check_quantized(void) {
    FOR_EACH_SETTING
        for (int i = 0; mg_dot_at(i) != NULL; i++) {
            CHECK(mg_set_dot(mg_dot_at(i)) == MG_OK, "%s", mg_dot_at(i));
            all();
        }
    CHECK(mg_set_dot("nonsense") == MG_EISA, "an unknown product");
    CHECK(mg_quantized_pack_bytes(INT64_MAX - 8, 16) == 0, "too many weights");
}
