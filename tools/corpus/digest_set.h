// A set of 128-bit digests in a table of 16 bytes a place, of which at most seven eighths are taken: 18 to 37 bytes a digest, half
// as much again while it grows, at most 1 GiB for 58 million (and 1.5 GiB while it grows to that).
#pragma once
#include <xxhash.h>

#include <vector>

#include "arena/bytes.h"

namespace neurogen {

class DigestSet {
 public:
  // Whether it is new. Throws Error when no more can be kept.
  bool insert(XXH128_hash_t digest);
  std::size_t size() const { return size_; }
  Bytes bytes() const { return places_.size() * sizeof places_[0]; }

 private:
  XXH128_hash_t& place_of(XXH128_hash_t digest);  // its own, or the free one where it belongs
  void grow();

  std::vector<XXH128_hash_t> places_;  // a power of two of them; all zeros: free
  std::size_t size_ = 0;
};

}  // namespace neurogen
