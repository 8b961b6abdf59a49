#include "engine/files/safetensors.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>

#include "tests/expect_error.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

using std::string;

// A file with any header and any data.
string make(const string& header, const string& data = "") {
  const std::uint64_t length = header.size();
  return string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

string entry(const string& name, const string& dtype, const string& shape, const string& offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

template <typename T>
string bytes_of(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

TEST(Safetensors, WhatIsWrittenIsRead) {
  const TemporaryDirectory directory;
  const float f32[] = {1.5f, -2, 3, 4, 5, 6};
  const double f64[] = {0.1, -1e300};
  const std::int32_t i32[] = {-7, 8};
  const std::uint8_t u8[] = {255};
  const std::vector<TensorToWrite> tensors = {{"byte", DType::u8, {1}, u8},           {"z.weight", DType::f32, {2, 3}, f32},
                                              {"a \"\u00E9\"", DType::f64, {2}, f64}, {"wiring", DType::i32, {2, 1}, i32},
                                              {"none", DType::f32, {0, 5}, nullptr},  {"scalar", DType::f32, {}, f32}};
  const string path = directory.path("x.safetensors");
  write_safetensors(path, {{"step", "3"}, {"note", "line\nbreak"}}, tensors);
  EXPECT_EQ(directory.files(), 1u);
  std::uint64_t header = 0;
  std::memcpy(&header, read_file(path).data(), 8);
  EXPECT_EQ(header % 8, 0u);

  const Safetensors file(path);
  EXPECT_EQ(file.metadata(), (std::map<string, string>{{"step", "3"}, {"note", "line\nbreak"}}));
  EXPECT_EQ(file.tensors().size(), 6u);
  EXPECT_EQ(file.at("z.weight").shape, (Shape{2, 3}));
  EXPECT_EQ(file.at("none").elements(), 0);
  EXPECT_EQ(file.at("scalar").shape, Shape{});
  EXPECT_EQ(file.find("nothing"), nullptr);
  std::vector<float> floats(6);
  file.read_as_float("z.weight", floats);  // follows one byte: unaligned
  EXPECT_TRUE(std::equal(floats.begin(), floats.end(), f32));
  std::vector<double> doubles(2);
  file.read_as_double("a \"\u00E9\"", doubles);
  EXPECT_EQ(doubles, (std::vector<double>{0.1, -1e300}));
  std::vector<std::int32_t> ints(2);
  file.read_as_int32("wiring", ints);
  EXPECT_EQ(ints, (std::vector<std::int32_t>{-7, 8}));

  EXPECT_ERROR(file.at("nothing"), path, "no tensor nothing");
  EXPECT_ERROR(file.read_as_float("z.weight", std::span(floats).first(5)), "z.weight [2, 3] has 6 elements, but 5");
  EXPECT_ERROR(file.read_as_float("wiring", std::span(floats).first(2)), "wiring", "floating-point numbers are needed");
  EXPECT_ERROR(file.read_as_int32("z.weight", ints), "whole numbers are needed");
}

TEST(Safetensors, ReadsEveryType) {
  const TemporaryDirectory directory;
  const string halves = bytes_of<std::uint16_t>({0x3C00, 0xC500, 0x0001, 0x7BFF, 0x8000, 0x7C00, 0xFE00, 0x03FF});
  const string bfloats = bytes_of<std::uint16_t>({0x3F80, 0xC0A0});
  const string longs = bytes_of<std::int64_t>({-1, 2147483647}), shorts = bytes_of<std::uint16_t>({65535});
  const string big = bytes_of<std::int64_t>({2147483648});
  const Safetensors file(
      directory.file("t", make("{" + entry("h", "F16", "[8]", "[0,16]") + "," + entry("b", "BF16", "[2]", "[16,20]") + "," +
                                   entry("l", "I64", "[2]", "[20,36]") + "," + entry("s", "U16", "[1]", "[36,38]") + "," +
                                   entry("big", "I64", "[1]", "[38,46]") + "}   ",
                               halves + bfloats + longs + shorts + big)));
  std::vector<float> h(8), b(2);
  file.read_as_float("h", h);
  EXPECT_EQ(std::vector<float>(h.begin(), h.begin() + 5), (std::vector<float>{1, -5, std::ldexp(1.f, -24), 65504, -0.f}));
  EXPECT_TRUE(std::signbit(h[4]));
  EXPECT_EQ(h[5], INFINITY);
  EXPECT_TRUE(std::isnan(h[6]));
  EXPECT_EQ(h[7], std::ldexp(1023.f, -24));
  file.read_as_float("b", b);
  EXPECT_EQ(b, (std::vector<float>{1, -5}));
  std::vector<std::int32_t> l(2), one(1);
  file.read_as_int32("l", l);
  EXPECT_EQ(l, (std::vector<std::int32_t>{-1, 2147483647}));
  file.read_as_int32("s", one);
  EXPECT_EQ(one[0], 65535);
  EXPECT_ERROR(file.read_as_int32("big", one), "tensor big holds 2147483648");
}

TEST(Safetensors, RefusesEveryBrokenPromise) {
  const TemporaryDirectory directory;
  const auto open = [&](const string& contents) { Safetensors(directory.file("t.st", contents)); };
  const auto header = [&](const string& text, const string& data = "") { open(make(text, data)); };
  const string two(8, 'x');
  EXPECT_NO_THROW(header("{}"));
  EXPECT_NO_THROW(header("{" + entry("a", "F32", "[2]", "[0,8]") + "}", two));
  EXPECT_ERROR(Safetensors(directory.path("none")), "none does not exist");
  EXPECT_ERROR(open(""), "t.st is not a safetensors file");
  EXPECT_ERROR(open("1234567"), "is not a safetensors file");
  EXPECT_ERROR(open(make("{}").substr(0, 9)), "is cut short");
  EXPECT_ERROR(open(bytes_of<std::uint64_t>({~std::uint64_t{0}}) + "{}"), "its header's length");
  EXPECT_ERROR(open(bytes_of<std::uint64_t>({100'000'001}) + "{}" + string(100'000'000, ' ')), "its header's length");
  EXPECT_ERROR(header(" {}"), "is not a safetensors file");
  EXPECT_ERROR(header("{\"a\":"), "is not JSON");
  EXPECT_ERROR(header("{}}"), "is not JSON");
  EXPECT_ERROR(header("{\"\xFF\":1}"), "is not JSON");
  for (const char* open : {"[", "{\"a\":"}) {  // at every depth beyond a tensor's shape
    string nested = "{\"a\":";
    for (int depth = 2; depth < 5000; ++depth) {
      nested += open;
      if (depth > 3 && (depth < 12 || depth % 1000 == 999)) EXPECT_ERROR(header(nested), "t.st: nested too deeply");
    }
  }
  EXPECT_ERROR(header("{\"a\":[]}"), "tensor a is not described");
  EXPECT_ERROR(header(R"({"a":{"dtype":"F32","shape":[2]}})", two), "tensor a is not described");
  EXPECT_ERROR(header("{" + entry("a", "F31", "[2]", "[0,8]") + "}", two), "tensor a has the type \"F31\"");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[-2]", "[0,8]") + "}", two), "tensor a has a shape");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[2.0]", "[0,8]") + "}", two), "tensor a has a shape");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[18446744073709551617]", "[0,8]") + "}", two), "tensor a has a shape");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[18446744073709551615]", "[0,8]") + "}", two), "does not fit 64 bits");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[4294967296,4294967296]", "[0,8]") + "}", two), "does not fit 64 bits");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[4611686018427387906]", "[0,8]") + "}", two), "does not fit 64 bits");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[2]", "[0,8,9]") + "}", two), "offsets");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[2]", "[8,0]") + "}", two), "is outside the file");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[2]", "[0,8]") + "}", "1234567"), "is outside the file");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[1]", "[0,8]") + "}", two), "tensor a has 8 bytes", "need 4");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[1]", "[4,8]") + "}", two), "leaves a gap");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[1]", "[0,4]") + "," + entry("b", "F32", "[2]", "[0,8]") + "}", two),
               "overlaps another");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[2]", "[0,8]") + "}", two + "!"), "has data after its last tensor");
  EXPECT_ERROR(header("{" + entry("a", "F32", "[1]", "[0,4]") + "," + entry("a", "F32", "[1]", "[4,8]") + "}", two),
               "has the name \"a\" twice");
  EXPECT_ERROR(header(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", two), "\"dtype\" twice");
  EXPECT_ERROR(header(R"({"__metadata__":{"a":1}})"), "metadata");
  EXPECT_ERROR(header(R"({"__metadata__":["a"]})"), "metadata");
  EXPECT_ERROR(header(R"({"__metadata__":3})"), "metadata");
}

