// A kube-proxy in ipvs mode, with real connections: what is open goes on until it ends or its time
// is over, and only what is kube-proxy's goes.
#include "node-agent/kube_proxy/virtual_servers.h"

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "kube/testing/eventually.h"
#include "kube/testing/fake_time.h"
#include "node-agent/kube_proxy/removal.h"
#include "node-agent/testing/run_tool.h"
#include "node-agent/testing/test_network.h"

namespace pointsman::agent::kube_proxy {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::RunTool;
using testing::Stream;
using testing::TestNetwork;
using testing::TryTool;

constexpr const char* kVip = "10.96.0.10";
constexpr const char* kOurVip = "10.96.0.11";
constexpr const char* kNodeIp = "192.168.50.1";

class KubeProxyVirtualServersTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    for (const char* module : {"ip_vs", "ip_vs_rr", "dummy", "ip_set", "ip_set_bitmap_port", "veth",
                               "ip_set_hash_ipport", "nf_conntrack_netlink"})
      RunTool({"modprobe", module});
    network_ = std::make_unique<TestNetwork>();
    network_->AddHost("pod-a", "10.244.0.2", "10.244.0.1");
    network_->AddHost("pod-b", "10.244.0.3", "10.244.0.1");
    network_->Serve("pod-b", "10.244.0.3", 8080);
    RunTool({"sysctl", "-w", "net.ipv4.ip_forward=1", "net.ipv4.vs.conntrack=1"});
  }
  static void TearDownTestSuite() { network_.reset(); }

  void SetUp() override {
    RunTool({"ip", "link", "add", "kube-ipvs0", "type", "dummy"});
    RunTool({"ip", "address", "add", std::string(kNodeIp) + "/32", "dev", "lo"});
    for (const char* vip : {kVip, kOurVip})
      RunTool({"ip", "address", "add", std::string(vip) + "/32", "dev", "kube-ipvs0"});
    Serve(std::string(kVip) + ":80");
    Serve(std::string(kOurVip) + ":80");
    Serve(std::string(kNodeIp) + ":30080");
    Serve(std::string(kNodeIp) + ":9999");  // somebody's load balancer
    RunTool({"ipvsadm", "-A", "-f", "7", "-s", "rr"});
    RunTool({"ipset", "create", "KUBE-NODE-PORT-TCP", "bitmap:port", "range", "0-65535"});
    RunTool({"ipset", "add", "KUBE-NODE-PORT-TCP", "30080"});
    RunTool({"ipset", "create", "KUBE-CLUSTER-IP", "hash:ip,port"});
    RunTool({"ipset", "create", "MINE", "hash:ip,port"});
  }
  void TearDown() override {
    TryTool({"ipvsadm", "-C"});
    TryTool({"ip", "link", "del", "kube-ipvs0"});
    TryTool({"ip", "address", "del", std::string(kNodeIp) + "/32", "dev", "lo"});
    TryTool({"ipset", "destroy"});
    TryTool({"conntrack", "-F"});
  }
  static void Serve(const std::string& place) {
    RunTool({"ipvsadm", "-A", "-t", place, "-s", "rr"});
    RunTool({"ipvsadm", "-a", "-t", place, "-r", "10.244.0.3:8080", "-m"});
  }
  static bool IsOurs(const netlink::IpvsServer& server) {
    return server.address.ToString() == kOurVip;
  }
  std::vector<std::string> Remove(std::chrono::nanoseconds drain = std::chrono::minutes(5),
                                  const std::stop_token& stop = {}) {
    return RemoveLeftovers({.modules_root = "",
                            .others = IsOurs,
                            .drain_timeout = drain,
                            .tell = [this](const std::string& what) { told_.push_back(what); },
                            .time = time_},
                           stop);
  }
  static std::string Servers() { return RunTool({"ipvsadm", "-Sn"}); }

  static inline std::unique_ptr<TestNetwork> network_;
  kube::FakeTime time_;
  std::vector<std::string> told_;
};

