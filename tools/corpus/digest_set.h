// A set of 128-bit digests: a hash table of 16-byte places, at most seven eighths full. It takes 18 to 37 bytes per digest, 1.5
// times that while it grows, and at most 1 GiB, for 58 million (1.5 GiB while it grows to that).
#pragma once
#include <xxhash.h>

#include <vector>

#include "arena/bytes.h"

namespace neurogen {

class DigestSet {
 public:
  // Returns whether the digest is new. Throws Error when the table is full.
  bool insert(XXH128_hash_t digest);
  std::size_t size() const { return size_; }
  Bytes bytes() const { return places_.size() * sizeof places_[0]; }

 private:
  XXH128_hash_t& place_of(XXH128_hash_t digest);  // the place that holds it, or a free one for it
  void grow();

  std::vector<XXH128_hash_t> places_;  // a power of two; all zeros: free
  std::size_t size_ = 0;
};

}  // namespace neurogen
