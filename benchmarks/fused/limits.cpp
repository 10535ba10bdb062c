// The limits: what a person reaches who writes FiberPO for one machine by hand.
//
// A plain C interface, so that building takes a second and needs no header of torch. Arrays are
// contiguous. Row b is the tokens from starts[b] to starts[b + 1]; every row has a token. Budgets
// are two a level, plus and minus, finest level first; the loss is the mean over rows of the mean
// over tokens.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

// g of arXiv 2604.03044, eq. 3: pass, fall with slope -k, stay zero.
float rollback(float x, float C, float k) {
  const float a = std::fabs(x);
  if (a <= C) return x;
  return a < (1 + 1 / k) * C ? std::copysign((k + 1) * C, x) - k * x : 0.f;
}

float rollback_slope(float x, float C, float k) {
  const float a = std::fabs(x);
  if (a <= C) return 1.f;
  return a < (1 + 1 / k) * C ? -k : 0.f;
}

float clip(float x, float C) { return std::min(std::max(x, -C), C); }

struct Ones {  // the mask of packed tokens
  float operator[](int64_t) const { return 1.f; }
  Ones operator+(int64_t) const { return *this; }
};

template <class Mask>
struct Tokens {
  const float *logp, *old_logp, *advantages;
  Mask mask;
  float* gradient;
  const int64_t* starts;

  Tokens row(int64_t b) const {
    const int64_t at = starts[b];
    return {logp + at, old_logp + at, advantages + at, mask + at, gradient + at, starts};
  }
};

// What a row keeps between passes; channels are 0 plus and 1 minus.
struct Row {
  float count, mean[2];
  float base;                 // what the gates above the token let through
  float weight, weight_plus;  // sums of mask * advantage * G, all and where x >= 0
  float inside, inside_plus;  // the same where the token gate passes
  float scale, shift[2];      // of the gradient
};

template <class Mask>
void statistics(const Tokens<Mask>& t, int64_t n, Row& r) {
  // Local pointers, or the compiler gathers value by value.
  const float *logp = t.logp, *old_logp = t.old_logp;
  const Mask mask = t.mask;
  float count = 0, plus = 0, minus = 0;
#pragma omp simd reduction(+ : count, plus, minus)
  for (int64_t i = 0; i < n; i++) {
    const float x = logp[i] - old_logp[i], m = static_cast<float>(mask[i]);
    count += m;
    plus += (x > 0 ? x : 0.f) * m;
    minus += (x < 0 ? -x : 0.f) * m;
  }
  r.count = count;
  r.mean[0] = plus / count;
  r.mean[1] = minus / count;
}

// Gated ratios. Leaves the weight of each token that the token gate passes in the gradient.
template <class Mask>
void weigh(const Tokens<Mask>& t, int64_t n, float epsilon, Row& r) {
  const float *logp = t.logp, *old_logp = t.old_logp, *advantages = t.advantages;
  const Mask mask = t.mask;
  float* gradient = t.gradient;
  const float plus = r.mean[0], minus = r.mean[1];
  const float above = r.base + clip(minus, epsilon), below = r.base - clip(plus, epsilon);
  float weight = 0, weight_plus = 0, inside = 0, inside_plus = 0;
#pragma omp simd reduction(+ : weight, weight_plus, inside, inside_plus)
  for (int64_t i = 0; i < n; i++) {
    const float x = logp[i] - old_logp[i];
    const bool up = x >= 0;
    // Multiplied by, not chosen by: with a mask of bytes, gcc 12 gets the choice wrong.
    const float one_up = up ? 1.f : 0.f;
    const float u = x + (up ? -plus : minus), c = clip(u, epsilon);
    const float w = static_cast<float>(mask[i]) * advantages[i] * expf(c + (up ? above : below));
    const float passed = std::fabs(u) <= epsilon ? w : 0.f;
    weight += w;
    weight_plus += w * one_up;
    inside += passed;
    inside_plus += passed * one_up;
    gradient[i] = passed;
  }
  r.weight = weight;
  r.weight_plus = weight_plus;
  r.inside = inside;
  r.inside_plus = inside_plus;
}

