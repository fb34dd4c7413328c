/* The integer kernels for any processor. */
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define QUANTIZED_SET mg_quantized_generic
#define QUANTIZED_NAME "plain"
#define QUANTIZED_SUPPORTED 1
#define VBYTES 16
#include "../table.h"
