// What is sent to the API server for a plan, where the controller's tests do not show it.
#include "operator/runtime/plan_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kube/http/transport.h"

namespace pointsman::op {
namespace {

using kube::HttpRequest;
using kube::HttpResponse;
using kube::Json;
using ::testing::ElementsAre;
using Change = KubeProxyObjectChange;

// Keeps what is sent, and answers as if it had been done; `refuse`: with that status.
class Recorder final : public kube::Transport {
 public:
  HttpResponse Send(const HttpRequest& request) override {
    const std::string path = request.target.substr(0, request.target.find('?'));
    sent.push_back(request.method + " " + path);
    bodies.push_back(request.body);
    const int status = std::exchange(refuse, 0);
    if (status == 0) {
      Json answer = Json::parse(request.body);
      answer["metadata"]["name"] = path.substr(path.rfind('/') + 1);
      return {200, {}, answer.dump()};
    }
    const char* const reason = status == 409 ? "Conflict" : "Forbidden";
    return {status, {}, Json({{"kind", "Status"}, {"code", status}, {"reason", reason}}).dump()};
  }
  HttpResponse Stream(const HttpRequest& request, const std::function<bool(std::string_view)>&,
                      std::stop_token) override {
    return Send(request);
  }
  std::vector<std::string> sent;
  std::vector<std::string> bodies;
  int refuse = 0;
};

class PlanWriterTest : public ::testing::Test {
 protected:
  PlanWriter::Result Write(std::vector<Change> changes) {
    Plan plan;
    plan.kube_proxy_objects = std::move(changes);
    const Tenure::Period period(tenure_, {}, [this] { return held_; });
    kube::EventRecorder events(client_, "pointsman-operator", "");
    ClusterCaches caches(client_, "pointsman-system", {}, {.changed = [] {}, .node_proxy = {}});
    PlanWriter writer(client_, "pointsman-system", "kube-system", tenure_, events, caches);
    return writer.Write(plan);
  }
  Json Body(size_t i) const { return Json::parse(api_->bodies.at(i)); }

  std::shared_ptr<Recorder> api_ = std::make_shared<Recorder>();
  kube::Client client_{api_};
  Tenure tenure_;
  bool held_ = true;
};

TEST_F(PlanWriterTest, WritesKubeProxysObjectsInItsNamespace) {
  const Json map = {{"kind", "ConfigMap"}, {"metadata", {{"name", "m"}}}};
  const auto result = Write({
      {.kind = Change::Kind::kCreate, .of = Change::Of::kConfigMap, .name = "m", .object = map},
      {.kind = Change::Kind::kPatch,
       .of = Change::Of::kConfigMap,
       .name = "kube-proxy",
       .uid = "u1",
       .resource_version = "7",
       .object = {{"data", {{"config.conf", "x"}}}}},
      {.kind = Change::Kind::kPatch,
       .of = Change::Of::kPod,
       .name = "p",
       .uid = "u2",
       .object = {{"metadata", {{"labels", {{"a", "b"}}}}}}},
      {.kind = Change::Kind::kDelete, .of = Change::Of::kDaemonSet, .name = "d", .uid = "u3"},
      {.kind = Change::Kind::kOrphan, .of = Change::Of::kDaemonSet, .name = "e", .uid = "u4"},
  });
  EXPECT_FALSE(result.failed);
  EXPECT_THAT(api_->sent, ElementsAre("POST /api/v1/namespaces/kube-system/configmaps",
                                      "PATCH /api/v1/namespaces/kube-system/configmaps/kube-proxy",
                                      "PATCH /api/v1/namespaces/kube-system/pods/p",
                                      "DELETE /apis/apps/v1/namespaces/kube-system/daemonsets/d",
                                      "DELETE /apis/apps/v1/namespaces/kube-system/daemonsets/e"));
  EXPECT_EQ(Body(0)["metadata"]["name"], "m");
  EXPECT_EQ(Body(1), Json::parse(R"({"data": {"config.conf": "x"},
                                     "metadata": {"uid": "u1", "resourceVersion": "7"}})"));
  EXPECT_EQ(Body(2), Json::parse(R"({"metadata": {"uid": "u2", "labels": {"a": "b"}}})"));
  EXPECT_EQ(Body(3)["preconditions"], Json({{"uid", "u3"}}));
  EXPECT_FALSE(Body(3).contains("propagationPolicy"));
  EXPECT_EQ(Body(4)["propagationPolicy"], "Orphan");
}

// A cache was behind, say: the next pass, which comes soon, sees what is there.
TEST_F(PlanWriterTest, WhatIsRefusedIsPlannedAgainAndHoldsUpNothingElse) {
  const Change first{.kind = Change::Kind::kPatch,
                     .of = Change::Of::kConfigMap,
                     .name = "kube-proxy",
                     .uid = "u1",
                     .object = Json::object()};
  Change second = first;
  second.name = "another";
  api_->refuse = 409;
  EXPECT_TRUE(Write({first, second}).failed);
  EXPECT_EQ(api_->sent.size(), 2U);
}

TEST_F(PlanWriterTest, WritesNothingWithoutTheLease) {
  held_ = false;
  Write({{.kind = Change::Kind::kDelete, .of = Change::Of::kDaemonSet, .name = "d", .uid = "u"}});
  EXPECT_TRUE(api_->sent.empty());
}

}  // namespace
}  // namespace pointsman::op
