/* An LSTM whose weights and forcing never change: simulate, pull a gradient back, push tangents forward.
 *
 * All that the forcing contributes to the gates of the first layer, and to the features of the head, is computed once per fit and
 * handed in (`forcing_gates`, `forcing_features`); the static parameters enter as one vector a member (`member_gates`,
 * `member_features`) and in the initial state. No weight gradient is ever formed.
 *
 *     gates_t = forcing_gates_t + member_gates + W h_{t-1}                 (layer 0; above it: bias + W [h_below_t, h_{t-1}])
 *     c_t = f c_{t-1} + i g,  h_t = o tanh(c_t)
 *     z_t = V silu(forcing_features_t + member_features + A h_t) + b       (or V h_t + b without features)
 *
 * One primitive carries all the arithmetic: `panel`, a block of 4 vectors of rows of a matrix times many columns. For the recurrence
 * those 4 vectors are the four gates of the same hidden units, so that a block's gates are complete and still in the first cache
 * when they are used. It runs in float32 on any vector unit that GCC or clang knows, or in bfloat16 (optionally as three products of
 * split numbers, which is nearly float32) where the processor has AMX or AVX512-BF16.
 */

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define VEC 16
#define COLUMNS 6
#elif defined(__AVX__)
#define VEC 8
#define COLUMNS 3
#else
#define VEC 4
#define COLUMNS 4
#endif
#define ROWS (4 * VEC)  /* rows of a panel */
#define MAX_LAYERS 8
#define DAYS 32         /* days whose inputs to the head are gathered before it runs */
#define BLOCK 48        /* columns that the head takes at once */

#if defined(__AVX512BF16__) && VEC == 16
#define HAS_BF16 1
#include <immintrin.h>
#if defined(__AMX_BF16__) && defined(__linux__)
#define HAS_AMX 1
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

enum { FLOAT32 = 0, BFLOAT16 = 1, SPLIT = 2 };

typedef float vec __attribute__((vector_size(4 * VEC)));
typedef int32_t ivec __attribute__((vector_size(4 * VEC)));
#define INLINE static inline __attribute__((always_inline))

typedef struct {
  const float *f32;
  const uint16_t *high, *low; /* bfloat16 of the numbers, and of what that leaves out */
} Weights;

typedef struct {
  int32_t layers, hidden, features, outputs; /* hidden and features padded; features 0: linear head */
  Weights forward[MAX_LAYERS];  /* hidden / VEC panels of the gates; inner size hidden, above layer 0 twice that */
  Weights backward[MAX_LAYERS]; /* its transpose, in panels; inner size 4 hidden */
  const float *bias[MAX_LAYERS];
  Weights from_hidden, to_hidden; /* A and its transpose, in panels */
  const float *out_weight, *out_bias;
} Network;

typedef struct {
  int32_t members, days, threads, precision;
  const float *forcing_gates, *forcing_features;
  int64_t gates_stride, features_stride; /* from one member's forcing to the next; 0: shared */
  const float *member_gates, *member_features, *hidden, *cell;
} Inputs;

/* ---------------------------------------------------------------------------------------------------------- vectors */

INLINE vec load(const float *p) { vec v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, vec v) { memcpy(p, &v, sizeof v); }
INLINE vec splat(float x) { return x - (vec){0}; }

INLINE vec choose(ivec which, vec a, vec b) { return (vec)((which & (ivec)a) | (~which & (ivec)b)); }

INLINE vec vexp(vec x) {
  x = choose(x > 87.0f, splat(87.0f), x);
  x = choose(x < -87.0f, splat(-87.0f), x);
  const vec shifted = x * 1.44269504f + 12582912.0f; /* rounds to a whole number in the low bits */
  const vec n = shifted - 12582912.0f;
  const vec r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const ivec scale = ((ivec)shifted - 0x4B400000 + 127) << 23;
  return p * (vec)scale;
}
INLINE vec vsigmoid(vec x) { return 1.0f / (1.0f + vexp(-x)); }
INLINE vec vtanh(vec x) {
  const vec e = vexp(-2.0f * choose(x < 0.0f, -x, x)), t = (1.0f - e) / (1.0f + e);
  return choose(x < 0.0f, -t, t);
}
INLINE float total(vec v) {
  typedef float quarter __attribute__((vector_size(16)));
  quarter parts[VEC / 4];
  memcpy(parts, &v, sizeof v);
  for (int j = 1; j < VEC / 4; j++) parts[0] += parts[j];
  return (parts[0][0] + parts[0][2]) + (parts[0][1] + parts[0][3]);
}
INLINE float dot(const float *a, const float *b, int n) {
  vec sum = {0};
  for (int j = 0; j < n; j += VEC) sum += load(a + j) * load(b + j);
  return total(sum);
}

/* ----------------------------------------------------------------------------------------- a panel times many columns */

