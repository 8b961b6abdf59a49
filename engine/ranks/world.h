// Several processes that train together, one a GPU: ranks. And what the launchers torchrun, mpirun and srun say of them.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace neurogen {

// The place of this process: its number among all ranks, and among those of its host, which is the number of its GPU.
struct World {
  int rank = 0, size = 1, local = 0;
  bool leads() const { return rank == 0; }
};
inline constexpr int kMostRanks = 4096;

// How the ranks that a launcher started find each other.
struct Launch {
  World world;
  std::string launcher;   // "torchrun"
  std::string address;    // rank 0's host
  int port = 0;           // where rank 0 listens
  std::uint64_t job = 0;  // equal on all ranks of a job, another on most other jobs
};

// An environment: a variable's text, null if it is not set.
using Variables = std::function<const char*(const char* name)>;

// The launcher's variables, the first set that is there:
//   torchrun, Kubernetes   RANK WORLD_SIZE LOCAL_RANK (0 if not set), LOCAL_WORLD_SIZE
//   Open MPI's mpirun      OMPI_COMM_WORLD_RANK _SIZE _LOCAL_RANK _LOCAL_SIZE
//   MPICH, Intel MPI       PMI_RANK PMI_SIZE MPI_LOCALRANKID MPI_LOCALNRANKS
//   srun                   SLURM_PROCID SLURM_STEP_NUM_TASKS SLURM_LOCALID, SLURM_STEP_NUM_NODES, not those of a batch script
// Rank 0's host: MASTER_ADDR, else with srun SLURM_LAUNCH_NODE_IPADDR, else this one if all ranks are on it. Rank 0's port:
// MASTER_PORT + 1, since torchrun itself listens at MASTER_PORT; else kDefaultPort. Empty without a launcher, and for one of a
// single process. Throws Error that names the variable.
inline constexpr int kDefaultPort = 29501;
std::optional<Launch> launch_of(const Variables& variables);

}  // namespace neurogen
