// What the operator reads for provider KubeProxy, when, and what it makes of not being allowed to:
// all of it by what the planning gets.
#include "operator/runtime/provider_caches.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kube/testing/eventually.h"
#include "operator/plan/fake_world.h"
#include "operator/runtime/cluster_caches.h"

namespace pointsman::op {
namespace {

using kube::HttpRequest;
using kube::HttpResponse;
using kube::Json;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

constexpr const char* kMaps = "/api/v1/namespaces/kube-system/configmaps";
constexpr const char* kSets = "/apis/apps/v1/namespaces/kube-system/daemonsets";
constexpr const char* kPods = "/api/v1/namespaces/kube-system/pods";
constexpr const char* kConfigurations = "/apis/pointsman.io/v1alpha1/proxyconfigurations";

// Lists and watches with selectors, of objects that the test puts there.
class LiveApi final : public kube::Transport {
 public:
  void Put(const std::string& path, Json object) {
    const std::lock_guard lock(mutex_);
    const std::string name = object["metadata"]["name"];
    const bool there = objects_[path].contains(name);
    object["metadata"]["resourceVersion"] = std::to_string(++version_);
    if (!object["metadata"].contains("uid")) object["metadata"]["uid"] = "uid-" + name;
    events_.push_back({path, there ? "MODIFIED" : "ADDED", object});
    objects_[path][name] = std::move(object);
    changed_.notify_all();
  }
  void Remove(const std::string& path, const std::string& name) {
    const std::lock_guard lock(mutex_);
    Json object = objects_.at(path).at(name);
    object["metadata"]["resourceVersion"] = std::to_string(++version_);
    events_.push_back({path, "DELETED", std::move(object)});
    objects_.at(path).erase(name);
    changed_.notify_all();
  }
  void Forbid(const std::string& path, bool forbidden) { Set(forbidden_, path, forbidden); }
  void Hold(const std::string& path, bool held) { Set(held_, path, held); }
  std::vector<std::string> Asked(const std::string& path) const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> targets;
    for (const std::string& target : asked_) {
      if (target.starts_with(path)) targets.push_back(target);
    }
    return targets;
  }

  HttpResponse Send(const HttpRequest& request) override { return Stream(request, {}, {}); }

  HttpResponse Stream(const HttpRequest& request,
                      const std::function<bool(std::string_view)>& on_data,
                      std::stop_token stop) override {
    const std::string path = request.target.substr(0, request.target.find('?'));
    std::unique_lock lock(mutex_);
    asked_.push_back(request.target);
    changed_.wait(lock, stop, [&] { return !held_.contains(path); });
    if (forbidden_.contains(path)) {
      return {403, {}, Json({{"kind", "Status"}, {"code", 403}, {"message", "forbidden"}}).dump()};
    }
    if (request.target.find("watch=true") != std::string::npos)
      return Watch(request.target, path, on_data, stop, lock);
    Json items = Json::array();
    for (const auto& [name, object] : objects_[path]) {
      if (Selects(request.target, object)) items.push_back(object);
    }
    const std::string body =
        Json({{"metadata", {{"resourceVersion", std::to_string(version_)}}}, {"items", items}})
            .dump();
    lock.unlock();
    if (!on_data) return {200, {}, body};
    on_data(body);
    return {200, {}, ""};
  }

 private:
  struct Event {
    std::string path;
    std::string type;
    Json object;
  };

  void Set(std::set<std::string>& paths, const std::string& path, bool in) {
    const std::lock_guard lock(mutex_);
    if (in) {
      paths.insert(path);
    } else {
      paths.erase(path);
    }
    changed_.notify_all();
  }

  HttpResponse Watch(const std::string& target, const std::string& path,
                     const std::function<bool(std::string_view)>& on_data,
                     const std::stop_token& stop, std::unique_lock<std::mutex>& lock) {
    const size_t at = target.find("resourceVersion=");
    const uint64_t since = std::stoull(target.substr(at + std::string("resourceVersion=").size()));
    size_t next = 0;
    while (!stop.stop_requested()) {
      changed_.wait(lock, stop, [&] { return next < events_.size(); });
      for (; next < events_.size(); ++next) {
        const Event event = events_[next];
        const uint64_t version =
            std::stoull(event.object["metadata"]["resourceVersion"].get<std::string>());
        if (event.path != path || version <= since || !Selects(target, event.object)) continue;
        const std::string line =
            Json({{"type", event.type}, {"object", event.object}}).dump() + "\n";
        lock.unlock();
        on_data(line);
        lock.lock();
      }
    }
    return {200, {}, ""};
  }

