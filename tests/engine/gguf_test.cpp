#include "engine/files/gguf.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "tests/expect_error.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

using std::string;

template <typename T>
string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
string u32(std::uint32_t value) { return raw(value); }
string u64(std::uint64_t value) { return raw(value); }
string text(const string& value) { return u64(value.size()) + value; }

constexpr std::uint32_t kText = 8, kList = 9;  // types of values

string start(std::uint64_t tensors, std::uint64_t values, std::uint32_t version = 3) {
  return "GGUF" + u32(version) + u64(tensors) + u64(values);
}
string tensor(const string& name, std::initializer_list<std::uint64_t> extents, std::uint32_t type, std::uint64_t offset) {
  string bytes = text(name) + u32(static_cast<std::uint32_t>(extents.size()));
  for (const std::uint64_t extent : extents) bytes += u64(extent);
  return bytes + u32(type) + u64(offset);
}
string padded(string bytes, std::size_t alignment = 32) {
  bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
  return bytes;
}

std::vector<float> values(const EncodedTensor& tensor) {
  std::vector<float> all(static_cast<std::size_t>(tensor.elements()));
  tensor.read(0, 1, all);
  return all;
}

GgufTensor ramp(const string& name, Encoding encoding, Shape shape) {
  return {name, encoding, std::move(shape), [](std::int64_t begin, std::span<float> to) {
            for (std::size_t i = 0; i < to.size(); ++i)
              to[i] = static_cast<float>((begin + static_cast<std::int64_t>(i)) % 61) - 30;
          }};
}

TEST(Gguf, WhatIsWrittenIsRead) {
  const TemporaryDirectory directory;
  const string path = directory.path("x.gguf");
  const GgufMetadata metadata = {{"general.architecture", string("llama")},
                                 {"count", std::uint32_t{7}},
                                 {"offset", std::int32_t{-7}},
                                 {"eps", 1e-5f},
                                 {"flag", true},
                                 {"tokens", std::vector<string>{"a", "", "\xC3\xA9"}},
                                 {"types", std::vector<std::int32_t>{1, -3}},
                                 {"scores", std::vector<float>{0.5f, -1}}};
  const std::vector<GgufTensor> tensors = {ramp("whole", Encoding::f32, {3, 5}), ramp("half", Encoding::f16, {7}),
                                           ramp("brain", Encoding::bf16, {2, 3, 4}), ramp("eighth", Encoding::q8_0, {3, 64})};
  EXPECT_TRUE(write_gguf(path, metadata, tensors));
  EXPECT_EQ(directory.files(), 1u);
  EXPECT_TRUE(is_gguf(path));

  const Gguf file(path);
  EXPECT_EQ(file.text("general.architecture"), "llama");
  EXPECT_EQ(file.whole("count"), 7);
  EXPECT_EQ(file.whole("offset"), -7);
  EXPECT_EQ(file.real("eps"), 1e-5f);
  EXPECT_TRUE(file.flag("flag"));
  EXPECT_EQ(file.texts("tokens"), (std::vector<std::string_view>{"a", "", "\xC3\xA9"}));
  EXPECT_EQ(file.wholes("types"), (std::vector<std::int64_t>{1, -3}));
  EXPECT_EQ(file.reals("scores"), (std::vector<double>{0.5, -1}));
  EXPECT_TRUE(file.is_list("types"));
  EXPECT_FALSE(file.is_list("count"));
  EXPECT_FALSE(file.has("nothing"));
  EXPECT_ERROR(file.text("nothing"), path + " has no nothing");
  EXPECT_ERROR(file.text("count"), "count is not one of texts");
  EXPECT_ERROR(file.whole("eps"), "eps is not one of whole numbers");
  EXPECT_ERROR(file.whole("types"), "types is not one of whole numbers");
  EXPECT_ERROR(file.wholes("count"), "count is not a list of whole numbers");
  EXPECT_ERROR(file.reals("types"), "types is not a list of floating-point numbers");
  EXPECT_ERROR(file.flag("count"), "count is not one of true and false");

  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.find("nothing"), nullptr);
  EXPECT_EQ(file.find("brain")->shape, (Shape{2, 3, 4}));
  for (const EncodedTensor& t : file.tensors()) {
    std::vector<float> expected(static_cast<std::size_t>(t.elements()));
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<float>(i % 61) - 30;
    const double tolerance = t.encoding == Encoding::q8_0 ? 30 / 127. * 0.51 : 0;
    const std::vector<float> read = values(t);
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(read[i], expected[i], tolerance) << t.name << " " << i;
  }
  std::vector<float> column(3);
  file.find("whole")->read(1, 5, column);
  EXPECT_EQ(column, (std::vector<float>{-29, -24, -19}));
}

