#include "tools/corpus/digest_set.h"

#include <fmt/format.h>

#include <utility>

#include "arena/error.h"

namespace neurogen {
namespace {
constexpr std::size_t kLeastPlaces = 1 << 12, kMostPlaces = 1 << 26;

bool free_place(XXH128_hash_t d) { return d.low64 == 0 && d.high64 == 0; }
}  // namespace

bool DigestSet::insert(XXH128_hash_t digest) {
  if (free_place(digest)) digest.low64 = 1;
  if ((size_ + 1) * 8 > places_.size() * 7) grow();
  XXH128_hash_t& place = place_of(digest);
  if (!free_place(place)) return false;
  place = digest;
  ++size_;
  return true;
}

// Linear probing (Knuth, "The Art of Computer Programming", volume 3, section 6.4).
XXH128_hash_t& DigestSet::place_of(XXH128_hash_t digest) {
  std::size_t at = digest.low64 & (places_.size() - 1);
  while (!free_place(places_[at]) && (places_[at].low64 != digest.low64 || places_[at].high64 != digest.high64)) {
    at = (at + 1) & (places_.size() - 1);
  }
  return places_[at];
}

void DigestSet::grow() {
  if (places_.size() == kMostPlaces) {
    throw Error(fmt::format("there are more than {} different documents: deduplicate the text in parts", with_commas(size_)));
  }
  std::vector<XXH128_hash_t> old(std::max(kLeastPlaces, 2 * places_.size()));
  std::swap(old, places_);
  for (const XXH128_hash_t digest : old) {
    if (!free_place(digest)) place_of(digest) = digest;
  }
}

}  // namespace neurogen
