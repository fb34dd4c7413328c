/* A whole program of every kind of instruction that has its kernel in program/: lanes, mixed types, copies; a product and a
 * loop between them; the instruction that fails; the times. */
#include "check.h"

enum { ARENA, A, B, Y, P0, P1, G0, G1, RATE, LABELS, OUT, BASES };
#define AT(base, offset) {base, offset}

/* p -= rate g, for two tensors, over what g was: a patched immediate, and an output that is an input. */
static void lanes(int type) {
    static const int64_t sizes[] = {37, 3 * MG_LANE_CHUNK + 5}, first[] = {0, 1, 5};
    static const struct mg_step code[] = {{MG_OP_FMA_K, 2, 1, 0, 0, 0, 0}};
    static const struct mg_patch patch[] = {{0, 0, 0, -1}};
    const struct mg_program program = {.type = type, .inputs = 2, .outputs = 1, .values = 3, .steps = 1, .code = code};
    const struct mg_lanes l = {.program = &program, .lanes = 2, .scalars = 1, .patches = 1, .patch = patch, .n = sizes, .first = first};
    static const struct mg_operand operand[] = {AT(P0, 0), AT(G0, 0), AT(P0, 0), AT(RATE, 0), AT(P1, 0), AT(G1, 0), AT(P1, 0), AT(RATE, 0)};
    const struct mg_instruction i = {.kernel = MG_DO_LANES, .operands = 8, .operand = operand, .attributes = &l};
    const struct mg_code c = {.instructions = &i, .count = 1};
    void *memory[BASES] = {0};
    void *g[2], *p[2];
    int failed = -1;
    int64_t ns = 0;
    for (int t = 0; t < 2; t++) {
        memory[P0 + t] = p[t] = fresh(type, sizes[t]);
        memory[G0 + t] = g[t] = fresh(type, sizes[t]);
    }
    void *before[2] = {copy_of(type, sizes[0], p[0]), copy_of(type, sizes[1], p[1])};
    memory[RATE] = numbers(type, 1);
    put(type, memory[RATE], 0, 0.25);
    CHECK(mg_program_run(&c, 0, 1, memory, &failed, &ns) == MG_OK && failed == -1 && ns > 0, "status");
    for (int t = 0; t < 2; t++)
        for (int64_t e = 0; e < sizes[t]; e++) {
            const double y = get(type, before[t], e) - 0.25 * get(type, g[t], e);
            CHECK(near(type, get(type, p[t], e), y, 2 * epsilon(type)), "lane %d [%ld]", t, (long)e);
        }
    for (int t = 0; t < 2; t++) drop(p[t]), drop(g[t]), drop(before[t]);
    drop(memory[RATE]);
}

