// The API objects of one case.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "e2e/conformance/arena.h"
#include "e2e/conformance/case.h"

namespace pointsman::e2e {

// Everything is in one namespace, which it makes, but for Nodes. $(…) in what is given here has
// been replaced.
class CaseObjects {
 public:
  CaseObjects(Arena& arena, net::Family family, std::string ns);

  void MakeNamespace();
  // Creates the object, or patches it to what is said here as `kubectl apply` would. A Service that
  // says nothing of families gets the run's.
  void Put(Json object);
  // Replaces the Service's EndpointSlices: the step `endpoints` (README.md).
  void SetEndpoints(const std::string& service, const Json& list);
  // `object`: "Service/web". Merge patch.
  void Patch(const std::string& object, Json change);
  // Throws std::invalid_argument when there is none.
  void Delete(const std::string& object);

  // As last seen, kept when deleted. Throws std::invalid_argument for one that was never put.
  const Json& Service(const std::string& name) const;
  // Addresses that the API gave to the case's Services.
  const std::vector<std::string>& cluster_ips() const { return cluster_ips_; }
  // "": the Service or Node has such an Event. Else those that it has, for a person.
  std::string LookForEvent(const EventStep& step) const;

  // Deletes them all and puts Nodes back.
  void CleanUp();

 private:
  void PutSlice(const std::string& service, net::Family family, const Json& list);

  Arena& arena_;
  const net::Family family_;
  const std::string namespace_;
  std::map<std::string, Json> services_;
  std::vector<std::string> cluster_ips_;
  std::vector<std::pair<kube::Resource, std::string>> objects_;
  std::map<std::string, Json> nodes_before_;  // labels, annotations, taints
};

}  // namespace pointsman::e2e