typedef struct {
  const float *x; /* column c is contiguous: x + c * stride */
  int64_t stride;
  int count, inner, precision;
  uint16_t *high, *low; /* the same in bfloat16, `rows` a tile, rows of `pitch` numbers */
  int tiles, rows, pitch;
} Columns;

INLINE void block_f32(const int count, const float *w, const float *x, int64_t stride, int inner, float *out) {
  vec sum[4][COLUMNS];
  for (int g = 0; g < 4; g++)
    for (int c = 0; c < count; c++) sum[g][c] = (vec){0};
  for (int k = 0; k < inner; k++, w += ROWS) {
    const vec w0 = load(w), w1 = load(w + VEC), w2 = load(w + 2 * VEC), w3 = load(w + 3 * VEC);
    for (int c = 0; c < count; c++) {
      const vec b = splat(x[c * stride + k]);
      sum[0][c] += w0 * b;
      sum[1][c] += w1 * b;
      sum[2][c] += w2 * b;
      sum[3][c] += w3 * b;
    }
  }
  for (int c = 0; c < count; c++)
    for (int g = 0; g < 4; g++) store(out + c * ROWS + g * VEC, sum[g][c]);
}

/* A column has the same bits whatever its neighbours: the sums run over k in order for any count. */
static void panel_f32(const float *w, const Columns *c, float *out) {
  int i = 0;
  for (; i + COLUMNS <= c->count; i += COLUMNS) block_f32(COLUMNS, w, c->x + i * c->stride, c->stride, c->inner, out + i * ROWS);
  const float *x = c->x + i * c->stride;
  out += i * ROWS;
  switch (c->count - i) {
    case 1: block_f32(1, w, x, c->stride, c->inner, out); break;
    case 2: block_f32(2, w, x, c->stride, c->inner, out); break;
    case 3: block_f32(3, w, x, c->stride, c->inner, out); break;
#if COLUMNS > 4
    case 4: block_f32(4, w, x, c->stride, c->inner, out); break;
    case 5: block_f32(5, w, x, c->stride, c->inner, out); break;
#endif
  }
}

#ifdef HAS_BF16
static void to_bf16(Columns *c) {
  const int padded = c->tiles * c->rows;
  for (int i = 0; i < c->count; i++)
    for (int k = 0; k < c->inner; k += 16) {
      const __m512 x = _mm512_loadu_ps(c->x + i * c->stride + k);
      const __m256i high = (__m256i)_mm512_cvtneps_pbh(x);
      _mm256_storeu_si256((__m256i *)(c->high + (int64_t)i * c->pitch + k), high);
      if (c->precision == SPLIT) {
        const __m512 back = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
        const __m256i low = (__m256i)_mm512_cvtneps_pbh(_mm512_sub_ps(x, back));
        _mm256_storeu_si256((__m256i *)(c->low + (int64_t)i * c->pitch + k), low);
      }
    }
  for (int i = c->count; i < padded; i++) {
    memset(c->high + (int64_t)i * c->pitch, 0, 2 * c->inner);
    if (c->precision == SPLIT) memset(c->low + (int64_t)i * c->pitch, 0, 2 * c->inner);
  }
}

/* One product of bfloat16 numbers in vector registers: pairs along the inner size, as the weights are laid out. */
INLINE void block_bf16(const int count, const uint16_t *w, const uint16_t *x, int pitch, int inner, vec sum[4][COLUMNS]) {
  const int64_t gate = (int64_t)inner * VEC;
  for (int k = 0; k < inner; k += 2)
    for (int g = 0; g < 4; g++) {
      const __m512bh a = (__m512bh)_mm512_loadu_si512(w + g * gate + (int64_t)k * VEC);
      for (int c = 0; c < count; c++) {
        int32_t pair;
        memcpy(&pair, x + (int64_t)c * pitch + k, 4);
        sum[g][c] = (vec)_mm512_dpbf16_ps((__m512)sum[g][c], a, (__m512bh)_mm512_set1_epi32(pair));
      }
    }
}

INLINE void columns_bf16(const int count, const Weights *w, int64_t at, const Columns *c, int first, float *out) {
  vec sum[4][COLUMNS];
  for (int g = 0; g < 4; g++)
    for (int j = 0; j < count; j++) sum[g][j] = (vec){0};
  const int64_t x = (int64_t)first * c->pitch;
  block_bf16(count, w->high + at, c->high + x, c->pitch, c->inner, sum);
  if (c->precision == SPLIT) {
    block_bf16(count, w->low + at, c->high + x, c->pitch, c->inner, sum);
    block_bf16(count, w->high + at, c->low + x, c->pitch, c->inner, sum);
  }
  for (int j = 0; j < count; j++)
    for (int g = 0; g < 4; g++) store(out + (first + j) * ROWS + g * VEC, sum[g][j]);
}

static void panel_bf16(const Weights *w, int64_t at, const Columns *c, float *out) {
  int i = 0;
  for (; i + COLUMNS <= c->count; i += COLUMNS) columns_bf16(COLUMNS, w, at, c, i, out);
  for (; i < c->count; i++) columns_bf16(1, w, at, c, i, out);
}
#endif