// Flips every bit of a small file: it is read, or refused with a sentence.
TEST(Safetensors, SurvivesEveryFlippedBitAndEveryCut) {
  const TemporaryDirectory directory;
  const string good =
      make(R"({"__metadata__":{"k":"v"},)" + entry("a", "F32", "[1,2]", "[0,8]") + "," + entry("b", "U8", "[1]", "[8,9]") + "}",
           "123456789");
  int read = 0;
  const auto attempt = [&](const string& contents) {
    try {
      const Safetensors file(directory.file("t", contents));
      for (const auto& tensor : file.tensors()) ASSERT_LE(tensor.data.size(), 9u);
      ++read;
    } catch (const Error& error) {
      ASSERT_NE(string(error.what()).find(directory.path("t")), string::npos);
    }
  };
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    attempt(bad);
  }
  EXPECT_GE(read, 72);  // the format cannot detect a flipped bit in the data
  read = 0;
  for (std::size_t size = 0; size < good.size(); ++size) attempt(good.substr(0, size));
  EXPECT_EQ(read, 0);
}

TEST(Safetensors, AFailedWriteLeavesTheOldFileAndNothingElse) {
  const TemporaryDirectory directory;
  const string path = directory.file("x.safetensors", "old");
  const std::vector<float> data(100000);
  const TensorToWrite tensor{"a", DType::f32, {100000}, data.data()};
  const std::vector<TensorToWrite> once = {tensor}, twice = {tensor, tensor}, wrong = {{"\xFF", DType::f32, {0}, nullptr}};
  EXPECT_ERROR(write_safetensors(path, {}, twice), path, "the tensor name a is taken");
  EXPECT_ERROR(write_safetensors(path, {}, wrong), "not UTF-8");
  EXPECT_ERROR(write_safetensors(directory.path("none/x"), {}, once), "none/x cannot be created: No such file");
  // A disk that is full after 65,536 bytes: the kernel first writes less than asked, then refuses. Runs in its own process, since
  // the limit cannot be lifted again.
  const pid_t child = fork();
  if (child == 0) {
    const rlimit limit{65536, 65536};
    std::signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    try {
      write_safetensors(path, {}, once);
      _exit(10);
    } catch (const Error& error) {
      const bool named = string(error.what()).find(path + " cannot be written: File too large") != string::npos;
      _exit(named && error.status() == Error::kRunTime ? 0 : 11);
    }
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(directory.files(), 1u);
}

}  // namespace
}  // namespace neurogen
