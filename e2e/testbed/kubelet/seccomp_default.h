// A seccomp filter in the spirit of the profile that container runtimes use for RuntimeDefault.
#pragma once

#include <set>
#include <string>

namespace pointsman::e2e {

// Installs it for the calling thread and what it executes. `capabilities` are those of the
// container ("NET_ADMIN"): as in containerd's profile a few calls come with one of them.
//
// Unlike that profile, which lists what is allowed, this lists what is refused (EPERM): the calls
// that containerd's leaves out for a container without further capabilities. Not emulated: calls
// that are refused only for certain arguments (personality, socket families, clone flags).
// Needs no_new_privs or CAP_SYS_ADMIN. Throws std::system_error. x86-64 only.
void InstallDefaultSeccompFilter(const std::set<std::string>& capabilities);

}  // namespace pointsman::e2e
