// What holds for every operation. A check returns what it finds wrong, a sentence each.
#pragma once
#include "tests/kernels/operations/instance.h"

namespace neurogen {

using Faults = std::vector<std::string>;

// A check's faults; an operation that refuses its case has one.
template <typename Check>
Faults faults_of(Check&& check) {
  try {
    return check();
  } catch (const std::exception& error) {
    return {error.what()};
  }
}

// Adds a fault for each operand whose values differ by more than their type and the case's tolerance explain: in the norm, and
// twelve times that for each entry.
void compare(Faults& faults, const Case& c, DType tested, const std::string& what, const Values& actual, const Values& expected,
             const Values& before);

// float64 on a CPU: values by the formula, and gradients by central differences of the loss. `checked`: whether there is any.
Faults check_formula(const Case& c);
Faults check_gradients(const Case& c, bool* checked = nullptr);

// Each step gives what float64 on a CPU gives from the same values.
template <typename Device>
Faults check_values(Device& device, const Case& c, DType tested) {
  Faults faults;
  Instance<Device> there(device, c, tested);
  Instance<CpuDevice> here(device_of(2), c, DType::f64);
  here.set(there.values());
  for (const Step& step : c.steps) {
    const Values before = there.values(false);
    step.run(device, there.at);
    step.run(device_of(2), here.at);
    const Values after = there.values(false);
    compare(faults, c, tested, step.name, after, here.values(false), before);
    here.set(after);
  }
  return faults;
}

// Nothing is written but outputs, every element of which is, whatever memory held before.
template <typename Device>
Faults check_writes(Device& device, const Case& c, DType tested) {
  Faults faults;
  Instance<Device> first(device, c, tested, kNothing, kFence), second(device, c, tested, kSomething, kFence);
  std::vector<std::vector<std::byte>> initial;
  for (std::size_t i = 0; i < c.operands.size(); ++i) initial.push_back(first.memory(i));
  first.run(), second.run();
  for (std::size_t i = 0; i < c.operands.size(); ++i) {
    const Use use = c.operands[i].use;
    const Layout& layout = first.layouts[i];
    std::vector<std::byte> a = first.memory(i), b = second.memory(i), around = a;
    bool kept = true;
    for (std::int64_t e = 0; e < layout.elements(); ++e) {
      const auto from = static_cast<std::ptrdiff_t>(layout.at(e)), to = from + static_cast<std::ptrdiff_t>(layout.size);
      const auto holds = [&](const std::vector<std::byte>& memory, std::byte held) {
        return std::all_of(memory.begin() + from, memory.begin() + to, [=](std::byte byte) { return byte == held; });
      };
      const bool unwritten = use == Use::partial && holds(a, kNothing) && holds(b, kSomething);
      kept = kept && (unwritten || std::equal(a.begin() + from, a.begin() + to, b.begin() + from));
      if (use != Use::input) std::copy(initial[i].begin() + from, initial[i].begin() + to, around.begin() + from);
    }
    const std::string& name = c.operands[i].name;
    if (around != initial[i])
      faults.push_back(name + (use == Use::input ? ", an input, or memory around it" : ": memory around it") + " is written");
    if (!kept && use != Use::scratch) faults.push_back(name + " is not written everywhere, or depends on what memory held");
  }
  return faults;
}

// The case's other ways, and a run on each of the devices, give the bits of a run on the first.
template <typename Device>
Faults check_bits(std::initializer_list<Device*> devices, const Case& c, DType tested) {
  Faults faults;
  Instance<Device> first(**devices.begin(), c, tested);
  first.run();
  const auto expect_same = [&](const Instance<Device>& other, const std::string& what) {
    for (std::size_t i = 0; i < c.operands.size(); ++i)
      if (c.operands[i].use != Use::scratch && other.memory(i) != first.memory(i))
        faults.push_back(c.operands[i].name + " has other bits " + what);
  };
  for (auto device = devices.begin() + 1; device != devices.end(); ++device) {
    Instance<Device> again(**device, c, tested);
    again.run();
    expect_same(again, "when it runs again");
  }
  for (const Step& way : c.others) {
    Instance<Device> other(**devices.begin(), c, tested);
    way.run(**devices.begin(), other.at);
    expect_same(other, way.name);
  }
  return faults;
}

}  // namespace neurogen
