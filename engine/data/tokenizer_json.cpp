#include "engine/data/tokenizer_json.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "arena/error.h"
#include "engine/data/words.h"
#include "engine/files/file_io.h"
#include "engine/files/json.h"
#include "engine/files/one_line.h"

namespace neurogen {
namespace {

using nlohmann::json;

constexpr int kLevels = 16;  // maximal nesting; Hugging Face's files have about eight
constexpr std::string_view kTokenizerFile = "tokenizer.json", kConfigFile = "tokenizer_config.json",
                           kTemplateFile = "chat_template.jinja";

// An object's member, null if it has none. `object` may be anything.
const json& member(const json& object, std::string_view key) {
  static const json null;
  if (!object.is_object()) return null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

std::string string_of(const json& value) { return value.is_string() ? value.get<std::string>() : std::string(); }

// Whether the value is absent, null, false, 0 or "".
bool unset(const json& value) { return value.is_null() || value == false || value == 0 || value == ""; }

// For messages: on one short line.
std::string shown(const json& value) { return one_line(value.dump(), 200); }

class Reader {
 public:
  explicit Reader(const std::string& name) : name_(name) {}

  BytePairs read(const json& file, const json& config) {
    if (!file.is_object()) fail("it is not a JSON object");
    read_model(member(file, "model"));
    read_added(member(file, "added_tokens"));
    for (std::size_t id = 0; id < pairs_.pieces.size(); ++id)
      if (pairs_.pieces[id].empty()) fail(fmt::format("no piece has the id {}", id));
    read_normalizer(member(file, "normalizer"));
    read_pre_tokenizer(member(file, "pre_tokenizer"));
    read_post_processor(member(file, "post_processor"));
    read_config(config);
    check_byte_pairs(pairs_, name_);
    return std::move(pairs_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(fmt::format("{}: {}: it is damaged, make it or download it again", name_, what));
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(fmt::format("{} {}: only byte-level BPE as in GPT-2, SmolLM, Qwen2 and Llama 3 is read", name_, what));
  }

  void put(const json& id, const std::string& piece) {
    if (!id.is_number_integer() || id < 0 || id >= kMostPieces)
      fail(fmt::format("the piece {} has the id {}", quoted_piece(piece), shown(id)));
    const auto at = id.get<std::size_t>();
    if (at >= pairs_.pieces.size()) pairs_.pieces.resize(at + 1);
    if (!pairs_.pieces[at].empty() && pairs_.pieces[at] != piece)
      fail(fmt::format("the pieces {} and {} have the id {}", quoted_piece(pairs_.pieces[at]), quoted_piece(piece), at));
    pairs_.pieces[at] = piece;
  }

  void read_model(const json& model) {
    const json &type = member(model, "type"), &vocabulary = member(model, "vocab"), &merges = member(model, "merges");
    if (type != "BPE" && !(type.is_null() && merges.is_array())) refuse(fmt::format("has a model of type {}", shown(type)));
    for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"})
      if (!unset(member(model, key))) refuse(fmt::format("has the model's {} {}", key, shown(member(model, key))));
    if (!vocabulary.is_object()) fail("it has no vocab");
    for (const auto& [piece, id] : vocabulary.items()) {
      put(id, piece);
      ids_.emplace(piece, id.get<TokenId>());
    }
    pairs_.whole_words = member(model, "ignore_merges") == true;
    if (!merges.is_array()) fail("it has no merges");
    pairs_.merges.reserve(merges.size());
    for (const json& merge : merges) read_merge(merge);
  }

  // ["a", "b"], or as one text, "a b".
  void read_merge(const json& merge) {
    std::string left, right;
    if (merge.is_array() && merge.size() == 2) {
      left = string_of(merge[0]), right = string_of(merge[1]);
    } else if (merge.is_string()) {
      const std::string both = merge.get<std::string>();
      const std::size_t space = std::min(both.find(' '), both.size());
      left = both.substr(0, space), right = both.substr(std::min(space + 1, both.size()));
    }
    const auto id_of = [&](const std::string& piece) {
      const auto found = ids_.find(piece);
      if (found == ids_.end())
        fail(fmt::format("the merge {} has the piece {}, which is not in vocab", shown(merge), quoted_piece(piece)));
      return found->second;
    };
    pairs_.merges.push_back({id_of(left), id_of(right), id_of(left + right)});
  }

  void read_added(const json& list) {
    if (list.is_null()) return;
    if (!list.is_array()) fail("its added_tokens are not a list");
    for (const json& added : list) {
      const std::string piece = string_of(member(added, "content"));
      for (const char* key : {"single_word", "lstrip", "rstrip"})
        if (!unset(member(added, key))) refuse(fmt::format("has the added piece {} with {}", quoted_piece(piece), key));
      const json& id = member(added, "id");
      if (const auto known = ids_.find(piece); known != ids_.end() && id != known->second)
        fail(fmt::format("the added piece {} has two ids", quoted_piece(piece)));
      put(id, piece);
      ids_.emplace(piece, id.get<TokenId>());
      pairs_.added.push_back({id.get<TokenId>(), member(added, "special") == true, member(added, "normalized") == true});
    }
  }

  void read_normalizer(const json& normalizer) {
    if (normalizer.is_null()) return;
    if (member(normalizer, "type") == "NFC") pairs_.nfc = true;
    else refuse(fmt::format("has the normalizer {}", shown(normalizer)));
  }

  static bool is_byte_level(const json& step, bool with_pattern) {
    return member(step, "type") == "ByteLevel" && unset(member(step, "add_prefix_space")) &&
           (member(step, "use_regex") != false) == with_pattern;  // absent in older files: with it
  }

  std::optional<WordRule> rule_of(const json& pre_tokenizer) const {
    if (is_byte_level(pre_tokenizer, true)) return WordRule::gpt2;
    const json& steps = member(pre_tokenizer, "pretokenizers");
    if (member(pre_tokenizer, "type") != "Sequence" || !steps.is_array() || steps.size() != 2) return std::nullopt;
    const json& first = steps[0];
    if (member(first, "type") == "Digits" && member(first, "individual_digits") == true && is_byte_level(steps[1], true))
      return WordRule::smollm;
    const bool isolates =
        member(first, "type") == "Split" && member(first, "behavior") == "Isolated" && unset(member(first, "invert"));
    if (!isolates || !is_byte_level(steps[1], false)) return std::nullopt;
    for (const WordRule rule : {WordRule::qwen2, WordRule::llama3})
      if (member(member(first, "pattern"), "Regex") == split_pattern(rule)) return rule;
    return std::nullopt;
  }

  void read_pre_tokenizer(const json& pre_tokenizer) {
    const std::optional<WordRule> rule = rule_of(pre_tokenizer);
    if (!rule) refuse(fmt::format("has the pre_tokenizer {}", shown(pre_tokenizer)));
    pairs_.words = *rule;
  }

  TokenId id_of(const json& piece) const {
    const auto found = ids_.find(string_of(piece.is_object() ? member(piece, "content") : piece));
    return found == ids_.end() ? kNoToken : found->second;
  }

  // A template says what stands before a text: one special piece, the begin. Other processors only add what chats do not have.
  void read_post_processor(const json& processor) {
    if (member(processor, "type") == "Sequence") {
      const json& steps = member(processor, "processors");
      if (steps.is_array())
        for (const json& step : steps) read_template(step);
    } else {
      read_template(processor);
    }
  }
  void read_template(const json& processor) {
    const json& single = member(processor, "single");
    if (member(processor, "type") != "TemplateProcessing" || !single.is_array() || single.empty()) return;
    const TokenId first = id_of(member(member(single[0], "SpecialToken"), "id"));
    if (first == kNoToken) return;
    pairs_.bos = first;
    pairs_.begins_with_bos = true;
  }

  void read_config(const json& config) {
    if (const TokenId bos = id_of(member(config, "bos_token")); bos != kNoToken) pairs_.bos = bos;
    if (const json& adds = member(config, "add_bos_token"); adds.is_boolean()) pairs_.begins_with_bos = adds.get<bool>();
    if (pairs_.bos == kNoToken) pairs_.begins_with_bos = false;
    pairs_.eos = id_of(member(config, "eos_token"));
    const json& chat = member(config, "chat_template");
    if (!chat.is_array()) {
      pairs_.chat_template = string_of(chat);
    } else {  // several, by name
      for (const json& named : chat)
        if (member(named, "name") == "default") pairs_.chat_template = string_of(member(named, "template"));
    }
  }

  const std::string& name_;
  BytePairs pairs_;
  std::unordered_map<std::string, TokenId> ids_;  // of pieces
};

json pre_tokenizer_of(WordRule rule) {
  const auto byte_level = [](bool with_pattern) {
    return json{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", with_pattern}};
  };
  if (rule == WordRule::gpt2) return byte_level(true);
  const json first =
      rule == WordRule::smollm
          ? json{{"type", "Digits"}, {"individual_digits", true}}
          : json{{"type", "Split"}, {"pattern", {{"Regex", split_pattern(rule)}}}, {"behavior", "Isolated"}, {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {first, byte_level(rule == WordRule::smollm)}}};
}

}  // namespace

TokenizerFiles read_tokenizer_files(const std::string& path) {
  std::filesystem::path file = path;
  if (std::filesystem::is_directory(file)) file /= kTokenizerFile;
  const auto neighbour = [&](std::string_view name) {
    const std::filesystem::path beside = file.parent_path() / name;
    return std::filesystem::exists(beside) ? std::string(MappedFile(beside.string()).text()) : std::string();
  };
  return {std::string(MappedFile(file.string()).text()), neighbour(kConfigFile), neighbour(kTemplateFile)};
}

BytePairs parse_tokenizer_files(const TokenizerFiles& files, const std::string& name) {
  const std::string config_name = fmt::format("{} beside {}", kConfigFile, name);
  const json config = files.config.empty() ? json() : parse_json(files.config, kLevels, config_name);
  if (config.is_discarded()) throw Error(config_name + " is not JSON: it is damaged, make it or download it again");
  BytePairs pairs = Reader(name).read(parse_json(files.tokenizer, kLevels, name), config);
  if (!files.chat_template.empty()) pairs.chat_template = files.chat_template;
  return pairs;
}

BytePairs parse_carried_text(std::string_view text, const std::string& name) {
  const json both = parse_json(text, kLevels, name);
  return Reader(name).read(member(both, kTokenizerFile), member(both, kConfigFile));
}

std::string carried_text(const BytePairs& pairs) {
  const auto piece = [&](TokenId id) -> const std::string& { return pairs.pieces[static_cast<std::size_t>(id)]; };
  json added = json::array(), vocabulary = json::object(), merges = json::array();
  for (std::size_t id = 0; id < pairs.pieces.size(); ++id) vocabulary[pairs.pieces[id]] = id;
  for (const AddedPiece& a : pairs.added) {
    added.push_back({{"id", a.id},
                     {"content", piece(a.id)},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", a.normalized},
                     {"special", a.special}});
  }
  for (const BytePairs::Merge& merge : pairs.merges) merges.push_back(piece(merge.left) + " " + piece(merge.right));
  const json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", pairs.whole_words},
                      {"vocab", std::move(vocabulary)},
                      {"merges", std::move(merges)}};
  json processor = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", false}, {"use_regex", true}};
  if (pairs.begins_with_bos) {
    const std::string& bos = piece(pairs.bos);
    const json special = {{"SpecialToken", {{"id", bos}, {"type_id", 0}}}};
    const auto sequence = [](const char* id, int type) { return json{{"Sequence", {{"id", id}, {"type_id", type}}}}; };
    processor = {{"type", "TemplateProcessing"},
                 {"single", {special, sequence("A", 0)}},
                 {"pair", {special, sequence("A", 0), sequence("B", 1)}},
                 {"special_tokens", {{bos, {{"id", bos}, {"ids", {pairs.bos}}, {"tokens", {bos}}}}}}};
  }
  const json tokenizer = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", std::move(added)},
      {"normalizer", pairs.nfc ? json{{"type", "NFC"}} : json()},
      {"pre_tokenizer", pre_tokenizer_of(pairs.words)},
      {"post_processor", std::move(processor)},
      {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
      {"model", std::move(model)}};
  json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}, {"add_bos_token", pairs.begins_with_bos}};
  if (pairs.bos != kNoToken) config["bos_token"] = piece(pairs.bos);
  if (pairs.eos != kNoToken) config["eos_token"] = piece(pairs.eos);
  if (!pairs.chat_template.empty()) config["chat_template"] = pairs.chat_template;
  return json{{kTokenizerFile, std::move(tokenizer)}, {kConfigFile, std::move(config)}}.dump(-1, ' ', false,
                                                                                             json::error_handler_t::replace);
}

bool is_carried_text(std::string_view text) { return text.starts_with("{\"tokenizer.json\":"); }

TokenizerFiles carried_files(std::string_view text, const std::string& name) {
  const json both = parse_json(text, kLevels, name);
  return {member(both, kTokenizerFile).dump(), member(both, kConfigFile).dump(), ""};
}

}  // namespace neurogen
