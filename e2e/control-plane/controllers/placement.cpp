#include "e2e/control-plane/controllers/placement.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "e2e/control-plane/controllers/controller.h"

namespace pointsman::e2e {
namespace {

bool Tolerates(const Json& toleration, const Json& taint) {
  std::string effect = toleration.value("effect", "");
  if (!effect.empty() && effect != taint.value("effect", "")) return false;
  std::string key = toleration.value("key", "");
  if (key.empty()) return toleration.value("operator", "") == "Exists";
  if (key != taint.value("key", "")) return false;
  return toleration.value("operator", "Equal") == "Exists" ||
         toleration.value("value", "") == taint.value("value", "");
}

bool RequirementsHold(const Json& term, const Json& labels, const std::string& node) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const auto& [key, value] : labels.items())
    pairs.emplace_back(key, value);
  Json plain = Json::array();
  for (const auto& expression : term.value("matchExpressions", Json::array())) {
    std::string op = expression.value("operator", "");
    if (op != "Gt" && op != "Lt") {
      plain.push_back(expression);
      continue;
    }
    std::string key = expression.value("key", "");
    if (!labels.contains(key)) return false;
    int64_t have = std::stoll(labels[key].get<std::string>());
    int64_t bound = std::stoll(expression["values"].at(0).get<std::string>());
    if (op == "Gt" ? have <= bound : have >= bound) return false;
  }
  bool empty = plain.empty() && !term.contains("matchFields") && !term.contains("matchExpressions");
  if (empty) return false;  // an empty term selects nothing
  if (!SelectorMatches({{"matchExpressions", plain}}, pairs)) return false;
  return SelectorMatches({{"matchExpressions", term.value("matchFields", Json::array())}},
                         {{"metadata.name", node}});
}

// Null: there are none.
const Json* RequiredTerms(const Json& pod_spec) {
  static const Json::json_pointer kTerms(
      "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms");
  return pod_spec.contains(kTerms) ? &pod_spec[kTerms] : nullptr;
}

}  // namespace

bool SelectsNode(const Json& pod_spec, const Json& node) {
  const Json labels = node["metadata"].value("labels", Json::object());
  const std::string name = node["metadata"]["name"];
  const Json selector = pod_spec.value("nodeSelector", Json::object());
  for (const auto& [key, value] : selector.items()) {
    if (labels.value(key, Json()) != value) return false;
  }
  const Json* const terms = RequiredTerms(pod_spec);
  return terms == nullptr || std::any_of(terms->begin(), terms->end(), [&](const Json& term) {
           return RequirementsHold(term, labels, name);
         });
}

std::string NodeAskedFor(const Json& pod_spec) {
  const Json* const terms = RequiredTerms(pod_spec);
  if (terms == nullptr || terms->size() != 1) return "";
  const Json fields = (*terms)[0].value("matchFields", Json::array());
  for (const Json& field : fields) {
    const Json values = field.value("values", Json::array());
    if (field.value("key", "") == "metadata.name" && field.value("operator", "") == "In" &&
        values.size() == 1)
      return values[0];
  }
  return "";
}

Json UntoleratedTaint(const Json& tolerations, const Json& node) {
  const Json taints = node.value("spec", Json::object()).value("taints", Json::array());
  for (const Json& taint : taints) {
    const std::string effect = taint.value("effect", "");
    if (effect != "NoSchedule" && effect != "NoExecute") continue;
    const bool tolerated = std::any_of(tolerations.begin(), tolerations.end(),
                                       [&](const Json& t) { return Tolerates(t, taint); });
    if (!tolerated) return taint;
  }
  return nullptr;
}

}  // namespace pointsman::e2e
