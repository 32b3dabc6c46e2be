// A dataplane whose two families stand alone: each has tables of its own, and what fails in one
// leaves the other as it is.
#pragma once

#include <algorithm>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "node-agent/dataplane/family_parts.h"
#include "node-agent/dataplane/family_problems.h"

namespace pointsman::agent {

// `Family` has the methods of Dataplane for its family(), and Bindings that takes how many clients
// are wanted at most.
template <typename Family>
class FamilyDataplane : public Dataplane {
 public:
  SyncResult FullSync(const ServiceModel& model) override {
    SyncResult sum;
    for (const auto& family : served_)
      problems_.Try(family->family(), what_, sum, [&] { return family->FullSync(model); });
    AddParts(others_, sum, [](Family& family) { return family.Remove(); });
    return sum;
  }
  SyncResult Sync(const ServiceModel& model, const ModelDelta& delta) override {
    SyncResult sum;
    for (const auto& family : served_)
      problems_.TryChange(family->family(), what_, sum, [&] { return family->Sync(model, delta); });
    return sum;
  }
  VerifyResult Verify(const ServiceModel& model) override {
    VerifyResult sum;
    AddParts(served_, sum, [&](Family& family) { return family.Verify(model); });
    return sum;
  }
  DrainStatus Drain(const ServiceModel& model) override {
    DrainStatus sum;
    for (const auto& family : served_) {
      const DrainStatus of_family = family->Drain(model);
      sum.connections += of_family.connections;
      sum.end_with_it += of_family.end_with_it;
    }
    return sum;
  }
  std::vector<ClientBinding> Bindings(const ServiceModel& model) override {
    std::vector<ClientBinding> all;
    for (const auto& family : served_) {
      std::vector<ClientBinding> part = family->Bindings(model, kMostBindings - all.size());
      std::move(part.begin(), part.end(), std::back_inserter(all));
    }
    return all;
  }
  SyncResult Bind(const ServiceModel& model, const std::vector<ClientBinding>& bindings) override {
    SyncResult sum;
    AddParts(served_, sum, [&](Family& family) { return family.Bind(model, bindings); });
    return sum;
  }
  SyncResult Remove() override {
    SyncResult sum;
    for (const Families* families : {&served_, &others_})
      AddParts(*families, sum, [](Family& family) { return family.Remove(); });
    return sum;
  }
  bool Present() override {
    const auto present = [](const auto& family) { return family->Present(); };
    return std::any_of(served_.begin(), served_.end(), present) ||
           std::any_of(others_.begin(), others_.end(), present);
  }
  std::vector<std::string> Sysctls() const override {
    std::vector<std::string> names;
    for (const auto& family : served_) {
      for (std::string& name : family->Sysctls())
        names.push_back(std::move(name));
    }
    return names;
  }

 protected:
  // `what`: "iptables rules", for problems; a literal.
  explicit FamilyDataplane(std::string_view what) : what_(what) {}

  void Serve(std::unique_ptr<Family> family) { served_.push_back(std::move(family)); }
  // What an earlier process may have left of it is removed.
  void DoNotServe(std::unique_ptr<Family> family) { others_.push_back(std::move(family)); }

 private:
  using Families = std::vector<std::unique_ptr<Family>>;

  template <typename Result, typename Call>
  void AddParts(const Families& families, Result& sum, const Call& call) const {
    for (const auto& family : families)
      AddPartOf(family->family(), what_, sum, [&] { return call(*family); });
  }

  const std::string_view what_;
  FamilyProblems problems_;
  Families served_;
  Families others_;
};

}  // namespace pointsman::agent
