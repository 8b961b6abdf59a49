// The result of a call: a value, or a sentence that says what is wrong. No exception leaves the engine.
#pragma once
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace neurogen {

struct Failure {
  std::string sentence;  // "what is wrong: what to do"
  bool refused = false;  // true: misuse, nothing was done; false: failed at run time, such as a full disk or a loss not finite
  std::string field;     // the option or argument that the sentence names first, such as "window"; empty if it names none
};

template <typename Value = std::monostate>
class [[nodiscard]] Result {
 public:
  Result(Value value) : held_(std::in_place_index<0>, std::move(value)) {}
  Result(Failure failure) : held_(std::in_place_index<1>, std::move(failure)) {}

  bool ok() const { return held_.index() == 0; }
  explicit operator bool() const { return ok(); }
  // The wrong accessor aborts the program: check ok() first.
  Value& value() & { return held<0>(held_); }
  const Value& value() const& { return held<0>(held_); }
  Value&& value() && { return std::move(held<0>(held_)); }
  const Failure& failure() const { return held<1>(held_); }
  Value& operator*() & { return value(); }
  const Value& operator*() const& { return value(); }
  Value&& operator*() && { return std::move(*this).value(); }
  Value* operator->() { return &value(); }
  const Value* operator->() const { return &value(); }
  Value value_or(Value other) const& { return ok() ? value() : std::move(other); }

 private:
  template <std::size_t index, typename Variant>
  static auto& held(Variant& variant) {
    auto* const found = std::get_if<index>(&variant);
    if (!found) std::abort();
    return *found;
  }

  std::variant<Value, Failure> held_;
};

using Status = Result<>;

}  // namespace neurogen
