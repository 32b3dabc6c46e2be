// A network interface that is there for its name alone: others look whether there is one.
#pragma once

#include <string>

namespace pointsman::agent {

// A dummy interface, down and without addresses. It has the alias "pointsman", by which each
// process of ours knows it; one of that name without it is somebody else's, and neither changed nor
// removed. Works in the network namespace of the calling thread. All throw std::system_error.
class MarkerLink {
 public:
  static constexpr const char* kAlias = "pointsman";

  // `made_as`: a name of ours, which it has until it has the alias: killed in between, no interface
  // called `name` is left that nobody knows the owner of.
  MarkerLink(std::string name, std::string made_as)
      : name_(std::move(name)), made_as_(std::move(made_as)) {}

  const std::string& name() const { return name_; }
  // Is there one of that name, whoever made it?
  bool Present() const;
  // Nothing where it is present.
  void Make();
  // Ours. One that has addresses is somebody's who found it there (kube-proxy binds cluster IPs to
  // kube-ipvs0): it stays, as theirs.
  void Remove();

 private:
  const std::string name_;
  const std::string made_as_;
};

}  // namespace pointsman::agent