/* A step of Adam: by its own loop, and by the steps of the tile machine. */
static void adam(int type) {
    enum { N = MG_LANE_CHUNK + 37 };
    static const int64_t n[] = {N}, first[] = {0, 2};
    static const struct mg_step code[] = {{MG_OP_MUL_K, 7, 0, 0, 0, 0.1, 0},  {MG_OP_FMA_K, 4, 1, 7, 0, 0.9, 0},
                                          {MG_OP_MUL, 7, 0, 0, 0, 0, 0},      {MG_OP_MUL_K, 7, 7, 0, 0, 0.01, 0},
                                          {MG_OP_FMA_K, 5, 2, 7, 0, 0.99, 0}, {MG_OP_RATIO, 7, 4, 5, 0, 1e-8, 0},
                                          {MG_OP_FMA_K, 6, 7, 3, 0, -0.5, 0}};
    const struct mg_program program = {.type = type, .inputs = 4, .outputs = 3, .values = 8, .steps = 7, .code = code};
    struct mg_program other = program;
    static const struct mg_operand operand[] = {AT(G0, 0), AT(A, 0), AT(B, 0), AT(P0, 0), AT(A, 0), AT(B, 0), AT(P0, 0)};
    void *memory[BASES] = {0}, *results[2][3];
    const int bases[] = {A, B, P0};
    memory[G0] = fresh(type, N);
    void *from[3] = {fresh(type, N), fresh(type, N), fresh(type, N)};
    for (int64_t e = 0; e < N; e++) put(type, from[1], e, fabs(get(type, from[1], e)));
    for (int chained = 0; chained < 2; chained++) {
        struct mg_lanes l = {.program = &program, .lanes = 1, .n = n, .first = first};
        const int found = mg_lanes_chain(&program, l.array, l.immediate);
        CHECK(found != 0, "no loop of its own");
        l.chain = chained ? found : 0;
        const struct mg_instruction i = {.kernel = MG_DO_LANES, .operands = 7, .operand = operand, .attributes = &l};
        const struct mg_code c = {.instructions = &i, .count = 1, .memory = memory};
        for (int b = 0; b < 3; b++) memory[bases[b]] = results[chained][b] = copy_of(type, N, from[b]);
        CHECK(mg_program_call(&c) == MG_OK, "status");
    }
    for (int b = 0; b < 3; b++)
        for (int64_t e = 0; e < N; e++)
            CHECK(near(type, get(type, results[1][b], e), get(type, results[0][b], e), 8 * epsilon(type)), "%d [%ld]", b, (long)e);
    other.steps = 6;
    int32_t array[8], immediate[8];
    CHECK(mg_lanes_chain(&other, array, immediate) == 0, "another program");
    for (int b = 0; b < 3; b++) drop(from[b]), drop(results[0][b]), drop(results[1][b]);
    drop(memory[G0]);
}

/* Programs of two or three inputs that have a loop of their own: by that, and by the steps. */
static void momentum_or_mask(int type, const struct mg_program *program, int which) {
    enum { N = 301 };
    static const int64_t n[] = {N}, first[] = {0, 1};
    static const struct mg_operand operand[] = {AT(G0, 0), AT(A, 0), AT(P0, 0), AT(A, 0), AT(P0, 0)}, masked[] = {AT(G0, 0), AT(A, 0), AT(P0, 0)};
    void *memory[BASES] = {0}, *results[2][2], *from[2] = {fresh(type, N), fresh(type, N)};
    memory[G0] = fresh(type, N);
    put(type, from[0], 3, 0), put(type, from[0], 4, -0.0), put(type, from[0], 5, NAN);
    for (int chained = 0; chained < 2; chained++) {
        struct mg_lanes l = {.program = program, .lanes = 1, .n = n, .first = first};
        const int found = mg_lanes_chain(program, l.array, l.immediate);
        CHECK(found != 0, "no loop of its own: %d", which);
        l.chain = chained ? found : 0;
        const struct mg_instruction i = {.kernel = MG_DO_LANES, .operands = program->inputs + program->outputs,
                                         .operand = program->inputs == 2 ? masked : operand, .attributes = &l};
        const struct mg_code c = {.instructions = &i, .count = 1, .memory = memory};
        memory[A] = results[chained][0] = copy_of(type, N, from[0]);
        memory[P0] = results[chained][1] = copy_of(type, N, from[1]);
        CHECK(mg_program_call(&c) == MG_OK, "status");
    }
    for (int b = 0; b < 2; b++)
        for (int64_t e = 0; e < N; e++)
            CHECK(near(type, get(type, results[1][b], e), get(type, results[0][b], e), 4 * epsilon(type)), "%d: %d [%ld]", which, b, (long)e);
    for (int b = 0; b < 2; b++) drop(from[b]), drop(results[0][b]), drop(results[1][b]);
    drop(memory[G0]);
}