  // The value of a parameter, "" if it is not there.
  static std::string Parameter(const std::string& target, const std::string& name) {
    const size_t at = target.find(name + "=");
    if (at == std::string::npos) return "";
    std::string value;
    for (size_t i = at + name.size() + 1; i < target.size() && target[i] != '&'; ++i) {
      if (target[i] == '%') {
        value += static_cast<char>(std::stoi(target.substr(i + 1, 2), nullptr, 16));
        i += 2;
      } else {
        value += target[i];
      }
    }
    return value;
  }
  static bool Selects(const std::string& target, const Json& object) {
    const std::string fields = Parameter(target, "fieldSelector");
    const std::string name = object["metadata"]["name"];
    if (!fields.empty() && fields != "metadata.name=" + name) return false;
    const std::string selector = Parameter(target, "labelSelector");
    if (selector.empty()) return true;
    const Json labels = object["metadata"].value("labels", Json::object());
    const size_t equals = selector.find('=');
    const std::string key = selector.substr(0, equals);
    return labels.contains(key) &&
           (equals == std::string::npos || labels[key] == selector.substr(equals + 1));
  }

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::string, std::map<std::string, Json>> objects_;  // by path, by name
  std::vector<Event> events_;
  std::vector<std::string> asked_;
  std::set<std::string> forbidden_;
  std::set<std::string> held_;
  uint64_t version_ = 0;
};

Json Named(const std::string& name, const std::string& revision = "") {
  Json object = {{"metadata", {{"name", name}}}};
  if (!revision.empty()) object["metadata"]["labels"] = {{kRevisionLabel, revision}};
  return object;
}

class ProviderCachesTest : public ::testing::Test {
 protected:
  ProviderCachesTest() {
    FakeWorld world;
    world.AddKubeProxy();
    set_ = world.kube_proxy_set;
    api_->Put(kSets, set_);
    Json map = world.config_maps.at("kube-proxy");
    map["metadata"].erase("resourceVersion");
    api_->Put(kMaps, map);
    for (int i = 0; i < 100; ++i)
      api_->Put(kMaps, Named("another-" + std::to_string(i)));
    api_->Put(kMaps, Named("kube-proxy-pointsman-3", "3"));
    api_->Put(kSets, Named("another"));
    api_->Put(kSets, Named("kube-proxy-pointsman-3", "3"));
  }
  void Ask(const std::string& provider) {
    api_->Put(kConfigurations, {{"metadata", {{"name", "cluster"}}},
                                {"spec", {{"mode", "nftables"}, {"provider", provider}}}});
  }
  void Start() {
    caches_ =
        std::make_unique<ClusterCaches>(client_, "pointsman-system", KubeProxyName{},
                                        ClusterCaches::Handlers{.changed = [this] { ++changes_; },
                                                                .node_proxy = [](auto&, auto&) {}});
    caches_->Start();
    ASSERT_TRUE(caches_->WaitUntilSynced({}));
  }
  // What the planning gets, once it is what is waited for; else what it got last.
  KubeProxyInput Await(const std::function<bool(const KubeProxyInput&)>& holds) {
    KubeProxyInput last;
    EXPECT_TRUE(Eventually([&] {
      std::optional<PlanInput> input = caches_->Input();
      if (!input) return false;
      last = std::move(input->kube_proxy);
      return holds(last);
    })) << last.no_provider;
    return last;
  }
  KubeProxyInput AwaitKnown() {
    return Await([](const KubeProxyInput& input) { return input.no_provider.empty(); });
  }
  template <typename T>
  static std::vector<std::string> Names(const std::vector<std::shared_ptr<const T>>& objects) {
    std::vector<std::string> names;
    names.reserve(objects.size());
    for (const auto& object : objects)
      names.push_back(object->name);
    return names;
  }

