// What a model step does between its products: RMSNorm, SwiGLU, rotary positions, and decode's attention where keys
// and values lie. Each in one pass, in float32, rounded once.
//
// Compiled for one model: each of KV_HEADS heads of keys and values is shared by GROUP heads of queries, and each head
// has HEAD_DIM numbers. The cache of a layer is (num_blocks, 2 * KV_HEADS, BLOCK_SIZE, HEAD_DIM), keys first.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef FLOAT32
using scalar = float;

static inline float wide(scalar x) { return x; }
static inline scalar narrow(float x) { return x; }
#else
using scalar = uint16_t;  // bfloat16: the upper half of a float

static inline float wide(scalar x) {
    const uint32_t bits = uint32_t(x) << 16;
    float y;
    std::memcpy(&y, &bits, sizeof y);
    return y;
}

static inline scalar narrow(float x) {  // to the nearest; of two that are as near, to the even one
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
#endif

// out and x: (num_tokens, size). weight: (size,).
extern "C" void rms_norm(scalar* out, const scalar* x, const scalar* weight, float eps, int64_t num_tokens,
                         int64_t size) {
#pragma omp parallel for if (num_tokens > 1)
    for (int64_t t = 0; t < num_tokens; ++t) {
        const scalar* from = x + t * size;
        float squares = 0;
        for (int64_t i = 0; i < size; ++i) squares += wide(from[i]) * wide(from[i]);
        const float scale = 1 / std::sqrt(squares / size + eps);
        for (int64_t i = 0; i < size; ++i) out[t * size + i] = narrow(wide(from[i]) * scale * wide(weight[i]));
    }
}

// out: (num_tokens, size), silu(gate) * up. gate_up: (num_tokens, 2 * size), a token's gate before its up.
extern "C" void swiglu(scalar* out, const scalar* gate_up, int64_t num_tokens, int64_t size) {
#pragma omp parallel for if (num_tokens > 1)
    for (int64_t t = 0; t < num_tokens; ++t) {
        const scalar *gate = gate_up + t * 2 * size, *up = gate + size;
        for (int64_t i = 0; i < size; ++i) {
            const float g = wide(gate[i]), e = std::exp(-std::abs(g));  // never of a positive number: that can overflow
            out[t * size + i] = narrow(g * (g < 0 ? e : 1) / (1 + e) * wide(up[i]));
        }
    }
}

// Turns the first num_heads heads of every token in place, each pair (x[i], x[i + HEAD_DIM / 2]) by its position's
// angle. heads: (num_tokens, stride). cos, and sin with its first half negative: (num_positions, HEAD_DIM), which
// sequences of as many tokens share.
extern "C" void rotate(scalar* heads, int64_t stride, int64_t num_heads, int64_t num_tokens, const scalar* cos,
                       const scalar* sin, int64_t num_positions) {
    constexpr int HALF = HEAD_DIM / 2;
#pragma omp parallel for if (num_tokens > 1)
    for (int64_t t = 0; t < num_tokens; ++t)
        for (int64_t h = 0; h < num_heads; ++h) {
            scalar* x = heads + t * stride + h * HEAD_DIM;
            const int64_t position = t % num_positions * HEAD_DIM;
            const scalar *c = cos + position, *s = sin + position;
            for (int i = 0; i < HALF; ++i) {
                const float a = wide(x[i]), b = wide(x[i + HALF]);
                x[i] = narrow(a * wide(c[i]) + b * wide(s[i]));
                x[i + HALF] = narrow(b * wide(c[i + HALF]) + a * wide(s[i + HALF]));
            }
        }
}

constexpr int64_t PIECE = BLOCK_SIZE * HEAD_DIM, BLOCK = 2 * KV_HEADS * PIECE, LINE = 64 / sizeof(scalar);

// Attention of one group of queries of one sequence. Softmax runs along with the blocks (online softmax, Milakov &
// Gimelshein 2018): when a larger score comes, what was summed up before is scaled down to it.
static void attend(scalar* out, const scalar* q, const scalar* cache, const int64_t* table, int64_t length) {
    float query[GROUP][HEAD_DIM], sum[GROUP][HEAD_DIM] = {}, largest[GROUP], total[GROUP] = {};
    for (int g = 0; g < GROUP; ++g) {
        largest[g] = -1e30f;
        for (int i = 0; i < HEAD_DIM; ++i) query[g][i] = wide(q[g * HEAD_DIM + i]) / std::sqrt(float(HEAD_DIM));
    }
    for (; length > 0; length -= BLOCK_SIZE, ++table) {
        const int num_tokens = std::min<int64_t>(length, BLOCK_SIZE);
        const scalar *keys = cache + *table * BLOCK, *values = keys + KV_HEADS * PIECE;
        const scalar* next = cache + table[length > BLOCK_SIZE] * BLOCK;
        float weight[GROUP][BLOCK_SIZE], x[HEAD_DIM];
        for (int t = 0; t < num_tokens; ++t) {  // memory fetches the values while the scores are computed
            for (int i = 0; i < HEAD_DIM; i += LINE) __builtin_prefetch(values + t * HEAD_DIM + i);
            for (int i = 0; i < HEAD_DIM; ++i) x[i] = wide(keys[t * HEAD_DIM + i]);
            for (int g = 0; g < GROUP; ++g) {
                float score = 0;
                for (int i = 0; i < HEAD_DIM; ++i) score += query[g][i] * x[i];
                weight[g][t] = score;
            }
        }
        for (int g = 0; g < GROUP; ++g) {
            const float before = largest[g];
            for (int t = 0; t < num_tokens; ++t) largest[g] = std::max(largest[g], weight[g][t]);
            const float scale = std::exp(before - largest[g]);
            total[g] *= scale;
            for (int i = 0; i < HEAD_DIM; ++i) sum[g][i] *= scale;
            for (int t = 0; t < num_tokens; ++t) total[g] += weight[g][t] = std::exp(weight[g][t] - largest[g]);
        }
        for (int t = 0; t < num_tokens; ++t) {  // and here the next block's keys
            for (int i = 0; i < HEAD_DIM; i += LINE) __builtin_prefetch(next + t * HEAD_DIM + i);
            for (int i = 0; i < HEAD_DIM; ++i) x[i] = wide(values[t * HEAD_DIM + i]);
            for (int g = 0; g < GROUP; ++g)
                for (int i = 0; i < HEAD_DIM; ++i) sum[g][i] += weight[g][t] * x[i];
        }
    }
    for (int g = 0; g < GROUP; ++g)
        for (int i = 0; i < HEAD_DIM; ++i) out[g * HEAD_DIM + i] = narrow(sum[g][i] / total[g]);
}

// Each sequence's new token joins its keys and values, and reads them all through the sequence's block table.
// out: (num_seqs, KV_HEADS * GROUP, HEAD_DIM). q: the same, and k and v: (num_seqs, KV_HEADS, HEAD_DIM), of the new
// tokens, each with the numbers from one sequence to the next. tables: (num_seqs, max_blocks) numbers of blocks.
// lengths: (num_seqs,) tokens, the new one among them.
extern "C" void paged_attention(scalar* out, const scalar* q, int64_t q_stride, const scalar* k, int64_t k_stride,
                                const scalar* v, int64_t v_stride, scalar* cache, const int64_t* tables,
                                int64_t max_blocks, const int64_t* lengths, int64_t num_seqs) {
#pragma omp parallel for collapse(2)
    for (int64_t s = 0; s < num_seqs; ++s)
        for (int64_t h = 0; h < KV_HEADS; ++h) {
            const int64_t *table = tables + s * max_blocks, last = lengths[s] - 1;
            scalar* key = cache + table[last / BLOCK_SIZE] * BLOCK + h * PIECE + last % BLOCK_SIZE * HEAD_DIM;
            std::copy_n(k + s * k_stride + h * HEAD_DIM, HEAD_DIM, key);
            std::copy_n(v + s * v_stride + h * HEAD_DIM, HEAD_DIM, key + KV_HEADS * PIECE);
            attend(out + (s * KV_HEADS + h) * GROUP * HEAD_DIM, q + s * q_stride + h * GROUP * HEAD_DIM,
                   cache + h * PIECE, table, last + 1);
        }
}
