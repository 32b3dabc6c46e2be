#include "e2e/testbed/node/module_tree.h"

#include <algorithm>
#include <stdexcept>
#include <string_view>

#include "e2e/testbed/process.h"

namespace pointsman::e2e {
namespace {

namespace fs = std::filesystem;

bool Matches(std::string_view module, std::string_view pattern) {
  if (pattern.ends_with('*')) return module.starts_with(pattern.substr(0, pattern.size() - 1));
  return module == pattern;
}

}  // namespace

fs::path ModulesWithout(const fs::path& all, const std::vector<std::string>& without,
                        const fs::path& dir) {
  fs::path top = dir / "modules";
  if (fs::exists(top)) return top;
  for (const auto& release : fs::directory_iterator(all)) {
    const std::string version = release.path().filename();
    const fs::path to = dir / "modules.new" / "lib" / "modules" / version;
    fs::create_directories(to);
    for (auto entry = fs::recursive_directory_iterator(release.path());
         entry != fs::recursive_directory_iterator(); ++entry) {
      const fs::path relative = fs::relative(entry->path(), release.path());
      if (entry->is_directory()) {
        fs::create_directories(to / relative);
        continue;
      }
      std::string module = entry->path().stem();
      std::replace(module.begin(), module.end(), '-', '_');
      const bool hidden = entry->path().extension() == ".ko" &&
                          std::any_of(without.begin(), without.end(), [&](const auto& pattern) {
                            return Matches(module, pattern);
                          });
      const bool index = relative.parent_path().empty() &&
                         !relative.string().starts_with("modules.builtin") &&
                         relative != "modules.order";
      if (!hidden && !index) fs::create_symlink(entry->path(), to / relative);
    }
    SpawnOptions depmod;
    depmod.argv = {"depmod", "-b", (dir / "modules.new").string(), version};
    const RunResult result = Run(depmod);
    if (result.exit != 0)
      throw std::runtime_error("depmod -b " + (dir / "modules.new").string() + ": " + result.out);
  }
  fs::rename(dir / "modules.new" / "lib" / "modules", top);
  fs::remove_all(dir / "modules.new");
  return top;
}

}  // namespace pointsman::e2e
