#include "engine/files/manifest.h"

#include <flatbuffers/flatbuffers.h>
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "arena/error.h"
#include "checkpoint_generated.h"
#include "engine/files/one_line.h"

namespace neurogen {
namespace {

static_assert(static_cast<int>(DType::bf16) == schema::Type_bf16 && static_cast<int>(DType::u8) == schema::Type_u8);

constexpr flatbuffers::uoffset_t kMostDepth = 4, kMostTables = 4096;
constexpr std::uint64_t kMost = INT64_MAX;  // largest valid number
constexpr Bytes kLargestGap = 4096;         // between two tensors: no alignment needs more
constexpr std::uint64_t kMostExtent = std::uint64_t{1} << 40;
constexpr std::size_t kLongestName = 200;  // of a tensor, bytes
constexpr std::size_t kLongestPath = 4096;

schema::Type stored(DType type) { return static_cast<schema::Type>(type); }
std::uint64_t stored(std::int64_t number) { return static_cast<std::uint64_t>(number); }

// Checksum of all bytes, with the checksum field itself as zeros.
std::uint64_t checksum_of(std::span<const std::byte> encoded, const schema::Manifest& manifest) {
  const std::uint8_t* field = reinterpret_cast<const flatbuffers::Table&>(manifest).GetAddressOf(schema::Manifest::VT_CHECKSUM);
  if (!field) return ~manifest.checksum();  // absent: never matches
  const auto before = static_cast<std::size_t>(reinterpret_cast<const std::byte*>(field) - encoded.data());
  const std::uint64_t zero = 0;
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, encoded.data(), before);
  XXH3_64bits_update(&state, &zero, sizeof zero);
  XXH3_64bits_update(&state, encoded.data() + before + sizeof zero, encoded.size() - before - sizeof zero);
  return XXH3_64bits_digest(&state);
}

// Decodes field by field; every error begins with the file.
class Decoder {
 public:
  Decoder(std::span<const std::byte> encoded, const std::string& path) : encoded_(encoded), path_(path) {}

  Manifest decode() {
    const schema::Manifest& from = verified();
    if (from.rank() != 0 || from.world() != 1) {
      damaged(fmt::format("it is part {} of {}, only whole models are supported", from.rank(), from.world()));
    }
    Manifest m;
    m.architecture = from.architecture()->str();
    m.options.compute = floating("the type of its products", from.compute());
    m.options.decoder_storage = floating("the type of its decoder", from.decoder_storage());
    m.options.batch = number("its batch", from.batch(), 1, 1 << 20);
    m.options.window = number("its window", from.window(), 1, 1 << 20);
    m.options.accumulate = number("its number of batches in a step", from.accumulate(), 1, 1 << 20);
    m.options.vocabulary_tile = number("its decoder's tile", from.vocabulary_tile(), 1);
    m.options.document_end = from.document_end();
    if (m.options.document_end < -1 || m.options.document_end > INT32_MAX) damaged("its document end is not a token");
    m.options.keep_logits = from.keep_logits();
    m.options.synapse_decay = real("its decay", from.synapse_decay());
    m.options.clip = real("its clip", from.clip());
    m.options.optimizer = static_cast<std::uint8_t>(number("its optimizer", from.optimizer(), 0, 1));
    m.options.int8_logits = from.int8_logits();
    if (from.lora_rank() > 0) {
      m.adapters = {number("its adapters' rank", from.lora_rank(), 1, 1 << 12), real("its adapters' alpha", from.lora_alpha()),
                    text("its adapters' matrices", from.lora_targets()), text("its base", from.base()), from.base_hash()};
      if (m.adapters.alpha <= 0) damaged("its adapters' alpha is 0");
    }
    m.options.narrow_weights = from.narrow_weights();
    m.options.narrow_moments = from.narrow_moments();
    m.options.early_updates = from.early_updates();
    m.rates = {real("a rate", from.learning_rate()), real("a rate", from.synapse_rate()), real("a rate", from.table_rate()),
               real("a rate", from.decoder_rate()), number("its warm-up", from.warmup(), 0)};
    m.seed = from.seed();
    m.text = {number("its text's length", from.text_tokens(), 0), from.text_hash(), weights(from)};
    m.tokenizer = from.tokenizer_hash();
    if (from.tokenizer_model()) {
      const auto* model = reinterpret_cast<const char*>(from.tokenizer_model()->data());
      m.tokenizer_model.assign(model, from.tokenizer_model()->size());
      if (XXH3_64bits(model, m.tokenizer_model.size()) != m.tokenizer) damaged("its tokenizer's checksum does not match");
    }
    // The number of trained tokens must fit 64 bits, including future steps.
    const std::int64_t most_steps = INT64_MAX / 2 / (m.options.accumulate * m.options.batch * m.options.window);
    m.standing.steps = number("its steps", from.steps(), 0, most_steps);
    m.standing.schedule_steps = number("its schedule", from.schedule_steps(), 0);
    m.standing.held_out_loss = from.held_out_loss();
    m.steps_per_epoch = number("its steps in an epoch", from.steps_per_epoch(), 1);
    if (stored(m.standing.steps / m.steps_per_epoch) != from.epoch() ||
        stored(m.standing.steps % m.steps_per_epoch) != from.epoch_step()) {
      damaged("its steps and its place in the text differ");
    }
    read_tensors(from, m);
    return m;
  }

