/* One step of an optimizer on n parameters that lie side by side.
 *
 * Contract.   The formulas of torch.optim, in its order of operations; see struct mg_sgd and struct mg_adam. The arrays do not
 *             overlap. Each parameter is computed on its own, so chunks and threads do not change the result.
 * Source.     Kingma & Ba, "Adam" (2015); Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (2019); Sutskever et al.,
 *             "On the importance of initialization and momentum" (2013).
 * Budget.     Bound by memory: Adam reads 16 bytes and writes 12 for each float, once. The square root and the division,
 *             about 1.5 cycles an element, hide behind it. */
#define V FN(vec)
#define EACH_VECTOR for (int64_t at = 0, left = n; left > 0; at += VL, left -= VL)
#define LOAD(p) (left >= VL ? FN(load)((p) + at) : FN(load_first)((p) + at, (int)left))
#define STORE(p, v)                                                                                                 \
    do {                                                                                                            \
        if (left >= VL) FN(store)((p) + at, v);                                                                     \
        else FN(store_first)((p) + at, v, (int)left);                                                               \
    } while (0)

ALWAYS_INLINE void FN(sgd_with)(const int buffer, const int nesterov, int64_t n, REAL *p, const REAL *grad, REAL *m,
                                const struct mg_sgd *o) {
    const REAL lr = (REAL)o->lr, decay = (REAL)o->weight_decay, momentum = (REAL)o->momentum;
    const REAL sign = o->maximize ? -1 : 1, fresh = (REAL)(o->first ? 1 : 1 - o->dampening), old = o->first ? 0 : momentum;
    EACH_VECTOR {
        V x = LOAD(p), g = LOAD(grad) * sign;
        if (decay != 0) g += x * decay;   /* an infinite parameter times no decay is no NaN */
        if (buffer) {
            V b = o->first ? g : LOAD(m) * old + g * fresh;
            STORE(m, b);
            g = nesterov ? g + b * momentum : b;
        }
        STORE(p, x - g * lr);
    }
}

static void FN(sgd)(int64_t n, void *p, const void *g, void *m, const struct mg_sgd *o) {
    if (m == NULL) FN(sgd_with)(0, 0, n, p, g, NULL, o);
    else if (o->nesterov) FN(sgd_with)(1, 1, n, p, g, m, o);
    else FN(sgd_with)(1, 0, n, p, g, m, o);
}

static void FN(adam)(int64_t n, void *pp, const void *pg, void *pm, void *pv, void *pt, const struct mg_adam *o,
                     double step_size, double root) {
    REAL *p = pp, *m = pm, *v = pv, *top = pt;
    const REAL *grad = pg;
    const REAL sign = o->maximize ? -1 : 1, keep = (REAL)(o->decoupled ? 1 - o->lr * o->weight_decay : 1);
    const REAL decay = (REAL)(o->decoupled ? 0 : o->weight_decay);
    const REAL new1 = (REAL)(1 - o->beta1), old2 = (REAL)o->beta2, new2 = (REAL)(1 - o->beta2), eps = (REAL)o->eps;
    const REAL step = (REAL)step_size, inverse = (REAL)(1 / root);
    EACH_VECTOR {
        V x = LOAD(p) * keep, g = LOAD(grad) * sign, a = LOAD(m), b = LOAD(v);
        if (decay != 0) g += x * decay;
        a = a + (g - a) * new1;
        b = b * old2 + g * g * new2;
        STORE(m, a);
        STORE(v, b);
        if (top) {
            b = FN(max)(LOAD(top), b);
            STORE(top, b);
        }
        STORE(p, x - a * step / (FN(sqrt)(b) * inverse + eps));
    }
}

#undef V
#undef EACH_VECTOR
#undef LOAD
#undef STORE
