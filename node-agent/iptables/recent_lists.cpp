#include "node-agent/iptables/recent_lists.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <ctime>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <unordered_set>

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include "base/throw_errno.h"
#include "base/unique_fd.h"
#include "kube/text/text.h"
#include "node-agent/dataplane/binding_collector.h"
#include "node-agent/iptables/recent_line.h"
#include "node-agent/xtables/service_rules.h"

namespace pointsman::agent {
namespace {

constexpr char kMostClientsFile[] = "/sys/module/xt_recent/parameters/ip_list_tot";
constexpr size_t kMostClientsDefault = 100;  // what a kernel has that was told nothing
// A list with as much room loses no client to the one that tells the time, even if others come at
// the same moment.
constexpr size_t kRoomForClock = 10;
constexpr size_t kMostProblems = 20;

using Client = RecentClient;

// One backend's.
struct BackendList {
  std::string name;
  EntryPtr entry;
  Backend backend;

  // Not /proc/net: that is the network namespace of the process's first thread.
  std::string path() const { return "/proc/thread-self/net/xt_recent/" + name; }
};

// No client has it.
bool IsClock(const net::IpAddress& ip) {
  return ip.IsUnspecified();
}

double JiffiesPerSecond() {
  // This clock moves once a jiffy (kernel/time/posix-timers.c, posix_get_coarse_res).
  timespec step{};
  if (::clock_getres(CLOCK_MONOTONIC_COARSE, &step) != 0) {
    throw std::system_error(errno, std::generic_category(), "clock_getres");
  }
  return std::round(1e9 /
                    (static_cast<double>(step.tv_sec) * 1e9 + static_cast<double>(step.tv_nsec)));
}

// How many clients a list holds.
size_t MostClients() {
  std::ifstream file(kMostClientsFile);
  size_t most = 0;
  return file >> most && most > 0 ? most : kMostClientsDefault;
}

// nullopt: there is no such list.
std::optional<std::vector<Client>> Read(const BackendList& list) {
  std::ifstream file(list.path());
  if (!file) {
    if (errno == ENOENT) return std::nullopt;
    ThrowErrno(list.path());
  }
  std::vector<Client> clients;
  for (std::string line; std::getline(file, line);) {
    const std::optional<Client> client = ParseRecentLine(line);
    if (!client) {
      throw std::runtime_error(fmt::format("{} has a line that is not as we know it: {}",
                                           list.path(), text::Quote(line, 200)));
    }
    clients.push_back(*client);
  }
  if (file.bad()) ThrowErrno(list.path());
  return clients;
}

class ListWriter {
 public:
  explicit ListWriter(const BackendList& list)
      : path_(list.path()), fd_(::open(path_.c_str(), O_WRONLY | O_CLOEXEC)) {
    if (!fd_) ThrowErrno(path_);
  }

  // Adds it, or renews the time of one that is there.
  void Add(const net::IpAddress& ip) { Write("+" + ip.ToString()); }
  void Remove(const net::IpAddress& ip) { Write("-" + ip.ToString()); }

