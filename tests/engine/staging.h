// Data passes through the staging buffer intact and changes nothing beside it, in sizes around the edges of its slots.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "engine/files/file_io.h"
#include "engine/run/staging.h"
#include "tests/engine/small_brain.h"
#include "tests/expect_error.h"
#include "tests/temporary_directory.h"

namespace neurogen {

inline void check_staging(Place place) {
  StepOptions o;
  o.batch = o.window = 4;
  o.target.gpu = true;
  o.target.workspace = Bytes{80} << 20;  // the memory copied to and from
  Session session(planned(build_training(small_brain(), o), {Bytes{1} << 34, 0}), place);
  Program& program = session.program;
  const TensorView staging = program.view(session.model.ports.staging), workspace = program.view(session.model.workspace);
  const Bytes slots = kStagingSlots, slot = static_cast<Bytes>(staging.row_elements());
  ASSERT_LT(9 * slot, static_cast<Bytes>(workspace.elements()));
  // Late copies find or leave these values.
  const auto spoil = [&] { std::memset(staging.data, 0xA5, slots * slot); };

  std::mt19937_64 random(3);
  std::vector<std::byte> sent(9 * slot), received(9 * slot + 1), clear(9 * slot + 1);
  for (const Bytes bytes : {Bytes{0}, Bytes{1}, slot, slots * slot, slots * slot + 1, 9 * slot - 3}) {
    SCOPED_TRACE(bytes);
    for (std::size_t at = 0; at < sent.size(); at += sizeof(std::uint64_t)) {
      const std::uint64_t word = random();
      std::memcpy(sent.data() + at, &word, sizeof word);
    }
    program.write(session.model.workspace, clear.data(), clear.size());
    std::fill(received.begin(), received.end(), std::byte{0x5A});
    spoil();
    copy_to_gpu(session, sent.data(), workspace.as<std::byte>(), bytes);
    spoil();
    copy_from_gpu(session, workspace.as<std::byte>(), received.data(), bytes);
    EXPECT_EQ(std::memcmp(received.data(), sent.data(), bytes), 0);
    EXPECT_EQ(received[bytes], std::byte{0x5A});
    std::byte behind{1};
    program.read(session.model.workspace, &behind, 1, bytes);
    EXPECT_EQ(behind, std::byte{0});
  }

  // From a file, after its first page.
  const TemporaryDirectory directory;
  const Bytes begin = 4096, bytes = 9 * slot - 3;
  const std::string_view contents(reinterpret_cast<const char*>(sent.data()), bytes);
  const MappedFile file(directory.file("bytes", std::string(begin, ' ').append(contents)));
  spoil();
  copy_to_gpu(session, FileRange{file.descriptor(), begin, bytes}, workspace.as<std::byte>());
  program.read(session.model.workspace, received.data(), bytes);
  EXPECT_EQ(std::memcmp(received.data(), sent.data(), bytes), 0);
  EXPECT_ERROR(copy_to_gpu(session, FileRange{file.descriptor(), begin, bytes + 1}, workspace.as<std::byte>()), "truncated");
  EXPECT_ERROR(copy_to_gpu(session, FileRange{-1, begin, bytes, "gone.ngck"}, workspace.as<std::byte>()),
               "gone.ngck cannot be read");
}

}  // namespace neurogen
