#include "e2e/testbed/node/virtual_machine.h"

#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace pointsman::e2e {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kModulesDep =
    "kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/netfs/netfs.ko\n"
    "kernel/net/9p/9pnet.ko:\n"
    "kernel/fs/netfs/netfs.ko:\n"
    "kernel/drivers/virtio/virtio-ring.ko:\n"
    "kernel/net/9p/9pnet_virtio.ko: kernel/net/9p/9pnet.ko kernel/drivers/virtio/virtio-ring.ko\n";

TEST(LoadOrderTest, PutsEachModuleOnceBehindWhatItNeeds) {
  EXPECT_THAT(LoadOrder(kModulesDep, {"9pnet_virtio", "9p"}),
              ElementsAre("kernel/net/9p/9pnet.ko", "kernel/drivers/virtio/virtio-ring.ko",
                          "kernel/net/9p/9pnet_virtio.ko", "kernel/fs/netfs/netfs.ko",
                          "kernel/fs/9p/9p.ko"));
}

TEST(LoadOrderTest, NamesAModuleThatIsMissing) {
  try {
    LoadOrder(kModulesDep, {"virtio_pci"});
    FAIL() << "no exception";
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("virtio_pci"));
  }
}

class KernelDirectory : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "pointsman-vm-kernel-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    setenv("POINTSMAN_VM_KERNEL", dir_.c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
  }
  void TearDown() override {
    unsetenv("POINTSMAN_VM_KERNEL");  // NOLINT(concurrency-mt-unsafe)
    fs::remove_all(dir_);
  }
  void Write(const fs::path& path, const std::string& text) const {
    fs::create_directories((dir_ / path).parent_path());
    std::ofstream(dir_ / path) << text;
  }

  fs::path dir_;
};

TEST_F(KernelDirectory, WithoutAKernelIsNamed) {
  try {
    FindVirtualMachineKernel();
    FAIL() << "no exception";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr(dir_.string()));
  }
}

TEST_F(KernelDirectory, IsFoundByItsModulesAndImage) {
  fs::create_directories(dir_ / "lib/modules/6.0.9-old");
  fs::create_directories(dir_ / "lib/modules/6.1.0-1-amd64");
  Write("boot/vmlinuz-6.1.0-1-amd64", "image");
  const VirtualMachineKernel kernel = FindVirtualMachineKernel();
  EXPECT_EQ(kernel.release, "6.1.0-1-amd64");
  EXPECT_EQ(kernel.image, dir_ / "boot/vmlinuz-6.1.0-1-amd64");
  EXPECT_EQ(kernel.modules, dir_ / "lib/modules");
}

TEST_F(KernelDirectory, WithoutAModuleThatTheInitramfsNeedsIsNamed) {
  const fs::path modules = "lib/modules/6.1.0-1-amd64";
  Write("boot/vmlinuz-6.1.0-1-amd64", "image");
  Write("init", "program");
  Write(modules / "modules.dep", "kernel/drivers/virtio/virtio_pci.ko:\n");
  const VirtualMachineKernel kernel = FindVirtualMachineKernel();
  EXPECT_THROW(MakeInitramfs(kernel, dir_ / "init"), std::invalid_argument);
  EXPECT_THROW(MakeInitramfs(kernel, dir_ / "no-such-program"), std::runtime_error);
}

}  // namespace
}  // namespace pointsman::e2e