 private:
  void Write(const std::string& text) const {
    // The kernel takes one address a write and only at the file's beginning.
    if (::lseek(fd_.get(), 0, SEEK_SET) != 0 ||
        ::write(fd_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      ThrowErrno(path_);
    }
  }

  const std::string path_;
  const UniqueFd fd_;
};

// When `client` of the list, which is there, was seen last.
Jiffies LastSeen(const BackendList& list, const net::IpAddress& client) {
  if (const auto clients = Read(list)) {
    for (const Client& each : *clients) {
      if (each.ip == client) return each.last_seen;
    }
  }
  throw std::runtime_error(
      fmt::format("{}: {} was added and is not there", list.path(), client.ToString()));
}

// How much of the affinity time-out is left, in jiffies; 0 or less: it has ended.
int64_t Left(const BackendList& list, Jiffies last_seen, Jiffies now, double per_second) {
  return JiffiesLeft(
      last_seen, now,
      static_cast<int64_t>(static_cast<double>(list.entry->affinity_timeout.count()) * per_second));
}

// The kernel's clock; nullopt: no list has a client.
std::optional<Jiffies> Now(const std::vector<BackendList>& lists, double per_second) {
  const size_t most = MostClients();
  const BackendList* list_of_newest = nullptr;
  Client newest;
  for (const BackendList& list : lists) {
    const std::optional<std::vector<Client>> clients = Read(list);
    if (!clients) continue;
    if (clients->size() + kRoomForClock <= most) {
      const net::IpAddress clock;
      ListWriter writer(list);
      writer.Add(clock);
      const Jiffies now = LastSeen(list, clock);
      writer.Remove(clock);
      return now;
    }
    for (const Client& client : *clients) {
      if (list_of_newest == nullptr ||
          static_cast<std::make_signed_t<Jiffies>>(client.last_seen - newest.last_seen) > 0) {
        list_of_newest = &list;
        newest = client;
      }
    }
  }
  if (list_of_newest == nullptr) return std::nullopt;
  ListWriter writer(*list_of_newest);
  writer.Add(newest.ip);
  const Jiffies now = LastSeen(*list_of_newest, newest.ip);
  // Its time had ended already, so it must not begin anew.
  if (IsClock(newest.ip) || Left(*list_of_newest, newest.last_seen, now, per_second) <= 0) {
    writer.Remove(newest.ip);
  }
  return now;
}

// Those of all backends that any class of the entry's traffic may go to.
std::vector<BackendList> ListsOf(const EntryPtr& entry) {
  std::vector<Backend> backends;
  for (const BackendChoice* choice :
       {&entry->internal, &entry->external, &entry->external_from_node}) {
    backends.insert(backends.end(), choice->backends.begin(), choice->backends.end());
  }
  std::sort(backends.begin(), backends.end());
  backends.erase(std::unique(backends.begin(), backends.end(),
                             [](const Backend& a, const Backend& b) {
                               return a.ip == b.ip && a.port == b.port;
                             }),
                 backends.end());
  std::vector<BackendList> lists;
  lists.reserve(backends.size());
  for (const Backend& backend : backends)
    lists.push_back({xtables::AffinityList(entry->id, backend), entry, backend});
  return lists;
}

bool HasAffinity(const ServicePortEntry& entry, net::Family family) {
  return entry.id.family == family && entry.affinity_timeout.count() > 0;
}

// A client that connected after the lists were read, and before it was written to one, is in two
// now. The packet decides, as everywhere.
void TakeBackDoubles(const std::vector<BackendList>& lists,
                     const std::unordered_map<net::IpAddress, size_t>& written,
                     std::optional<Jiffies> now, double per_second) {
  for (size_t i = 0; i < lists.size(); ++i) {
    const auto clients = Read(lists[i]);
    if (!clients) continue;
    for (const Client& client : *clients) {
      const auto ours = written.find(client.ip);
      if (ours == written.end() || ours->second == i ||
          (now && Left(lists[i], client.last_seen, *now, per_second) <= 0)) {
        continue;
      }
      ListWriter(lists[ours->second]).Remove(client.ip);
    }
  }
}

// Of one Service port.
SyncResult Write(const std::vector<BackendList>& lists,
                 const std::vector<const ClientBinding*>& bindings, std::optional<Jiffies> now,
                 double per_second, size_t most) {
  SyncResult result;
  const ServicePortEntry& entry = *lists.front().entry;
  std::unordered_set<net::IpAddress> bound;  // here already, and to be
  std::vector<size_t> bound_in(lists.size());
  for (size_t i = 0; i < lists.size(); ++i) {
    const auto clients = Read(lists[i]);
    if (!clients) continue;
    for (const Client& client : *clients) {
      if (!now || IsClock(client.ip) || Left(lists[i], client.last_seen, *now, per_second) <= 0)
        continue;
      bound.insert(client.ip);
      ++bound_in[i];
    }
  }
  std::vector<std::vector<const ClientBinding*>> to_add(lists.size());
  for (const ClientBinding* binding : bindings) {
    const auto list = std::find_if(lists.begin(), lists.end(), [&](const BackendList& each) {
      return each.backend.ip == binding->backend_ip && each.backend.port == binding->backend_port;
    });
    if (list != lists.end() && bound.insert(binding->client).second)
      to_add[static_cast<size_t>(list - lists.begin())].push_back(binding);
  }
  size_t too_many = 0;
  std::unordered_map<net::IpAddress, size_t> written;
  for (size_t i = 0; i < lists.size(); ++i) {
    if (to_add[i].empty()) continue;
    // A list that is full forgets who was seen first. Those whose time has ended go before others.
    std::stable_sort(to_add[i].begin(), to_add[i].end(),
                     [](const auto* a, const auto* b) { return a->left < b->left; });
    const size_t room = most - std::min(most, bound_in[i]);
    const size_t surplus = to_add[i].size() - std::min(to_add[i].size(), room);
    too_many += surplus;
    try {
      ListWriter writer(lists[i]);
      for (size_t at = surplus; at < to_add[i].size(); ++at) {
        writer.Add(to_add[i][at]->client);
        written.emplace(to_add[i][at]->client, i);
        ++result.kernel_writes;
      }
    } catch (const std::system_error& error) {
      result.problems.push_back(
          {entry.id.ToString(),
           fmt::format("sessionAffinity of {}:{}: {}", lists[i].backend.ip.ToString(),
                       lists[i].backend.port, error.what())});
    }
  }
  if (!written.empty()) TakeBackDoubles(lists, written, now, per_second);
  if (too_many > 0) {
    result.problems.push_back(
        {entry.id.ToString(),
         fmt::format("sessionAffinity: {} clients have no room in the lists of module xt_recent, "
                     "which hold {} a backend (ip_list_tot)",
                     too_many, most)});
  }
  return result;
}

}  // namespace

std::vector<ClientBinding> ReadRecentBindings(const ServiceModel& model, net::Family family,
                                              size_t most) {
  std::vector<BackendList> lists;
  for (const auto& [id, entry] : model.entries) {
    if (!HasAffinity(*entry, family)) continue;
    std::vector<BackendList> more = ListsOf(entry);
    std::move(more.begin(), more.end(), std::back_inserter(lists));
  }
  const double per_second = JiffiesPerSecond();
  const std::optional<Jiffies> now = Now(lists, per_second);
  if (!now) return {};
  BindingCollector bindings(most);
  const ServicePortEntry* last = nullptr;
  for (const BackendList& list : lists) {
    // A client may be in another list of the same Service port too.
    if (bindings.full() && list.entry.get() != last) break;
    last = list.entry.get();
    const auto clients = Read(list);
    if (!clients) continue;
    for (const Client& client : *clients) {
      const int64_t left = Left(list, client.last_seen, *now, per_second);
      if (left <= 0 || IsClock(client.ip)) continue;
      bindings.Add({list.entry, client.ip, list.backend.ip, list.backend.port},
                   std::chrono::milliseconds(static_cast<int64_t>(
                       std::ceil(static_cast<double>(left) * 1e3 / per_second))));
    }
  }
  return bindings.Take();
}

SyncResult WriteRecentBindings(const ServiceModel& model, net::Family family,
                               const std::vector<ClientBinding>& bindings) {
  std::unordered_map<ServicePortId, std::vector<const ClientBinding*>, ServicePortIdHash> by_entry;
  for (const ClientBinding& binding : bindings) {
    if (binding.entry->id.family == family) by_entry[binding.entry->id].push_back(&binding);
  }
  const double per_second = JiffiesPerSecond();
  const size_t most = MostClients();
  std::vector<std::pair<std::vector<BackendList>, const std::vector<const ClientBinding*>*>> todo;
  std::vector<BackendList> all;
  for (const auto& [id, clients] : by_entry) {
    const auto entry = model.entries.find(id);
    if (entry == model.entries.end() || !HasAffinity(*entry->second, family)) continue;
    std::vector<BackendList> lists = ListsOf(entry->second);
    if (lists.empty()) continue;
    all.insert(all.end(), lists.begin(), lists.end());
    todo.emplace_back(std::move(lists), &clients);
  }
  const std::optional<Jiffies> now = Now(all, per_second);
  SyncResult result;
  for (const auto& [lists, clients] : todo) {
    SyncResult part = Write(lists, *clients, now, per_second, most);
    if (result.problems.size() >= kMostProblems) part.problems.clear();
    result.Add(std::move(part));
  }
  return result;
}

}  // namespace pointsman::agent
