// A stock kube-proxy that stays and is configured (spec.provider KubeProxy): what the cluster's
// objects say of its file, and whether they can be changed. docs/kube-proxy-provider.md has the
// whole.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kube/pointsman/proxy_configuration.h"
#include "operator/plan/input.h"
#include "operator/plan/kube_proxy_config.h"
#include "operator/plan/revision.h"

namespace pointsman::op {

class KubeProxyProvider {
 public:
  // `input` outlives this.
  explicit KubeProxyProvider(const PlanInput& input);

  struct Refusal {
    std::string reason;   // CamelCase
    std::string message;  // with a remedy
  };
  // Why a specification with this provider cannot be acted on; nullopt: it can.
  std::optional<Refusal> WhyNot(const kube::ProxyConfiguration& configuration) const;

  // The following need the cluster's objects to be as they have to be: `ready`.
  bool ready() const { return !refusal_.has_value(); }
  const KubeProxyFile& file() const { return file_; }
  const KubeProxyDaemonSet& own_set() const { return *set_; }
  const KubeProxyConfigMap& own_map() const { return *own_; }
  const std::string& own_text() const { return own_->data.at(file_.key); }

  // The revision that the specification stands for, made from what the cluster's file says.
  // Nobody's that cannot be made: WhyNot has said so.
  Revision Render(const kube::ProxyConfiguration& configuration, int64_t number) const;
  // What it says now.
  Revision Found(const kube::ProxyConfiguration& configuration, int64_t number) const;
  // The one of those that is this configuration's, if it has been made.
  static const Revision* FindFound(const kube::ProxyConfiguration& configuration,
                                   const std::vector<Revision>& revisions);

  // A node without a label runs that revision: the cluster's own file says it. What a person or
  // kubeadm has changed in it since does not matter for the revision that is current.
  bool Carries(const Revision& revision, const kube::ProxyConfiguration& configuration) const;
  // The text that the cluster's file gets so that it carries the revision; nullopt: somebody has
  // changed it in a way that it cannot be told, or it does so already.
  std::optional<std::string> TextToCarry(const Revision& revision,
                                         const kube::ProxyConfiguration& configuration) const;

  // By revision; null: there is none.
  const KubeProxyDaemonSet* SetOf(int64_t revision) const;
  const KubeProxyConfigMap* MapOf(int64_t revision) const;
  // Nodes can be bound to it.
  bool IsPrepared(const Revision& revision) const;

 private:
  void Look();
  // The cluster's file is byte for byte that of a revision of the configuration.
  bool IsTextOfSome(const kube::ProxyConfiguration& configuration) const;

  const PlanInput& input_;
  std::optional<Refusal> refusal_;
  const KubeProxyDaemonSet* set_ = nullptr;
  const KubeProxyConfigMap* own_ = nullptr;
  KubeProxyFile file_;
  kube::Mode own_mode_ = kube::Mode::kIptables;
};

// The label's value as a number; nullopt: it is none of ours.
std::optional<int64_t> RevisionNumber(const std::string& label);

}  // namespace pointsman::op