static void loops_of_their_own(int type) {
    static const struct mg_step plain[] = {{MG_OP_FMA_K, 3, 1, 0, 0, 0.9, 0}, {MG_OP_FMA_K, 4, 3, 2, 0, -0.1, 0}};
    static const struct mg_step decay[] = {{MG_OP_FMA_K, 5, 2, 0, 0, 0.01, 0}, {MG_OP_FMA_K, 3, 1, 5, 0, 0.9, 0}, {MG_OP_FMA_K, 4, 3, 2, 0, -0.1, 0}};
    static const struct mg_step nesterov[] = {{MG_OP_FMA_K, 3, 1, 0, 0, 0.9, 0}, {MG_OP_FMA_K, 5, 3, 0, 0, 0.8, 0}, {MG_OP_FMA_K, 4, 5, 2, 0, -0.1, 0}};
    static const struct mg_step both[] = {{MG_OP_FMA_K, 5, 2, 0, 0, 0.01, 0}, {MG_OP_FMA_K, 3, 1, 5, 0, 0.9, 0},
                                          {MG_OP_FMA_K, 6, 3, 5, 0, 0.8, 0}, {MG_OP_FMA_K, 4, 6, 2, 0, -0.1, 0}};
    static const struct mg_step mask[] = {{MG_OP_CONST, 3, 0, 0, 0, 0, 0}, {MG_OP_LE_K, 4, 1, 0, 0, 0, 0}, {MG_OP_WHERE, 2, 4, 3, 0, 0, 0}};
    static const struct mg_step not_quite[] = {{MG_OP_CONST, 3, 0, 0, 0, 0, 0}, {MG_OP_LE_K, 4, 1, 0, 0, 1, 0}, {MG_OP_WHERE, 2, 4, 3, 0, 0, 0}};
    const struct {const struct mg_step *code; int steps, inputs, outputs;} all[] = {
        {plain, 2, 3, 2}, {decay, 3, 3, 2}, {nesterov, 3, 3, 2}, {both, 4, 3, 2}, {mask, 3, 2, 1}, {not_quite, 3, 2, 1}};
    for (int w = 0; w < COUNT(all); w++) {
        const struct mg_program p = {.type = type, .inputs = all[w].inputs, .outputs = all[w].outputs, .values = 8, .steps = all[w].steps,
                                     .code = all[w].code};
        int32_t array[8], immediate[8];
        if (all[w].code == not_quite) CHECK(mg_lanes_chain(&p, array, immediate) == 0, "another bound");
        else momentum_or_mask(type, &p, w);
    }
}

/* A product and what is elementwise behind it, in one instruction: against both apart. Chained or not, a bias or none. */
static void product(int type, int64_t m, int64_t n, int64_t k, int chained, int with_bias, int turned) {
    static const struct mg_step code[] = {{MG_OP_CONST, 3, 0, 0, 0, 0, 0}, {MG_OP_LE_K, 4, 1, 0, 0, 0, 0}, {MG_OP_WHERE, 2, 4, 3, 0, 0, 0}};
    const struct mg_program mask = {.type = type, .inputs = 2, .outputs = 1, .values = 5, .steps = 3, .code = code};
    const int64_t size[] = {m * n}, first[] = {0, (m * n + MG_LANE_CHUNK - 1) / MG_LANE_CHUNK};
    struct mg_product p = {.gemm = {.type = type, .m = m, .n = n, .k = k, .rsa = turned ? 1 : k, .csa = turned ? m : 1, .rsb = turned ? n : 1,
                                    .csb = turned ? 1 : k, .rsc = n, .csc = 1, .alpha = 1},
                           .lanes = {.program = &mask, .lanes = 1, .n = size, .first = first}, .has_bias = with_bias};
    p.lanes.chain = chained ? mg_lanes_chain(&mask, p.lanes.array, p.lanes.immediate) : 0;
    const struct mg_operand apart[] = {AT(A, 0), AT(B, 0), AT(ARENA, 0), AT(RATE, 0), AT(ARENA, 0), AT(Y, 0), AT(OUT, 0)};
    const struct mg_operand plain[] = {AT(A, 0), AT(B, 0), AT(A, 0), AT(Y, 0), AT(P0, 0)};
    const struct mg_operand biased[] = {AT(A, 0), AT(B, 0), AT(RATE, 0), AT(A, 0), AT(Y, 0), AT(P0, 0)};
    const struct mg_instruction i[] = {
        {.kernel = MG_DO_GEMM, .operands = 3 + with_bias, .operand = apart, .attributes = &p.gemm},
        {.kernel = MG_DO_LANES, .operands = 3, .operand = apart + 4, .attributes = &p.lanes},
        {.kernel = MG_DO_PRODUCT, .operands = 5 + with_bias, .operand = with_bias ? biased : plain, .attributes = &p}};
    const struct mg_code c = {.instructions = i, .count = 3};
    void *memory[BASES] = {0};
    memory[A] = fresh(type, m * k), memory[B] = fresh(type, k * n), memory[RATE] = fresh(type, n), memory[Y] = fresh(type, m * n);
    memory[ARENA] = numbers(type, m * n), memory[OUT] = numbers(type, m * n), memory[P0] = numbers(type, m * n);
    int failed = -1;
    CHECK(mg_program_run(&c, 0, 3, memory, &failed, NULL) == MG_OK, "status, %d", failed);
    for (int64_t e = 0; e < m * n; e++)
        CHECK(near(type, get(type, memory[P0], e), get(type, memory[OUT], e), 64 * epsilon(type)), "%ldx%ldx%ld [%ld]", (long)m,
              (long)n, (long)k, (long)e);
    p.gemm.k = 10 * MG_SHALLOW, p.gemm.rsa = turned ? 1 : p.gemm.k, p.gemm.csb = turned ? 1 : p.gemm.k;
    CHECK(mg_program_run(&c, 2, 3, memory, &failed, NULL) == MG_EARG && failed == 2, "a product of many terms");
    for (int b = 0; b < BASES; b++) if (memory[b]) drop(memory[b]);
}

