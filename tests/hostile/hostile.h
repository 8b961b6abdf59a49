// Checkpoints as an attacker would write them: with correct checksums.
#pragma once
#include <flatbuffers/flatbuffers.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>
#include <span>
#include <string>

#include "arena/error.h"
#include "checkpoint_generated.h"
#include "engine/files/checkpoint.h"

namespace neurogen {

// Bytes of a purported manifest including its size prefix; 0 if it is cut short.
inline std::size_t manifest_bytes(const std::string& file) {
  std::uint32_t prefix = 0;
  if (file.size() < sizeof prefix) return 0;
  std::memcpy(&prefix, file.data(), sizeof prefix);
  return prefix + sizeof prefix <= file.size() ? prefix + sizeof prefix : 0;
}

inline schema::Manifest& manifest_in(std::string& file) { return *schema::GetMutableSizePrefixedManifest(file.data()); }

// Corrects the checksum of a manifest, if it can be read.
inline void seal(std::string& file) {
  const std::size_t size = manifest_bytes(file);
  if (size < 12 || size > kLargestManifest) return;
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(file.data()), size);
  if (!schema::VerifySizePrefixedManifestBuffer(verifier) || !manifest_in(file).mutate_checksum(0)) return;
  manifest_in(file).mutate_checksum(XXH3_64bits(file.data(), size));
}

// Reads it only as a manifest: it must be accepted, or refused with a sentence that names the file.
inline bool accepts(const std::string& file, std::string& sentence) {
  try {
    decode_manifest(std::as_bytes(std::span(file).first(manifest_bytes(file))), "hostile");
    return true;
  } catch (const Error& error) {
    sentence = error.what();
    return false;
  }
}

inline bool is_sentence(const std::string& text) {
  return text.starts_with("hostile") && text.find(": ") != text.npos && text.find('\n') == text.npos && text.size() < 1000;
}

}  // namespace neurogen