 private:
  [[noreturn]] void damaged(const std::string& why) const {
    throw Error(fmt::format("{} is damaged: {}: use the checkpoint before it", path_, why));
  }

  const schema::Manifest& verified() const {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(encoded_.data());
    flatbuffers::Verifier verifier(bytes, encoded_.size(), kMostDepth, kMostTables);
    if (!schema::VerifySizePrefixedManifestBuffer(verifier)) damaged("its manifest is malformed");
    const schema::Manifest& manifest = *schema::GetSizePrefixedManifest(bytes);
    if (checksum_of(encoded_, manifest) != manifest.checksum()) damaged("its manifest's checksum does not match");
    if (manifest.version() != kCheckpointVersion) {
      throw Error(fmt::format("{} has format version {}, this program reads {}: use the program that wrote it", path_,
                              manifest.version(), kCheckpointVersion));
    }
    return manifest;
  }

  std::int64_t number(const char* what, std::uint64_t value, std::uint64_t least, std::uint64_t most = kMost) const {
    if (value < least || value > most) damaged(fmt::format("{} is {}", what, value));
    return static_cast<std::int64_t>(value);
  }
  double real(const char* what, double value) const {
    if (!(value >= 0 && value <= 1e9)) damaged(fmt::format("{} is {}", what, value));
    return value;
  }
  std::string text(const char* what, const flatbuffers::String* value) const {
    if (!value || value->size() == 0 || value->size() > kLongestPath) damaged(fmt::format("{} is missing or too long", what));
    return value->str();
  }
  DType floating(const char* what, schema::Type type) const {
    if (type > schema::Type_f16) damaged(fmt::format("{} is unknown", what));
    return static_cast<DType>(type);
  }

  std::vector<std::int64_t> weights(const schema::Manifest& from) const {
    std::vector<std::int64_t> list;
    if (!from.text_weights()) return list;
    // The verifier does not check the alignment of a vector's elements.
    if (reinterpret_cast<std::uintptr_t>(from.text_weights()->Data()) % sizeof(std::uint64_t) != 0)
      damaged("its weights are misaligned");
    for (const std::uint64_t weight : *from.text_weights()) list.push_back(number("a weight of its text", weight, 1));
    return list;
  }

  void read_tensors(const schema::Manifest& from, Manifest& m) const {
    std::set<std::string_view> names;
    for (const schema::Tensor* saved : *from.tensors()) {
      const std::string_view name = saved->name()->string_view();
      if (name.empty() || name.size() > kLongestName || one_line(name, kLongestName) != name) damaged("a tensor's name is invalid");
      if (!names.insert(name).second) damaged(fmt::format("it lists {} twice", name));
      m.tensors.push_back(tensor_of(*saved, std::string(name)));
      m.checksums.push_back(saved->checksum());
    }
    m.weights = static_cast<std::size_t>(number("its number of weights", from.weights(), 1, m.tensors.size()));
    // Tensors must follow each other from offset 0, without overlaps and without hidden data between them.
    const auto at_start = [](const Buffer& tensor) { return tensor.offset == 0; };
    if (std::none_of(m.tensors.begin(), m.tensors.end(), at_start)) damaged("no tensor starts at offset 0");
    for (std::size_t i = 0; i < m.tensors.size(); ++i) {
      const Bytes own_end = m.tensors[i].offset + m.tensors[i].bytes, next = next_begin(m.tensors, i);
      if (own_end > next || next - own_end >= kLargestGap)
        damaged(fmt::format("what follows {} is not another tensor", m.tensors[i].name));
    }
  }

