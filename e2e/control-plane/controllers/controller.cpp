#include "e2e/control-plane/controllers/controller.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "e2e/control-plane/base/api_time.h"

namespace pointsman::e2e {
namespace {

// A Requirement of a selector: key, operator, values.
bool Meets(const Json& requirement,
           const std::vector<std::pair<std::string, std::string>>& labels) {
  std::string key = requirement.value("key", "");
  std::string op = requirement.value("operator", "");
  auto found = std::find_if(labels.begin(), labels.end(),
                            [&key](const auto& label) { return label.first == key; });
  bool exists = found != labels.end();
  if (op == "Exists") return exists;
  if (op == "DoesNotExist") return !exists;
  bool listed = false;
  for (const auto& value : requirement.value("values", Json::array())) {
    listed = listed || (exists && value == found->second);
  }
  return op == "In" ? listed : op == "NotIn" ? !listed : false;
}

}  // namespace

ObjectKey KeyOf(const StoredObject& object) {
  return {object.ns, object.name};
}

std::string JoinKey(std::string_view ns, std::string_view name) {
  return std::string(ns).append("/").append(name);
}

ObjectKey SplitKey(const std::string& key) {
  size_t slash = key.find('/');
  return {key.substr(0, slash), key.substr(slash + 1)};
}

std::string GeneratedName(const std::string& prefix) {
  // Kubernetes leaves out vowels and what looks like them, so that no words appear.
  static constexpr std::string_view kCharacters = "bcdfghjklmnpqrstvwxz2456789";
  static thread_local std::mt19937 random{std::random_device{}()};
  std::string name = prefix.substr(0, 58);
  for (int i = 0; i < 5; ++i)
    name += kCharacters[random() % kCharacters.size()];
  return name;
}

const std::string* LabelOf(const StoredObject& object, std::string_view key) {
  for (const auto& [name, value] : object.labels) {
    if (name == key) return &value;
  }
  return nullptr;
}

bool SelectorMatches(const Json& selector,
                     const std::vector<std::pair<std::string, std::string>>& labels) {
  if (!selector.is_object()) return false;
  const Json exact = selector.value("matchLabels", Json::object());
  for (const auto& [key, value] : exact.items()) {
    if (!Meets({{"key", key}, {"operator", "In"}, {"values", Json::array({value})}}, labels)) {
      return false;
    }
  }
  const Json expressions = selector.value("matchExpressions", Json::array());
  return std::all_of(expressions.begin(), expressions.end(),
                     [&labels](const Json& e) { return Meets(e, labels); });
}

bool SetCondition(Json& object, const std::string& type, const std::string& status,
                  const std::string& reason, const std::string& message) {
  Json& conditions = object["status"]["conditions"];
  std::string now = FormatTime(std::chrono::system_clock::now());
  for (auto& condition : conditions) {
    if (condition.value("type", "") != type) continue;
    bool changed = condition.value("status", "") != status;
    if (!changed && condition.value("reason", "") == reason &&
        condition.value("message", "") == message) {
      return false;
    }
    if (changed) condition["lastTransitionTime"] = now;
    condition["status"] = status;
    condition["reason"] = reason;
    condition["message"] = message;
    return true;
  }
  conditions.push_back({{"type", type},
                        {"status", status},
                        {"reason", reason},
                        {"message", message},
                        {"lastTransitionTime", now}});
  return true;
}

void Controller::EnqueueAt(const std::string& key, Clock::time_point when) {
  auto [it, added] = due_.emplace(key, when);
  if (!added) it->second = std::min(it->second, when);
}

std::chrono::steady_clock::time_point Controller::Work() {
  auto now = Clock::now();
  std::vector<std::string> ready;
  for (const auto& [key, when] : due_) {
    if (when <= now) ready.push_back(key);
  }
  for (const auto& key : ready) {
    due_.erase(key);
    try {
      Sync(key);
      failures_.erase(key);
    } catch (const std::exception& error) {
      int failures = ++failures_[key];
      auto delay = std::min(std::chrono::milliseconds{10 << std::min(failures, 12)},
                            std::chrono::milliseconds{30000});
      spdlog::warn("controller {}: {}: {}; again in {} ms", name_, key, error.what(),
                   delay.count());
      EnqueueAt(key, Clock::now() + delay);
    }
  }
  auto next = Clock::time_point::max();
  for (const auto& [key, when] : due_)
    next = std::min(next, when);
  return next;
}

}  // namespace pointsman::e2e