#ifdef HAS_AMX
static _Thread_local int tile_rows;

static void configure_tiles(int rows) {
  if (rows == tile_rows) return;
  struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {.palette = 1};
  for (int i = 0; i < 8; i++) {
    config.bytes[i] = 64;
    config.rows[i] = i < 6 ? rows : 16; /* 0 to 2 sums, 3 to 5 columns, 6 and 7 weights */
  }
  _tile_loadconfig(&config);
  tile_rows = rows;
}

#define TIMES(n, b)                            \
  do {                                         \
    _tile_dpbf16ps(0, 3, b);                   \
    if (n > 1) _tile_dpbf16ps(1, 4, b);        \
    if (n > 2) _tile_dpbf16ps(2, 5, b);        \
  } while (0)
#define LOAD(n, x)                                               \
  do {                                                           \
    _tile_loadd(3, (x), pitch);                                  \
    if (n > 1) _tile_loadd(4, (x) + tile, pitch);                \
    if (n > 2) _tile_loadd(5, (x) + 2 * tile, pitch);            \
  } while (0)

INLINE void tiles_amx(const int n, const Weights *w, int64_t at, const Columns *c, int first, float *out) {
  const int64_t pitch = 2 * c->pitch, tile = (int64_t)c->rows * c->pitch, x = first * tile;
  out += (int64_t)first * c->rows * ROWS;
  for (int g = 0; g < 4; g++) {
    const int64_t gate = at + (int64_t)g * c->inner * VEC;
    _tile_zero(0);
    if (n > 1) _tile_zero(1);
    if (n > 2) _tile_zero(2);
    for (int k = 0; k < c->inner; k += 32) {
      _tile_loadd(6, w->high + gate + k * VEC, 64);
      LOAD(n, c->high + x + k);
      TIMES(n, 6);
      if (c->precision == SPLIT) {
        _tile_loadd(7, w->low + gate + k * VEC, 64);
        TIMES(n, 7);
        LOAD(n, c->low + x + k);
        TIMES(n, 6);
      }
    }
    _tile_stored(0, out + g * VEC, 4 * ROWS);
    if (n > 1) _tile_stored(1, out + (int64_t)c->rows * ROWS + g * VEC, 4 * ROWS);
    if (n > 2) _tile_stored(2, out + 2 * (int64_t)c->rows * ROWS + g * VEC, 4 * ROWS);
  }
}

static void panel_amx(const Weights *w, int64_t at, const Columns *c, float *out) {
  configure_tiles(c->rows);
  int i = 0;
  for (; i + 3 <= c->tiles; i += 3) tiles_amx(3, w, at, c, i, out);
  if (c->tiles - i == 2) tiles_amx(2, w, at, c, i, out);
  if (c->tiles - i == 1) tiles_amx(1, w, at, c, i, out);
}
#endif

static int amx_is_allowed(void) {
#ifdef HAS_AMX
  static int answer = -1;
  if (answer < 0) answer = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
  return answer;
#else
  return 0;
#endif
}

/* Columns of `inner` numbers; `room` holds them in bfloat16 (see room_for). */
static Columns columns(const float *x, int64_t stride, int count, int inner, int precision, uint16_t *room) {
  Columns c = {x, stride, count, inner, precision, room, NULL, 1, count, 0};
#ifdef HAS_BF16
  if (precision != FLOAT32) {
    c.tiles = (count + 15) / 16;
    c.rows = (count + c.tiles - 1) / c.tiles;
    c.pitch = inner + 32; /* not a power of two: rows would share a cache set */
    c.low = room + (int64_t)c.tiles * c.rows * c.pitch;
    to_bf16(&c);
  }
#endif
  return c;
}
static int64_t room_for(int count, int inner) { return 2 * (int64_t)(count + 16) * (inner + 32); }

/* Panel number p of the weights times the columns: out[column][4][VEC]; room for 16 more columns. */
static void panel(const Weights *w, int p, const Columns *c, float *out) {
  const int64_t at = (int64_t)p * c->inner * ROWS;
#ifdef HAS_AMX
  if (c->precision != FLOAT32 && amx_is_allowed()) { panel_amx(w, at, c, out); return; }
#endif
#ifdef HAS_BF16
  if (c->precision != FLOAT32) { panel_bf16(w, at, c, out); return; }
#endif
  panel_f32(w->f32 + at, c, out);
}

/* ------------------------------------------------------------------------------------------------ one group of members */

/* What backward and tangents need of one member and day: 6 coefficients of each hidden unit, and the slope of each feature. */
static int64_t tape_width(const Network *net) { return 6 * (int64_t)net->layers * net->hidden + net->features; }
static int inner_of(const Network *net, int layer) { return layer ? 2 * net->hidden : net->hidden; }
static int panels_of(int rows) { return (rows + ROWS - 1) / ROWS; }