  Buffer tensor_of(const schema::Tensor& saved, std::string name) const {
    if (saved.type() > schema::Type_MAX) damaged(fmt::format("{} is not of a known type", name));
    // The verifier does not check the alignment of a vector's elements.
    const auto& shape = *saved.shape();
    if (reinterpret_cast<std::uintptr_t>(shape.Data()) % sizeof(std::uint64_t) != 0)
      damaged(fmt::format("{} is not of an aligned shape", name));
    Buffer tensor;
    tensor.kind = BufferKind::persistent;
    tensor.dtype = static_cast<DType>(saved.type());
    Bytes bytes = size_of(tensor.dtype);
    for (const std::uint64_t extent : shape) {
      if (extent < 1 || extent > kMostExtent || bytes > kMost / extent)
        damaged(fmt::format("{} is not of a possible shape: one of its extents is {}", name, extent));
      tensor.shape.push_back(static_cast<std::int64_t>(extent));
      bytes *= extent;
    }
    if (saved.bytes() != bytes)
      damaged(fmt::format("{} is not {} {} in {} bytes", name, name_of(tensor.dtype), to_string(tensor.shape), saved.bytes()));
    tensor.bytes = bytes;
    tensor.offset = static_cast<Bytes>(number("a tensor's place", saved.offset(), 0));
    tensor.name = std::move(name);
    return tensor;
  }

  std::span<const std::byte> encoded_;
  const std::string& path_;
};

}  // namespace

std::vector<Buffer> persistent_buffers(const Plan& plan) {
  std::vector<Buffer> tensors = plan.buffers;
  std::erase_if(tensors, [](const Buffer& buffer) { return buffer.kind != BufferKind::persistent; });
  return tensors;
}

Bytes image_bytes(std::span<const Buffer> tensors) {
  Bytes end = 0;
  for (const Buffer& tensor : tensors) end = std::max(end, add(tensor.offset, align_up(tensor.bytes)));
  return end;
}

Bytes next_begin(std::span<const Buffer> tensors, std::size_t i) {
  Bytes next = image_bytes(tensors);
  for (std::size_t other = 0; other < tensors.size(); ++other) {
    if (other != i && tensors[other].offset >= tensors[i].offset) next = std::min(next, tensors[other].offset);
  }
  return next;
}