/* Rows by number, there and back; a number that is none. */
static void rows(int type) {
    enum { ROWS = 7, N = 9, WIDTH = 5 };
    static const struct mg_operand at[] = {AT(A, 0), AT(LABELS, 0), AT(Y, 0), AT(LABELS, 0), AT(Y, 0), AT(B, 0)};
    const struct mg_instruction i[] = {
        {.kernel = MG_DO_GATHER_ROWS, .operands = 3, .operand = at, .n = {N, ROWS, WIDTH * (int64_t)size_of(type)}},
        {.kernel = MG_DO_SCATTER_ADD_ROWS, .operands = 3, .operand = at + 3, .type = type, .n = {N, ROWS, WIDTH}}};
    int failed = -1;
    void *memory[BASES] = {0};
    const struct mg_code c = {i, 2, memory, &failed};
    memory[A] = fresh(type, ROWS * WIDTH), memory[Y] = numbers(type, N * WIDTH), memory[B] = numbers(type, ROWS * WIDTH);
    int64_t *index = memory[LABELS] = space(N * 8);
    for (int e = 0; e < N; e++) index[e] = e * 3 % ROWS;
    for (int e = 0; e < ROWS * WIDTH; e++) put(type, memory[B], e, 0);
    CHECK(mg_program_call(&c) == MG_OK, "status");
    for (int k = 0; k < N; k++)
        for (int e = 0; e < WIDTH; e++)
            CHECK(get(type, memory[Y], k * WIDTH + e) == get(type, memory[A], index[k] * WIDTH + e), "[%d, %d]", k, e);
    for (int e = 0; e < ROWS * WIDTH; e++) {
        int count = 0;
        for (int k = 0; k < N; k++) count += index[k] == e / WIDTH;
        CHECK(near(type, get(type, memory[B], e), count * get(type, memory[A], e), 4 * epsilon(type)), "[%d]", e);
    }
    index[N - 1] = ROWS;
    CHECK(mg_program_call(&c) == MG_EARG && failed == 0, "a number that is none");
    for (int b = 0; b < BASES; b++) if (memory[b]) drop(memory[b]);
}

