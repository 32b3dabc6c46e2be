// Which modules the running kernel has now, without making it load any.
#pragma once

#include <optional>
#include <string>

namespace pointsman::kube {

// Is that module loaded or built in? nullopt: that cannot be known, since the list of what is built
// in (lib/modules/RELEASE/modules.builtin below `modules_root`) is not there.
//
// To ask a subsystem for what a module brings would load it: ask this first, where a node that does
// not use it is to stay without. Cheap enough for twice a second: what is built in is read once.
// Thread-safe.
std::optional<bool> KernelHasModule(const std::string& name, const std::string& modules_root = "");

}  // namespace pointsman::kube