  std::shared_ptr<LiveApi> api_ = std::make_shared<LiveApi>();
  kube::Client client_{api_};
  Json set_;
  std::atomic<int> changes_{0};
  std::unique_ptr<ClusterCaches> caches_;
};

TEST_F(ProviderCachesTest, NothingIsReadForItBeforeItIsAskedFor) {
  Ask("NodeAgent");
  Start();
  const KubeProxyInput before = Await([](const KubeProxyInput& input) {
    return input.unknown.empty() && input.daemon_set != nullptr;
  });
  EXPECT_THAT(before.no_provider, HasSubstr("no ProxyConfiguration asks"));
  EXPECT_THAT(api_->Asked(kMaps), IsEmpty());
  EXPECT_THAT(api_->Asked(kSets), Not(Contains(HasSubstr("labelSelector"))));

  Ask("KubeProxy");
  const KubeProxyInput input = AwaitKnown();
  EXPECT_THAT(Names(input.config_maps),
              UnorderedElementsAre("kube-proxy", "kube-proxy-pointsman-3"));
  EXPECT_THAT(Names(input.revision_sets), ElementsAre("kube-proxy-pointsman-3"));
  EXPECT_EQ(input.daemon_set->name, "kube-proxy");
  for (const std::string& target : api_->Asked(kMaps))
    EXPECT_THAT(target, ::testing::AnyOf(HasSubstr("labelSelector="), HasSubstr("fieldSelector=")));

  // A change of any of them is told.
  for (const auto& [path, name] :
       {std::pair(kMaps, "kube-proxy"), std::pair(kSets, "another-set")}) {
    const int changes = changes_;
    api_->Put(path, std::string(name) == "kube-proxy" ? Named(name) : Named(name, "4"));
    EXPECT_TRUE(Eventually([&] { return changes_ > changes; })) << name;
  }
}

// What is left of it is watched until nothing is.
TEST_F(ProviderCachesTest, NodesThatAreStillBoundAreReasonEnough) {
  Ask("NodeAgent");
  api_->Put("/api/v1/nodes", Named("n1", "3"));
  Start();
  EXPECT_THAT(Names(AwaitKnown().revision_sets), ElementsAre("kube-proxy-pointsman-3"));
  api_->Put("/api/v1/nodes", Named("n1"));
  api_->Remove(kSets, "kube-proxy-pointsman-3");
  EXPECT_THAT(Names(Await([](const KubeProxyInput& input) {
                      return input.revision_sets.empty();
                    }).config_maps),
              Contains("kube-proxy-pointsman-3"));
  api_->Remove(kMaps, "kube-proxy-pointsman-3");
  Await([](const KubeProxyInput& input) {
    return input.no_provider.find("no ProxyConfiguration asks") == 0;
  });
}

TEST_F(ProviderCachesTest, ThePlanningWaitsForTheFirstList) {
  api_->Hold(kMaps, true);
  Ask("KubeProxy");
  Start();
  ASSERT_TRUE(Eventually([&] {
    EXPECT_FALSE(caches_->Input()) << "it knows neither that it can nor that it cannot";
    return api_->Asked(kMaps).size() == 2 && !api_->Asked(std::string(kSets) + "?").empty();
  }));
  EXPECT_FALSE(caches_->Input());
  api_->Hold(kMaps, false);
  EXPECT_EQ(AwaitKnown().config_maps.size(), 2U);
}

TEST_F(ProviderCachesTest, TheClustersOwnConfigMapIsTheOneThatTheTemplateNames) {
  Ask("KubeProxy");
  Start();
  AwaitKnown();
  api_->Put(kMaps, Named("renamed"));
  set_["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] = "renamed";
  api_->Put(kSets, set_);
  const KubeProxyInput renamed = Await([&](const KubeProxyInput& input) {
    return Names(input.config_maps).size() == 2 && input.config_maps[1]->name == "renamed";
  });
  EXPECT_THAT(Names(renamed.config_maps), ElementsAre("kube-proxy-pointsman-3", "renamed"));

  // One without a file: what is known of the rest does not wait for that.
  set_["spec"]["template"]["spec"]["volumes"] = Json::array();
  api_->Put(kSets, set_);
  Await([&](const KubeProxyInput& input) { return input.config_maps.size() == 1; });
}

TEST_F(ProviderCachesTest, WithoutTheRightItSaysWhatToDoAndGoesOnWithoutARestart) {
  Ask("KubeProxy");
  api_->Forbid(kMaps, true);
  Start();
  const KubeProxyInput denied =
      Await([](const KubeProxyInput& input) { return !input.no_provider.empty(); });
  EXPECT_THAT(denied.no_provider,
              AllOf(HasSubstr("forbidden"), HasSubstr("manifests/overlays/kube-proxy-provider"),
                    HasSubstr("provider NodeAgent")));
  EXPECT_EQ(denied.unknown, "") << "nothing else needs it";
  EXPECT_NE(denied.daemon_set, nullptr);
  EXPECT_THAT(denied.config_maps, IsEmpty());
  // Who gives it up asks no more.
  Ask("NodeAgent");
  Await([](const KubeProxyInput& input) {
    return input.no_provider.find("no ProxyConfiguration asks") == 0;
  });
  Ask("KubeProxy");
  Await([](const KubeProxyInput& input) {
    return input.no_provider.find("forbidden") != std::string::npos;
  });
  api_->Forbid(kMaps, false);
  EXPECT_EQ(AwaitKnown().config_maps.size(), 2U);
}

TEST_F(ProviderCachesTest, WhatWasWrittenIsThereBeforeTheWatchTellsOfIt) {
  Ask("KubeProxy");
  Start();
  AwaitKnown();
  KubeProxyConfigMap map;
  map.name = "kube-proxy-pointsman-4";
  map.revision = "4";
  caches_->Wrote(map);
  KubeProxyDaemonSet set;
  set.name = "kube-proxy-pointsman-4";
  set.revision = "4";
  caches_->Wrote(set);
  KubeProxyDaemonSet own = DecodeKubeProxyDaemonSet(set_.dump());
  own.before = "changed";
  own.resource_version = "1000000";
  caches_->Wrote(own);
  KubeProxyInput input = caches_->Input()->kube_proxy;
  EXPECT_THAT(Names(input.config_maps), Contains("kube-proxy-pointsman-4"));
  EXPECT_THAT(Names(input.revision_sets),
              UnorderedElementsAre("kube-proxy-pointsman-3", "kube-proxy-pointsman-4"));
  EXPECT_EQ(input.daemon_set->before, "changed");

  KubeProxyObjectChange deleted;
  deleted.name = set.name;
  deleted.of = KubeProxyObjectChange::Of::kDaemonSet;
  caches_->Deleted(deleted);
  deleted.of = KubeProxyObjectChange::Of::kConfigMap;
  caches_->Deleted(deleted);
  input = caches_->Input()->kube_proxy;
  EXPECT_THAT(Names(input.revision_sets), ElementsAre("kube-proxy-pointsman-3"));
  EXPECT_THAT(Names(input.config_maps), Not(Contains("kube-proxy-pointsman-4")));
}

// Adoption changes a Pod's owner and nothing else; the labels say what it was made from.
TEST_F(ProviderCachesTest, WhosePodItIsAndItsLabelsAreSeen) {
  Ask("KubeProxy");
  const auto put = [&](const std::string& hash, const std::string& owner) {
    api_->Put(kPods, {{"metadata",
                       {{"name", "p"},
                        {"labels", {{"k8s-app", "kube-proxy"}, {"controller-revision-hash", hash}}},
                        {"ownerReferences", {{{"uid", owner}, {"controller", true}}}}}},
                      {"spec", {{"nodeName", "n1"}}}});
  };
  put("a", "set-a");
  Start();
  AwaitKnown();
  const auto await_change = [&](const std::string& hash, const std::string& owner) {
    const int changes = changes_;
    put(hash, owner);
    EXPECT_TRUE(Eventually([&] { return changes_ > changes; }));
    const auto pods = caches_->Input()->kube_proxy.pods;
    ASSERT_EQ(pods.size(), 1U);
    EXPECT_EQ(pods[0]->labels.at("controller-revision-hash"), hash);
    EXPECT_EQ(pods[0]->controller_uid, owner);
  };
  await_change("b", "set-a");
  await_change("b", "set-b");
}

}  // namespace
}  // namespace pointsman::op
