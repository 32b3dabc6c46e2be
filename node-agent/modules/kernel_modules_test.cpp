#include "node-agent/modules/kernel_modules.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <sys/stat.h>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "kube/process/program_path.h"

namespace pointsman::agent {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Each;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using Kind = ModuleState::Kind;

constexpr const char* kRelease = "6.1.0-test";
// For what does not end by itself.
constexpr std::chrono::milliseconds kShort{400};

// More than one look-up, so that more of an index is read. None is loaded in any kernel.
const std::vector<std::string> kNames{"ip_vs_fo",  "ip_vs_ovf",     "ipt_recent",
                                      "xt_dccp",   "dccp_diag",     "af_packet_diag",
                                      "cls_basic", "no_such_module"};

// Modules' indexes as depmod made them, of the kernel that tests boot; its modules are not there.
class KernelModulesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::filesystem::path kernels = "/usr/lib/uml/modules";
    if (!std::filesystem::exists(kernels)) GTEST_SKIP() << "needs " << kernels;
    const std::filesystem::path of_kernel = std::filesystem::directory_iterator(kernels)->path();
    std::filesystem::create_directories(directory_);
    for (const auto& entry : std::filesystem::directory_iterator(of_kernel)) {
      if (entry.path().extension() == ".bin")
        std::filesystem::copy(entry.path(), directory_ / entry.path().filename());
    }
    std::ifstream file(Index());
    index_.assign(std::istreambuf_iterator<char>(file), {});
    ASSERT_GT(index_.size(), 50'000U);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  std::filesystem::path Index() const { return directory_ / "modules.dep.bin"; }
  void WriteIndex(const std::string& bytes) const {
    std::ofstream(Index(), std::ios::binary | std::ios::trunc) << bytes;
  }
  KernelModules Modules(std::chrono::milliseconds longest = std::chrono::seconds(30),
                        const std::string& program = "") const {
    const kube::ChildLimits limits{.idle = longest, .most = longest, .output = 64 << 10};
    return KernelModules(KernelModules::Options{
        .root = root_,
        .release = kRelease,
        .program = program.empty() ? kube::ProgramBesideThis("pointsman-kmod") : program,
        .look_up = limits,
        .load = limits});
  }
  // "": they were looked up, each with some answer.
  static std::string ErrorOf(const KernelModules& modules) {
    try {
      EXPECT_THAT(modules.LookUp(kNames), SizeIs(kNames.size()));
      return "";
    } catch (const std::runtime_error& error) {
      return error.what();
    }
  }
  // An error says where to look, if there is one. How often there was one.
  size_t CountErrors(const std::function<bool(size_t, std::string&)>& damage) {
    size_t errors = 0;
    std::string bytes = index_;
    for (size_t round = 0; damage(round, bytes); ++round, bytes = index_) {
      WriteIndex(bytes);
      const std::string error = ErrorOf(Modules(kShort));
      if (error.empty()) continue;
      ++errors;
      EXPECT_THAT(error, AllOf(HasSubstr("look up module "), HasSubstr(Index().string()),
                               HasSubstr("damaged? Run depmod 6.1.0-test")));
    }
    return errors;
  }
  // With a script in the place of pointsman-kmod.
  std::string ErrorWith(const std::string& script) const {
    const std::filesystem::path path = root_ / "script";
    std::ofstream(path) << "#!/bin/sh\n" << script << '\n';
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return ErrorOf(Modules(std::chrono::seconds(30), path));
  }

  const std::filesystem::path root_ =
      std::filesystem::temp_directory_path() / fmt::format("pm-modules-{}", ::getpid());
  const std::filesystem::path directory_ = root_ / "lib/modules" / kRelease;
  std::string index_;
};

TEST_F(KernelModulesTest, LooksUpNamesAndAliases) {
  const std::vector<ModuleState> states = Modules().LookUp(kNames);
  ASSERT_THAT(states, SizeIs(kNames.size()));
  EXPECT_EQ(states[0].kind, Kind::kLoadable);
  for (size_t i = 0; i + 1 < kNames.size(); ++i)
    EXPECT_NE(states[i].kind, Kind::kNotFound) << kNames[i];
  EXPECT_EQ(states.back().kind, Kind::kNotFound);
}

TEST_F(KernelModulesTest, AModuleWhoseFileIsNotThereCannotBeLoaded) {
  const std::vector<ModuleState> states = Modules().Load({"ip_vs_fo", "no_such_module"});
  ASSERT_THAT(states, SizeIs(2));
  EXPECT_THAT(states[0].kind, AnyOf(Kind::kNotLoaded, Kind::kNotPermitted));
  EXPECT_FALSE(states[0].error.empty());
  EXPECT_EQ(states[1].kind, Kind::kNotFound);
}

TEST_F(KernelModulesTest, WithoutAnIndexNothingIsFound) {
  std::filesystem::remove_all(directory_);
  EXPECT_THAT(Modules().LookUp(kNames), Each(Field(&ModuleState::kind, Kind::kNotFound)));
}

// libkmod 30 crashes on three of four of these, or goes round for ever.
TEST_F(KernelModulesTest, RandomBytesInAnIndexAreAnErrorAtMost) {
  constexpr size_t kHeader = 12;  // magic, version, offset of the root
  const size_t errors = CountErrors([](size_t round, std::string& bytes) {
    std::mt19937 random(static_cast<uint32_t>(round));
    for (int i = 0; i < 2000; ++i)
      bytes[kHeader + random() % (bytes.size() - kHeader)] = static_cast<char>(random());
    return round < 20;
  });
  EXPECT_LT(errors, 20U) << "every one is refused: is pointsman-kmod at work?";
}

TEST_F(KernelModulesTest, APageOfOnesInAnIndexIsAnErrorAtMost) {
  constexpr size_t kPage = 4096;
  const size_t pages = index_.size() / kPage;
  const size_t errors = CountErrors([&](size_t round, std::string& bytes) {
    if (round == pages) return false;
    bytes.replace(round * kPage, kPage, kPage, '\xff');
    return true;
  });
  EXPECT_LT(errors, pages);
}

TEST_F(KernelModulesTest, AnIndexThatIsAPipeIsAnErrorInTime) {
  std::filesystem::remove(Index());
  ASSERT_EQ(::mkfifo(Index().c_str(), 0600), 0);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THAT(ErrorOf(Modules(kShort)),
              AllOf(HasSubstr("look up module ip_vs_fo: pointsman-kmod was "
                              "killed: it had not ended after"),
                    HasSubstr(Index().string())));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
}

TEST_F(KernelModulesTest, WhatIsWrittenInTheAnswersPlaceIsBounded) {
  EXPECT_THAT(ErrorWith("for i in 1 2 3 4 5 6 7 8 9; do echo Loadable; done"),
              HasSubstr("module ?: pointsman-kmod wrote \"Loadable\""));
  EXPECT_THAT(ErrorWith("exec tr '\\0' x </dev/zero"),
              HasSubstr("module ip_vs_fo: pointsman-kmod was killed: it wrote more than 65536"));
  EXPECT_THAT(ErrorWith("echo Loadable; echo Hocus pocus"),
              HasSubstr("module ip_vs_ovf: pointsman-kmod wrote \"Hocus pocus\""));
  EXPECT_THAT(ErrorWith("echo Loadable; echo first >&2; echo no way >&2; exit 3"),
              HasSubstr("module ip_vs_ovf: pointsman-kmod ended with status 3: no way;"));
  EXPECT_THAT(ErrorWith("echo Loadable; kill -SEGV $$"),
              HasSubstr("module ip_vs_ovf: pointsman-kmod was ended by SIGSEGV"));
  EXPECT_THAT(ErrorWith("echo Unknown File name too long"),
              HasSubstr("look up module ip_vs_fo: File name too long"));
}

TEST(ModuleStateTest, IsReadAsItIsWritten) {
  for (const Kind kind : {Kind::kBuiltin, Kind::kLoaded, Kind::kLoadedNow, Kind::kLoadable,
                          Kind::kNotFound, Kind::kNotPermitted, Kind::kNotLoaded, Kind::kUnknown}) {
    for (const std::string error : {"", "install x /bin/true"}) {
      const std::optional<ModuleState> read = ParseModuleState(ToLine({kind, error}));
      ASSERT_TRUE(read);
      EXPECT_EQ(read->kind, kind);
      EXPECT_EQ(read->error, error);
    }
  }
  EXPECT_FALSE(ParseModuleState(""));
  EXPECT_FALSE(ParseModuleState("Loaded\t"));
  // A line of modprobe.d stays on its line, and within bounds.
  EXPECT_EQ(ToLine({Kind::kNotLoaded, "a\nLoaded"}), "NotLoaded a\\nLoaded");
  EXPECT_LT(ToLine({Kind::kNotLoaded, std::string(100'000, 'x')}).size(), 2100U);
}

}  // namespace
}  // namespace pointsman::agent