typedef struct {
  const Network *net;
  const Inputs *in;
  int first, count, precision;
  float *h, *c;                  /* [count][layers * hidden] */
  float *gates, *fresh, *top;    /* a panel's gates, a layer's new state, the top layer's state on DAYS days */
  float *wide;                   /* [BLOCK][features] */
  uint16_t *room;
  float *tape;                   /* of these members, from day `tape_day` on; may be NULL */
  int64_t tape_stride;
  int tape_day;
} Group;

static void *take(int64_t bytes) {
  void *room = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!room && bytes) { fputs("lit-invert: the kernel is out of memory\n", stderr); abort(); }
  return room;
}
#define FLOATS(n) take(4 * (int64_t)(n))

static int64_t widest(const Network *net) {
  const int64_t h = net->hidden, a = 4 * h, b = net->features;
  return a > b ? a : b;
}

static void open_group(Group *g, const Network *net, const Inputs *in, int first, int count, int precision) {
  const int64_t state = (int64_t)net->layers * net->hidden, most = count > BLOCK ? count : BLOCK;
  *g = (Group){.net = net, .in = in, .first = first, .count = count, .precision = precision};
  g->h = FLOATS(count * state);
  g->c = FLOATS(count * state);
  g->gates = FLOATS((most + 16) * ROWS);
  g->fresh = FLOATS(count * (int64_t)net->hidden);
  g->top = FLOATS((int64_t)DAYS * count * net->hidden);
  g->wide = FLOATS(BLOCK * (int64_t)(net->features + net->hidden));
  g->room = take(2 * room_for(most, widest(net)));
  memcpy(g->h, in->hidden + first * state, 4 * count * state);
  memcpy(g->c, in->cell + first * state, 4 * count * state);
}

static void close_group(Group *g) {
  free(g->h); free(g->c); free(g->gates); free(g->fresh); free(g->top); free(g->wide); free(g->room);
}

static float *tape_at(const Group *g, int member, int day) {
  return g->tape + member * g->tape_stride + (day - g->tape_day) * tape_width(g->net);
}

INLINE void one_unit(const float *gates, const float *a, const float *b, float *c, float *h, float *tape, int64_t hidden) {
  const vec i = vsigmoid(load(gates) + load(a) + load(b));
  const vec f = vsigmoid(load(gates + VEC) + load(a + VEC) + load(b + VEC));
  const vec n = vtanh(load(gates + 2 * VEC) + load(a + 2 * VEC) + load(b + 2 * VEC));
  const vec o = vsigmoid(load(gates + 3 * VEC) + load(a + 3 * VEC) + load(b + 3 * VEC));
  const vec before = load(c), after = f * before + i * n, squashed = vtanh(after);
  store(c, after);
  store(h, o * squashed);
  if (tape) {
    store(tape, n * i * (1.0f - i));
    store(tape + hidden, before * f * (1.0f - f));
    store(tape + 2 * hidden, i * (1.0f - n * n));
    store(tape + 3 * hidden, f);
    store(tape + 4 * hidden, squashed * o * (1.0f - o));
    store(tape + 5 * hidden, o * (1.0f - squashed * squashed));
  }
}

static void one_day(Group *g, int day) {
  const Network *net = g->net;
  const int64_t H = net->hidden, state = net->layers * H;
  for (int l = 0; l < net->layers; l++) {
    const Columns c = columns(g->h + (l ? (l - 1) * H : 0), state, g->count, inner_of(net, l), g->precision, g->room);
    for (int p = 0; p < H / VEC; p++) {
      panel(&net->forward[l], p, &c, g->gates);
      for (int m = 0; m < g->count; m++) {
        const int64_t member = g->first + m;
        const float *a = l ? net->bias[l] + p * ROWS
                           : g->in->forcing_gates + member * g->in->gates_stride + day * 4 * H + p * ROWS;
        static const float nothing[ROWS];
        const float *b = l ? nothing : g->in->member_gates + member * 4 * H + p * ROWS;
        float *tape = g->tape ? tape_at(g, m, day) + l * 6 * H + p * VEC : NULL;
        one_unit(g->gates + m * ROWS, a, b, g->c + m * state + l * H + p * VEC, g->fresh + m * H + p * VEC, tape, H);
      }
    }
    for (int m = 0; m < g->count; m++) memcpy(g->h + m * state + l * H, g->fresh + m * H, 4 * H);
  }
}

