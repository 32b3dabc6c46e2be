#include "e2e/control-plane/store/store.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <deque>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "e2e/control-plane/base/api_time.h"
#include "e2e/control-plane/store/log.h"

namespace pointsman::e2e {
namespace {

// What a record of the log begins with.
constexpr char kPut = 'P';       // an object was written
constexpr char kDelete = 'D';    // an object was removed
constexpr char kSnapshot = 'S';  // an object, as a compaction found it: no event
constexpr char kVersion = 'V';   // the version at which a compaction took place

std::string KeyOf(std::string_view ns, std::string_view name) {
  std::string key;
  key.reserve(ns.size() + name.size() + 1);
  if (!ns.empty()) key.append(ns).push_back('/');
  return key.append(name);
}

std::string StringAt(const Json& object, const char* field) {
  const auto found = object.find(field);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string NewUid() {
  unsigned char b[16];
  if (getrandom(b, sizeof(b), 0) != sizeof(b)) {
    throw std::system_error(errno, std::generic_category(), "getrandom");
  }
  b[6] = static_cast<unsigned char>((b[6] & 0x0f) | 0x40);
  b[8] = static_cast<unsigned char>((b[8] & 0x3f) | 0x80);
  std::string uid;
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) uid += '-';
    uid += "0123456789abcdef"[b[i] >> 4];
    uid += "0123456789abcdef"[b[i] & 15];
  }
  return uid;
}

std::pair<std::string, std::string> SplitName(const ResourceName& resource) {
  const auto slash = resource.rfind('/');
  if (slash == std::string::npos) return {"", resource};
  return {resource.substr(0, slash), resource.substr(slash + 1)};
}

}  // namespace

struct Store::Impl {
  class Queue;

  struct Resource {
    std::map<std::string, ObjectPtr, std::less<>> objects;  // what everybody sees
    // Writes on their way to disk; null: removal. Only writers look here.
    std::unordered_map<std::string, ObjectPtr> pending;
    std::deque<StoreEvent> history;
    std::uint64_t floor = 0;  // every event above it is in history
    FieldIndexer indexer;
    std::vector<Queue*> queues;
  };

  struct PendingWrite {
    Resource* resource;
    std::string key;
    StoreEvent event;
  };

  class Queue : public Subscription {
   public:
    Queue(Impl& impl, Resource& resource, std::size_t limit)
        : impl_(impl),
          resource_(resource),
          limit_(limit),
          fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
      if (!fd_) throw std::system_error(errno, std::generic_category(), "eventfd");
    }
    ~Queue() override {
      const std::lock_guard lock(impl_.mutex);
      std::erase(resource_.queues, this);
    }
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;

    void Push(const StoreEvent& event) {
      {
        const std::lock_guard lock(mutex_);
        if (stopped_) return;
        if (events_.size() >= limit_) {
          overflowed_ = true;
          stopped_ = true;
        } else {
          events_.push_back(event);
        }
      }
      Wake();
    }

