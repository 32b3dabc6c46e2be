#include "kube/objects/node.h"

#include <stdexcept>

#include "kube/objects/json_reader.h"

namespace pointsman::kube {
namespace {

using Value = JsonReader::Value;

class NodeDecoder {
 public:
  explicit NodeDecoder(Node& node) : node_(node), reader_(&node.problems) {}

  void Decode(std::string_view json) {
    ReadDocument(json, "Node", reader_, [this](std::string_view key, Value value) {
      if (key == "metadata") {
        Metadata(value);
      } else if (key == "spec") {
        Spec(value);
      } else if (key == "status") {
        Status(value);
      }
    });
    if (node_.name.empty()) throw std::invalid_argument("metadata.name: required");
    // podCIDRs is authoritative; servers before 1.16 have only podCIDR.
    if (node_.pod_cidrs.empty() && single_pod_cidr_) node_.pod_cidrs.push_back(*single_pod_cidr_);
    node_.never_ready = !node_.ready && (node_.created == TimePoint{} || !ready_turned_ ||
                                         *ready_turned_ - node_.created <= kRegistration);
  }

 private:
  void Metadata(Value value) {
    reader_.Object(value, [this](std::string_view key, Value field) {
      if (key == "name") {
        reader_.Assign(field, node_.name);
      } else if (key == "uid") {
        reader_.Assign(field, node_.uid);
      } else if (key == "resourceVersion") {
        reader_.Assign(field, node_.resource_version);
      } else if (key == "creationTimestamp") {
        node_.created = ParseTime(reader_.String(field).value_or("")).value_or(TimePoint{});
      } else if (key == "deletionTimestamp") {
        node_.deleting = !reader_.String(field).value_or("").empty();
      } else if (key == "labels") {
        reader_.Object(field, [this](std::string_view label, Value text) {
          if (const auto content = reader_.String(text)) node_.labels.emplace(label, *content);
        });
      }
    });
  }

  void Spec(Value value) {
    reader_.Object(value, [this](std::string_view key, Value field) {
      if (key == "podCIDR") {
        if (const auto text = reader_.String(field); text && !text->empty()) {
          single_pod_cidr_ = reader_.ParsePrefix(*text);
        }
      } else if (key == "podCIDRs") {
        reader_.Array(field, [this](Value cidr) {
          if (const auto prefix = reader_.Prefix(cidr)) node_.pod_cidrs.push_back(*prefix);
        });
      } else if (key == "taints") {
        reader_.Array(field, [this](Value taint) {
          Taint& read = node_.taints.emplace_back();
          reader_.Object(taint, [&](std::string_view name, Value text) {
            if (name == "key") reader_.Assign(text, read.key);
            if (name == "value") reader_.Assign(text, read.value);
            if (name == "effect") reader_.Assign(text, read.effect);
          });
          if (read.key == "ToBeDeletedByClusterAutoscaler") node_.to_be_deleted = true;
        });
      }
    });
  }

  void Status(Value value) {
    reader_.Object(value, [this](std::string_view key, Value field) {
      if (key == "addresses") {
        reader_.Array(field, [this](Value address) { Address(address); });
      } else if (key == "nodeInfo") {
        reader_.Object(field, [this](std::string_view name, Value text) {
          if (name == "kubeletVersion") reader_.Assign(text, node_.kubelet_version);
        });
      } else if (key == "conditions") {
        reader_.Array(field, [this](Value condition) {
          std::string_view type;
          std::string_view status;
          std::string_view turned;
          reader_.Object(condition, [&](std::string_view name, Value text) {
            if (name == "type") type = reader_.String(text).value_or("");
            if (name == "status") status = reader_.String(text).value_or("");
            if (name == "lastTransitionTime") turned = reader_.String(text).value_or("");
          });
          if (type != "Ready") return;
          node_.ready = status == "True";
          node_.silent = status == "Unknown";
          ready_turned_ = ParseTime(turned);
        });
      }
    });
  }

  void Address(Value value) {
    std::string_view type;
    std::string_view text;
    reader_.Object(value, [&](std::string_view key, Value field) {
      if (key == "type") type = reader_.String(field).value_or("");
      if (key == "address") text = reader_.String(field).value_or("");
    });
    const bool internal = type == "InternalIP";
    if (!internal && type != "ExternalIP") return;  // host names and DNS names
    const auto address = reader_.ParseAddress(text);
    if (!address) return;
    (internal ? node_.internal_ips : node_.external_ips).push_back(*address);
  }

  Node& node_;
  JsonReader reader_;
  // How long after its Node a kubelet's first condition may come, and the node lifecycle
  // controller's "never updated" (node-startup-grace-period, 60 s), with clocks a little apart.
  static constexpr std::chrono::minutes kRegistration{2};

  std::optional<net::IpPrefix> single_pod_cidr_;
  std::optional<TimePoint> ready_turned_;
};

}  // namespace

const std::string& Node::Zone() const {
  static const std::string kNone;
  const auto found = labels.find("topology.kubernetes.io/zone");
  return found == labels.end() ? kNone : found->second;
}

Node DecodeNode(std::string_view json) {
  Node node;
  NodeDecoder(node).Decode(json);
  return node;
}

}  // namespace pointsman::kube
