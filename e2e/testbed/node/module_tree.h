// A test node's /lib/modules with some modules left out.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace pointsman::e2e {

// The directory that the node sees as /lib/modules: links to what is in `all`, but for the modules
// that match one of `without` ("ip_vs", "ip_vs_*"), in `dir`; made if it is not there yet. Throws.
std::filesystem::path ModulesWithout(const std::filesystem::path& all,
                                     const std::vector<std::string>& without,
                                     const std::filesystem::path& dir);

}  // namespace pointsman::e2e