    std::optional<StoreEvent> Next(std::chrono::milliseconds timeout) override {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, timeout, [&] { return stopped_ || !events_.empty(); });
      return Take();
    }
    std::optional<StoreEvent> TryNext() override {
      const std::lock_guard lock(mutex_);
      return Take();
    }
    int fd() const override { return fd_.get(); }
    void Stop() override {
      {
        const std::lock_guard lock(mutex_);
        stopped_ = true;
      }
      Wake();
    }
    bool Stopped() const override {
      const std::lock_guard lock(mutex_);
      return stopped_;
    }
    bool Overflowed() const override {
      const std::lock_guard lock(mutex_);
      return overflowed_;
    }
    std::uint64_t Progress() const override {
      const std::lock_guard lock(impl_.mutex);
      return impl_.durable;
    }

   private:
    std::optional<StoreEvent> Take() {
      if (stopped_ || events_.empty()) return std::nullopt;
      std::optional<StoreEvent> event(std::move(events_.front()));
      events_.pop_front();
      if (events_.empty()) {
        std::uint64_t ignored = 0;
        // EAGAIN: nothing was signalled, which is as good.
        [[maybe_unused]] const ssize_t n = ::read(fd_.get(), &ignored, sizeof(ignored));
      }
      return event;
    }
    void Wake() {
      const std::uint64_t one = 1;
      // EAGAIN: the counter is full, so the descriptor is readable already.
      [[maybe_unused]] const ssize_t n = ::write(fd_.get(), &one, sizeof(one));
      changed_.notify_one();
    }

    Impl& impl_;
    Resource& resource_;
    const std::size_t limit_;
    const UniqueFd fd_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<StoreEvent> events_;
    bool stopped_ = false;
    bool overflowed_ = false;
  };

  explicit Impl(Options o) : options(std::move(o)) {
    if (options.data_dir.empty()) return;
    std::filesystem::create_directories(options.data_dir);
    log = std::make_unique<Log>(options.data_dir / "store.log",
                                [this](std::string_view payload) { Replay(payload); });
    durable = newest;
    watch_floor = newest;
    compact_at = std::max<std::uint64_t>(options.compact_after_bytes, 2 * log->size());
    committer = std::thread([this] { CommitLoop(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    work_to_do.notify_all();
    if (committer.joinable()) committer.join();
  }

  static std::string PayloadOf(char kind, std::uint64_t version, std::string_view resource,
                               std::string_view ns, std::string_view name, std::string_view json) {
    std::string payload(1, kind);
    payload.append(reinterpret_cast<const char*>(&version), sizeof(version));
    for (const std::string_view part : {resource, ns, name}) {
      payload.append(part).push_back('\0');
    }
    return payload.append(json);
  }

  void Replay(std::string_view payload) {
    const char kind = payload.at(0);
    std::uint64_t version = 0;
    if (payload.size() < 9) throw std::runtime_error("store.log: a record is too short");
    std::memcpy(&version, payload.data() + 1, sizeof(version));
    payload.remove_prefix(9);
    std::string_view parts[3];
    for (std::string_view& part : parts) {
      const auto end = payload.find('\0');
      if (end == std::string_view::npos) throw std::runtime_error("store.log: a record is cut");
      part = payload.substr(0, end);
      payload.remove_prefix(end + 1);
    }
    newest = std::max(newest, version);
    if (kind == kVersion) {
      base_floor = version;
      for (auto& [name, resource] : resources)
        resource->floor = version;
      return;
    }
    Resource& resource = ResourceOf(std::string(parts[0]));
    const std::string key = KeyOf(parts[1], parts[2]);
    const auto present = resource.objects.find(key);
    StoreEvent event;
    event.resource_version = version;
    if (present != resource.objects.end()) event.previous = present->second;
    if (kind == kDelete) {
      if (!event.previous) throw std::runtime_error("store.log: removal of what is not there");
      event.type = EventType::kDeleted;
      Json last = event.previous->Parse();
      event.object = Make(resource, last, version);
    } else {
      event.type = event.previous ? EventType::kModified : EventType::kAdded;
      auto object = std::make_shared<StoredObject>();
      object->json = std::string(payload);
      Index(resource, object->Parse(), *object);
      object->resource_version = version;
      event.object = std::move(object);
    }
    if (kind == kSnapshot) {
      resource.objects[key] = event.object;
    } else {
      Apply(resource, key, event);
    }
  }

  Resource& ResourceOf(const ResourceName& name) {
    auto& slot = resources[name];
    if (!slot) {
      slot = std::make_unique<Resource>();
      slot->floor = base_floor;
    }
    return *slot;
  }

  static void Index(const Resource& resource, const Json& object, StoredObject& stored) {
    const auto metadata = object.find("metadata");
    if (metadata == object.end() || !metadata->is_object()) {
      throw std::invalid_argument("metadata: an object in the store needs it");
    }
    stored.name = StringAt(*metadata, "name");
    stored.ns = StringAt(*metadata, "namespace");
    stored.uid = StringAt(*metadata, "uid");
    if (stored.name.empty()) throw std::invalid_argument("metadata.name: must not be empty");
    stored.labels.clear();
    if (const auto labels = metadata->find("labels");
        labels != metadata->end() && labels->is_object()) {
      for (const auto& [key, value] : labels->items()) {
        stored.labels.emplace_back(key, value.is_string() ? value.get<std::string>() : "");
      }
    }
    stored.fields.clear();
    if (resource.indexer) stored.fields = resource.indexer(object);
  }

  static ObjectPtr Make(const Resource& resource, Json& object, std::uint64_t version) {
    auto stored = std::make_shared<StoredObject>();
    Index(resource, object, *stored);
    object["metadata"]["resourceVersion"] = std::to_string(version);
    stored->resource_version = version;
    stored->json = object.dump();
    return stored;
  }

  // The state writers build on.
  static ObjectPtr Head(const Resource& resource, const std::string& key) {
    if (const auto p = resource.pending.find(key); p != resource.pending.end()) return p->second;
    const auto found = resource.objects.find(key);
    return found == resource.objects.end() ? nullptr : found->second;
  }

  void Apply(Resource& resource, const std::string& key, const StoreEvent& event) {
    if (event.type == EventType::kDeleted) {
      resource.objects.erase(key);
    } else {
      resource.objects[key] = event.object;
    }
    resource.history.push_back(event);
    while (resource.history.size() > options.history_per_resource) {
      resource.floor = resource.history.front().resource_version;
      resource.history.pop_front();
    }
    for (Queue* queue : resource.queues)
      queue->Push(event);
  }

  // Called with the lock held, which it gives up while it waits for the disk.
  void Write(std::unique_lock<std::mutex>& lock, const ResourceName& name, Resource& resource,
             const std::string& key, StoreEvent event) {
    if (failed) std::rethrow_exception(failed);
    if (!log) {
      durable = event.resource_version;
      Apply(resource, key, event);
      return;
    }
    const bool removal = event.type == EventType::kDeleted;
    Log::Frame(PayloadOf(removal ? kDelete : kPut, event.resource_version, name, event.object->ns,
                         event.object->name, removal ? std::string_view() : event.object->json),
               buffer);
    resource.pending[key] = removal ? nullptr : event.object;
    const std::uint64_t version = event.resource_version;
    writes.push_back({&resource, key, std::move(event)});
    work_to_do.notify_one();
    written.wait(lock, [&] { return durable >= version || failed; });
    if (durable < version) std::rethrow_exception(failed);
  }

  void CommitLoop() {
    std::unique_lock lock(mutex);
    for (;;) {
      work_to_do.wait(lock, [&] { return stopping || !writes.empty(); });
      if (writes.empty()) return;
      std::vector<PendingWrite> batch;
      std::string bytes;
      batch.swap(writes);
      bytes.swap(buffer);
      lock.unlock();
      std::exception_ptr error;
      try {
        log->Append(bytes);
      } catch (const std::exception& e) {
        spdlog::critical("the store cannot write any more: {}", e.what());
        error = std::current_exception();
      }
      lock.lock();
      if (error) {
        failed = error;
        written.notify_all();
        return;
      }
      for (PendingWrite& write : batch) {
        const auto p = write.resource->pending.find(write.key);
        const ObjectPtr now =
            write.event.type == EventType::kDeleted ? nullptr : write.event.object;
        if (p != write.resource->pending.end() && p->second == now) {
          write.resource->pending.erase(p);
        }
        durable = write.event.resource_version;
        Apply(*write.resource, write.key, write.event);
      }
      written.notify_all();
      if (log->size() > compact_at && writes.empty()) Compact();
    }
  }

  void Compact() {
    try {
      log->Rewrite([&](const std::function<void(std::string_view)>& out) {
        std::string framed;
        for (const auto& [name, resource] : resources) {
          for (const auto& [key, object] : resource->objects) {
            Log::Frame(PayloadOf(kSnapshot, object->resource_version, name, object->ns,
                                 object->name, object->json),
                       framed);
            if (framed.size() > (1u << 20)) {
              out(framed);
              framed.clear();
            }
          }
        }
        Log::Frame(PayloadOf(kVersion, durable, "", "", "", ""), framed);
        out(framed);
      });
    } catch (const std::exception& e) {
      spdlog::error("the store's log could not be compacted, it goes on growing: {}", e.what());
    }
    compact_at = std::max<std::uint64_t>(options.compact_after_bytes, 2 * log->size());
  }

  // Whether every event after `version` is known.
  static void RequireHistory(std::uint64_t floor, std::uint64_t version) {
    if (version < floor) {
      throw Expired("too old resource version: " + std::to_string(version) + " (" +
                    std::to_string(floor) + ")");
    }
  }

  Options options;
  mutable std::mutex mutex;
  std::condition_variable work_to_do;
  std::condition_variable written;
  std::map<ResourceName, std::unique_ptr<Resource>> resources;
  std::unique_ptr<Log> log;
  std::string buffer;
  std::vector<PendingWrite> writes;
  std::exception_ptr failed;
  std::uint64_t newest = 1;   // the last version given out
  std::uint64_t durable = 1;  // the last version everybody may see
  std::uint64_t base_floor = 0;
  std::uint64_t watch_floor = 0;  // the version at the start
  std::uint64_t compact_at = 0;
  bool stopping = false;
  std::thread committer;
};

Store::Store(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Store::~Store() = default;

ObjectPtr Store::Get(const ResourceName& name, std::string_view ns,
                     std::string_view object_name) const {
  const std::string key = KeyOf(ns, object_name);
  const std::lock_guard lock(impl_->mutex);
  const auto resource = impl_->resources.find(name);
  if (resource == impl_->resources.end()) return nullptr;
  const auto found = resource->second->objects.find(key);
  return found == resource->second->objects.end() ? nullptr : found->second;
}

Snapshot Store::List(const ResourceName& resource, std::string_view ns) const {
  std::size_t remaining = 0;
  return ListPage(resource, ns, {}, 0, 0, remaining);
}

Snapshot Store::ListPage(const ResourceName& name, std::string_view ns, std::string_view after,
                         std::size_t limit, std::uint64_t at, std::size_t& remaining) const {
  remaining = 0;
  Snapshot snapshot;
  const std::lock_guard lock(impl_->mutex);
  Impl::Resource& resource = impl_->ResourceOf(name);
  if (at > impl_->durable) {
    throw StatusError(504, "Timeout",
                      "Too large resource version: " + std::to_string(at) +
                          ", current: " + std::to_string(impl_->durable));
  }
  snapshot.resource_version = at == 0 ? impl_->durable : at;

  // Going back to `at` is undoing the events after it.
  std::map<std::string, ObjectPtr> undone;
  if (at != 0 && at < impl_->durable) {
    Impl::RequireHistory(resource.floor, at);
    for (auto e = resource.history.rbegin();
         e != resource.history.rend() && e->resource_version > at; ++e) {
      undone[KeyOf(e->object->ns, e->object->name)] = e->previous;
    }
  }

  std::string first(after);
  std::string last;
  if (!ns.empty()) {
    const std::string prefix = std::string(ns) + "/";
    if (first < prefix) first = prefix;
    last = std::string(ns) + "0";  // '0' is the character after '/'
  }
  const auto in_range = [&](const std::string& key) { return last.empty() || key < last; };
  auto present = resource.objects.lower_bound(first);
  if (present != resource.objects.end() && !after.empty() && present->first == after) ++present;
  auto old = undone.lower_bound(first);
  if (old != undone.end() && !after.empty() && old->first == after) ++old;
  const auto take_one = [&](const ObjectPtr& object) {
    if (limit != 0 && snapshot.objects.size() >= limit) {
      ++remaining;
    } else {
      snapshot.objects.push_back(object);
    }
  };
  while (true) {
    const bool more_present = present != resource.objects.end() && in_range(present->first);
    const bool more_old = old != undone.end() && in_range(old->first);
    if (!more_present && !more_old) break;
    if (more_old && (!more_present || old->first <= present->first)) {
      if (more_present && old->first == present->first) ++present;
      if (old->second) take_one(old->second);
      ++old;
    } else {
      take_one(present->second);
      ++present;
    }
  }
  return snapshot;
}

ObjectPtr Store::Create(const ResourceName& name, Json object) {
  Json& metadata = object["metadata"];
  if (StringAt(metadata, "uid").empty()) metadata["uid"] = NewUid();
  if (StringAt(metadata, "creationTimestamp").empty()) {
    metadata["creationTimestamp"] = FormatTime(std::chrono::system_clock::now());
  }
  std::unique_lock lock(impl_->mutex);
  Impl::Resource& resource = impl_->ResourceOf(name);
  const std::string key = KeyOf(StringAt(metadata, "namespace"), StringAt(metadata, "name"));
  if (Impl::Head(resource, key)) {
    const auto [group, plural] = SplitName(name);
    throw AlreadyExists(group, plural, StringAt(metadata, "name"));
  }
  StoreEvent event;
  event.type = EventType::kAdded;
  event.object = Impl::Make(resource, object, impl_->newest + 1);
  event.resource_version = ++impl_->newest;
  ObjectPtr result = event.object;
  impl_->Write(lock, name, resource, key, std::move(event));
  return result;
}

ObjectPtr Store::Update(const ResourceName& name, Json object, std::uint64_t expected_version) {
  const auto [group, plural] = SplitName(name);
  Json& metadata = object["metadata"];
  const std::string object_name = StringAt(metadata, "name");
  const std::string key = KeyOf(StringAt(metadata, "namespace"), object_name);
  std::unique_lock lock(impl_->mutex);
  Impl::Resource& resource = impl_->ResourceOf(name);
  ObjectPtr before = Impl::Head(resource, key);
  if (!before) throw NotFound(group, plural, object_name);
  if (expected_version != 0 && before->resource_version != expected_version) {
    throw Conflict(group, plural, object_name,
                   "the object has been modified; please apply your changes to the latest version "
                   "and try again");
  }
  StoreEvent event;
  event.type = EventType::kModified;
  event.previous = before;
  // The text with the present version tells whether anything changes at all.
  ObjectPtr same = Impl::Make(resource, object, before->resource_version);
  if (same->json == before->json) {
    // Whoever is told "unchanged" must be able to read it.
    impl_->written.wait(
        lock, [&] { return impl_->durable >= before->resource_version || impl_->failed; });
    return before;
  }
  event.object = Impl::Make(resource, object, impl_->newest + 1);
  event.resource_version = ++impl_->newest;
  ObjectPtr result = event.object;
  impl_->Write(lock, name, resource, key, std::move(event));
  return result;
}

ObjectPtr Store::Modify(const ResourceName& resource, std::string_view ns, std::string_view name,
                        const std::function<bool(Json& object)>& change) {
  for (;;) {
    ObjectPtr present = Get(resource, ns, name);
    if (!present) return nullptr;
    Json object = present->Parse();
    if (!change(object)) return present;
    try {
      return Update(resource, std::move(object), present->resource_version);
    } catch (const StatusError& e) {
      if (e.code() == 404) return nullptr;
      if (e.code() != 409) throw;
    }
  }
}

ObjectPtr Store::Remove(const ResourceName& name, std::string_view ns, std::string_view object_name,
                        std::uint64_t expected_version) {
  const auto [group, plural] = SplitName(name);
  const std::string key = KeyOf(ns, object_name);
  std::unique_lock lock(impl_->mutex);
  Impl::Resource& resource = impl_->ResourceOf(name);
  const ObjectPtr before = Impl::Head(resource, key);
  if (!before) throw NotFound(group, plural, std::string(object_name));
  if (expected_version != 0 && before->resource_version != expected_version) {
    throw Conflict(group, plural, std::string(object_name),
                   "the object has been modified; please apply your changes to the latest version "
                   "and try again");
  }
  StoreEvent event;
  event.type = EventType::kDeleted;
  event.previous = before;
  Json last = before->Parse();
  event.object = Impl::Make(resource, last, impl_->newest + 1);
  event.resource_version = ++impl_->newest;
  ObjectPtr result = event.object;
  impl_->Write(lock, name, resource, key, std::move(event));
  return result;
}

std::unique_ptr<Subscription> Store::Watch(const ResourceName& name, std::uint64_t from,
                                           std::size_t limit) {
  const std::lock_guard lock(impl_->mutex);
  Impl::Resource& resource = impl_->ResourceOf(name);
  // kube-apiserver's watch cache begins anew with each start.
  Impl::RequireHistory(std::max(resource.floor, impl_->watch_floor), from);
  if (from > impl_->durable) {
    throw StatusError(504, "Timeout",
                      "Too large resource version: " + std::to_string(from) +
                          ", current: " + std::to_string(impl_->durable));
  }
  const auto first = std::upper_bound(
      resource.history.begin(), resource.history.end(), from,
      [](std::uint64_t version, const StoreEvent& e) { return version < e.resource_version; });
  const auto backlog = static_cast<std::size_t>(resource.history.end() - first);
  auto queue = std::make_unique<Impl::Queue>(*impl_, resource, limit + backlog);
  for (auto e = first; e != resource.history.end(); ++e)
    queue->Push(*e);
  resource.queues.push_back(queue.get());
  return queue;
}

std::unique_ptr<Subscription> Store::ListAndWatch(const ResourceName& name, Snapshot& snapshot,
                                                  std::size_t limit) {
  const std::lock_guard lock(impl_->mutex);
  Impl::Resource& resource = impl_->ResourceOf(name);
  snapshot.objects.clear();
  for (const auto& [key, object] : resource.objects)
    snapshot.objects.push_back(object);
  snapshot.resource_version = impl_->durable;
  auto queue = std::make_unique<Impl::Queue>(*impl_, resource, limit);
  resource.queues.push_back(queue.get());
  return queue;
}

std::uint64_t Store::ResourceVersion() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->durable;
}

std::vector<ResourceName> Store::Resources() const {
  std::vector<ResourceName> names;
  const std::lock_guard lock(impl_->mutex);
  for (const auto& [name, resource] : impl_->resources)
    names.push_back(name);
  return names;
}

void Store::ExpireHistory() {
  const std::lock_guard lock(impl_->mutex);
  impl_->base_floor = impl_->durable;
  for (auto& [name, resource] : impl_->resources) {
    resource->history.clear();
    resource->floor = impl_->durable;
  }
}

void Store::StopSubscriptions() {
  const std::lock_guard lock(impl_->mutex);
  for (auto& [name, resource] : impl_->resources) {
    for (Impl::Queue* queue : resource->queues)
      queue->Stop();
  }
}

void Store::SetFieldIndexer(const ResourceName& name, FieldIndexer indexer) {
  const std::lock_guard lock(impl_->mutex);
  Impl::Resource& resource = impl_->ResourceOf(name);
  resource.indexer = std::move(indexer);
  for (auto& [key, object] : resource.objects) {
    auto again = std::make_shared<StoredObject>(*object);
    again->fields = resource.indexer(object->Parse());
    object = std::move(again);
  }
}

}  // namespace pointsman::e2e