// One block of each kind, by hand.
TEST(Gguf, BlocksAreDequantised) {
  const TemporaryDirectory directory;
  const string two = raw(std::uint16_t{0x4000}), minus_one = raw(std::uint16_t{0xBC00});  // f16
  string q8 = two, nibbles;
  for (int i = 0; i < 32; ++i) q8 += static_cast<char>(i - 16);
  for (int i = 0; i < 16; ++i) nibbles += static_cast<char>(i | (15 - i) << 4);
  const string data = padded(q8) + padded(two + nibbles) + padded(two + minus_one + nibbles);
  const Gguf file(directory.file(
      "t", padded(start(3, 0) + tensor("q8", {32}, 8, 0) + tensor("q40", {32}, 2, 64) + tensor("q41", {32}, 3, 96)) + data));
  const std::vector<float> q8_0 = values(*file.find("q8")), q4_0 = values(*file.find("q40")), q4_1 = values(*file.find("q41"));
  for (int i = 0; i < 32; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const int q = i < 16 ? i : 31 - i;
    EXPECT_EQ(q8_0[at], 2.f * static_cast<float>(i - 16));
    EXPECT_EQ(q4_0[at], 2.f * static_cast<float>(q - 8));
    EXPECT_EQ(q4_1[at], 2.f * static_cast<float>(q) - 1);
  }
}

TEST(Gguf, NumbersThatATypeCannotHoldAreNotWritten) {
  const TemporaryDirectory directory;
  const string path = directory.file("x.gguf", "old");
  for (const auto& [encoding, value] : {std::pair{Encoding::f16, 65520.f},
                                        {Encoding::f32, HUGE_VALF},
                                        {Encoding::q8_0, 1e7f},
                                        {Encoding::q8_0, std::nanf("")},
                                        {Encoding::bf16, 3.4e38f}}) {
    const float x = value;
    const std::vector<GgufTensor> tensors = {
        {"w", encoding, {32}, [&](std::int64_t, std::span<float> to) { std::fill(to.begin(), to.end(), x); }}};
    EXPECT_ERROR(write_gguf(path, {}, tensors), path + " cannot be written: w holds a number that is infinite in ");
  }
  EXPECT_EQ(read_file(path), "old");
}

