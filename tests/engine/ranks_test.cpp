// Several ranks train one model: the same as one rank with the batch of all, with equal bits on every rank, whatever is trained
// how.
#include "tests/ranks.h"

#include "engine/model/head.h"
#include "kernels/base/half.h"
#include "kernels/loss_scale.h"
#include "tests/engine/restart.h"
#include "tests/engine/small_brain.h"

namespace neurogen {
namespace {

constexpr std::int64_t kSequences = 6;
constexpr Bytes kPiece = 1 << 16;  // that ranks pass on at a time: less than some tensors have

std::string transformer(const char* name, const char* rest) {
  return std::string(R"({"family": "transformer", "name": ")") + name + R"(", "vocabulary": 90, "width": 48, "layers": 2,
    "heads": 3, "key_value_heads": 1, "hidden": 40, "context": 48, "qkv_bias": true, "bias": true, )" +
         rest + "}";
}
const std::string kTied = transformer("tied", R"("norm": "layer", "positions": "learned", "activation": "gelu_tanh",
    "qk_norm": false, "tied": true, "embedding_norm": false)");
const std::string kUntied = transformer("untied", R"("norm": "rms", "positions": "rotary", "activation": "silu_gated",
    "qk_norm": true, "tied": false, "embedding_norm": true)");
const std::string kBrain = "brain";

ArchitecturePtr read(const std::string& model) {
  if (model == kBrain) return brain(small_brain(90));
  return std::make_shared<TransformerArchitecture>(parse_transformer(model, "model"));
}

struct Split {
  std::int64_t ranks, accumulate;
  std::int64_t batch() const { return kSequences / ranks / accumulate; }
};

// A way to train.
struct Way {
  const char* name;
  const std::string* model;
  void (*set)(StepOptions&);
  bool accumulates = true;
  bool drawn = false;  // roundings at random, or moments in 8 bits: other sums give other bits, which grow apart
};
void PrintTo(const Way& way, std::ostream* to) { *to << way.name; }

class Ranks : public testing::TestWithParam<Way> {
 protected:
  StepOptions options(Split split, DType type) const {
    StepOptions o;
    o.ranks = split.ranks, o.accumulate = split.accumulate, o.batch = split.batch(), o.window = 16;
    o.compute = o.decoder_storage = type;
    o.vocabulary_tile = 32, o.document_end = 3;
    o.logits_part = 1;  // 64 tokens, the least
    o.optimizer = model_->optimizers().front();
    GetParam().set(o);
    return o;
  }
  // The bits of the run of one rank: what it reports, and every persistent tensor at the end. `after`: called behind the last step.
  std::vector<std::byte> train(Split split, DType type, SharedRanks* ranks, int count = 4) const {
    const StepOptions o = options(split, type);
    const int rank = ranks ? ranks->rank() : 0;
    Session session(planned(build_training(model_, o), kPlenty), {.rank = rank, .shared = ranks});
    initialize_everything(session.model, session.program, 5);
    session.program.set_poison(true);
    Outcome outcome;
    for (std::int64_t step = 0; step < count; ++step) {
      const std::vector<std::int32_t> ids = whole_step(step);
      *session.program.view(session.model.ports.control).as<StepControl>() = {step, 4e-3f, 3e-2f, 1e-3f, 0.01f};
      const StepResult result = run_programs(session.model, session.program, [&](std::int64_t k) {
        std::int32_t* const to = session.program.view(session.model.ports.batch).as<std::int32_t>();
        for (const std::int64_t part : {0, 1})
          std::copy_n(ids.begin() + (part * kSequences + o.first_sequence(rank, k)) * window_, o.tokens(), to + part * o.tokens());
      });
      outcome.losses.push_back(result.loss);
      const TensorView norm = session.program.view(session.model.ports.norm);
      dispatch_real(norm.dtype,
                    [&](auto zero) { outcome.losses.push_back(static_cast<double>(norm.as<const decltype(zero)>()[0])); });
    }
    session.program.run(session.model.programs.compare);
    std::vector<double> values = outcome.losses;
    for (const TensorId id : persistent_tensors(session.arena.plan())) {
      const TensorView view = session.program.view(id);
      for (std::int64_t i = 0; i < view.elements(); ++i) values.push_back(value_of(view, i));
    }
    return bytes_of(values);
  }
  static double value_of(const TensorView& x, std::int64_t i) {
    switch (x.dtype) {
      case DType::f64:
        return x.as<const double>()[i];
      case DType::f32:
        return static_cast<double>(x.as<const float>()[i]);
      case DType::bf16:
        return static_cast<double>(widen(x.as<const Bf16>()[i]));
      case DType::u8:
        return x.as<const std::uint8_t>()[i];
      default:
        return x.as<const std::int32_t>()[i];
    }
  }
  std::vector<double> on(Split split, DType type) const {
    const auto all = on_ranks(
        static_cast<int>(split.ranks), [&](SharedRanks& ranks) { return train(split, type, &ranks); }, kPiece);
    for (const auto& one : all) EXPECT_EQ(one, all[0]) << "ranks differ";
    return all.empty() ? std::vector<double>{} : values_of<double>(all[0]);
  }
  // Ids and targets of a whole step, [2, kSequences, window_]; counts differ from sequence to sequence.
  std::vector<std::int32_t> whole_step(std::int64_t step) const {
    Random random(static_cast<std::uint64_t>(step));
    std::vector<std::int32_t> ids = random_batch(random, *model_, options({1, 1}, DType::f64));
    std::fill_n(ids.begin() + kSequences * window_, step % 2 == 0 ? window_ : 5, -1);  // even: the first sequence counts nothing
    return ids;
  }
  const ArchitecturePtr model_ = read(*GetParam().model);
  const std::int64_t window_ = options({1, 1}, DType::f32).window;
};

TEST_P(Ranks, TrainAsOneWithTheBatchOfAll) {
  for (const auto& [type, tolerance] : {std::pair{DType::f64, 1e-9}, {DType::f32, 2e-3}}) {
    const std::vector<double> expected = values_of<double>(train({1, 1}, type, nullptr));
    for (const Split split : {Split{2, 1}, {3, 1}, {2, 3}, {3, 2}}) {
      if (split.accumulate > 1 && !GetParam().accumulates) continue;
      SCOPED_TRACE(testing::Message() << name_of(type) << ", " << split.ranks << " ranks x " << split.accumulate);
      const std::vector<double> got = on(split, type);
      ASSERT_EQ(got.size(), expected.size());
      const std::size_t compared = GetParam().drawn ? 8 : got.size();
      for (std::size_t i = 0; i < compared; ++i) {
        const double apart = std::abs(got[i] - expected[i]) / (1 + std::abs(expected[i]));
        ASSERT_LT(apart, GetParam().drawn ? 2e-2 : tolerance) << i << ": " << got[i] << " and " << expected[i];
      }
    }
  }
}

TEST_P(Ranks, GiveEqualBitsAgain) {
  const Split split{2, GetParam().accumulates ? 3 : 1};
  EXPECT_EQ(on(split, DType::f32), on(split, DType::f32));
}

// A run that goes on with other numbers of ranks reads the text in the same order, and is the same but for rounding.
TEST_P(Ranks, GoOnFromACheckpointOfAnotherNumberOfRanks) {
  if (GetParam().drawn || !GetParam().accumulates) GTEST_SKIP() << "other roundings, or no way to divide the batch of one rank";
  if (options({1, 1}, DType::f64).lora.rank > 0) GTEST_SKIP() << "checkpoints have no base";
  const TemporaryDirectory directory;
  Random random(11);
  const Tokens text = random_text(random, directory, model_, 3 * kSequences * window_ + 20);  // three steps an epoch
  // Runs some steps, from the latest checkpoint if there is one, and saves behind the last; returns each one's losses and norms.
  const auto run = [&](Split split, std::int64_t from_step, std::int64_t end, const std::string& path) {
    const auto all = on_ranks(
        static_cast<int>(split.ranks),
        [&](SharedRanks& ranks) {
          RestartSettings s;
          s.architecture = model_, s.options = options(split, DType::f64), s.steps = 8;
          s.place = {.rank = ranks.rank(), .shared = &ranks};
          std::optional<Checkpoint> from;
          if (from_step > 0) from.emplace(checkpoint_file(path));
          if (from) {
            EXPECT_EQ(from->manifest().options.accumulate * from->manifest().options.batch, kSequences);
          }
          std::optional<CheckpointDirectory> saved;
          if (ranks.rank() == 0) saved.emplace(path, 2, false);
          RunRecord record;
          run_part(s, planned(build_training(model_, s.options), kPlenty), text, from ? &*from : nullptr, end,
                   saved ? &*saved : nullptr, end, record);
          std::vector<double> values = record.outcome.losses;
          values.insert(values.end(), record.outcome.norms.begin(), record.outcome.norms.end());
          return bytes_of(values);
        },
        kPiece);
    for (const auto& one : all) EXPECT_EQ(one, all[0]);
    return all.empty() ? std::vector<double>{} : values_of<double>(all[0]);
  };
  const std::vector<double> whole = run({1, 1}, 0, 8, directory.path("whole"));
  ASSERT_EQ(whole.size(), 16u);
  std::int64_t step = 0;
  for (const auto& [split, steps] : {std::pair{Split{1, 2}, 2}, {Split{2, 1}, 2}, {Split{3, 2}, 3}, {Split{1, 1}, 1}}) {
    const std::vector<double> part = run(split, step, step + steps, directory.path("parts"));
    ASSERT_EQ(part.size(), static_cast<std::size_t>(2 * steps));
    for (std::int64_t i = 0; i < steps; ++i, ++step) {
      const auto at = static_cast<std::size_t>(step), here = static_cast<std::size_t>(i);
      EXPECT_NEAR(part[here], whole[at], 1e-9 * whole[at]) << "step " << step;
      EXPECT_NEAR(part[here + static_cast<std::size_t>(steps)], whole[at + 8], 1e-6 * whole[at + 8]) << "step " << step;
    }
  }
}

// An overflow of one rank's gradient skips the step on all.
TEST_P(Ranks, SkipAStepThatOverflowsOnOne) {
  const auto all = on_ranks(2, [&](SharedRanks& ranks) {
    StepOptions o = options({2, 1}, DType::f32);
    o.loss_scaling = true;
    Session session(planned(build_training(model_, o), kPlenty), {.rank = ranks.rank(), .shared = &ranks});
    initialize(session.model, session.program, 5);
    // All but the loss scale's own state.
    const auto state = [&] {
      std::vector<std::byte> image = persistent_bytes(session);
      for (const Buffer& b : session.arena.plan().buffers)
        if (b.name == kLossScaleName) std::fill_n(image.begin() + static_cast<std::ptrdiff_t>(b.offset), b.bytes, std::byte{});
      return image;
    };
    const std::vector<std::byte> before = state();
    const std::vector<std::int32_t> ids = whole_step(1);
    const auto step = [&](std::int64_t counted) {  // tokens of the second rank; the first has none
      *session.program.view(session.model.ports.control).as<StepControl>() = {0, 4e-3f, 3e-2f, 1e-3f, 0.01f};
      const StepResult result = run_programs(session.model, session.program, [&](std::int64_t) {
        std::int32_t* const to = session.program.view(session.model.ports.batch).as<std::int32_t>();
        std::copy_n(ids.begin(), o.tokens(), to);
        std::fill_n(to + o.tokens(), o.tokens(), -1);
        if (ranks.rank() == 1) std::fill_n(to + o.tokens(), counted, 1);
      });
      EXPECT_TRUE(std::isfinite(result.loss));
      return step_control(session.program.view(session.model.ports.outcome)).overflow;
    };
    EXPECT_EQ(step(1), kDecoderOverflow | kTrunkOverflow);  // the gradient of a single token overflows at the first scale
    EXPECT_EQ(state(), before);
    EXPECT_EQ(step(20), 0);
    EXPECT_NE(state(), before);
    return std::vector<std::byte>{};
  });
  EXPECT_EQ(all.size(), 2u);
}

// So does one of the features' gradient, which a rank has of its own part of the batch.
TEST_P(Ranks, ShareWhatOverflowedInTheDecoder) {
  const auto all = on_ranks(2, [&](SharedRanks& ranks) {
    StepOptions o = options({2, 1}, DType::f32);
    o.loss_scaling = true;
    Session session(planned(build_training(model_, o), kPlenty), {.rank = ranks.rank(), .shared = &ranks});
    const std::vector<Operation>& operations = session.model.graph.operations();
    const auto place = [&](const std::string& name) {
      const auto of = [&](const Operation& one) { return one.name == name; };
      return static_cast<std::size_t>(std::find_if(operations.begin(), operations.end(), of) - operations.begin());
    };
    const std::size_t share = place("loss_scale.decoder.all_ranks");
    EXPECT_EQ(share < operations.size(), gathers_decoder(*model_, o)) << "others round no such gradient in f32";
    if (share == operations.size()) return std::vector<std::byte>{};
    auto& control = *session.program.view(operations[share].writes[0]).as<StepControl>();
    control.overflow = ranks.rank() == 1 ? kDecoderOverflow : 0;
    session.program.run({share, share + 1});
    EXPECT_EQ(control.overflow, kDecoderOverflow);
    return std::vector<std::byte>{};
  });
  EXPECT_EQ(all.size(), 2u);
}

// What goes on beside other operations on a GPU is read and written by none of them, and ends in the same program. Of the decoder,
// tiles are passed on while later ones are still in use.
TEST_P(Ranks, TouchNothingThatIsBeingExchanged) {
  for (const bool gpu : {false, true}) {
    StepOptions o = options({2, 1}, gpu ? DType::bf16 : DType::f32);
    o.target.gpu = gpu;
    const Model model = build_training(model_, o);
    const bool tiles = !gathers_decoder(*model_, o);
    const std::size_t decoder = tiles ? model.parameter("decoder.weight").value.index : TensorId::kNone;
    int passed_on = -1;             // the decoder's tile
    std::vector<std::size_t> busy;  // tensors
    std::size_t ended = 0;
    const auto takes = [&](const Operation& one) {
      const std::string& name = one.name;
      const bool tile = name.starts_with("decoder.tile"), ends = name.ends_with(".wait"),
                 begins =
                     name.ends_with(".reduce") || name.ends_with(".broadcast") ||
                     (name.ends_with(".all_ranks") && (name.starts_with("decoder.column_sum") || name.starts_with("gradients")));
      for (const auto* ids : {&one.reads, &one.writes}) {
        for (const TensorId id : *ids) {
          if (id.index == decoder) {
            const int number = tile ? std::stoi(name.substr(std::strlen("decoder.tile"))) : -1;
            EXPECT_TRUE(passed_on < 0 || ends || number > passed_on) << name;
            if (begins) passed_on = number;
            if (ends) passed_on = -1;
            continue;
          }
          const auto found = std::find(busy.begin(), busy.end(), id.index);
          EXPECT_EQ(found != busy.end(), ends) << name << " touches " << model.graph.tensors()[id.index].name;
          if (ends && found != busy.end()) busy.erase(found), ++ended;
          if (begins) busy.push_back(id.index);
        }
      }
    };
    for (const Graph::Range range : model.graph.programs()) {
      for (std::size_t op = range.begin; op < range.end; ++op) takes(model.graph.operations()[op]);
      EXPECT_TRUE(busy.empty() && passed_on < 0);
    }
    std::size_t exchanged = model.decoder_gradients.size() + (tiles ? 2 : 0), low = 0;  // two: of columns and of rows
    for (const Parameter& p : model.parameters) {
      if (p.rule == UpdateRule::adamw || p.rule == UpdateRule::muon) ++exchanged;
      if (p.owner < 0) continue;
      exchanged += p.low ? 3 : 2;  // what products read, the momentum, the value
      low += p.low ? 1 : 0;
    }
    EXPECT_EQ(ended, exchanged);
    const std::vector<TensorId> persistent = persistent_tensors(planned(build_training(model_, o), kPlenty).plan);
    EXPECT_EQ(model.compared.size(), persistent.size() + low);
  }
}

// Each tile of the decoder and each matrix under Muon is updated by one rank, as many by each as possible; all have the result.
TEST_P(Ranks, ShareTheHeavyUpdates) {
  for (const Split split : {Split{2, 1}, {3, 1}, {3, 2}}) {
    if (split.accumulate > 1 && !GetParam().accumulates) continue;
    const auto all = on_ranks(
        static_cast<int>(split.ranks),
        [&](SharedRanks& ranks) {
          const StepOptions o = options(split, DType::f64);
          Session session(planned(build_training(model_, o), kPlenty), {.rank = ranks.rank(), .shared = &ranks});
          initialize(session.model, session.program, 5);
          *session.program.view(session.model.ports.control).as<StepControl>() = {0, 4e-3f, 3e-2f, 1e-3f, 0.01f};
          const std::vector<std::int32_t> ids = whole_step(1);
          run_programs(session.model, session.program, [&](std::int64_t) {
            std::int32_t* const to = session.program.view(session.model.ports.batch).as<std::int32_t>();
            std::copy_n(ids.begin(), o.tokens(), to);
            std::copy_n(ids.begin() + kSequences * window_, o.tokens(), to + o.tokens());
          });
          // Of each tile and each matrix: whether this rank has updated its statistics.
          std::vector<double> mine;
          const auto updated = [&](const TensorView& x) {
            const auto* const values = x.as<const double>();
            mine.push_back(std::any_of(values, values + x.elements(), [](double one) { return one != 0; }) ? 1 : 0);
          };
          std::vector<double> weights;
          for (const Parameter& p : session.model.parameters) {
            const TensorView value = session.program.view(p.value);
            if (p.rule != UpdateRule::none)
              for (std::int64_t i = 0; i < value.elements(); ++i) weights.push_back(value_of(value, i));
            if (p.owner < 0) continue;
            EXPECT_EQ(p.rule, UpdateRule::muon);
            updated(session.program.view(p.m));
          }
          const std::vector<Buffer>& buffers = session.arena.plan().buffers;
          for (std::size_t i = 0; i < buffers.size(); ++i) {
            if (buffers[i].name != "decoder.row") continue;
            const TensorView rows = session.program.view({i});
            for (std::int64_t begin = 0; begin < rows[0]; begin += o.vocabulary_tile)
              updated(rows.rows(begin, std::min(o.vocabulary_tile, rows[0] - begin)));
          }
          weights.push_back(static_cast<double>(mine.size()));
          mine.insert(mine.end(), weights.begin(), weights.end());
          return bytes_of(mine);
        },
        kPiece);
    ASSERT_EQ(all.size(), static_cast<std::size_t>(split.ranks));
    std::vector<std::vector<double>> lists;
    for (const auto& one : all) lists.push_back(values_of<double>(one));
    const auto shared = static_cast<std::size_t>(lists[0].back());
    std::vector<double> taken(lists.size(), 0);
    for (std::size_t i = 0; i < shared; ++i) {
      double owners = 0;
      for (std::size_t rank = 0; rank < lists.size(); ++rank) owners += lists[rank][i], taken[rank] += lists[rank][i];
      EXPECT_EQ(owners, 1) << i;
    }
    EXPECT_LE(*std::max_element(taken.begin(), taken.end()) - *std::min_element(taken.begin(), taken.end()), 2);
    for (std::vector<double>& list : lists) {
      list.erase(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(shared));
      EXPECT_EQ(list, lists[0]) << "ranks have other weights";
    }
  }
}

TEST_P(Ranks, PlanNcclsMemoryOnGpus) {
  for (const bool gpu : {false, true}) {
    for (const std::int64_t ranks : {1, 2}) {
      StepOptions o = options({ranks, 1}, DType::f32);
      o.target.gpu = gpu;
      o.target.nccl = gpu && ranks > 1 ? 50'000'000 : 0;
      const Fit fit = planned(build_training(model_, o), kPlenty);
      EXPECT_EQ(fit.plan.overhead, kOverhead + o.target.nccl);
      const std::string batch = fmt::format(", {} x {} = ", ranks > 1 ? "2 ranks x 3" : "6", window_);
      EXPECT_NE(describe(*model_, o).find(batch), std::string::npos) << describe(*model_, o);
    }
  }
}

// Checksums name the tensor in which a rank's bits differ.
TEST_P(Ranks, TellByChecksumsWhichTensorDiffers) {
  const auto all = on_ranks(2, [&](SharedRanks& ranks) {
    Session session(planned(build_training(model_, options({2, 1}, DType::f32)), kPlenty),
                    {.rank = ranks.rank(), .shared = &ranks});
    initialize_everything(session.model, session.program, 5);
    const std::vector<TensorId>& tensors = session.model.compared;
    const TensorView sums = session.program.view(session.model.ports.checksums);
    std::vector<std::int64_t> list;
    const auto compare = [&] {
      session.program.run(session.model.programs.compare);
      list.insert(list.end(), sums.as<std::int64_t>(), sums.as<std::int64_t>() + sums.elements());
    };
    EXPECT_EQ(sums.elements(), static_cast<std::int64_t>(tensors.size()));
    compare();
    if (ranks.rank() == 1) session.program.view(tensors[3]).as<std::uint8_t>()[1] ^= 4;
    compare();
    return bytes_of(list);
  });
  ASSERT_EQ(all.size(), 2u);
  const auto first = values_of<std::int64_t>(all[0]), second = values_of<std::int64_t>(all[1]);
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_EQ(first[i] != second[i], i == first.size() / 2 + 3) << i;
}

void muon(StepOptions&) {}
void adamw(StepOptions& o) { o.optimizer = Optimizer::adamw; }
void early(StepOptions& o) { adamw(o), o.early_updates = true; }
void lean(StepOptions& o) { adamw(o), o.narrow_weights = o.narrow_moments = true; }
void adapters(StepOptions& o) { adamw(o), o.lora = {3, 7.5, {"q", "v", "up"}}; }
void scaled(StepOptions& o) { o.loss_scaling = true; }
void again(StepOptions& o) { o.schedule.keep_logits = false, o.schedule.computed_twice = 1; }
void small_tiles(StepOptions& o) { o.vocabulary_tile = 7; }
void sections(StepOptions& o) { o.schedule.keep_logits = false, o.schedule.sections = 2, o.window = 128; }

constexpr Way kWays[] = {
    {"brain", &kBrain, muon},
    {"brain_in_sections", &kBrain, sections},
    {"brain_scaled", &kBrain, scaled},
    {"tied", &kTied, adamw},
    {"tied_scaled", &kTied, scaled},
    {"tied_early", &kTied, early, false},
    {"tied_lean", &kTied, lean, true, true},
    {"tied_adapters", &kTied, adapters},
    {"untied_muon", &kUntied, muon},
    {"untied_again", &kUntied, again},
    {"untied_small_tiles", &kUntied, small_tiles},
    {"untied_adamw", &kUntied, adamw},
    {"untied_early", &kUntied, early, false},
};
INSTANTIATE_TEST_SUITE_P(Ways, Ranks, testing::ValuesIn(kWays), [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace neurogen