/* The head on rows (day, member) of `top`: features, their slopes, outputs. */
static void head(Group *g, int day, int days, float *z) {
  const Network *net = g->net;
  const int64_t H = net->hidden, G = net->features, Z = net->outputs;
  for (int r0 = 0; r0 < days * g->count; r0 += BLOCK) {
    const int rows = days * g->count - r0 < BLOCK ? days * g->count - r0 : BLOCK;
    const float *inputs = g->top + r0 * H;
    if (G) {
      const Columns c = columns(inputs, H, rows, H, g->precision, g->room);
      for (int p = 0; p < panels_of(G); p++) {
        panel(&net->from_hidden, p, &c, g->gates);
        for (int r = 0; r < rows; r++) {
          const int t = day + (r0 + r) / g->count, m = (r0 + r) % g->count;
          const int64_t member = g->first + m;
          const float *a = g->in->forcing_features + member * g->in->features_stride + t * G + p * ROWS;
          const float *b = g->in->member_features + member * G + p * ROWS;
          for (int j = 0; j < ROWS && p * ROWS + j < G; j += VEC) {
            const vec x = load(g->gates + r * ROWS + j) + load(a + j) + load(b + j), s = vsigmoid(x);
            store(g->wide + r * G + p * ROWS + j, x * s);
            if (g->tape) store(tape_at(g, m, t) + 6 * net->layers * H + p * ROWS + j, s * (1.0f + x * (1.0f - s)));
          }
        }
      }
    }
    if (!z) continue;
    const float *read = G ? g->wide : inputs;
    const int64_t width = G ? G : H;
    for (int r = 0; r < rows; r++) {
      const int t = day + (r0 + r) / g->count, m = (r0 + r) % g->count;
      float *out = z + ((int64_t)(g->first + m) * g->in->days + t) * Z;
      for (int j = 0; j < Z; j++) out[j] = dot(read + r * width, net->out_weight + j * width, width) + net->out_bias[j];
    }
  }
}

/* Some days of a group, from its state on; `z` may be NULL where only the tape is wanted. */
static void run_days(Group *g, int day, int days, float *z) {
  const Network *net = g->net;
  const int64_t H = net->hidden, state = net->layers * H;
  for (int i = 0; i < days; i++) {
    one_day(g, day + i);
    for (int m = 0; m < g->count; m++)
      memcpy(g->top + (i * g->count + m) * H, g->h + m * state + (net->layers - 1) * H, 4 * H);
  }
  if (z || net->features) head(g, day, days, z);
}

static int days_from(const Inputs *in, int day) { return in->days - day < DAYS ? in->days - day : DAYS; }

/* ------------------------------------------------------------------------------------------------------------- threads */

typedef struct {
  void (*work)(void *, int);
  void *with;
  int count;
  atomic_int next;
} Shared;

static void *worker(void *argument) {
  Shared *s = argument;
  for (int i; (i = atomic_fetch_add(&s->next, 1)) < s->count;) s->work(s->with, i);
#ifdef HAS_AMX
  if (tile_rows) { _tile_release(); tile_rows = 0; }
#endif
  return NULL;
}

static void share_out(void (*work)(void *, int), void *with, int count, int threads) {
  Shared s = {work, with, count, 0};
  pthread_t helpers[64];
  int started = 0;
  for (; started < threads - 1 && started < count - 1 && started < 64; started++)
    if (pthread_create(&helpers[started], NULL, worker, &s)) break;
  worker(&s);
  for (int i = 0; i < started; i++) pthread_join(helpers[i], NULL);
}

static int group_size(const Inputs *in) {
  const int even = (in->members + in->threads - 1) / in->threads;
  return even < BLOCK ? even : BLOCK;
}

/* ----------------------------------------------------------------------------------------------------------- simulating */

typedef struct {
  const Network *net;
  const Inputs *in;
  float *z, *states, *tape;         /* states: [members][chunks][2][layers * hidden] at the start of every DAYS days */
  const float *dz;
  float *d_gates, *d_features, *d_hidden, *d_cell;
  const float *t_gates, *t_features, *t_hidden, *t_cell;
  float *tz;
  int tangents, parts;
} Call;

static void keep_state(const Call *call, const Group *g, int chunk) {
  const int64_t state = (int64_t)g->net->layers * g->net->hidden, chunks = (g->in->days + DAYS - 1) / DAYS;
  for (int m = 0; m < g->count; m++) {
    float *to = call->states + ((g->first + m) * chunks + chunk) * 2 * state;
    memcpy(to, g->h + m * state, 4 * state);
    memcpy(to + state, g->c + m * state, 4 * state);
  }
}

static void take_state(const Call *call, Group *g, int chunk) {
  const int64_t state = (int64_t)g->net->layers * g->net->hidden, chunks = (g->in->days + DAYS - 1) / DAYS;
  for (int m = 0; m < g->count; m++) {
    const float *from = call->states + ((g->first + m) * chunks + chunk) * 2 * state;
    memcpy(g->h + m * state, from, 4 * state);
    memcpy(g->c + m * state, from + state, 4 * state);
  }
}

static int members_from(const Inputs *in, int first) {
  const int size = group_size(in);
  return in->members - first < size ? in->members - first : size;
}

static void simulate_group(void *with, int number) {
  const Call *call = with;
  const int first = number * group_size(call->in);
  Group g;
  open_group(&g, call->net, call->in, first, members_from(call->in, first), call->in->precision);
  if (call->tape) {
    g.tape_stride = call->in->days * tape_width(call->net);
    g.tape = call->tape + first * g.tape_stride;
  }
  for (int day = 0; day < call->in->days; day += DAYS) {
    if (call->states) keep_state(call, &g, day / DAYS);
    run_days(&g, day, days_from(call->in, day), call->z);
  }
  close_group(&g);
}

