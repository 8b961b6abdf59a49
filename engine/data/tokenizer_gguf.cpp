#include "engine/data/tokenizer_gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "arena/error.h"

namespace neurogen {
namespace {

// tokenizer.ggml.token_type.
enum Kind : std::int64_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5 };

struct Way {
  std::string_view pre;  // tokenizer.ggml.pre
  WordRule words;
  bool nfc, whole_words;  // as the tokenizer.json from which these files are made
};
constexpr Way kWays[] = {
    {"gpt-2", WordRule::gpt2, false, false},
    {"smollm", WordRule::smollm, false, false},
    {"qwen2", WordRule::qwen2, true, false},
    {"llama-bpe", WordRule::llama3, false, true},
};

std::string key(std::string_view name) { return fmt::format("tokenizer.ggml.{}", name); }

bool is_kind(const Gguf& file, std::string_view kind) { return file.has(key("model")) && file.text(key("model")) == kind; }
bool is_set(const Gguf& file, std::string_view name, bool otherwise) {
  return file.has(key(name)) ? file.flag(key(name)) : otherwise;
}

// The pieces and their kinds, without the last ones that only fill the model's table.
std::pair<std::vector<std::string_view>, std::vector<std::int64_t>> pieces_of(const Gguf& file) {
  std::vector<std::string_view> pieces = file.texts(key("tokens"));
  std::vector<std::int64_t> kinds = file.wholes(key("token_type"));
  if (kinds.size() != pieces.size())
    throw Error(fmt::format("{} has {} pieces and {} kinds of them: it is damaged, make or download it again", file.path(),
                            pieces.size(), kinds.size()));
  while (!kinds.empty() && kinds.back() == unused) kinds.pop_back();
  pieces.resize(kinds.size());
  return {std::move(pieces), std::move(kinds)};
}

}  // namespace

BytePairs read_gguf_tokenizer(const Gguf& file) {
  const std::string& path = file.path();
  const auto refuse = [&](const std::string& what) {
    throw Error(fmt::format("{}: {}: only byte-level BPE as in GPT-2, SmolLM, Qwen2 and Llama 3 is read", path, what));
  };
  if (!file.has(key("model"))) refuse("it has no tokenizer");
  if (file.text(key("model")) != "gpt2")
    refuse(fmt::format("its tokenizer is of the kind {}", quoted_piece(file.text(key("model")))));
  const std::string_view pre = file.has(key("pre")) ? file.text(key("pre")) : "";
  const auto way = std::find_if(std::begin(kWays), std::end(kWays), [&](const Way& w) { return w.pre == pre; });
  if (way == std::end(kWays)) refuse(fmt::format("its tokenizer cuts words by the rule {}", quoted_piece(pre)));

  BytePairs pairs;
  pairs.words = way->words, pairs.nfc = way->nfc, pairs.whole_words = way->whole_words;
  const auto [pieces, kinds] = pieces_of(file);
  std::unordered_map<std::string_view, TokenId> ids;
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    pairs.pieces.emplace_back(pieces[id]);
    ids.emplace(pieces[id], static_cast<TokenId>(id));
    if (kinds[id] != normal) pairs.added.push_back({static_cast<TokenId>(id), kinds[id] != user_defined, false});
  }
  const std::vector<std::string_view> merges = file.texts(key("merges"));
  pairs.merges.reserve(merges.size());
  for (const std::string_view merge : merges) {
    const auto id_of = [&](std::string_view piece) {
      const auto found = ids.find(piece);
      if (found == ids.end())
        throw Error(
            fmt::format("{}: the merge {} has the piece {}, which is not in its tokens: it is damaged, make or download it again",
                        path, quoted_piece(merge), quoted_piece(piece)));
      return found->second;
    };
    const std::size_t space = std::min(merge.find(' '), merge.size());
    const std::string left(merge.substr(0, space)), right(merge.substr(std::min(space + 1, merge.size())));
    pairs.merges.push_back({id_of(left), id_of(right), id_of(left + right)});
  }
  const auto token = [&](std::string_view name) {
    if (!file.has(key(name))) return kNoToken;
    const std::int64_t id = file.whole(key(name));
    if (id < 0 || id >= static_cast<std::int64_t>(pieces.size()))
      throw Error(fmt::format("{}: its {} is {}, which is no piece: it is damaged, make or download it again", path, name, id));
    return static_cast<TokenId>(id);
  };
  pairs.bos = token("bos_token_id");
  pairs.eos = token("eos_token_id");
  pairs.begins_with_bos = pairs.bos != kNoToken && file.has(key("add_bos_token")) && file.flag(key("add_bos_token"));
  if (file.has("tokenizer.chat_template")) pairs.chat_template = file.text("tokenizer.chat_template");
  check_byte_pairs(pairs, path);
  return pairs;
}

bool has_gguf_sentence_pieces(const Gguf& file) {
  return is_kind(file, "llama") && !is_set(file, "add_space_prefix", true) && !is_set(file, "remove_extra_whitespaces", false) &&
         !file.has(key("precompiled_charsmap"));
}

SentencePieces read_gguf_sentence_pieces(const Gguf& file) {
  const auto [pieces, kinds] = pieces_of(file);
  const std::vector<double> scores = file.reals(key("scores"));
  if (scores.size() < pieces.size())
    throw Error(fmt::format("{} has {} pieces and {} scores of them: it is damaged, make or download it again", file.path(),
                            pieces.size(), scores.size()));
  return {{pieces.begin(), pieces.end()},
          {scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(pieces.size())},
          {kinds.begin(), kinds.end()}};
}

bool has_gguf_tokenizer(const Gguf& file) { return is_kind(file, "gpt2") || has_gguf_sentence_pieces(file); }

}  // namespace neurogen
