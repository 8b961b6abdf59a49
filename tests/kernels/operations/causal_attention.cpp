#include "kernels/causal_attention.h"

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// A query's weights, of the keys key(0) ... key(count - 1), and the logarithm of the sum of exponentials.
template <typename Key>
std::vector<double> weights_of(const double* q, std::int64_t count, std::int64_t width, Key&& key, double* log_sum_exp) {
  std::vector<double> weights;
  double sum = 0;
  for (std::int64_t j = 0; j < count; ++j) {
    weights.push_back(std::exp(std::inner_product(q, q + width, key(j), 0.0) / std::sqrt(static_cast<double>(width))));
    sum += weights.back();
  }
  for (double& weight : weights) weight /= sum;
  *log_sum_exp = std::log(sum);
  return weights;
}

void add(double* to, double factor, const double* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] += factor * x[i];
}

// [windows, T, H, K, d]
const Listed causal_attention{{
    .name = "causal_attention",
    .shapes = {{2, 1, 1, 1, 16},
               {2, 9, 2, 1, 16},
               {1, 40, 1, 1, 16},
               {2, 40, 3, 1, 32},
               {1, 64, 3, 3, 80},
               {2, 65, 3, 1, 64},
               {1, 130, 1, 1, 128},
               {1, 300, 2, 1, 16}},
    .cpu_shapes = {{2, 9, 4, 2, 7}, {1, 70, 2, 1, 8}},
    .gpu_shapes = {{3, 1, 3, 1, 128},
                   {2, 64, 3, 1, 128},
                   {2, 130, 3, 3, 64},
                   {2, 130, 6, 2, 32},
                   {1, 65, 3, 1, 80},
                   {3, 300, 3, 1, 64},
                   {2, 300, 3, 1, 128},
                   {1, 300, 3, 3, 80},
                   {1, 1024, 2, 2, 64}},
    .timed = {{32, 256, 8, 8, 64}, {8, 1024, 12, 12, 64}},
    .body =
        [](Case& c, const Shape& s) {
          const std::int64_t window = s[1], tokens = s[0] * window, queries = s[2], keys = s[3], width = s[4],
                             shared = queries / keys;
          const HeadCounts heads{queries, keys};
          const Shape wide{tokens, queries * width}, narrow{tokens, keys * width}, statistics{queries, tokens};
          const auto q = c.input("q", wide), k = c.input("k", narrow), v = c.input("v", narrow), d_out = c.input("d_out", wide);
          const auto first = c.input("first", {tokens}, documents_in(window), Stored::i32);
          const auto out = c.output("out", wide), log_sum_exp = c.output("log_sum_exp", statistics, Stored::single);
          const auto d_q = c.output("d_q", wide), d_k = c.output("d_k", narrow), d_v = c.output("d_v", narrow);
          // A single key has all the weight, whatever its score: the gradients are what rounding leaves of 0.
          if (window == 1) c[d_q].use = c[d_k].use = Use::scratch;
          const auto dot = c.scratch("dot", statistics, Stored::single),
                     scratch = c.scratch("scratch", {3, causal_attention_scratch(window)});
          for (const Id id : {q, k, d_q}) c[id].after = 8;  // columns of something wider
          for (const Id id : {v, out, d_k, d_v}) c[id].before = 8;
          // Products of rounded weights, and of their rounded gradients.
          for (const Id id : {out, d_q, d_k, d_v}) c[id].roundings = 1;
          c.tolerance = 5e-6;
          const double product = static_cast<double>(tokens * window * queries * width);  // a multiply-add for half of all pairs
          c.run("causal_attention_forward",
                [=](auto& device, const Operands& at) {
                  causal_attention_forward(device,
                                           {heads, at[q], at[k], at[v], at[first], window, at[out], at[log_sum_exp], at[scratch]});
                },
                {2 * product});
          c.loss_is(out, d_out);
          c.run("causal_attention_backward",
                [=](auto& device, const Operands& at) {
                  causal_attention_backward(device, {heads, at[q], at[k], at[v], at[first], window, at[out], at[log_sum_exp],
                                                     at[d_out], at[d_q], at[d_k], at[d_v], at[dot], at[scratch]});
                },
                {5 * product});
          c.formula = [=](Values& x) {
            for (const Id id : {out, d_q, d_k, d_v}) x[id] = Tensor<double>(x[id].shape, 0);
            for (std::int64_t i = 0; i < tokens * queries; ++i) {
              const std::int64_t n = i / queries, head = i % queries,
                                 oldest = n - n % window + static_cast<std::int64_t>(x[first][n]);
              const auto key_at = [=](std::int64_t j) { return ((oldest + j) * keys + head / shared) * width; };
              const auto weights = weights_of(
                  &x[q][i * width], n + 1 - oldest, width, [&](std::int64_t j) { return &x[k][key_at(j)]; },
                  &x[log_sum_exp][head * tokens + n]);
              const double* const d = &x[d_out][i * width];
              double* const mixed = &x[out][i * width];
              std::int64_t j = 0;
              for (const double weight : weights) add(mixed, weight, &x[v][key_at(j++)], width);
              const double along = std::inner_product(d, d + width, mixed, 0.0);
              j = 0;
              for (const double weight : weights) {
                const std::int64_t at = key_at(j++);
                const double d_score =
                    weight * (std::inner_product(d, d + width, &x[v][at], 0.0) - along) / std::sqrt(static_cast<double>(width));
                add(&x[d_v][at], weight, d, width);
                add(&x[d_q][i * width], d_score, &x[k][at], width);
                add(&x[d_k][at], d_score, &x[q][i * width], width);
              }
            }
          };
          c.gradient(v, d_v);
          if (window > 1) c.gradient(q, d_q), c.gradient(k, d_k);
        },
    .bf16_capability = 80,
}};

