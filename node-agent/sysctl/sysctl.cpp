#include "node-agent/sysctl/sysctl.h"

#include <cerrno>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace pointsman::agent {
namespace {

// Set once, before threads are started.
std::string& Root() {
  static std::string root = "/proc/sys";
  return root;
}

// "net.ipv4.conf.eth0/100.x" → "/proc/sys/net/ipv4/conf/eth0.100/x"; "" for a name that would leave
// /proc/sys.
std::string PathOf(std::string_view name) {
  std::string path;
  if (name.empty() || name.front() == '.' || name.back() == '.' || name.front() == '/' ||
      name.find("..") != std::string_view::npos || name.find("//") != std::string_view::npos) {
    return "";
  }
  for (char c : name)
    path.push_back(c == '.' ? '/' : c == '/' ? '.' : c);
  if (path.find("/../") != std::string::npos || path.starts_with("../")) return "";
  return Root() + "/" + path;
}

std::string Message(std::string_view name, std::string_view action, int error) {
  return fmt::format("sysctl {}: {}: {}", name, action, std::generic_category().message(error));
}

}  // namespace

void SetSysctlRoot(std::string root) {
  Root() = std::move(root);
}

std::optional<std::string> ReadSysctl(std::string_view name, std::string* error) {
  const std::string path = PathOf(name);
  UniqueFd file(path.empty() ? -1 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[4096];
  ssize_t count = file.get() < 0 ? -1 : ::read(file.get(), buffer, sizeof buffer);
  if (count < 0) {
    if (error != nullptr) *error = Message(name, "read", path.empty() ? EINVAL : errno);
    return std::nullopt;
  }
  std::string value(buffer, static_cast<size_t>(count));
  while (!value.empty() && (value.back() == '\n' || value.back() == ' ' || value.back() == '\t')) {
    value.pop_back();
  }
  return value;
}

SysctlResult WriteSysctl(std::string_view name, std::string_view value) {
  SysctlResult result{.name = std::string(name)};
  // A parameter that can be written but not read is written.
  if (std::optional<std::string> old = ReadSysctl(name)) {
    result.old_value = *old;
    if (*old == value) return result;
  }
  const std::string path = PathOf(name);
  const std::string action = fmt::format("write {}", value);
  UniqueFd file(path.empty() ? -1 : ::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.get() < 0) {
    result.error = Message(name, action, path.empty() ? EINVAL : errno);
    return result;
  }
  ssize_t count = ::write(file.get(), value.data(), value.size());
  if (count < 0) {
    result.error = Message(name, action, errno);
  } else if (static_cast<size_t>(count) != value.size()) {
    result.error = Message(name, action, EINVAL);
  } else {
    result.changed = true;
  }
  return result;
}

}  // namespace pointsman::agent