/* ---------------------------------------------------------------------------------------------------------- pulling back */

typedef struct {
  float *dh, *dc;       /* [count][layers * hidden] */
  float *dz, *d_top;    /* [count][4 hidden]; [DAYS * count][hidden] */
  float *d_gates, *d_features;
} Adjoint;

static void pull_head(const Call *call, Group *g, Adjoint *a, int day, int days) {
  const Network *net = g->net;
  const int64_t H = net->hidden, G = net->features, Z = net->outputs;
  for (int r0 = 0; r0 < days * g->count; r0 += BLOCK) {
    const int rows = days * g->count - r0 < BLOCK ? days * g->count - r0 : BLOCK;
    for (int r = 0; r < rows; r++) {
      const int t = day + (r0 + r) / g->count, m = (r0 + r) % g->count;
      const float *dz = call->dz + ((int64_t)(g->first + m) * g->in->days + t) * Z;
      const float *slope = G ? tape_at(g, m, t) + 6 * net->layers * H : NULL;
      float *to = G ? g->wide + r * G : a->d_top + (r0 + r) * H;
      for (int j = 0; j < (G ? G : H); j += VEC) {
        vec sum = {0};
        for (int i = 0; i < Z; i++) sum += load(net->out_weight + i * (G ? G : H) + j) * splat(dz[i]);
        if (G) {
          sum *= load(slope + j);
          store(a->d_features + m * G + j, load(a->d_features + m * G + j) + sum);
        }
        store(to + j, sum);
      }
    }
    if (!G) continue;
    const Columns c = columns(g->wide, G, rows, G, g->precision, g->room);
    for (int p = 0; p < panels_of(H); p++) {
      panel(&net->to_hidden, p, &c, g->gates);
      for (int r = 0; r < rows; r++)
        for (int j = 0; j < ROWS && p * ROWS + j < H; j += VEC)
          store(a->d_top + (r0 + r) * H + p * ROWS + j, load(g->gates + r * ROWS + j));
    }
  }
}

static void pull_layer(Group *g, Adjoint *a, int day, int l) {
  const Network *net = g->net;
  const int64_t H = net->hidden, state = net->layers * H;
  for (int m = 0; m < g->count; m++) {
    const float *tape = tape_at(g, m, day) + l * 6 * H;
    float *dh = a->dh + m * state + l * H, *dc = a->dc + m * state + l * H;
    for (int p = 0; p < H / VEC; p++) {
      const float *k = tape + p * VEC;
      const vec h = load(dh + p * VEC), c = load(dc + p * VEC) + h * load(k + 5 * H);
      float *dz = a->dz + m * 4 * H + p * ROWS;
      store(dz, c * load(k));
      store(dz + VEC, c * load(k + H));
      store(dz + 2 * VEC, c * load(k + 2 * H));
      store(dz + 3 * VEC, h * load(k + 4 * H));
      store(dc + p * VEC, c * load(k + 3 * H));
    }
    if (l == 0)
      for (int j = 0; j < 4 * H; j += VEC)
        store(a->d_gates + m * 4 * H + j, load(a->d_gates + m * 4 * H + j) + load(a->dz + m * 4 * H + j));
  }
  const Columns c = columns(a->dz, 4 * H, g->count, 4 * H, g->precision, g->room);
  const int inner = inner_of(net, l);
  for (int p = 0; p < panels_of(inner); p++) {
    panel(&net->backward[l], p, &c, g->gates);
    for (int m = 0; m < g->count; m++)
      for (int j = 0; j < ROWS && p * ROWS + j < inner; j += VEC) {
        const int row = p * ROWS + j;
        const vec d = load(g->gates + m * ROWS + j);
        float *to = a->dh + m * state + (l ? (l - 1) * H : 0) + row;
        store(to, l && row < H ? load(to) + d : d); /* the layer below waits with what came from the day after */
      }
  }
}

