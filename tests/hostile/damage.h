// Damage in many places: a few in the unit tests, all in the exhaustive ones.
#pragma once
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "engine/model/family.h"
#include "engine/run/restore.h"
#include "tests/expect_error.h"
#include "tests/folders.h"
#include "tests/hostile/hostile.h"
#include "tests/temporary_directory.h"

namespace neurogen {

inline const std::string kVersion2 = source_folder() + "/tests/hostile/version-2.ngck";

// Sets words anywhere in the manifest to each of several values, under a correct checksum: if the file is still accepted, it
// describes the same tensors.
inline void change_every_word(std::size_t stride) {
  const std::string good = read_file(kVersion2);
  const std::size_t end = manifest_bytes(good), tensors = Checkpoint(kVersion2).tensors().size();
  int refused = 0;
  for (std::size_t at = 0; at < end; at += stride) {
    for (const std::size_t size : {1, 2, 4, 8}) {
      for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{1}, UINT64_MAX, std::uint64_t{INT64_MAX}, UINT64_MAX - 255,
                                        std::uint64_t{1} << 31, static_cast<std::uint64_t>(-static_cast<std::int64_t>(at))}) {
        if (at + size > end) continue;
        std::string bad = good.substr(0, end);
        std::memcpy(bad.data() + at, &value, size);
        seal(bad);
        std::string sentence;
        if (manifest_bytes(bad) != end) continue;  // AManifestThatClaimsMore
        if (accepts(bad, sentence)) {
          EXPECT_EQ(decode_manifest(std::as_bytes(std::span(bad)), "hostile").tensors.size(), tensors);
        } else {
          ++refused;
          EXPECT_TRUE(is_sentence(sentence)) << "at " << at << ": " << sentence;
        }
      }
    }
  }
  EXPECT_GT(refused, 0);
}

// The sentence with which a file is refused by whoever loads its weights into a model of its own architecture; empty if it is not.
inline std::string refusal_to_load(const std::string& path) {
  try {
    const Checkpoint file(path);
    StepOptions o;
    o.batch = file.manifest().options.batch, o.window = file.manifest().options.window;
    const ArchitecturePtr architecture = parse_architecture(file.manifest().architecture, path);
    conversion(file, planned(build_evaluation(architecture, o), {}).plan);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

inline void change_architecture() {
  const TemporaryDirectory directory;
  const std::string good = read_file(kVersion2);
  const std::size_t begin = good.find("{\"name\""), end = good.find("}}", begin) + 2;
  for (std::size_t at = begin; at < end; ++at) {
    if (good[at] < '0' || good[at] > '9' || good.compare(at - 2, 2, ": ") != 0) continue;
    if (good.compare(at - 11, 11, "\"softcap\": ") == 0) continue;  // any will do, it shapes no tensor
    std::size_t digits = 1;
    while (good[at + digits] >= '0' && good[at + digits] <= '9') ++digits;
    for (const std::string number : {"0", "1", "9999999", "32", "64", "96", "999999968"}) {
      SCOPED_TRACE(testing::Message() << number << " at " << at);
      std::string bad = good;
      // Shortens the name to make room for long numbers.
      const std::string changed = good.substr(begin, at - begin) + number + good.substr(at + digits, end - at - digits);
      const std::size_t name = std::string("{\"name\": \"").size();
      std::string json = changed;
      if (json.size() > end - begin) json.erase(name, json.size() - (end - begin));
      json += std::string(end - begin - json.size(), ' ');
      bad.replace(begin, json.size(), json);
      seal(bad);
      if (bad == good) continue;
      const std::string sentence = refusal_to_load(directory.file("hostile", bad));
      EXPECT_NE(sentence.find("hostile"), std::string::npos) << sentence;
      EXPECT_EQ(sentence.find('\n'), std::string::npos) << sentence;
    }
  }
}

// Flips a bit of every `stride`-th byte in the first 64 KiB, one at a time: opening the file or comparing checksums detects it.
inline void flip_every_byte(std::size_t stride) {
  const TemporaryDirectory directory;
  std::string bytes = read_file(kVersion2);
  const std::string path = directory.file("hostile", bytes);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  const auto put = [&](std::size_t at, char byte) { file.seekp(static_cast<std::streamoff>(at)).put(byte).flush(); };
  for (std::size_t at = 0; at < std::min<std::size_t>(bytes.size(), 65536); at += stride) {
    put(at, static_cast<char>(bytes[at] ^ (1 << at % 8)));
    SCOPED_TRACE(testing::Message() << "byte " << at);
    EXPECT_ERROR((Checkpoint(path).verify()), path);
    put(at, bytes[at]);
  }
  Checkpoint(path).verify();
}

inline void cut_everywhere() {
  const TemporaryDirectory directory;
  const std::string whole = read_file(kVersion2);
  for (std::size_t length = 0; length < whole.size(); length += 997) {
    SCOPED_TRACE(testing::Message() << "length " << length);
    EXPECT_ERROR(Checkpoint(directory.file("hostile", whole.substr(0, length))), "hostile");
  }
  for (const std::size_t more : {1, 255, 4096, 1 << 20}) {
    EXPECT_ERROR(Checkpoint(directory.file("hostile", whole + std::string(more, '\0'))), "its manifest says");
  }
}

}  // namespace neurogen