// `through` is d loss / d mean of each channel by way of the gates above the token.
void adjoint(Row& r, float epsilon, const float* through) {
  const float weight_minus = r.weight - r.weight_plus, inside_minus = r.inside - r.inside_plus;
  const float plus = -r.inside_plus - (r.mean[0] <= epsilon ? weight_minus : 0.f);
  const float minus = inside_minus + (r.mean[1] <= epsilon ? r.weight_plus : 0.f);
  r.shift[0] = (through[0] + r.scale * plus) / r.count;
  r.shift[1] = -(through[1] + r.scale * minus) / r.count;
}

template <class Mask>
void differentiate(const Tokens<Mask>& t, int64_t n, const Row& r) {
  const float *logp = t.logp, *old_logp = t.old_logp;
  const Mask mask = t.mask;
  float* gradient = t.gradient;
  const float scale = r.scale, up = r.shift[0], down = r.shift[1];
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const float x = logp[i] - old_logp[i];
    gradient[i] = scale * gradient[i] + static_cast<float>(mask[i]) * (x >= 0 ? up : down);
  }
}

// One level above the token: a row needs no other row, and stays in the cache for all passes.
template <class Mask>
double two_levels(const Tokens<Mask>& tokens, int64_t rows, const float* budgets, float epsilon) {
  double loss = 0;
#pragma omp parallel for reduction(+ : loss) schedule(dynamic, 4)
  for (int64_t b = 0; b < rows; b++) {
    const Tokens<Mask> t = tokens.row(b);
    const int64_t n = tokens.starts[b + 1] - tokens.starts[b];
    Row r;
    statistics(t, n, r);
    r.scale = -1.f / (r.count * static_cast<float>(rows));
    r.base = rollback(r.mean[0], budgets[0], r.count) - rollback(r.mean[1], budgets[1], r.count);
    weigh(t, n, epsilon, r);
    const float through[2] = {
        r.scale * r.weight * rollback_slope(r.mean[0], budgets[0], r.count),
        -r.scale * r.weight * rollback_slope(r.mean[1], budgets[1], r.count),
    };
    adjoint(r, epsilon, through);
    differentiate(t, n, r);
    loss += static_cast<double>(r.scale) * r.weight;
  }
  return loss;
}

// Levels from the trajectory up: sizes[l] cells, each in cell parents[l][i] of level l + 1.
struct Tree {
  int64_t levels;
  const int64_t* const* parents;
  const int64_t* sizes;
  const float* budgets;
};

using Cells = std::vector<std::vector<float>>;

Cells cells(const Tree& tree) {
  Cells out(tree.levels);
  for (int64_t l = 0; l < tree.levels; l++) out[l].assign(tree.sizes[l], 0.f);
  return out;
}

// Means upwards, gates downwards; adds what is let through to each row's base. Returns what the gate
// of each cell sees: its deviation from the coarser cell.
Cells gate(const Tree& tree, const Cells& members, int channel, std::vector<Row>& rows) {
  const int64_t top = tree.levels - 1;
  Cells mean = cells(tree);
  for (int64_t b = 0; b < tree.sizes[0]; b++) mean[0][b] = rows[b].mean[channel];
  for (int64_t l = 0; l < top; l++)
    for (int64_t i = 0; i < tree.sizes[l]; i++) {
      const int64_t p = tree.parents[l][i];
      mean[l + 1][p] += mean[l][i] / members[l + 1][p];
    }
  Cells deviation = mean;
  Cells through = cells(tree);
  for (int64_t l = top; l >= 0; l--)
    for (int64_t i = 0; i < tree.sizes[l]; i++) {
      float above = 0.f;
      if (l < top) {
        const int64_t p = tree.parents[l][i];
        deviation[l][i] -= mean[l + 1][p];
        above = through[l + 1][p];
      }
      const float C = tree.budgets[2 * l + channel];
      through[l][i] = above + rollback(deviation[l][i], C, members[l][i]);
    }
  for (int64_t b = 0; b < tree.sizes[0]; b++)
    rows[b].base += channel ? -through[0][b] : through[0][b];
  return deviation;
}

