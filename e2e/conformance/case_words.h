// $(…) in the strings of a case. What there is to replace is in README.md.
#pragma once

#include <string>
#include <vector>

#include "e2e/conformance/arena.h"
#include "e2e/conformance/case_objects.h"

namespace pointsman::e2e {

// All throw std::invalid_argument for a word that is not known.
class CaseWords {
 public:
  // Both outlive this.
  CaseWords(Arena& arena, const CaseObjects& objects, net::Family family, std::string ns);

  std::string Expand(const std::string& text) const;
  std::vector<std::string> ExpandEach(const std::vector<std::string>& texts) const;
  // Every string in it.
  Json ExpandAll(const Json& value) const;
  std::string Lookup(const std::string& word) const;
  // The address of the run's family in a list of addresses or of load balancer ingresses.
  std::string OfFamily(const Json& list, const std::string& what) const;

 private:
  Arena& arena_;
  const CaseObjects& objects_;
  const net::Family family_;
  const std::string namespace_;
};

}  // namespace pointsman::e2e
