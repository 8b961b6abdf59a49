// What launchers say of the ranks that they start.
#include "engine/ranks/world.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/expect_error.h"

namespace neurogen {
namespace {

using Environment = std::map<std::string, std::string>;

std::optional<Launch> launch(const Environment& environment) {
  return launch_of([&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  });
}

void expect(const std::optional<Launch>& found, const std::string& launcher, World world, const std::string& address, int port) {
  ASSERT_TRUE(found);
  EXPECT_EQ(found->launcher, launcher);
  EXPECT_EQ(found->world.rank, world.rank);
  EXPECT_EQ(found->world.size, world.size);
  EXPECT_EQ(found->world.local, world.local);
  EXPECT_EQ(found->address, address);
  EXPECT_EQ(found->port, port);
}

const Environment kTorchrun = {{"RANK", "5"},
                               {"WORLD_SIZE", "8"},
                               {"LOCAL_RANK", "1"},
                               {"MASTER_ADDR", "node0"},
                               {"MASTER_PORT", "29400"},
                               {"TORCHELASTIC_RUN_ID", "a"}};
const Environment kSrun = {{"SLURM_PROCID", "3"},
                           {"SLURM_STEP_NUM_TASKS", "4"},
                           {"SLURM_LOCALID", "1"},
                           {"SLURM_STEP_NUM_NODES", "2"},
                           {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.7"}};

Environment with(Environment environment, const std::string& name, const std::string& value) {
  environment[name] = value;
  return environment;
}

TEST(World, IsReadFromTorchrunsVariables) {
  expect(launch(kTorchrun), "torchrun", {5, 8, 1}, "node0", 29401);  // its own store is at MASTER_PORT
  expect(launch({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "job-0"}}), "torchrun", {1, 2, 0}, "job-0", kDefaultPort);
  expect(launch({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"LOCAL_WORLD_SIZE", "2"}, {"LOCAL_RANK", "1"}}), "torchrun", {1, 2, 1},
         "127.0.0.1", kDefaultPort);
}

TEST(World, IsReadFromMpirunsVariables) {
  const Environment open = {{"OMPI_COMM_WORLD_RANK", "2"},
                            {"OMPI_COMM_WORLD_SIZE", "3"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "2"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "3"}};
  expect(launch(open), "mpirun", {2, 3, 2}, "127.0.0.1", kDefaultPort);
  const Environment two_hosts = with(open, "OMPI_COMM_WORLD_LOCAL_SIZE", "2");
  EXPECT_ERROR(launch(two_hosts), "mpirun", "MASTER_ADDR");
  expect(launch(with(two_hosts, "MASTER_ADDR", "::1")), "mpirun", {2, 3, 2}, "::1", kDefaultPort);
  expect(launch({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}, {"MPI_LOCALRANKID", "0"}, {"MPI_LOCALNRANKS", "2"}}), "mpirun", {0, 2, 0},
         "127.0.0.1", kDefaultPort);
}

TEST(World, IsReadFromSrunsVariables) {
  expect(launch(kSrun), "srun", {3, 4, 1}, "10.0.0.7", kDefaultPort);
  expect(launch(with(kSrun, "SLURM_STEP_NUM_NODES", "1")), "srun", {3, 4, 1}, "127.0.0.1", kDefaultPort);
  expect(launch(with(with(kSrun, "MASTER_ADDR", "node0"), "MASTER_PORT", "4000")), "srun", {3, 4, 1}, "node0", 4001);
  // srun --mpi=pmi2 sets both kinds
  expect(launch(with(with(with(kSrun, "PMI_RANK", "3"), "PMI_SIZE", "4"), "MASTER_ADDR", "n")), "mpirun", {3, 4, 1}, "n",
         kDefaultPort);
}

TEST(World, IsNoneWithoutALauncherOrWithOneProcess) {
  EXPECT_FALSE(launch({}));
  EXPECT_FALSE(launch({{"RANK", "3"}}));
  EXPECT_FALSE(launch({{"RANK", "0"}, {"WORLD_SIZE", "1"}}));
  EXPECT_FALSE(launch({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_LOCALID", "0"}}));  // a batch script
}

TEST(World, RefusesVariablesThatMakeNoSense) {
  EXPECT_ERROR(launch(with(kTorchrun, "RANK", "x")), "RANK is \"x\"", "from 0 to 7");
  EXPECT_ERROR(launch(with(kTorchrun, "RANK", "8")), "RANK is \"8\"", "from 0 to 7");
  EXPECT_ERROR(launch(with(kTorchrun, "WORLD_SIZE", "0")), "WORLD_SIZE is \"0\"");
  EXPECT_ERROR(launch(with(kTorchrun, "WORLD_SIZE", "99999999999")), "WORLD_SIZE");
  EXPECT_ERROR(launch(with(kTorchrun, "LOCAL_RANK", "-1")), "LOCAL_RANK");
  EXPECT_ERROR(launch(with(kTorchrun, "MASTER_PORT", "65535")), "MASTER_PORT");
}

TEST(World, TellsJobsApart) {
  EXPECT_EQ(launch(kTorchrun)->job, launch(with(kTorchrun, "RANK", "0"))->job);
  EXPECT_NE(launch(kTorchrun)->job, launch(with(kTorchrun, "TORCHELASTIC_RUN_ID", "b"))->job);
  EXPECT_NE(launch(with(kSrun, "SLURM_JOB_ID", "1"))->job, launch(with(kSrun, "SLURM_JOB_ID", "2"))->job);
}

}  // namespace
}  // namespace neurogen