/* ok = labels != -1; labels = ok ? labels : 0 (several lanes, whole arrays), and pow(k, (double)n + 1) of single numbers. */
static void mixed(void) {
    enum { N = 300 };
    static const struct mg_mixed_step mask[] = {
        {MG_OP_CONST, MG_T_I64, 3, 0, 0, 0, 0, -1}, {MG_OP_CONST, MG_T_I64, 4, 0, 0, 0, 0, 0},
        {MG_OP_NE, MG_T_BOOL, 1, 0, 3, 0, 0, 0}, {MG_OP_WHERE, MG_T_I64, 2, 1, 0, 4, 0, 0}};
    static const int32_t types[] = {MG_T_I64, MG_T_BOOL, MG_T_I64, MG_T_I64, MG_T_I64}, apart[] = {1};
    const struct mg_mixed m = {1, 1, 2, 5, 4, mask, types, apart, N};
    static const struct mg_operand operand[] = {AT(LABELS, 0), AT(Y, 0), AT(OUT, 0)};
    static const struct mg_mixed_step correct[] = {
        {MG_OP_COPY, MG_T_F64, 3, 1, 0, 0, 0, 0}, {MG_OP_CONST, MG_T_F64, 4, 0, 0, 0, 1, 0}, {MG_OP_ADD, MG_T_F64, 5, 3, 4, 0, 0, 0},
        {MG_OP_POW, MG_T_F64, 6, 0, 5, 0, 0, 0}, {MG_OP_COPY, MG_T_F32, 2, 6, 0, 0, 0, 0}};
    static const int32_t kinds[] = {MG_T_F64, MG_T_I32, MG_T_F32, MG_T_F64, MG_T_F64, MG_T_F64, MG_T_F64};
    const struct mg_mixed s = {2, 2, 1, 7, 5, correct, kinds, apart, 1};
    static const struct mg_operand single[] = {AT(A, 0), AT(B, 0), AT(P0, 0), AT(A, 8), AT(B, 4), AT(P0, 4)};
    const struct mg_instruction i[] = {{.kernel = MG_DO_MIXED, .operands = 3, .operand = operand, .attributes = &m},
                                       {.kernel = MG_DO_MIXED, .operands = 6, .operand = single, .attributes = &s}};
    const struct mg_code c = {.instructions = i, .count = 2};
    void *memory[BASES] = {0};
    int64_t *labels = memory[LABELS] = space(N * 8), *out = memory[OUT] = space(N * 8);
    uint8_t *ok = memory[Y] = space(N);
    double *k = memory[A] = space(16);
    int32_t *n = memory[B] = space(8);
    float *y = memory[P0] = space(8);
    int failed;
    for (int e = 0; e < N; e++) labels[e] = e % 7 - 1;
    k[0] = 0.5, k[1] = 3, n[0] = 2, n[1] = -1;
    CHECK(mg_program_run(&c, 0, 2, memory, &failed, NULL) == MG_OK, "status");
    for (int e = 0; e < N; e++) {
        const int good = e % 7 != 0, label = good ? e % 7 - 1 : 0;
        CHECK(ok[e] == good && out[e] == label, "[%d]: %d %ld", e, ok[e], (long)out[e]);
    }
    CHECK(near(MG_F32, y[0], 0.125, 1e-6) && near(MG_F32, y[1], 1, 1e-6), "%g %g", (double)y[0], (double)y[1]);
    for (int b = 0; b < BASES; b++) if (memory[b]) drop(memory[b]);
}

