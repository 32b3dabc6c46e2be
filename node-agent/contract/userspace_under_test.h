// For tests: userspace mode with a forwarder of the test's own.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "node-agent/contract/mode_under_test.h"
#include "node-agent/userspace/userspace_dataplane.h"

namespace pointsman::agent::testing {

class UserspaceUnderTest final : public ModeUnderTest {
 public:
  UserspaceUnderTest();
  ~UserspaceUnderTest() override;

  std::unique_ptr<UserspaceDataplane> MakeVersion(const std::string& version,
                                                  const kube::ProxySettings& settings,
                                                  const std::vector<net::Family>& families);
  std::string run_directory() const { return directory_ + "/run"; }

  std::unique_ptr<Dataplane> MakeDataplane(const kube::ProxySettings& settings,
                                           const std::vector<net::Family>& families) override {
    return MakeVersion("test", settings, families);
  }
  std::string Kernel() override;
  // Which slot a Service has, and the forwarder's port.
  std::string KernelWithoutChoices() override;
  void AddForeign() override;
  std::vector<Damage> Damages() override;

 private:
  std::string directory_;
};

}  // namespace pointsman::agent::testing