// d loss / d mean of each row's channel.
std::vector<float> pull_back(const Tree& tree, const Cells& members, int channel,
                             const Cells& deviation, const std::vector<Row>& rows) {
  const int64_t top = tree.levels - 1;
  Cells weight = cells(tree), adjoints = cells(tree);
  for (int64_t b = 0; b < tree.sizes[0]; b++)
    weight[0][b] = (channel ? -1.f : 1.f) * rows[b].scale * rows[b].weight;
  for (int64_t l = 0; l <= top; l++)
    for (int64_t i = 0; i < tree.sizes[l]; i++) {
      const float C = tree.budgets[2 * l + channel];
      const float e = weight[l][i] * rollback_slope(deviation[l][i], C, members[l][i]);
      adjoints[l][i] += e;
      if (l < top) {
        const int64_t p = tree.parents[l][i];
        weight[l + 1][p] += weight[l][i];
        adjoints[l + 1][p] -= e;
      }
    }
  for (int64_t l = top - 1; l >= 0; l--)
    for (int64_t i = 0; i < tree.sizes[l]; i++) {
      const int64_t p = tree.parents[l][i];
      adjoints[l][i] += adjoints[l + 1][p] / members[l + 1][p];
    }
  return adjoints[0];
}

// Several levels above the token: three passes over all rows, the cells between them.
template <class Mask>
double many_levels(const Tokens<Mask>& tokens, const Tree& tree, float epsilon) {
  const int64_t n_rows = tree.sizes[0];
  std::vector<Row> rows(n_rows);
#pragma omp parallel for schedule(dynamic, 4)
  for (int64_t b = 0; b < n_rows; b++) {
    Row& r = rows[b];
    statistics(tokens.row(b), tokens.starts[b + 1] - tokens.starts[b], r);
    r.scale = -1.f / (r.count * static_cast<float>(n_rows));
    r.base = 0.f;
  }
  Cells members = cells(tree);
  for (int64_t b = 0; b < n_rows; b++) members[0][b] = rows[b].count;
  for (int64_t l = 0; l + 1 < tree.levels; l++)
    for (int64_t i = 0; i < tree.sizes[l]; i++) members[l + 1][tree.parents[l][i]] += 1.f;
  const Cells seen[2] = {gate(tree, members, 0, rows), gate(tree, members, 1, rows)};
#pragma omp parallel for schedule(dynamic, 4)
  for (int64_t b = 0; b < n_rows; b++)
    weigh(tokens.row(b), tokens.starts[b + 1] - tokens.starts[b], epsilon, rows[b]);
  const std::vector<float> through[2] = {pull_back(tree, members, 0, seen[0], rows),
                                         pull_back(tree, members, 1, seen[1], rows)};
  double loss = 0;
#pragma omp parallel for reduction(+ : loss) schedule(dynamic, 4)
  for (int64_t b = 0; b < n_rows; b++) {
    const float own[2] = {through[0][b], through[1][b]};
    adjoint(rows[b], epsilon, own);
    differentiate(tokens.row(b), tokens.starts[b + 1] - tokens.starts[b], rows[b]);
    loss += static_cast<double>(rows[b].scale) * rows[b].weight;
  }
  return loss;
}

template <class Mask>
double fiberpo(const Tokens<Mask>& tokens, const Tree& tree, float epsilon) {
  return tree.levels == 1 ? two_levels(tokens, tree.sizes[0], tree.budgets, epsilon)
                          : many_levels(tokens, tree, epsilon);
}

}  // namespace

// The least that any loss with four inputs and a gradient can do: read four arrays, write one.
extern "C" void read_four_write_one(const float* a, const float* b, const float* c, const float* d,
                                    float* out, int64_t n) {
#pragma omp parallel for simd
  for (int64_t i = 0; i < n; i++) out[i] = a[i] + b[i] * c[i] + d[i];
}

// mask_kind: 0 none, 1 float, 2 bool.
extern "C" double fiberpo_loss(const float* logp, const float* old_logp, const float* advantages,
                               const void* mask, int32_t mask_kind, float* gradient,
                               const int64_t* starts, int64_t levels,
                               const int64_t* const* parents, const int64_t* sizes,
                               const float* budgets, float epsilon) {
  const Tree tree{levels, parents, sizes, budgets};
  if (mask_kind == 0)
    return fiberpo(Tokens<Ones>{logp, old_logp, advantages, {}, gradient, starts}, tree, epsilon);
  if (mask_kind == 1)
    return fiberpo(Tokens<const float*>{logp, old_logp, advantages,
                                        static_cast<const float*>(mask), gradient, starts},
                   tree, epsilon);
  return fiberpo(Tokens<const uint8_t*>{logp, old_logp, advantages, static_cast<const uint8_t*>(mask),
                                     gradient, starts},
                 tree, epsilon);
}