static void pull_group(void *with, int number) {
  const Call *call = with;
  const Network *net = call->net;
  const int first = number * group_size(call->in), count = members_from(call->in, first);
  const int64_t H = net->hidden, G = net->features, state = net->layers * H;
  Group g;
  open_group(&g, net, call->in, first, count, call->in->precision);
  Adjoint a = {FLOATS(count * state), FLOATS(count * state), FLOATS(count * 4 * H), FLOATS(DAYS * count * H),
               call->d_gates + first * 4 * H, call->d_features + first * G};
  memset(a.dh, 0, 4 * count * state);
  memset(a.dc, 0, 4 * count * state);
  memset(a.d_gates, 0, 16 * count * H);
  memset(a.d_features, 0, 4 * count * G);
  float *own = call->tape ? NULL : FLOATS(DAYS * count * tape_width(net));
  g.tape = call->tape ? call->tape + first * call->in->days * tape_width(net) : own;
  g.tape_stride = (call->tape ? call->in->days : DAYS) * tape_width(net);
  for (int chunk = (call->in->days - 1) / DAYS; chunk >= 0; chunk--) {
    const int day = chunk * DAYS, days = days_from(call->in, day);
    if (own) {
      g.tape_day = day;
      take_state(call, &g, chunk);
      run_days(&g, day, days, NULL);
    }
    pull_head(call, &g, &a, day, days);
    for (int i = days - 1; i >= 0; i--) {
      for (int m = 0; m < count; m++)
        for (int j = 0; j < H; j += VEC) {
          float *to = a.dh + m * state + (net->layers - 1) * H + j;
          store(to, load(to) + load(a.d_top + (i * count + m) * H + j));
        }
      for (int l = net->layers - 1; l >= 0; l--) pull_layer(&g, &a, day + i, l);
    }
  }
  memcpy(call->d_hidden + first * state, a.dh, 4 * count * state);
  memcpy(call->d_cell + first * state, a.dc, 4 * count * state);
  free(a.dh); free(a.dc); free(a.dz); free(a.d_top); free(own);
  close_group(&g);
}

/* -------------------------------------------------------------------------------------------------------- pushing forward */

typedef struct {
  int count;
  float *dh, *dc, *fresh, *gates;     /* tangents of one member's state */
  const float *d_gates;               /* [count][4 hidden], in every day */
  float *d_features;                  /* the features' tangents as panels: [panels][features][4][VEC] */
  float *rows, *to_hidden, *fixed;    /* of DAYS days: V slope; that times A; that times the features' tangents */
  uint16_t *room;
} Tangents;

static void open_tangents(Tangents *d, const Call *call, int member, int first, int count) {
  const Network *net = call->net;
  const int64_t H = net->hidden, G = net->features, Z = net->outputs, state = net->layers * H;
  const int64_t from = (int64_t)member * call->tangents + first;
  *d = (Tangents){.count = count, .d_gates = call->t_gates + from * 4 * H};
  d->dh = FLOATS(count * state);
  d->dc = FLOATS(count * state);
  memcpy(d->dh, call->t_hidden + from * state, 4 * count * state);
  memcpy(d->dc, call->t_cell + from * state, 4 * count * state);
  d->fresh = FLOATS(count * H);
  const int64_t most = count > DAYS * Z ? count : DAYS * Z;
  d->gates = FLOATS((most + 16) * ROWS);
  d->d_features = FLOATS(panels_of(count) * G * ROWS + 16);
  memset(d->d_features, 0, 4 * (panels_of(count) * G * ROWS));
  for (int k = 0; k < count; k++)
    for (int j = 0; j < G; j++) d->d_features[(k / ROWS * G + j) * ROWS + k % ROWS] = call->t_features[(from + k) * G + j];
  d->rows = FLOATS(DAYS * Z * G + 16);
  d->to_hidden = FLOATS(DAYS * Z * H);
  d->fixed = FLOATS(DAYS * Z * panels_of(count) * ROWS);
  d->room = take(2 * room_for(most, widest(net)));
}

static void close_tangents(Tangents *d) {
  free(d->dh); free(d->dc); free(d->fresh); free(d->gates); free(d->d_features); free(d->rows); free(d->to_hidden); free(d->fixed);
  free(d->room);
}

/* What a tangent of the state, and of the features, means for the outputs on each of these days. */
static void push_head(Tangents *d, const Group *g, int day, int days) {
  const Network *net = g->net;
  const int64_t H = net->hidden, G = net->features, Z = net->outputs;
  for (int r = 0; r < days * Z; r++) {
    const float *slope = tape_at(g, 0, day + r / Z) + 6 * net->layers * H, *weight = net->out_weight + r % Z * G;
    for (int j = 0; j < G; j += VEC) store(d->rows + r * G + j, load(weight + j) * load(slope + j));
  }
  const Columns c = columns(d->rows, G, days * Z, G, FLOAT32, d->room);
  for (int p = 0; p < panels_of(d->count); p++) {
    panel_f32(d->d_features + p * G * ROWS, &c, d->gates);
    for (int r = 0; r < days * Z; r++) memcpy(d->fixed + (r * panels_of(d->count) + p) * ROWS, d->gates + r * ROWS, 4 * ROWS);
  }
  const Columns b = columns(d->rows, G, days * Z, G, g->in->precision, d->room);
  for (int p = 0; p < panels_of(H); p++) {
    panel(&net->to_hidden, p, &b, d->gates);
    for (int r = 0; r < days * Z; r++)
      for (int j = 0; j < ROWS && p * ROWS + j < H; j += VEC)
        store(d->to_hidden + r * H + p * ROWS + j, load(d->gates + r * ROWS + j));
  }
}