TEST_F(KubeProxyVirtualServersTest, ItsServersSetsAndInterfaceGoAndNothingElse) {
  EXPECT_TRUE(testing::AskTcp("pod-a", kVip, 80).ok()) << "or this test says nothing";
  // Its end takes a moment to pass.
  EXPECT_TRUE(Eventually([] { return OpenConnections(IsOurs, false) == 0; }));
  EXPECT_THAT(Remove(), IsEmpty());
  EXPECT_THAT(told_, ElementsAre("removed 2 virtual servers of IPVS",
                                 "removed interface kube-ipvs0", "destroyed 2 ipsets"));
  const std::string left = Servers();
  EXPECT_THAT(left, Not(HasSubstr(kVip)));
  EXPECT_THAT(left, Not(HasSubstr("30080")));
  EXPECT_THAT(left, HasSubstr(std::string("-a -t ") + kOurVip + ":80 -r 10.244.0.3:8080"));
  EXPECT_THAT(left, HasSubstr("192.168.50.1:9999"));
  EXPECT_THAT(left, HasSubstr("-A -f 7"));
  EXPECT_EQ(RunTool({"ipset", "list", "-n"}), "MINE\n");
  EXPECT_NE(TryTool({"ip", "link", "show", "kube-ipvs0"}), 0);
}

TEST_F(KubeProxyVirtualServersTest, AConnectionIsWaitedForAndGoesOnMeanwhile) {
  auto stream = std::make_unique<Stream>(TestNetwork::At("pod-a"), kVip, 80);
  ASSERT_TRUE(stream->Ask().ok());
  // In the middle of the wait, each time that it looks.
  class Client final : public kube::TimeSource {
   public:
    explicit Client(std::unique_ptr<Stream>& stream) : stream_(stream) {}
    time_point Now() const override { return fake_.Now(); }
    bool Sleep(std::chrono::nanoseconds delay, const std::stop_token& stop) override {
      if (stream_ && ++looks_ > 3) {
        EXPECT_TRUE(stream_->Ask().ok());
        stream_.reset();
        EXPECT_TRUE(Eventually([] {
          return RunTool({"ipvsadm", "-Ln"}).find("Masq    1      0") != std::string::npos;
        }));
      }
      return fake_.Sleep(delay, stop);
    }
    bool WaitUntil(std::condition_variable_any& changed, std::unique_lock<std::mutex>& lock,
                   const std::stop_token& stop, time_point until,
                   const std::function<bool()>& holds) override {
      return fake_.WaitUntil(changed, lock, stop, until, holds);
    }

   private:
    std::unique_ptr<Stream>& stream_;
    int looks_ = 0;
    kube::FakeTime fake_;
  } time(stream);
  EXPECT_THAT(RemoveLeftovers({.modules_root = "",
                               .others = IsOurs,
                               .drain_timeout = std::chrono::minutes(5),
                               .tell = [this](const std::string& what) { told_.push_back(what); },
                               .time = time},
                              {}),
              IsEmpty());
  EXPECT_EQ(stream, nullptr) << "it was open when all of it was removed";
  EXPECT_THAT(told_, Contains(HasSubstr("2 virtual servers still have 1 connections")));
  EXPECT_THAT(told_, Contains("removed 2 virtual servers of IPVS"));
}

TEST_F(KubeProxyVirtualServersTest, ItsTimeIsBounded) {
  Stream stream(TestNetwork::At("pod-a"), kVip, 80);
  ASSERT_TRUE(stream.Ask().ok());
  EXPECT_THAT(Remove(std::chrono::seconds(3)), IsEmpty());
  EXPECT_THAT(told_, Contains("1 connections through kube-proxy's 2 virtual servers end now"));
  EXPECT_THAT(Servers(), Not(HasSubstr(kVip)));
}

TEST_F(KubeProxyVirtualServersTest, ToldToStopItHasRemovedNothing) {
  Stream stream(TestNetwork::At("pod-a"), kVip, 80);
  ASSERT_TRUE(stream.Ask().ok());
  const std::string before = Servers();
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THAT(Remove(std::chrono::minutes(5), stop.get_token()),
              ElementsAre("told to stop; nothing was removed"));
  EXPECT_EQ(Servers(), before);
  EXPECT_TRUE(stream.Ask().ok());
}

TEST_F(KubeProxyVirtualServersTest, TheInterfaceThatIsOursStays) {
  RunTool({"ip", "link", "set", "kube-ipvs0", "alias", "pointsman"});
  EXPECT_THAT(Remove(), IsEmpty());
  EXPECT_EQ(TryTool({"ip", "link", "show", "kube-ipvs0"}), 0);
}

}  // namespace
}  // namespace pointsman::agent::kube_proxy
