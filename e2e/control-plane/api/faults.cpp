#include "e2e/control-plane/api/faults.h"

#include <charconv>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <random>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace pointsman::e2e {

std::chrono::milliseconds ParseDuration(const std::string& field, const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit(end, text.data() + text.size());
  if (error == std::errc() && value >= 0) {
    if (unit == "ms") return std::chrono::milliseconds(value);
    if (unit == "s") return std::chrono::seconds(value);
    if (unit == "m") return std::chrono::minutes(value);
  }
  throw BadRequest(field + ": '" + text + "' is not a duration such as 250ms, 2s or 1m");
}

void Faults::Set(const Json& rules) {
  if (!rules.is_array()) throw BadRequest("rules: must be an array");
  std::vector<Rule> fresh;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    const std::string path = "rules[" + std::to_string(i) + "]";
    if (!rules[i].is_object()) throw BadRequest(path + ": must be an object");
    Rule rule;
    rule.source = rules[i];
    for (const auto& [key, value] : rules[i].items()) {
      std::string field = path;
      field.append(".").append(key);
      try {
        if (key == "verb") {
          rule.verb = value.get<std::string>();
        } else if (key == "resource") {
          rule.resource = value.get<std::string>();
        } else if (key == "user") {
          rule.user = value.get<std::string>();
        } else if (key == "code") {
          rule.action.code = value.get<int>();
        } else if (key == "probability") {
          rule.probability = value.get<double>();
        } else if (key == "count") {
          rule.count = value.get<std::uint64_t>();
        } else if (key == "delay") {
          rule.action.delay = ParseDuration(field, value.get<std::string>());
        } else if (key == "retryAfter") {
          rule.action.retry_after = value.get<int>();
        } else if (key == "abort") {
          rule.action.abort = value.get<bool>();
        } else if (key == "staleBy") {
          rule.action.stale_by = value.get<std::uint64_t>();
        } else if (key != "hits") {
          throw BadRequest(field + ": no such member");
        }
      } catch (const Json::exception& e) {
        throw BadRequest(field + ": " + e.what());
      }
    }
    if (rule.action.code != 0 && (rule.action.code < 400 || rule.action.code > 599)) {
      throw BadRequest(path + ".code: must be 400 to 599");
    }
    fresh.push_back(std::move(rule));
  }
  const std::lock_guard lock(mutex_);
  rules_ = std::move(fresh);
}

Json Faults::Get() const {
  Json list = Json::array();
  const std::lock_guard lock(mutex_);
  for (const Rule& rule : rules_) {
    list.push_back(rule.source);
    list.back()["hits"] = rule.hits;
    if (rule.count) list.back()["count"] = *rule.count;
  }
  return list;
}

Faults::Action Faults::Next(const std::string& user, const AccessRequest& request) {
  thread_local std::mt19937_64 random{std::random_device{}()};
  const std::lock_guard lock(mutex_);
  for (Rule& rule : rules_) {
    if ((!rule.verb.empty() && rule.verb != request.verb) ||
        (!rule.resource.empty() && rule.resource != request.resource) ||
        (!rule.user.empty() && rule.user != user) || (rule.count && *rule.count == 0)) {
      continue;
    }
    if (rule.probability < 1 &&
        std::uniform_real_distribution<double>(0, 1)(random) >= rule.probability) {
      continue;
    }
    ++rule.hits;
    if (rule.count) --*rule.count;
    return rule.action;
  }
  return {};
}

}  // namespace pointsman::e2e
