// Operations of the forward pass and the loss: compares a GPU with the CPU on the same values.
#include "arena/block.h"
#include "kernels/cast.h"
#include "kernels/copy.h"
#include "kernels/cross_entropy.h"
#include "kernels/documents.h"
#include "kernels/embedding.h"
#include "kernels/matmul.h"
#include "kernels/rms_norm.h"
#include "tests/kernels/cuda_tensor.h"

namespace neurogen {
namespace {

using CudaCopy = CudaTest;
using CudaDocuments = CudaTest;
using CudaEmbedding = CudaTest;
using CudaRmsNorm = CudaTest;
using CudaMatmul = CudaTest;
using CudaCrossEntropy = CudaTest;

TEST_F(CudaCopy, ClearsSeveralAndNothingElse) {
  std::vector<OnGpu> all;
  Several<TensorView> cleared;
  for (const std::int64_t n : {4, 100, 8192, 8196, 70000}) {
    all.emplace_back(DType::f32, Shape{n + 4});
    cleared.add(all.back().view().rows(0, n));
  }
  clear(gpu(), cleared);
  for (const OnGpu& one : all) {
    const std::vector<double> values = one.values().data;
    const auto end = values.end() - 4;
    EXPECT_TRUE(std::all_of(values.begin(), end, [](double x) { return x == 0; }));
    EXPECT_TRUE(std::all_of(end, values.end(), [](double x) { return std::isnan(x); })) << "written outside";
  }
}

TEST_F(CudaCopy, CastsBetweenAllTypesAsTheCpuDoes) {
  for (const DType from : kFloats)
    for (const DType to : kFloats)
      for (const std::int64_t width : {1, 30, 64}) {
        auto x = rounded(Tensor<float>::noise({70, 200}, 1, 3), from);
        const OnGpu in(x, from), out(to, {70, 200});
        cast(gpu(), in.view().columns(4, width), out.view().columns(8, width));
        const Tensor<float> expected = rounded(x, to);
        const Tensor<double> actual = out.values();
        for (std::int64_t i = 0; i < 70; ++i)
          for (std::int64_t j = 0; j < 200; ++j) {
            const bool inside = j >= 8 && j < 8 + width;
            if (inside) EXPECT_EQ(actual[i * 200 + j], expected[i * 200 + j - 4]);
            else EXPECT_TRUE(std::isnan(actual[i * 200 + j])) << "written outside";
          }
        const OnGpu whole(to, {70, 200});
        cast(gpu(), in, whole);
        expect_same_values(whole, expected, "whole tensors");
      }
}

TEST_F(CudaCopy, MovesBetweenHostAndGpuAndClears) {
  const auto x = Tensor<float>::noise({1000}, 2);
  const Block pinned = Block::pinned(8000);
  std::memcpy(pinned.data(), x.data.data(), 4000);
  const OnGpu there(DType::f32, {1000});
  copy(gpu(), make_view(pinned.data(), DType::f32, {1000}), there);
  copy(gpu(), there, make_view(pinned.data() + 4000, DType::f32, {1000}));
  gpu().synchronize();
  EXPECT_EQ(std::memcmp(pinned.data(), pinned.data() + 4000, 4000), 0);
  clear(gpu(), there);
  expect_same_values(there, Tensor<float>({1000}, 0), "cleared");
}

TEST_F(CudaDocuments, FindsTheFirstTokenOfEachDocument) {
  for (const std::int64_t window : {1, 31, 32, 33, 100, 256})
    for (const std::int64_t end : {-1, 0}) {
      auto ids = draws({5 * window}, 9, static_cast<unsigned>(window));
      Tensor<std::int32_t> first({5 * window}, 0);
      documents(device_of(1), {ids.view(), window, end, first.view()});
      const OnGpu there(ids), out(DType::i32, {5 * window});
      documents(gpu(), {there, window, end, out});
      expect_same_values(out, first, "first");
    }
}

TEST_F(CudaEmbedding, PairRowsAreThoseOfTheCpu) {
  for (const std::int64_t table : {1, 300, 65'536, 250'000}) {
    auto ids = draws({5 * 100}, 65'536, static_cast<unsigned>(table));
    for (int i = 0; i < 500; i += 7) ids[i] = 0;  // ends of documents
    Tensor<std::int32_t> first({500}, 0), rows({500}, 0), one({1}, 70), last({1}, 65'535), row({1}, 0);
    documents(device_of(1), {ids.view(), 100, 0, first.view()});
    const OnGpu g_ids(ids), g_first(first), g_rows(DType::i32, {500}), g_one(one), g_last(last), g_row(DType::i32, {1});
    pair_rows(device_of(1), {ids.view(), first.view(), 100, table, {}, rows.view()});
    pair_rows(gpu(), {g_ids, g_first, 100, table, {}, g_rows});
    expect_same_values(g_rows, rows, "rows");
    for (int step = 0; step < 2; ++step) {
      pair_rows(device_of(1), {one.view(), {}, 0, table, last.view(), row.view()});
      pair_rows(gpu(), {g_one, {}, 0, table, g_last, g_row});
      expect_same_values(g_row, row, "row of a stream");
      expect_same_values(g_last, last, "the token before the next");
    }
  }
}

// The rows of a table that `ids` touch and their gradient, compared with the CPU's.
void expect_rows_of_the_cpu(Tensor<std::int32_t>& ids, std::int64_t table, double scale, Tensor<float>& d_x, DType type) {
  const std::int64_t tokens = ids.shape[0], width = d_x.shape[1], most = std::min(tokens, table);
  Tensor<std::int32_t> histogram({table}, 0), rows({most}, -1), start({most + 1}, -1), order({tokens}, -1), count({1}, 0);
  touched_rows(device_of(1), {ids.view(), table, histogram.view(), rows.view(), start.view(), order.view(), count.view()});
  const OnGpu g_ids(ids), g_rows(DType::i32, {most}), g_start(DType::i32, {most + 1}), g_order(DType::i32, {tokens}),
      g_count(DType::i32, {1});
  touched_rows(gpu(), {g_ids, table, {}, g_rows, g_start, g_order, g_count});
  expect_same_values(g_rows, rows, "rows");
  expect_same_values(g_start, start, "row_start");
  expect_same_values(g_order, order, "order");
  expect_same_values(g_count, count, "count");

  auto d_rows = Tensor<float>::poisoned({most, width});
  const OnGpu g_d_x(d_x, type), g_d_rows(DType::f32, d_rows.shape);
  row_gradients(device_of(2), {d_x.view(), start.view(), order.view(), count.view(), scale, d_rows.view()});
  row_gradients(gpu(), {g_d_x, g_start, g_order, g_count, scale, g_d_rows});
  auto touched = g_d_rows.values();
  const auto valid = static_cast<std::size_t>(count[0] * width);
  EXPECT_TRUE(std::all_of(touched.data.begin() + static_cast<std::ptrdiff_t>(valid), touched.data.end(), [](double x) {
    return std::isnan(x);
  })) << "written behind the last row";
  touched.data.resize(valid), d_rows.data.resize(valid);
  touched.shape = d_rows.shape = {count[0], width};
  expect_close(touched, d_rows, 5e-4, "d_rows");  // the frequent row is much larger than the others
}

TEST_F(CudaEmbedding, EqualsTheCpu) {
  for (const auto [tokens, vocabulary, pairs, width] :
       {std::array{1, 2, 0, 32}, std::array{300, 97, 40, 64}, std::array{5000, 3000, 0, 1056},
        std::array{9001, 65'536, 250'000, 32}, std::array{700, 50, 65'536, 1024}, std::array{90, 50, 70, 4096}})
    for (const DType type : kFloats) {
      auto ids = draws({tokens}, vocabulary, 3), pair_ids = draws({tokens}, std::max(pairs, 1), 7);
      for (int i = 0; i < tokens / 4; ++i) ids[4 * i] = pair_ids[4 * i] = pairs == 0 ? 1 : 2;  // frequent rows
      ids[0] = vocabulary - 1, pair_ids[0] = std::max(pairs, 1) - 1;
      auto weight = Tensor<float>::noise({vocabulary, width}, 4, 0.25), table = Tensor<float>::noise({pairs, width}, 8, 0.5),
           gain = Tensor<float>::noise({width}, 5, 0.2, 1);
      Tensor<float> out({tokens, width}, 0), inverse({tokens}, 0);
      const OnGpu g_ids(ids), g_weight(weight), g_pair_ids(pair_ids), g_table(table), g_gain(gain), g_out(type, out.shape),
          g_inverse(DType::f32, {tokens});
      const EmbeddingRows rows{ids.view(), weight.view(), pair_ids.view(), table.view()},
          g_rows{g_ids, g_weight, g_pair_ids, g_table};
      embedding_forward(device_of(2), {rows, gain.view(), out.view(), inverse.view()});
      embedding_forward(gpu(), {g_rows, g_gain, g_out, g_inverse});
      expect_close(g_out.values(), out, tolerance_of(type), "out");
      expect_close(g_inverse.values(), inverse, 1e-5, "inverse rms");

      auto d_out = rounded(Tensor<float>::noise({tokens, width}, 6), type), d_gain = Tensor<float>::poisoned({width});
      const OnGpu g_d_out(d_out, type), g_d_gain(DType::f32, d_gain.shape);
      embedding_backward(device_of(2), {rows, gain.view(), inverse.view(), d_out.view(), d_gain.view()});
      embedding_backward(gpu(), {g_rows, g_gain, g_inverse, g_d_out, g_d_gain});
      expect_close(g_d_gain.values(), d_gain, 2e-5, "d_gain");
      expect_close(g_d_out.values(), d_out, tolerance_of(type), "d_x");
      d_out = rounded(d_out, type);
      expect_rows_of_the_cpu(ids, vocabulary, 1, d_out, type);
      if (pairs > 0) expect_rows_of_the_cpu(pair_ids, pairs, kPairScale, d_out, type);
    }
}

TEST_F(CudaRmsNorm, EqualsTheCpu) {
  for (const auto [tokens, width] : {std::array{1, 8}, std::array{70, 96}, std::array{33, 8192}, std::array{5, 9104}})
    for (const DType type : kFloats) {
      auto x = Tensor<float>::noise({tokens, width}, 1, 2), gain = Tensor<float>::noise({width}, 2, 0.2, 1);
      const OnGpu g_x(x, gradient_of(type));
      Tensor<float> out({tokens, width}, 0), inverse({tokens}, 0);
      rms_norm_forward(device_of(1), {x.view(), gain.view(), out.view(), inverse.view()});
      const OnGpu g_gain(gain), g_out(type, out.shape), g_inverse(DType::f32, {tokens});
      rms_norm_forward(gpu(), {g_x, g_gain, g_out, g_inverse});
      expect_close(g_out.values(), out, tolerance_of(type), "out");
      expect_close(g_inverse.values(), inverse, 1e-5, "inverse rms");

      for (const DType gradient : {DType::f32, type}) {
        auto d_out = rounded(Tensor<float>::noise({tokens, width}, 3), gradient), y = rounded(out, type);
        Tensor<float> dot({tokens}, 0);
        rms_norm_backward_dot(device_of(1), {d_out.view(), y.view(), dot.view()});
        const OnGpu g_d_out(d_out, gradient), g_y(y, type), g_dot(DType::f32, {tokens});
        rms_norm_backward_dot(gpu(), {g_d_out, g_y, g_dot});
        expect_close(g_dot.values(), dot, 2e-5, "dot");
      }
    }
}

TEST_F(CudaMatmul, EqualsTheCpuInAllOrientationsAndTypes) {
  for (const auto [m, n, k] : {std::array{1, 8, 16}, std::array{300, 72, 40}, std::array{264, 1280, 512}})
    for (const Transpose ta : {Transpose::no, Transpose::yes})
      for (const Transpose tb : {Transpose::no, Transpose::yes})
        for (const DType type : kFloats)
          for (const DType result : {DType::f32, type})
            for (const double beta : {0.0, 1.0}) {
              auto a = rounded(Tensor<float>::noise(ta == Transpose::yes ? Shape{k, m + 8} : Shape{m, k + 8}, 1), type);
              auto b = rounded(Tensor<float>::noise(tb == Transpose::yes ? Shape{n, k} : Shape{k, n}, 2), type);
              auto c = rounded(Tensor<float>::noise({m, n}, 3, 10), result);
              const std::int64_t columns = ta == Transpose::yes ? m : k;
              const OnGpu g_a(a, type), g_b(b, type), g_c = beta == 0 ? OnGpu(result, {m, n}) : OnGpu(c, result);
              matmul(device_of(2), {a.view().columns(8, columns), b.view(), c.view(), ta, tb, beta});
              matmul(gpu(), {g_a.view().columns(8, columns), g_b, g_c, ta, tb, beta});
              expect_close(g_c.values(), c, result == DType::f32 ? 1e-5 : tolerance_of(result), "c");
            }
}

TEST_F(CudaCrossEntropy, EqualsTheCpuTileByTile) {
  // Numbers after each row must be neither read nor written.
  constexpr std::int64_t kTokens = 301, kVocabulary = 997, kPitch = 1000;
  for (const auto& [tile, softcap] : {std::pair<std::int64_t, double>{1000, 0}, {1000, 5}, {300, 30}, {300, 0}, {4, 5}})
    for (const DType type : kFloats) {
      auto logits = rounded(Tensor<float>::noise({kTokens, kPitch}, 7, 4), type);
      if (softcap > 0) logits[1] = 32768, logits[2] = -32768, logits[7] = 57344;  // near the end of f16, exact in each type
      auto targets = draws({kTokens}, kVocabulary, 8);
      for (int i = 0; i < kTokens; i += 9) targets[i] = -1;
      Tensor<float> maximum({kTokens}, 0), sum = maximum, target = maximum, log_sum = maximum, loss = maximum;
      Tensor<double> total({2}, 0);
      const OnGpu g_logits(logits, type), g_targets(targets), g_maximum(DType::f32, {kTokens}), g_sum(DType::f32, {kTokens}),
          g_target(DType::f32, {kTokens}), g_log_sum(DType::f32, {kTokens}), g_loss(DType::f32, {kTokens}),
          g_total(DType::f64, {2});
      for (std::int64_t v = 0; v < kVocabulary; v += tile) {
        const std::int64_t width = std::min(tile, kVocabulary - v);
        softmax_statistics(
            device_of(1), {logits.view().columns(v, width), targets.view(), v, maximum.view(), sum.view(), target.view(), softcap});
        softmax_statistics(gpu(), {g_logits.view().columns(v, width), g_targets, v, g_maximum, g_sum, g_target, softcap});
      }
      cross_entropy_loss(device_of(1),
                         {maximum.view(), sum.view(), target.view(), targets.view(), log_sum.view(), loss.view(), total.view()});
      cross_entropy_loss(gpu(), {g_maximum, g_sum, g_target, g_targets, g_log_sum, g_loss, g_total});
      expect_close(g_log_sum.values(), log_sum, 1e-5, "log of the sum");
      expect_close(g_loss.values(), loss, 1e-5, "loss");
      expect_close(g_total.values(), total, 1e-6, "total");
      for (std::int64_t v = 0; v < kVocabulary; v += tile) {
        const std::int64_t width = std::min(tile, kVocabulary - v);
        cross_entropy_backward(device_of(1),
                               {logits.view().columns(v, width), targets.view(), log_sum.view(), total.view(), v, {}, softcap});
        cross_entropy_backward(gpu(), {g_logits.view().columns(v, width), g_targets, g_log_sum, g_total, v, {}, softcap});
      }
      expect_close(g_logits.values(), logits, type == DType::f32 ? 1e-4 : 3 * tolerance_of(type), "d_logits");
    }
}

TEST_F(CudaCrossEntropy, CapsTheLogitsOfReadersAsTheCpu) {
  auto logits = Tensor<float>::noise({3, 1001}, 12, 40);
  const OnGpu g_logits(logits);
  softcap_logits(device_of(1), {logits.view(), 30});
  softcap_logits(gpu(), {g_logits, 30});
  expect_close(g_logits.values(), logits, 1e-6, "capped logits");
}

TEST_F(CudaCrossEntropy, TheLikeliestTokensAndHitsAreThoseOfTheCpu) {
  for (const auto [tokens, vocabulary] : {std::array{1, 4}, std::array{7, 3}, std::array{301, 1002}, std::array{40, 4096}})
    for (const std::int64_t tile : {4096, 300, 4})
      for (const DType type : kFloats) {
        const std::int64_t pitch = (vocabulary + 3) / 4 * 4;
        auto logits = rounded(Tensor<float>::noise({tokens, pitch}, 9, 4), type);  // 16-bit types give many ties
        auto targets = draws({tokens}, vocabulary, 10);
        for (int n = 0; n < tokens; ++n) {  // a target that is predicted, and a masked one
          if (n % 5 == 1)
            targets[n] = static_cast<std::int32_t>(std::max_element(&logits[n * pitch], &logits[n * pitch] + vocabulary) -
                                                   &logits[n * pitch]);
          if (n % 9 == 4) targets[n] = -1;
        }
        Tensor<float> logit({tokens, kLikeliest}, 0);
        Tensor<std::int32_t> token({tokens, kLikeliest}, 0);
        Tensor<double> hits({2}, 0);
        const OnGpu g_logits(logits, type), g_targets(targets), g_logit(DType::f32, logit.shape), g_token(DType::i32, token.shape),
            g_hits(DType::f64, {2});
        for (std::int64_t v = 0; v < vocabulary; v += tile) {
          const std::int64_t width = std::min<std::int64_t>(tile, vocabulary - v);
          likeliest_tokens(device_of(1), {logits.view().columns(v, width), v, logit.view(), token.view()});
          likeliest_tokens(gpu(), {g_logits.view().columns(v, width), v, g_logit, g_token});
        }
        count_hits(device_of(1), {token.view(), targets.view(), hits.view()});
        count_hits(gpu(), {g_token, g_targets, g_hits});
        expect_same_values(g_token, token, "token");
        expect_same_values(g_logit, logit, "logit");
        expect_same_values(g_hits, hits, "hits");
      }
}

}  // namespace
}  // namespace neurogen
