#include "e2e/testbed/node/command.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <sys/mount.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "e2e/testbed/node/system_call.h"

extern char** environ;

namespace pointsman::e2e {

using nlohmann::json;

Command::Command(const json& request) {
  argv = request.at("argv").get<std::vector<std::string>>();
  if (argv.empty()) throw std::invalid_argument("argv is empty");
  for (char** item = environ; *item != nullptr; ++item)
    environment.emplace_back(*item);
  const json added = request.value("env", json::object());
  for (const auto& [name, value] : added.items()) {
    std::erase_if(environment,
                  [&name = name](const auto& item) { return item.starts_with(name + "="); });
    environment.push_back(name + "=" + value.get<std::string>());
  }
  for (auto& item : argv)
    argv_pointers.push_back(item.data());
  for (auto& item : environment)
    environment_pointers.push_back(item.data());
  argv_pointers.push_back(nullptr);
  environment_pointers.push_back(nullptr);
  cwd = request.value("cwd", "/");
  for (const auto& mount : request.value("mounts", json::array())) {
    mounts.emplace_back(mount.at("from"), mount.at("to"));
    std::filesystem::create_directories(mounts.back().second);
  }
  if (const std::string name = request.value("netns", ""); !name.empty()) {
    netns = UniqueFd(open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC));
    if (!netns.valid()) ThrowErrno("network namespace " + name);
  }
}

void Command::Exec(int in, int out, int error) {
  setsid();
  if (netns.valid() && setns(netns.get(), CLONE_NEWNET) != 0) _exit(126);
  if (!mounts.empty() && unshare(CLONE_NEWNS) != 0) _exit(126);
  for (const auto& [from, to] : mounts) {
    if (mount(from.c_str(), to.c_str(), nullptr, MS_BIND, nullptr) != 0) _exit(126);
  }
  if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(error, 2) < 0 || chdir(cwd.c_str()) != 0)
    _exit(126);
  close_range(3, ~0U, 0);
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): a child with one thread.
  execvpe(argv_pointers[0], argv_pointers.data(), environment_pointers.data());
  // NOLINTNEXTLINE(concurrency-mt-unsafe): as above.
  const char* text = strerror(errno);
  (void)!write(2, argv_pointers[0], strlen(argv_pointers[0]));
  (void)!write(2, ": ", 2);
  (void)!write(2, text, strlen(text));
  (void)!write(2, "\n", 1);
  _exit(errno == ENOENT ? 127 : 126);
}

}  // namespace pointsman::e2e