std::vector<std::byte> encode_manifest(const Manifest& m) {
  flatbuffers::FlatBufferBuilder builder(1 << 16);
  builder.ForceDefaults(true);  // an absent field could not be updated in place
  std::vector<flatbuffers::Offset<schema::Tensor>> tensors;
  for (const Buffer& tensor : m.tensors) {
    const std::vector<std::uint64_t> shape(tensor.shape.begin(), tensor.shape.end());
    tensors.push_back(
        schema::CreateTensorDirect(builder, tensor.name.c_str(), stored(tensor.dtype), &shape, tensor.offset, tensor.bytes));
  }
  const auto all = builder.CreateVector(tensors);
  const auto architecture = builder.CreateString(m.architecture);
  const std::vector<std::uint64_t> list(m.text.weights.begin(), m.text.weights.end());
  const auto weights = list.empty() ? 0 : builder.CreateVector(list);
  const auto tokenizer =
      m.tokenizer_model.empty()
          ? 0
          : builder.CreateVector(reinterpret_cast<const std::uint8_t*>(m.tokenizer_model.data()), m.tokenizer_model.size());
  const bool adapted = m.adapters.rank > 0;
  const auto targets = adapted ? builder.CreateString(m.adapters.targets) : 0,
             base = adapted ? builder.CreateString(m.adapters.base) : 0;
  schema::ManifestBuilder b(builder);
  b.add_version(kCheckpointVersion);
  b.add_checksum(0);
  b.add_rank(0);
  b.add_world(1);
  b.add_architecture(architecture);
  b.add_tensors(all);
  b.add_weights(stored(static_cast<std::int64_t>(m.weights)));
  b.add_steps(0);
  b.add_schedule_steps(0);
  b.add_epoch(0);
  b.add_epoch_step(0);
  b.add_steps_per_epoch(stored(m.steps_per_epoch));
  b.add_held_out_loss(NAN);
  b.add_seed(m.seed);
  b.add_learning_rate(m.rates.learning_rate.value());
  b.add_synapse_rate(m.rates.synapse_rate.value());
  b.add_table_rate(m.rates.table_rate);
  b.add_decoder_rate(m.rates.decoder_rate);
  b.add_warmup(stored(m.rates.warmup));
  b.add_synapse_decay(m.options.synapse_decay);
  b.add_clip(m.options.clip);
  b.add_optimizer(m.options.optimizer);
  b.add_int8_logits(m.options.int8_logits);
  if (adapted) {
    b.add_lora_rank(stored(m.adapters.rank));
    b.add_lora_alpha(m.adapters.alpha);
    b.add_lora_targets(targets);
    b.add_base(base);
    b.add_base_hash(m.adapters.base_hash);
  }
  b.add_narrow_weights(m.options.narrow_weights);
  b.add_narrow_moments(m.options.narrow_moments);
  b.add_early_updates(m.options.early_updates);
  b.add_batch(stored(m.options.batch));
  b.add_window(stored(m.options.window));
  b.add_accumulate(stored(m.options.accumulate));
  b.add_document_end(m.options.document_end);
  b.add_vocabulary_tile(stored(m.options.vocabulary_tile));
  b.add_compute(stored(m.options.compute));
  b.add_decoder_storage(stored(m.options.decoder_storage));
  b.add_keep_logits(m.options.keep_logits);
  b.add_text_tokens(stored(m.text.tokens));
  b.add_text_hash(m.text.hash);
  b.add_tokenizer_hash(m.tokenizer);
  if (!list.empty()) b.add_text_weights(weights);
  if (!m.tokenizer_model.empty()) b.add_tokenizer_model(tokenizer);
  schema::FinishSizePrefixedManifestBuffer(builder, b.Finish());
  const auto* bytes = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  std::vector<std::byte> encoded(bytes, bytes + builder.GetSize());
  if (encoded.size() > kLargestManifest) {
    throw Error("the checkpoints' manifest would be over 16 MiB: use a smaller tokenizer or a shorter name in the architecture");
  }
  const std::vector<std::uint64_t> checksums(m.tensors.size(), 0);
  update_manifest(encoded, m.steps_per_epoch, m.standing, m.checksums.empty() ? checksums : m.checksums);
  decode_manifest(encoded, "the manifest");
  return encoded;
}

void update_manifest(std::span<std::byte> encoded, std::int64_t steps_per_epoch, const Standing& standing,
                     std::span<const std::uint64_t> checksums) {
  schema::Manifest& manifest = *schema::GetMutableSizePrefixedManifest(encoded.data());
  manifest.mutate_steps(stored(standing.steps));
  manifest.mutate_schedule_steps(stored(standing.schedule_steps));
  manifest.mutate_epoch(stored(standing.steps / steps_per_epoch));
  manifest.mutate_epoch_step(stored(standing.steps % steps_per_epoch));
  manifest.mutate_held_out_loss(standing.held_out_loss);
  for (std::size_t i = 0; i < checksums.size(); ++i) {
    manifest.mutable_tensors()->GetMutableObject(static_cast<flatbuffers::uoffset_t>(i))->mutate_checksum(checksums[i]);
  }
  manifest.mutate_checksum(checksum_of(encoded, manifest));
}

Manifest decode_manifest(std::span<const std::byte> encoded, const std::string& path) { return Decoder(encoded, path).decode(); }

}  // namespace neurogen
