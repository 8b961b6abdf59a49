// What a tokenizer of a large vocabulary holds of the heap is what plans set aside for it.
#include <gtest/gtest.h>

#include <unordered_set>

#include "engine/data/byte_level.h"
#include "engine/data/tokenizer_json.h"
#include "engine/run/process.h"
#include "kernels/base/random.h"

namespace neurogen {
HeapCounters counted_heap();  // tools/neurogen-engine/heap.cpp, also this test's allocator
void cap_heap(Bytes bytes);

namespace {

// As many pieces as Qwen2's, each but the bytes merged from two others; twice as long as those of a language.
BytePairs random_pairs(WordRule words, std::size_t size) {
  BytePairs pairs;
  pairs.words = words;
  pairs.whole_words = words == WordRule::llama3;
  pairs.pieces.assign(byte_alphabet().begin(), byte_alphabet().end());
  std::unordered_set<std::string> known(pairs.pieces.begin(), pairs.pieces.end());
  for (std::uint64_t draw = 0; pairs.pieces.size() < size; ++draw) {
    const auto words_drawn = philox(7, 0, draw);
    const std::size_t left = words_drawn[0] % pairs.pieces.size(),
                      right = words_drawn[1] % (words_drawn[2] % 2 ? 256 : pairs.pieces.size());
    const std::string whole = pairs.pieces[left] + pairs.pieces[right];
    if (whole.size() > 22 || !known.insert(whole).second) continue;
    pairs.merges.push_back({static_cast<TokenId>(left), static_cast<TokenId>(right), static_cast<TokenId>(pairs.pieces.size())});
    pairs.pieces.push_back(whole);
  }
  return pairs;
}

TEST(TokenizerHeap, IsWithinWhatPlansSetAside) {
  cap_heap(1'000'000'000);  // the description in memory is not the tokenizer's
  for (const WordRule words : {WordRule::qwen2, WordRule::llama3}) {
    constexpr std::size_t kPieces = 151'936;
    constexpr Bytes kCache = 8'000'000;  // for encoding: of any tokenizer, within kHeapCap
    const BytePairs pairs = random_pairs(words, kPieces);
    const Bytes before = counted_heap().live_bytes;
    const ByteLevelTokenizer tokenizer(pairs, carried_text(pairs), "random");
    EXPECT_GT(tokenizer.encode("Some words to encode.").size(), 4u);
    const Bytes held = counted_heap().live_bytes - before;
    // A run that is resumed and saves has its text four times more: in its own manifest, the one that it resumes from, and the one
    // that it writes, also as bytes.
    const Bytes most = held + 4 * tokenizer.model().size();
    std::printf("%.1f bytes a piece, in a run %.1f\n", static_cast<double>(held) / kPieces, static_cast<double>(most) / kPieces);
    EXPECT_LE(most, kHeapOfPiece * kPieces + kCache);
    EXPECT_GT(most, kHeapOfPiece * kPieces / 2);
    EXPECT_EQ(heap_cap(kPieces), kHeapCap + kHeapOfPiece * (kPieces - kUsualVocabulary));
  }
  cap_heap(kHeapCap);
  EXPECT_EQ(heap_cap(kUsualVocabulary), kHeapCap);
  EXPECT_LT(kHeapOfPiece * kUsualVocabulary, kHeapCap / 2);
}

}  // namespace
}  // namespace neurogen
