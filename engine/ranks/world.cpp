#include "engine/ranks/world.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <array>
#include <charconv>
#include <string_view>

#include "arena/error.h"
#include "engine/files/one_line.h"

namespace neurogen {
namespace {

// A launcher's names for one thing; null: it has none.
struct Names {
  const char *launcher, *rank, *size, *local, *on_this_host, *hosts;
};
constexpr std::array<Names, 4> kLaunchers = {
    {{"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", nullptr},
     {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE",
      nullptr},
     {"mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", nullptr},
     {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr, "SLURM_STEP_NUM_NODES"}}};
// They tell jobs apart.
constexpr std::array kJobs = {"TORCHELASTIC_RUN_ID", "PMIX_NAMESPACE", "SLURM_JOB_ID", "SLURM_STEP_ID"};
constexpr int kMostPort = 65'535;

class Reader {
 public:
  explicit Reader(const Variables& variables) : variables_(variables) {}

  bool has(const char* name) const { return name != nullptr && variables_(name) != nullptr && *variables_(name) != '\0'; }
  std::string text(const char* name) const { return has(name) ? variables_(name) : ""; }
  int number(const char* name, int least, int most) const {
    const std::string value = text(name);
    int number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error == std::errc{} && end == value.data() + value.size() && number >= least && number <= most) return number;
    throw Error(fmt::format("the launcher's variable {} is \"{}\": it must be a number from {} to {}", name, one_line(value, 40),
                            least, most));
  }

 private:
  const Variables& variables_;
};

std::string address_of(const Reader& read, const Names& names, int size) {
  if (read.has("MASTER_ADDR")) return read.text("MASTER_ADDR");
  if (read.has(names.on_this_host) && read.number(names.on_this_host, 1, size) == size) return "127.0.0.1";
  if (read.has(names.hosts) && read.number(names.hosts, 1, kMostRanks) == 1) return "127.0.0.1";
  if (names.hosts != nullptr && read.has("SLURM_LAUNCH_NODE_IPADDR")) return read.text("SLURM_LAUNCH_NODE_IPADDR");
  throw Error(fmt::format("{} does not say where rank 0 is: set MASTER_ADDR to its host for all ranks", names.launcher));
}

}  // namespace

std::optional<Launch> launch_of(const Variables& variables) {
  const Reader read(variables);
  for (const Names& names : kLaunchers) {
    if (!read.has(names.rank) || !read.has(names.size)) continue;
    Launch launch;
    World& world = launch.world;
    world.size = read.number(names.size, 1, kMostRanks);
    world.rank = read.number(names.rank, 0, world.size - 1);
    if (world.size == 1) return std::nullopt;
    if (read.has(names.local)) world.local = read.number(names.local, 0, world.size - 1);
    else if (read.has("SLURM_LOCALID")) world.local = read.number("SLURM_LOCALID", 0, world.size - 1);
    launch.launcher = names.launcher;
    launch.address = address_of(read, names, world.size);
    launch.port = read.has("MASTER_PORT") ? read.number("MASTER_PORT", 1, kMostPort - 1) + 1 : kDefaultPort;
    std::string job;
    for (const char* name : kJobs) job += read.text(name) + '\n';
    launch.job = XXH3_64bits(job.data(), job.size());
    return launch;
  }
  return std::nullopt;
}

}  // namespace neurogen
