// Linux capabilities as Pods name them: "NET_ADMIN", without the prefix.
#pragma once

#include <optional>
#include <set>
#include <string>

namespace pointsman::e2e {

// linux/capability.h's number; nullopt: there is no such capability.
std::optional<int> CapabilityNumber(const std::string& name);

// What containerd gives a container that asks for nothing (oci/spec.go, defaultUnixCaps).
const std::set<std::string>& DefaultCapabilities();
std::set<std::string> AllCapabilities();

// For the calling thread, whose user becomes `uid`: bounding, permitted and effective set are
// exactly `names`; nothing is inheritable or ambient, so that a program executed as another user
// than root has none. Throws std::system_error.
void BecomeUserWithCapabilities(unsigned uid, unsigned gid, const std::set<unsigned>& groups,
                                const std::set<std::string>& names);

}  // namespace pointsman::e2e