static void push_layer(Tangents *d, const Group *g, int day, int l) {
  const Network *net = g->net;
  const int64_t H = net->hidden, state = net->layers * H;
  const float *tape = tape_at(g, 0, day) + l * 6 * H;
  const Columns c = columns(d->dh + (l ? (l - 1) * H : 0), state, d->count, inner_of(net, l), g->in->precision, d->room);
  for (int p = 0; p < H / VEC; p++) {
    panel(&net->forward[l], p, &c, d->gates);
    const float *k = tape + p * VEC;
    const vec ki = load(k), kf = load(k + H), kg = load(k + 2 * H), f = load(k + 3 * H), ko = load(k + 4 * H), kc = load(k + 5 * H);
    for (int n = 0; n < d->count; n++) {
      const float *z = d->gates + n * ROWS, *more = l ? NULL : d->d_gates + n * 4 * H + p * ROWS;
      vec zi = load(z), zf = load(z + VEC), zg = load(z + 2 * VEC), zo = load(z + 3 * VEC);
      if (more) {
        zi += load(more);
        zf += load(more + VEC);
        zg += load(more + 2 * VEC);
        zo += load(more + 3 * VEC);
      }
      float *dc = d->dc + n * state + l * H + p * VEC;
      const vec cell = f * load(dc) + ki * zi + kf * zf + kg * zg;
      store(dc, cell);
      store(d->fresh + n * H + p * VEC, ko * zo + kc * cell);
    }
  }
  for (int n = 0; n < d->count; n++) memcpy(d->dh + n * state + l * H, d->fresh + n * H, 4 * H);
}

static void push_member(void *with, int number) {
  const Call *call = with;
  const Network *net = call->net;
  const int64_t H = net->hidden, G = net->features, Z = net->outputs, state = net->layers * H, K = call->tangents;
  const int member = number / call->parts, part = number % call->parts, size = (K + call->parts - 1) / call->parts;
  const int first = part * size, count = K - first < size ? K - first : size;
  if (count <= 0) return;
  Group g;
  Tangents d;
  open_group(&g, net, call->in, member, 1, FLOAT32);
  open_tangents(&d, call, member, first, count);
  float *own = call->tape ? NULL : FLOATS(DAYS * tape_width(net));
  g.tape = own ? own : call->tape + member * call->in->days * tape_width(net);
  for (int day = 0; day < call->in->days; day += DAYS) {
    const int days = days_from(call->in, day);
    if (own) {
      g.tape_day = day;
      run_days(&g, day, days, NULL);
    }
    if (G) push_head(&d, &g, day, days);
    for (int i = 0; i < days; i++) {
      for (int l = 0; l < net->layers; l++) push_layer(&d, &g, day + i, l);
      for (int z = 0; z < Z; z++) {
        float *out = call->tz + ((member * (int64_t)call->in->days + day + i) * Z + z) * K + first;
        const float *row = G ? d.to_hidden + (i * Z + z) * H : net->out_weight + z * H;
        for (int n = 0; n < count; n++) out[n] = dot(row, d.dh + n * state + (net->layers - 1) * H, H);
        const float *fixed = d.fixed + (i * Z + z) * panels_of(count) * ROWS;
        if (G) for (int n = 0; n < count; n++) out[n] += fixed[n];
      }
    }
  }
  free(own);
  close_tangents(&d);
  close_group(&g);
}

/* ------------------------------------------------------------------------------------------------------------ entry points */

int lstm_vector(void) { return VEC; }
int lstm_chunk(void) { return DAYS; }
int lstm_bf16(void) {
#ifdef HAS_BF16
  return amx_is_allowed() ? 2 : 1;
#else
  return 0;
#endif
}

void lstm_simulate(const Network *net, const Inputs *in, float *z, float *states, float *tape) {
  Call call = {.net = net, .in = in, .z = z, .states = states, .tape = tape};
  share_out(simulate_group, &call, (in->members + group_size(in) - 1) / group_size(in), in->threads);
}

void lstm_pull(const Network *net, const Inputs *in, float *states, float *tape, const float *dz, float *d_gates, float *d_features,
               float *d_hidden, float *d_cell) {
  Call call = {.net = net, .in = in, .states = states, .tape = tape, .dz = dz, .d_gates = d_gates, .d_features = d_features,
               .d_hidden = d_hidden, .d_cell = d_cell};
  share_out(pull_group, &call, (in->members + group_size(in) - 1) / group_size(in), in->threads);
}

/* With the tape of these members from lstm_simulate; without one (NULL) they are simulated again. */
void lstm_push(const Network *net, const Inputs *in, float *tape, int tangents, const float *t_gates, const float *t_features,
               const float *t_hidden, const float *t_cell, float *tz) {
  const int parts = (in->threads + in->members - 1) / in->members; /* a lone member shares its tangents out */
  Call call = {.net = net, .in = in, .tape = tape, .tangents = tangents, .parts = parts < tangents ? parts : tangents,
               .t_gates = t_gates, .t_features = t_features, .t_hidden = t_hidden, .t_cell = t_cell, .tz = tz};
  share_out(push_member, &call, in->members * call.parts, in->threads);
}
