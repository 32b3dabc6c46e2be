#include "node-agent/contract/modes.h"
#include "node-agent/iptables/iptables_dataplane.h"

namespace pointsman::agent::testing {
namespace {

class IptablesUnderTest final : public ModeUnderTest {
 public:
  IptablesUnderTest() : ModeUnderTest({.damage_is_one_difference = true}) {}

  std::unique_ptr<Dataplane> MakeDataplane(const kube::ProxySettings& settings,
                                           const std::vector<net::Family>& families) override {
    return std::make_unique<IptablesDataplane>(settings, Tools(families));
  }
  std::string Kernel() override { return IptablesRules(); }
  void AddForeign() override { AddForeignIptablesRules(); }

  std::vector<Damage> Damages() override {
    const auto restore = [this](const char* what, const char* input) {
      return Damage{what, [this, input] { Tool(net::Family::kIPv4).Restore(input); }};
    };
    return {
        restore("the Services' rules are gone", "*nat\n-F POINTSMAN-IPT-SERVICES\nCOMMIT\n"),
        restore("a rule more", "*nat\n-I POINTSMAN-IPT-NODEPORTS -j RETURN\nCOMMIT\n"),
        restore("a jump is gone",
                "*nat\n-D PREROUTING -m comment --comment \"pointsman: services\" -j "
                "POINTSMAN-IPT-SERVICES\nCOMMIT\n"),
        restore("a jump is there twice",
                "*nat\n-I PREROUTING -m comment --comment \"pointsman: services\" -j "
                "POINTSMAN-IPT-SERVICES\nCOMMIT\n"),
        restore("a chain that no Service has",
                "*nat\n:POINTSMAN-IPT-SOLD - [0:0]\n-A POINTSMAN-IPT-SOLD -p tcp -j DNAT "
                "--to-destination 1.2.3.4:5\nCOMMIT\n"),
        restore("a chain of table filter is empty", "*filter\n-F POINTSMAN-IPT-FORWARD\nCOMMIT\n"),
        restore("the kernel's own chain is empty", "*filter\n-F INPUT\nCOMMIT\n"),
    };
  }
};

}  // namespace

std::unique_ptr<ModeUnderTest> MakeIptablesUnderTest() {
  return std::make_unique<IptablesUnderTest>();
}

}  // namespace pointsman::agent::testing