/* A transpose into the arena, a product with its bias from there, an update that reads the product: then a bad label. */
static void chain(int type) {
    enum { M = 5, N = 7, K = 3 };
    const int size = (int)size_of(type);
    const struct mg_copy turn = {.size = size, .rank = 2, .shape = {K, M}, .from = {1, K}, .to = {M, 1}};
    const struct mg_gemm g = {.type = type, .act = MG_RELU, .m = M, .n = N, .k = K, .rsa = 1, .csa = M, .rsb = N, .csb = 1,
                              .rsc = N, .csc = 1, .alpha = 1};
    static const struct mg_operand at[] = {AT(A, 0), AT(ARENA, 64), AT(ARENA, 64), AT(B, 0), AT(Y, 0), AT(P0, 0),
                                           AT(Y, 0), AT(LABELS, 0), AT(OUT, 0), AT(A, 0), AT(Y, 0), AT(LABELS, 0), AT(G0, 0),
                                           AT(A, 0), AT(Y, 0), AT(LABELS, 0), AT(RATE, 0), AT(G1, 0)};
    const struct mg_instruction i[] = {
        {.kernel = MG_DO_COPY, .operands = 2, .operand = at, .attributes = &turn},
        {.kernel = MG_DO_GEMM, .operands = 4, .operand = at + 2, .attributes = &g},
        {.kernel = MG_DO_CROSS_ENTROPY, .operands = 3, .operand = at + 6, .type = type, .n = {M, N}}, {.kernel = -1},
        {.kernel = MG_DO_CROSS_ENTROPY_GRAD, .operands = 4, .operand = at + 9, .type = type, .n = {M, N}},
        {.kernel = MG_DO_CROSS_ENTROPY_BOTH, .operands = 5, .operand = at + 13, .type = type, .n = {M, N}}};
    const struct mg_code c = {.instructions = i, .count = 6};
    void *memory[BASES] = {0};
    memory[ARENA] = space((size_t)(64 + M * K * size));
    memory[A] = fresh(type, M * K), memory[B] = fresh(type, K * N), memory[P0] = fresh(type, N);
    memory[Y] = numbers(type, M * N), memory[OUT] = numbers(type, M);
    int64_t *labels = memory[LABELS] = space(M * 8), ns[4] = {0};
    for (int e = 0; e < M; e++) labels[e] = e;
    int failed = -1;
    CHECK(mg_program_run(&c, 0, 3, memory, &failed, ns) == MG_OK, "status");
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            double y = get(type, memory[P0], n);
            for (int k = 0; k < K; k++) y += get(type, memory[A], m * K + k) * get(type, memory[B], k * N + n);
            CHECK(near(type, get(type, memory[Y], m * N + n), y > 0 ? y : 0, 20 * epsilon(type)), "[%d, %d]", m, n);
        }
    for (int b = G0; b <= G1; b++) memory[b] = numbers(type, M * N);
    memory[RATE] = numbers(type, M);
    CHECK(mg_program_run(&c, 4, 6, memory, &failed, NULL) == MG_OK, "status");
    for (int e = 0; e < M * N; e++)
        CHECK(near(type, get(type, memory[G1], e), get(type, memory[G0], e), 4 * epsilon(type)), "gradient [%d]", e);
    for (int e = 0; e < M; e++)
        CHECK(near(type, get(type, memory[RATE], e), get(type, memory[OUT], e), 8 * epsilon(type)), "loss [%d]", e);
    labels[2] = N;
    CHECK(mg_program_run(&c, 5, 6, memory, &failed, NULL) == MG_EARG && failed == 5, "a bad label, with the gradient");
    CHECK(mg_program_run(&c, 0, 3, memory, &failed, NULL) == MG_EARG && failed == 2, "a bad label");
    CHECK(mg_program_run(&c, 3, 4, memory, &failed, NULL) == MG_EARG && failed == 3, "no such instruction");
    for (int b = 0; b < BASES; b++) if (memory[b]) drop(memory[b]);
}

