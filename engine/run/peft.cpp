#include "engine/run/peft.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <vector>

#include "arena/error.h"
#include "engine/files/atomic_file.h"
#include "engine/files/safetensors.h"
#include "engine/model/family.h"

namespace neurogen {

void export_peft(const Checkpoint& from, const std::string& folder) {
  const Manifest& m = from.manifest();
  if (m.adapters.rank == 0) throw Error(from.path() + " holds no adapters: export its weights instead");
  const ArchitecturePtr architecture = parse_architecture(m.architecture, from.path() + ": its architecture");
  std::vector<TensorToWrite> tensors;
  std::vector<std::string> names;
  std::set<std::string> modules;
  for (const FileTensor& tensor : std::span(from.tensors()).first(m.weights)) {
    const std::size_t end = tensor.name.rfind(".lora_");
    const std::string module = end == std::string::npos ? "" : architecture->huggingface_module(tensor.name.substr(0, end));
    if (module.empty()) {
      throw Error(fmt::format("{}: {} is in no layout that PEFT knows: merge the adapters into their base instead", from.path(),
                              tensor.name));
    }
    const char* const part = tensor.name.ends_with("_a") ? "lora_A" : "lora_B";
    tensors.push_back({fmt::format("base_model.model.{}.{}.weight", module, part), tensor.dtype, tensor.shape, tensor.data.data()});
    names.push_back(tensor.name);
    modules.insert(module.substr(module.rfind('.') + 1));
  }
  from.verify(names);
  const nlohmann::ordered_json config = {{"peft_type", "LORA"},
                                         {"task_type", "CAUSAL_LM"},
                                         {"base_model_name_or_path", m.adapters.base},
                                         {"r", m.adapters.rank},
                                         {"lora_alpha", m.adapters.alpha},
                                         {"target_modules", modules},
                                         {"lora_dropout", 0.0},
                                         {"bias", "none"},
                                         {"fan_in_fan_out", false},
                                         {"inference_mode", true}};
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  if (failure) throw Error(fmt::format("{} cannot be made: {}: name another folder", folder, failure.message()));
  write_safetensors(folder + "/adapter_model.safetensors", {{"format", "pt"}}, tensors);
  AtomicFile file(folder + "/adapter_config.json");
  file.write(config.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  file.commit();
}

}  // namespace neurogen
