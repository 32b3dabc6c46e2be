// Schedulers, of the configuration and of single Services, in a real kernel.
#include "kube/pointsman/limits.h"
#include "node-agent/ipvs/testing/dataplane_fixture.h"

namespace pointsman::agent {
namespace {

using ::testing::HasSubstr;

class SchedulerTest : public IpvsDataplaneTest {
 protected:
  static std::string Servers() { return RunTool({"ipvsadm", "-Sn"}); }
};

TEST_F(SchedulerTest, EachIsLoadedWhenTheFirstServiceAsksForIt) {
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  for (const char* scheduler :
       {"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "sed", "nq", "fo", "ovf"}) {
    SCOPED_TRACE(scheduler);
    ServicePortEntry web = Web({MakeBackend(kPodA, 8080), MakeBackend(kPodB, 8080)});
    web.ipvs_scheduler = scheduler;
    const SyncResult result = dataplane_->Sync(maker_.model, maker_.Put(web));
    EXPECT_TRUE(result.ok()) << Text(result);
    EXPECT_TRUE(result.warnings.empty()) << result.warnings[0].message;
    EXPECT_THAT(Servers(), HasSubstr(std::string("-A -t 10.96.0.10:80 -s ") + scheduler));
    EXPECT_TRUE(AskTcp("pod-c", kVip, 80).ok());
    EXPECT_TRUE(AskTcp("client", kNodeIp, 30080).ok());
    ExpectVerified();
  }
}

// The kernel says of each that Linux has whether it has it, and of no other name (Debian's was
// built without twos).
TEST_F(SchedulerTest, ThoseThatAConfigurationMayNameAServiceMayNameToo) {
  std::set<std::string> asked;
  ensure_scheduler_ = [&](const std::string& name) {
    asked.insert(name);
    return std::string("this kernel was built without it");
  };
  Start();
  std::set<std::string> all;
  for (const std::string_view scheduler : kube::limits::kIpvsSchedulers) {
    all.emplace(scheduler);
    ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
    web.ipvs_scheduler = scheduler;
    maker_.Put(web);
    const SyncResult result = dataplane_->FullSync(maker_.model);
    ASSERT_EQ(result.warnings.size(), 1U) << scheduler;
    EXPECT_THAT(result.warnings[0].message, HasSubstr("built without it; rr is used"));
  }
  EXPECT_EQ(asked, all);
}

TEST_F(SchedulerTest, FlagsOfAServiceReachTheKernel) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.ipvs_scheduler = "sh";
  web.ipvs_scheduler_flags = "sh-port";
  maker_.Put(web);
  EXPECT_SYNCED(dataplane_->FullSync(maker_.model));
  // sh-fallback too: without it a backend that drains would refuse its share of the clients.
  EXPECT_THAT(Servers(), HasSubstr("-A -t 10.96.0.10:80 -s sh -b sh-fallback,sh-port"));
}

TEST_F(SchedulerTest, AnUnknownOneIsAWarningAndTheConfiguredOneIsUsed) {
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.ipvs_scheduler = "no/such";
  web.ipvs_scheduler_flags = "sh-port";
  maker_.Put(web);
  maker_.Put(Dns({MakeBackend(kPodA, 8080)}));
  const SyncResult result = dataplane_->FullSync(maker_.model);
  EXPECT_TRUE(result.ok()) << Text(result);
  ASSERT_EQ(result.warnings.size(), 1U);
  EXPECT_EQ(result.warnings[0].ns, "default");
  EXPECT_EQ(result.warnings[0].service, "web");
  EXPECT_THAT(result.warnings[0].message, HasSubstr("\"no/such\" cannot be used"));
  EXPECT_THAT(result.warnings[0].message, HasSubstr("rr is used"));
  EXPECT_THAT(Servers(), HasSubstr("-A -t 10.96.0.10:80 -s rr\n"));
  EXPECT_TRUE(AskTcp("pod-c", kVip, 80).ok());
  ExpectVerified();
  // It stays said as long as it is so, whatever else changes.
  const SyncResult other =
      dataplane_->Sync(maker_.model, maker_.Put(Dns({MakeBackend(kPodB, 8080)})));
  EXPECT_EQ(other.warnings, result.warnings);
  web.ipvs_scheduler = "";
  web.ipvs_scheduler_flags = "";
  EXPECT_TRUE(dataplane_->Sync(maker_.model, maker_.Put(web)).warnings.empty());
}

TEST_F(SchedulerTest, OneThatCannotBeLoadedIsAWarningUntilItCan) {
  bool loadable = false;
  ensure_scheduler_ = [&](const std::string& name) {
    if (!loadable) return std::string("module ip_vs_" + name + " is not loaded");
    RunTool({"modprobe", "ip_vs_" + name});
    return std::string();
  };
  Start();
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.ipvs_scheduler = "lc";
  maker_.Put(web);
  const SyncResult refused = dataplane_->FullSync(maker_.model);
  EXPECT_TRUE(refused.ok()) << Text(refused);
  ASSERT_EQ(refused.warnings.size(), 1U);
  EXPECT_THAT(refused.warnings[0].message, HasSubstr("module ip_vs_lc is not loaded"));
  EXPECT_THAT(Servers(), HasSubstr("-A -t 10.96.0.10:80 -s rr\n"));
  loadable = true;
  const SyncResult result = dataplane_->FullSync(maker_.model);
  EXPECT_TRUE(result.ok()) << Text(result);
  EXPECT_TRUE(result.warnings.empty());
  EXPECT_THAT(Servers(), HasSubstr("-A -t 10.96.0.10:80 -s lc\n"));
}

TEST_F(SchedulerTest, ARefusalOfTheKernelNamesTheServiceAndTheReason) {
  settings_.ipvs.scheduler = "nosuch";  // past preflight
  Start();
  ServicePortEntry web = Web({MakeBackend(kPodA, 8080)});
  web.node_port = 0;
  maker_.Put(web);
  const SyncResult result = dataplane_->FullSync(maker_.model);
  ASSERT_EQ(result.problems.size(), 1U) << Text(result);
  EXPECT_THAT(result.problems[0].object, HasSubstr("default/web"));
  EXPECT_THAT(result.problems[0].message, HasSubstr("scheduler"));
}

}  // namespace
}  // namespace pointsman::agent