// [streams, ring, tokens, H, K, d, first position, where a document begins]
const Listed causal_attention_step_{{
    .name = "causal_attention_step",
    .shapes = {{1, 1, 3, 1, 1, 16, 0, 0},
               {2, 40, 40, 3, 1, 16, 0, 0},
               {2, 13, 40, 3, 3, 32, 0, 0},
               {1, 70, 65, 2, 1, 80, 0, 17},
               {3, 20, 40, 1, 1, 64, 100'000'003, 5}},
    .cpu_shapes = {{2, 7, 20, 4, 2, 5, 0, 3}},
    .gpu_shapes = {{2, 150, 200, 3, 1, 128, 0, 60}, {3, 300, 300, 3, 3, 64, 0, 0}},
    .timed = {{1, 256, 1, 8, 8, 64, 300, -300}, {1, 1024, 1, 12, 12, 64, 1100, -1100}},
    .body =
        [](Case& c, const Shape& s) {
          const std::int64_t streams = s[0], ring = s[1], tokens = s[2], queries = s[3], keys = s[4], width = s[5], start = s[6],
                             document = s[7], shared = queries / keys;
          const HeadCounts heads{queries, keys};
          const auto oldest = [=](std::int64_t t) { return t < document ? 0 : document; };  // in t's document
          const auto counted = [=](auto&& of) {
            return [=](Tensor<double>& x, Random&) {
              for (std::int64_t t = 0; t < tokens; ++t) x[t] = static_cast<double>(start + of(t));
            };
          };
          const Shape wide{tokens * streams, queries * width}, narrow{tokens * streams, keys * width};
          const auto q = c.input("q", wide), k = c.input("k", narrow), v = c.input("v", narrow);
          const auto position = c.input("position", {tokens}, counted([](std::int64_t t) { return t; }), Stored::i64),
                     first = c.input("first", {tokens}, counted(oldest), Stored::i64);
          const auto rings = [&](const char* name) {
            const auto id = c.output(name, {streams, ring, keys * width}, Stored::tested, Use::partial);
            c[id].exact = true;
            return id;
          };
          const auto kept_keys = rings("keys"), kept_values = rings("values"), out = c.output("out", wide);
          const auto parts = c.scratch("parts", {streams, queries, kStepParts, width + 2}, Stored::f32);
          c[q].after = c[k].before = c[v].after = c[out].before = 8;
          c.tolerance = 5e-6;
          c.run("causal_attention_step", [=](auto& device, const Operands& at) {
            for (std::int64_t t = 0; t < tokens; ++t) {
              const auto row = [&](Id id) { return at[id].rows(t * streams, streams); };
              causal_attention_step(device, {heads, row(q), row(k), row(v), at[kept_keys], at[kept_values], at[position].rows(t, 1),
                                             at[first].rows(t, 1), row(out), at[parts]});
            }
          });
          c.formula = [=](Values& x) {
            x[out] = Tensor<double>(wide, 0);
            for (std::int64_t i = 0; i < tokens * streams; ++i) {
              const std::int64_t t = i / streams, stream = i % streams, slot = (stream * ring + (start + t) % ring) * keys * width;
              std::copy_n(&x[k][i * keys * width], keys * width, &x[kept_keys][slot]);
              std::copy_n(&x[v][i * keys * width], keys * width, &x[kept_values][slot]);
              const std::int64_t from = std::max(oldest(t), t - ring + 1);
              for (std::int64_t head = 0; head < queries; ++head) {
                const std::int64_t of = (i * queries + head) * width;
                const auto key_at = [=](std::int64_t j) {
                  return (((from + j) * streams + stream) * keys + head / shared) * width;
                };
                double unread;
                const auto weights = weights_of(
                    &x[q][of], t + 1 - from, width, [&](std::int64_t j) { return &x[k][key_at(j)]; }, &unread);
                std::int64_t j = 0;
                for (const double weight : weights) add(&x[out][of], weight, &x[v][key_at(j++)], width);
              }
            }
          };
        },
}};

}  // namespace
}  // namespace neurogen
