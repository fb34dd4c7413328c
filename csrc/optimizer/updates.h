/* One step of an optimizer on n parameters that lie side by side.
 *
 * Contract.   The formulas of torch.optim, in its order of operations; see struct mg_sgd and struct mg_adam. The arrays do not
 *             overlap. Each parameter is computed on its own, so chunks and threads do not change the result.
 * Source.     Kingma & Ba, "Adam" (2015); Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (2019); Sutskever et al.,
 *             "On the importance of initialization and momentum" (2013).
 * Error.      float32: at most 2 units in the last place of the largest term of each formula, as every operation is rounded
 *             once (a product that is only added, not at all).
 * Budget.     Bound by memory: Adam reads 16 bytes and writes 12 for each float, once, and takes as long as a loop that adds
 *             1 to the three arrays it writes: 2.0 ms for 5M parameters on one thread, 69 GB/s. The square root and the
 *             division hide behind it. Asking for memory ahead (512 to 4,096 bytes) and staggering the arrays changed
 *             nothing, 4 KB pages cost a tenth, one array in which the four take turns page by page costs 40 %. */
#define V FN(vec)
#define LOAD(p) (left >= VL ? FN(load)((p) + at) : FN(load_first)((p) + at, (int)left))
#define STORE(p, v)                                                                                                 \
    do {                                                                                                            \
        if (left >= VL) FN(store)((p) + at, v);                                                                     \
        else FN(store_first)((p) + at, v, (int)left);                                                               \
    } while (0)

/* What the options choose is known to the compiler, in each of the loops below: one formula, without branches, is fused in
 * one way only, so the bits of a result do not depend on where in a vector it lies. */
enum { FN(DECAY) = 1, FN(BUFFER) = 2, FN(NESTEROV) = 4, FN(FIRST) = 8 };

ALWAYS_INLINE void FN(sgd_at)(int64_t at, int64_t left, const int what, REAL *p, const REAL *grad, REAL *m,
                              const struct mg_sgd *o) {
    const REAL lr = (REAL)o->lr, decay = (REAL)o->weight_decay, momentum = (REAL)o->momentum;
    const REAL sign = o->maximize ? -1 : 1, fresh = (REAL)(1 - o->dampening);
    V x = LOAD(p), g = LOAD(grad) * sign;
    if (what & FN(DECAY)) g += x * decay;   /* an infinite parameter times no decay is no NaN */
    if (what & FN(BUFFER)) {
        V b = what & FN(FIRST) ? g : LOAD(m) * momentum + g * fresh;
        STORE(m, b);
        g = what & FN(NESTEROV) ? g + b * momentum : b;
    }
    STORE(p, x - g * lr);
}

static void FN(sgd)(int64_t n, void *pp, const void *pg, void *pm, const struct mg_sgd *options) {
    REAL *p = pp, *m = pm;
    const REAL *g = pg;
    const struct mg_sgd o = *options;
    const int nesterov = o.nesterov ? FN(NESTEROV) : 0, first = o.first ? FN(FIRST) : 0;
#define CASE(what)                                                                                                  \
    case what: ALIGNED(n, p, FN(sgd_at)(at, left, what, p, g, m, &o)); break;
#define CASES(what) CASE((what)) CASE((what) | FN(DECAY))
    switch ((m ? FN(BUFFER) | nesterov | first : 0) | (o.weight_decay != 0 ? FN(DECAY) : 0)) {
        CASES(0)
        CASES(FN(BUFFER))
        CASES(FN(BUFFER) | FN(FIRST))
        CASES(FN(BUFFER) | FN(NESTEROV))
        CASES(FN(BUFFER) | FN(NESTEROV) | FN(FIRST))
    }
#undef CASES
#undef CASE
}

struct FN(adam_terms) {
    REAL sign, keep, decay, new1, old2, new2, eps, step, inverse;
};

ALWAYS_INLINE void FN(adam_at)(int64_t at, int64_t left, const int decay, const int amsgrad, REAL *p, const REAL *grad, REAL *m,
                               REAL *v, REAL *top, const struct FN(adam_terms) *o) {
    V x = LOAD(p) * o->keep, g = LOAD(grad) * o->sign, a = LOAD(m), b = LOAD(v);
    if (decay) g += x * o->decay;
    a = a + (g - a) * o->new1;
    b = b * o->old2 + g * g * o->new2;
    STORE(m, a);
    STORE(v, b);
    if (amsgrad) {
        b = FN(max)(LOAD(top), b);
        STORE(top, b);
    }
    STORE(p, x - a * o->step / (FN(sqrt)(b) * o->inverse + o->eps));
}

static void FN(adam)(int64_t n, void *pp, const void *pg, void *pm, void *pv, void *pt, const struct mg_adam *o,
                     double step_size, double root) {
    REAL *p = pp, *m = pm, *v = pv, *top = pt;
    const REAL *g = pg;
    const struct FN(adam_terms) terms = {
        .sign = o->maximize ? -1 : 1, .keep = (REAL)(o->decoupled ? 1 - o->lr * o->weight_decay : 1),
        .decay = (REAL)(o->decoupled ? 0 : o->weight_decay), .new1 = (REAL)(1 - o->beta1), .old2 = (REAL)o->beta2,
        .new2 = (REAL)(1 - o->beta2), .eps = (REAL)o->eps, .step = (REAL)step_size, .inverse = (REAL)(1 / root)};
    if (top && terms.decay != 0) ALIGNED(n, p, FN(adam_at)(at, left, 1, 1, p, g, m, v, top, &terms));
    else if (top) ALIGNED(n, p, FN(adam_at)(at, left, 0, 1, p, g, m, v, top, &terms));
    else if (terms.decay != 0) ALIGNED(n, p, FN(adam_at)(at, left, 1, 0, p, g, m, v, NULL, &terms));
    else ALIGNED(n, p, FN(adam_at)(at, left, 0, 0, p, g, m, v, NULL, &terms));
}

#undef V
#undef LOAD
#undef STORE