TEST(Gguf, RefusesEveryBrokenPromise) {
  const TemporaryDirectory directory;
  const auto open = [&](const string& contents) { Gguf(directory.file("t", contents)); };
  const auto with = [&](const string& value) { open(start(0, 1) + value); };
  const auto hold = [&](const string& tensors, std::uint64_t count, const string& data) {
    open(padded(start(count, 0) + tensors) + data);
  };
  const string block(32, 'x');
  EXPECT_NO_THROW(open(start(0, 0)));
  EXPECT_NO_THROW(open(start(0, 0, 2)));
  EXPECT_NO_THROW(hold(tensor("a", {8}, 0, 0), 1, block));
  EXPECT_ERROR(Gguf(directory.path("none")), "none does not exist");
  EXPECT_ERROR(open(""), "t is not a GGUF file");
  EXPECT_ERROR(open("GGML" + u32(3)), "t is not a GGUF file");
  EXPECT_ERROR(open(start(0, 0, 1)), "t is GGUF of version 1: only little-endian files of version 2 and 3");
  EXPECT_ERROR(open(start(0, 0, 3u << 24)), "only little-endian files");
  EXPECT_ERROR(open("GGUF" + u32(3) + u64(1)), "its header is cut short");
  EXPECT_ERROR(open(start(0, ~std::uint64_t{0})), "its header is cut short");
  EXPECT_ERROR(open(start(~std::uint64_t{0}, 0)), "its header is cut short");
  EXPECT_ERROR(with(text("") + u32(4) + u32(1)), "a value has no name of 1 to 65535 bytes");
  EXPECT_ERROR(with(text("\xFF") + u32(4) + u32(1)), "a value has no name");
  EXPECT_ERROR(with(text(string(65536, 'k')) + u32(4) + u32(1)), "a value has no name");
  EXPECT_ERROR(with(u64(~std::uint64_t{0}) + "k"), "its header is cut short");
  EXPECT_ERROR(with(text("k") + u32(13) + u32(1)), "k has the unknown type 13");
  EXPECT_ERROR(with(text("k\n") + u32(13) + u32(1)), "damaged: k has the unknown type");
  EXPECT_ERROR(with(text("k") + u32(kText) + u64(5) + "1234"), "its header is cut short");
  EXPECT_ERROR(with(text("k") + u32(7) + "\2"), "k is neither true nor false");
  EXPECT_ERROR(with(text("k") + u32(kList) + u32(kList) + u64(0)), "k is a list of lists");
  EXPECT_ERROR(with(text("k") + u32(kList) + u32(10) + u64(std::uint64_t{1} << 61)), "its header is cut short");
  EXPECT_ERROR(with(text("k") + u32(kList) + u32(kText) + u64(2) + text("a")), "its header is cut short");
  EXPECT_ERROR(open(start(0, 2) + text("k") + u32(4) + u32(1) + text("k") + u32(4) + u32(1)), "k is there twice");
  for (const std::uint32_t alignment : {0u, 3u, 24u, 1u << 21})
    EXPECT_ERROR(with(text("general.alignment") + u32(4) + u32(alignment)), "its alignment is " + std::to_string(alignment));
  EXPECT_ERROR(with(text("general.alignment") + u32(6) + raw(32.f)), "general.alignment is not one of whole numbers");
  EXPECT_ERROR(hold(tensor("", {8}, 0, 0), 1, block), "a tensor has no name of 1 to 64 bytes");
  EXPECT_ERROR(hold(tensor(string(65, 'a'), {8}, 0, 0), 1, block), "a tensor has no name");
  EXPECT_ERROR(hold(tensor("a", {}, 0, 0), 1, block), "tensor a has 0 dimensions");
  EXPECT_ERROR(hold(tensor("a", {1, 1, 1, 1, 8}, 0, 0), 1, block), "tensor a has 5 dimensions");
  EXPECT_ERROR(hold(tensor("a", {0}, 0, 0), 1, block), "tensor a has a shape");
  EXPECT_ERROR(hold(tensor("a", {~std::uint64_t{0}}, 0, 0), 1, block), "tensor a has a shape that does not fit");
  EXPECT_ERROR(hold(tensor("a", {std::uint64_t{1} << 32, std::uint64_t{1} << 31}, 0, 0), 1, block), "does not fit 64 bits");
  EXPECT_ERROR(hold(tensor("a", {std::uint64_t{1} << 62}, 0, 0), 1, block), "does not fit 64 bits");
  EXPECT_ERROR(hold(tensor("a", {256}, 12, 0), 1, block), "tensor a has the type Q4_K: only F32, F16, BF16");
  EXPECT_ERROR(hold(tensor("a", {256}, 99, 0), 1, block), "tensor a has the type 99");
  EXPECT_ERROR(hold(tensor("a", {16}, 8, 0), 1, block), "tensor a has rows of 16, which Q8_0 has not");
  EXPECT_ERROR(hold(tensor("a", {9}, 0, 0), 1, block), "tensor a is outside the file");
  EXPECT_ERROR(hold(tensor("a", {8}, 0, 32), 1, block), "tensor a leaves a gap");
  EXPECT_ERROR(hold(tensor("a", {8}, 0, 0) + tensor("b", {8}, 0, 0), 2, block + block), "tensor b leaves a gap, overlaps");
  EXPECT_ERROR(hold(tensor("a", {8}, 0, 0) + tensor("b", {8}, 0, 64), 2, block + block + block), "tensor b leaves a gap");
  EXPECT_ERROR(hold(tensor("a", {7}, 0, 0) + tensor("b", {8}, 0, 28), 2, block + block), "is not aligned");
  EXPECT_ERROR(hold(tensor("a", {8}, 0, 0) + tensor("a", {8}, 0, 32), 2, block + block), "a is there twice");
  EXPECT_ERROR(hold(tensor("a", {8}, 0, 0), 1, block + "!"), "it has data after its last tensor");
  const Gguf big(directory.file("t", start(0, 1) + text("k") + u32(10) + u64(~std::uint64_t{0})));
  EXPECT_ERROR(big.whole("k"), "k does not fit 63 bits");
}

TEST(Gguf, AnAlignmentMovesTheData) {
  const TemporaryDirectory directory;
  const string header =
      start(2, 1) + text("general.alignment") + u32(4) + u32(128) + tensor("a", {1}, 0, 0) + tensor("b", {1}, 0, 128);
  const Gguf file(directory.file("t", padded(header, 128) + padded(raw(1.f), 128) + raw(2.f)));
  EXPECT_EQ(values(*file.find("b")), std::vector<float>{2});
}

// Flips every bit of a small file: it is read, or refused with a sentence.
TEST(Gguf, SurvivesEveryFlippedBitAndEveryCut) {
  const TemporaryDirectory directory;
  const string good =
      padded(start(2, 3) + text("general.alignment") + u32(4) + u32(32) + text("l") + u32(kList) + u32(kText) + u64(2) + text("a") +
             text("") + text("f") + u32(7) + "\1" + tensor("a", {2, 4}, 0, 0) + tensor("q", {32}, 3, 32)) +
      string(32 + 20, '\1');
  int read = 0;
  const auto attempt = [&](const string& contents) {
    try {
      const Gguf file(directory.file("t", contents));
      for (const EncodedTensor& t : file.tensors()) ASSERT_LE(values(t).size(), 32u);
      if (file.is_list("l")) file.texts("l");
      ++read;
    } catch (const Error& error) {
      const string sentence = error.what();
      ASSERT_TRUE(sentence.starts_with(directory.path("t"))) << sentence;
      ASSERT_EQ(sentence.find('\n'), string::npos);
    }
  };
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    attempt(bad);
  }
  EXPECT_GE(read, 52 * 8);  // the format cannot detect a flipped bit in the data
  read = 0;
  for (std::size_t size = 0; size < good.size(); ++size) attempt(good.substr(0, size));
  EXPECT_EQ(read, 0);
}

}  // namespace
}  // namespace neurogen