/* Few classes, rows on their side: against the loss and its gradient apart from each other. And random numbers. */
static void loss(int type, int64_t rows, int64_t n) {
    static const struct mg_operand at[] = {AT(A, 0), AT(Y, 0), AT(LABELS, 0), AT(P0, 0), AT(P1, 0), AT(Y, 0), AT(LABELS, 0), AT(OUT, 0),
                                           AT(A, 0), AT(Y, 0), AT(LABELS, 0), AT(G0, 0), AT(B, 0), AT(G1, 0)};
    const struct mg_instruction i[] = {
        {.kernel = MG_DO_CROSS_ENTROPY_BOTH, .operands = 5, .operand = at, .type = type, .n = {rows, n}},
        {.kernel = MG_DO_CROSS_ENTROPY, .operands = 3, .operand = at + 5, .type = type, .n = {rows, n}},
        {.kernel = MG_DO_CROSS_ENTROPY_GRAD, .operands = 4, .operand = at + 8, .type = type, .n = {rows, n}},
        {.kernel = MG_DO_UNIFORM, .operands = 2, .operand = at + 12, .type = type, .n = {rows}}};
    const struct mg_code c = {.instructions = i, .count = 4};
    void *memory[BASES] = {0};
    memory[A] = fresh(type, rows), memory[Y] = fresh(type, rows * n);
    memory[P0] = numbers(type, rows), memory[P1] = numbers(type, rows * n);
    memory[OUT] = numbers(type, rows), memory[G0] = numbers(type, rows * n), memory[G1] = numbers(type, rows);
    int64_t *labels = memory[LABELS] = space((size_t)rows * 8);
    uint64_t *state = memory[B] = space(16);
    for (int64_t e = 0; e < rows; e++) labels[e] = e % n;
    state[0] = 7, state[1] = 3;
    int failed = -1;
    CHECK(mg_program_run(&c, 0, 4, memory, &failed, NULL) == MG_OK, "status");
    for (int64_t e = 0; e < rows; e++) {
        CHECK(near(type, get(type, memory[P0], e), get(type, memory[OUT], e), 16 * epsilon(type)), "loss [%ld]", (long)e);
        CHECK(get(type, memory[G1], e) >= 0 && get(type, memory[G1], e) < 1, "random [%ld]", (long)e);
    }
    for (int64_t e = 0; e < rows * n; e++)
        CHECK(near(type, get(type, memory[P1], e), get(type, memory[G0], e), 8 * epsilon(type)), "gradient [%ld]", (long)e);
    for (int b = 0; b < BASES; b++) if (memory[b]) drop(memory[b]);
}

static void large_copy(void) {
    enum { R = 300, C = 700 };
    const struct mg_copy turn = {.size = 4, .rank = 2, .shape = {C, R}, .from = {1, C}, .to = {R, 1}};
    const struct mg_copy fill = {.size = 8, .rank = 1, .shape = {R}, .from = {0}, .to = {2}};
    static const struct mg_operand at[] = {AT(A, 0), AT(B, 0), AT(P0, 0), AT(Y, 0)};
    const struct mg_instruction i[] = {{.kernel = MG_DO_COPY, .operands = 2, .operand = at, .attributes = &turn},
                                       {.kernel = MG_DO_COPY, .operands = 2, .operand = at + 2, .attributes = &fill}};
    const struct mg_code c = {.instructions = i, .count = 2};
    void *memory[BASES] = {0};
    float *x = memory[A] = fresh(MG_F32, R * C), *y = memory[B] = numbers(MG_F32, R * C);
    double *one = memory[P0] = fresh(MG_F64, 1), *many = memory[Y] = fresh(MG_F64, 2 * R - 1), between = many[1];
    int failed;
    CHECK(mg_program_run(&c, 0, 2, memory, &failed, NULL) == MG_OK, "status");
    for (int r = 0; r < R; r++)
        for (int k = 0; k < C; k++) CHECK(y[k * R + r] == x[r * C + k], "[%d, %d]", r, k);
    for (int r = 0; r < R; r++) CHECK(many[2 * r] == *one, "[%d]", r);
    CHECK(many[1] == between, "a gap is written");
    drop(x), drop(y), drop(one), drop(many);
}

void check_program(void) {
    FOR_EACH_SETTING {
        for (int type = MG_F32; type <= MG_F64; type++) {
            lanes(type);
            adam(type);
            loops_of_their_own(type);
            for (int w = 0; w < 8; w++) {
                product(type, 5, 7, 3, w & 1, w >> 1 & 1, w >> 2), product(type, 37, 300, 9, w & 1, w >> 1 & 1, w >> 2);
                product(type, 1, 129, 64, w & 1, w >> 1 & 1, w >> 2);
            }
            product(type, 130, 270, 100, 1, 0, 1), product(type, 200, 1100, 17, 0, 1, 0);   /* parallel; two blocks of columns */
            rows(type);
            chain(type);
            loss(type, 5, 7), loss(type, 9, 5), loss(type, 70, 10), loss(type, 131, 32), loss(type, 64, 1);
        }
        mixed();
        large_copy();
    }
}
