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

#include "e2e/control-plane/registry/api_time.h"
#include "e2e/control-plane/store/log.h"

namespace pointsman::e2e {
namespace {

// What a record of the log begins with.
constexpr char kPut = 'P';       // an object was written
constexpr char kDelete = 'D';    // an object was removed
constexpr char kSnapshot = 'S';  // an object, as a compaction found it: no event
constexpr char kVersion = 'V';   // the version at which a compaction took place

std::string keyOf(std::string_view ns, std::string_view name) {
  std::string key;
  key.reserve(ns.size() + name.size() + 1);
  if (!ns.empty()) key.append(ns).push_back('/');
  return key.append(name);
}

std::string stringAt(const Json& object, const char* field) {
  const auto found = object.find(field);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string newUid() {
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

std::pair<std::string, std::string> splitName(const ResourceName& resource) {
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
      if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
    }
    ~Queue() override {
      {
        const std::lock_guard lock(impl_.mutex);
        std::erase(resource_.queues, this);
      }
      ::close(fd_);
    }
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;

    void push(const StoreEvent& event) {
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
      wake();
    }

    std::optional<StoreEvent> next(std::chrono::milliseconds timeout) override {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, timeout, [&] { return stopped_ || !events_.empty(); });
      return take();
    }
    std::optional<StoreEvent> tryNext() override {
      const std::lock_guard lock(mutex_);
      return take();
    }
    int fd() const override { return fd_; }
    void stop() override {
      {
        const std::lock_guard lock(mutex_);
        stopped_ = true;
      }
      wake();
    }
    bool stopped() const override {
      const std::lock_guard lock(mutex_);
      return stopped_;
    }
    bool overflowed() const override {
      const std::lock_guard lock(mutex_);
      return overflowed_;
    }
    std::uint64_t progress() const override {
      const std::lock_guard lock(impl_.mutex);
      return impl_.durable;
    }

   private:
    std::optional<StoreEvent> take() {
      if (stopped_ || events_.empty()) return std::nullopt;
      std::optional<StoreEvent> event(std::move(events_.front()));
      events_.pop_front();
      if (events_.empty()) {
        std::uint64_t ignored = 0;
        // EAGAIN: nothing was signalled, which is as good.
        [[maybe_unused]] const ssize_t n = ::read(fd_, &ignored, sizeof(ignored));
      }
      return event;
    }
    void wake() {
      const std::uint64_t one = 1;
      // EAGAIN: the counter is full, so the descriptor is readable already.
      [[maybe_unused]] const ssize_t n = ::write(fd_, &one, sizeof(one));
      changed_.notify_one();
    }

    Impl& impl_;
    Resource& resource_;
    const std::size_t limit_;
    const int fd_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<StoreEvent> events_;
    bool stopped_ = false;
    bool overflowed_ = false;
  };

  explicit Impl(Options o) : options(std::move(o)) {
    if (options.dataDir.empty()) return;
    std::filesystem::create_directories(options.dataDir);
    log = std::make_unique<Log>(options.dataDir / "store.log",
                                [this](std::string_view payload) { replay(payload); });
    durable = newest;
    watchFloor = newest;
    compactAt = std::max<std::uint64_t>(options.compactAfterBytes, 2 * log->size());
    committer = std::thread([this] { commitLoop(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    workToDo.notify_all();
    if (committer.joinable()) committer.join();
  }

  static std::string payloadOf(char kind, std::uint64_t version, std::string_view resource,
                               std::string_view ns, std::string_view name, std::string_view json) {
    std::string payload(1, kind);
    payload.append(reinterpret_cast<const char*>(&version), sizeof(version));
    for (const std::string_view part : {resource, ns, name}) {
      payload.append(part).push_back('\0');
    }
    return payload.append(json);
  }

  void replay(std::string_view payload) {
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
      baseFloor = version;
      for (auto& [name, resource] : resources)
        resource->floor = version;
      return;
    }
    Resource& resource = resourceOf(std::string(parts[0]));
    const std::string key = keyOf(parts[1], parts[2]);
    const auto present = resource.objects.find(key);
    StoreEvent event;
    event.resourceVersion = version;
    if (present != resource.objects.end()) event.previous = present->second;
    if (kind == kDelete) {
      if (!event.previous) throw std::runtime_error("store.log: removal of what is not there");
      event.type = EventType::kDeleted;
      Json last = event.previous->parse();
      event.object = make(resource, last, version);
    } else {
      event.type = event.previous ? EventType::kModified : EventType::kAdded;
      auto object = std::make_shared<StoredObject>();
      object->json = std::string(payload);
      index(resource, object->parse(), *object);
      object->resourceVersion = version;
      event.object = std::move(object);
    }
    if (kind == kSnapshot) {
      resource.objects[key] = event.object;
    } else {
      apply(resource, key, event);
    }
  }

  Resource& resourceOf(const ResourceName& name) {
    auto& slot = resources[name];
    if (!slot) {
      slot = std::make_unique<Resource>();
      slot->floor = baseFloor;
    }
    return *slot;
  }

  static void index(const Resource& resource, const Json& object, StoredObject& stored) {
    const auto metadata = object.find("metadata");
    if (metadata == object.end() || !metadata->is_object()) {
      throw std::invalid_argument("metadata: an object in the store needs it");
    }
    stored.name = stringAt(*metadata, "name");
    stored.ns = stringAt(*metadata, "namespace");
    stored.uid = stringAt(*metadata, "uid");
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

  static ObjectPtr make(const Resource& resource, Json& object, std::uint64_t version) {
    auto stored = std::make_shared<StoredObject>();
    index(resource, object, *stored);
    object["metadata"]["resourceVersion"] = std::to_string(version);
    stored->resourceVersion = version;
    stored->json = object.dump();
    return stored;
  }

  // The state writers build on.
  static ObjectPtr head(const Resource& resource, const std::string& key) {
    if (const auto p = resource.pending.find(key); p != resource.pending.end()) return p->second;
    const auto found = resource.objects.find(key);
    return found == resource.objects.end() ? nullptr : found->second;
  }

  void apply(Resource& resource, const std::string& key, const StoreEvent& event) {
    if (event.type == EventType::kDeleted) {
      resource.objects.erase(key);
    } else {
      resource.objects[key] = event.object;
    }
    resource.history.push_back(event);
    while (resource.history.size() > options.historyPerResource) {
      resource.floor = resource.history.front().resourceVersion;
      resource.history.pop_front();
    }
    for (Queue* queue : resource.queues)
      queue->push(event);
  }

  // Called with the lock held, which it gives up while it waits for the disk.
  void write(std::unique_lock<std::mutex>& lock, const ResourceName& name, Resource& resource,
             const std::string& key, StoreEvent event) {
    if (failed) std::rethrow_exception(failed);
    if (!log) {
      durable = event.resourceVersion;
      apply(resource, key, event);
      return;
    }
    const bool removal = event.type == EventType::kDeleted;
    Log::frame(payloadOf(removal ? kDelete : kPut, event.resourceVersion, name, event.object->ns,
                         event.object->name, removal ? std::string_view() : event.object->json),
               buffer);
    resource.pending[key] = removal ? nullptr : event.object;
    const std::uint64_t version = event.resourceVersion;
    writes.push_back({&resource, key, std::move(event)});
    workToDo.notify_one();
    written.wait(lock, [&] { return durable >= version || failed; });
    if (durable < version) std::rethrow_exception(failed);
  }

  void commitLoop() {
    std::unique_lock lock(mutex);
    for (;;) {
      workToDo.wait(lock, [&] { return stopping || !writes.empty(); });
      if (writes.empty()) return;
      std::vector<PendingWrite> batch;
      std::string bytes;
      batch.swap(writes);
      bytes.swap(buffer);
      lock.unlock();
      std::exception_ptr error;
      try {
        log->append(bytes);
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
        durable = write.event.resourceVersion;
        apply(*write.resource, write.key, write.event);
      }
      written.notify_all();
      if (log->size() > compactAt && writes.empty()) compact();
    }
  }

  void compact() {
    try {
      log->rewrite([&](const std::function<void(std::string_view)>& out) {
        std::string framed;
        for (const auto& [name, resource] : resources) {
          for (const auto& [key, object] : resource->objects) {
            Log::frame(payloadOf(kSnapshot, object->resourceVersion, name, object->ns, object->name,
                                 object->json),
                       framed);
            if (framed.size() > (1u << 20)) {
              out(framed);
              framed.clear();
            }
          }
        }
        Log::frame(payloadOf(kVersion, durable, "", "", "", ""), framed);
        out(framed);
      });
    } catch (const std::exception& e) {
      spdlog::error("the store's log could not be compacted, it goes on growing: {}", e.what());
    }
    compactAt = std::max<std::uint64_t>(options.compactAfterBytes, 2 * log->size());
  }

  // Whether every event after `version` is known.
  static void requireHistory(std::uint64_t floor, std::uint64_t version) {
    if (version < floor) {
      throw expired("too old resource version: " + std::to_string(version) + " (" +
                    std::to_string(floor) + ")");
    }
  }

  Options options;
  mutable std::mutex mutex;
  std::condition_variable workToDo;
  std::condition_variable written;
  std::map<ResourceName, std::unique_ptr<Resource>> resources;
  std::unique_ptr<Log> log;
  std::string buffer;
  std::vector<PendingWrite> writes;
  std::exception_ptr failed;
  std::uint64_t newest = 1;   // the last version given out
  std::uint64_t durable = 1;  // the last version everybody may see
  std::uint64_t baseFloor = 0;
  std::uint64_t watchFloor = 0;  // the version at the start
  std::uint64_t compactAt = 0;
  bool stopping = false;
  std::thread committer;
};

Store::Store(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Store::~Store() = default;

ObjectPtr Store::get(const ResourceName& name, std::string_view ns,
                     std::string_view objectName) const {
  const std::string key = keyOf(ns, objectName);
  const std::lock_guard lock(impl_->mutex);
  const auto resource = impl_->resources.find(name);
  if (resource == impl_->resources.end()) return nullptr;
  const auto found = resource->second->objects.find(key);
  return found == resource->second->objects.end() ? nullptr : found->second;
}

Snapshot Store::list(const ResourceName& resource, std::string_view ns) const {
  std::size_t remaining = 0;
  return listPage(resource, ns, {}, 0, 0, remaining);
}

Snapshot Store::listPage(const ResourceName& name, std::string_view ns, std::string_view after,
                         std::size_t limit, std::uint64_t at, std::size_t& remaining) const {
  remaining = 0;
  Snapshot snapshot;
  const std::lock_guard lock(impl_->mutex);
  Impl::Resource& resource = impl_->resourceOf(name);
  if (at > impl_->durable) {
    throw StatusError(504, "Timeout",
                      "Too large resource version: " + std::to_string(at) +
                          ", current: " + std::to_string(impl_->durable));
  }
  snapshot.resourceVersion = at == 0 ? impl_->durable : at;

  // Going back to `at` is undoing the events after it.
  std::map<std::string, ObjectPtr> undone;
  if (at != 0 && at < impl_->durable) {
    Impl::requireHistory(resource.floor, at);
    for (auto e = resource.history.rbegin();
         e != resource.history.rend() && e->resourceVersion > at; ++e) {
      undone[keyOf(e->object->ns, e->object->name)] = e->previous;
    }
  }

  std::string first(after);
  std::string last;
  if (!ns.empty()) {
    const std::string prefix = std::string(ns) + "/";
    if (first < prefix) first = prefix;
    last = std::string(ns) + "0";  // '0' is the character after '/'
  }
  const auto inRange = [&](const std::string& key) { return last.empty() || key < last; };
  auto present = resource.objects.lower_bound(first);
  if (present != resource.objects.end() && !after.empty() && present->first == after) ++present;
  auto old = undone.lower_bound(first);
  if (old != undone.end() && !after.empty() && old->first == after) ++old;
  const auto takeOne = [&](const ObjectPtr& object) {
    if (limit != 0 && snapshot.objects.size() >= limit) {
      ++remaining;
    } else {
      snapshot.objects.push_back(object);
    }
  };
  while (true) {
    const bool morePresent = present != resource.objects.end() && inRange(present->first);
    const bool moreOld = old != undone.end() && inRange(old->first);
    if (!morePresent && !moreOld) break;
    if (moreOld && (!morePresent || old->first <= present->first)) {
      if (morePresent && old->first == present->first) ++present;
      if (old->second) takeOne(old->second);
      ++old;
    } else {
      takeOne(present->second);
      ++present;
    }
  }
  return snapshot;
}

ObjectPtr Store::create(const ResourceName& name, Json object) {
  Json& metadata = object["metadata"];
  if (stringAt(metadata, "uid").empty()) metadata["uid"] = newUid();
  if (stringAt(metadata, "creationTimestamp").empty()) {
    metadata["creationTimestamp"] = formatTime(std::chrono::system_clock::now());
  }
  std::unique_lock lock(impl_->mutex);
  Impl::Resource& resource = impl_->resourceOf(name);
  const std::string key = keyOf(stringAt(metadata, "namespace"), stringAt(metadata, "name"));
  if (Impl::head(resource, key)) {
    const auto [group, plural] = splitName(name);
    throw alreadyExists(group, plural, stringAt(metadata, "name"));
  }
  StoreEvent event;
  event.type = EventType::kAdded;
  event.object = Impl::make(resource, object, impl_->newest + 1);
  event.resourceVersion = ++impl_->newest;
  ObjectPtr result = event.object;
  impl_->write(lock, name, resource, key, std::move(event));
  return result;
}

ObjectPtr Store::update(const ResourceName& name, Json object, std::uint64_t expectedVersion) {
  const auto [group, plural] = splitName(name);
  Json& metadata = object["metadata"];
  const std::string objectName = stringAt(metadata, "name");
  const std::string key = keyOf(stringAt(metadata, "namespace"), objectName);
  std::unique_lock lock(impl_->mutex);
  Impl::Resource& resource = impl_->resourceOf(name);
  ObjectPtr before = Impl::head(resource, key);
  if (!before) throw notFound(group, plural, objectName);
  if (expectedVersion != 0 && before->resourceVersion != expectedVersion) {
    throw conflict(group, plural, objectName,
                   "the object has been modified; please apply your changes to the latest version "
                   "and try again");
  }
  StoreEvent event;
  event.type = EventType::kModified;
  event.previous = before;
  // The text with the present version tells whether anything changes at all.
  ObjectPtr same = Impl::make(resource, object, before->resourceVersion);
  if (same->json == before->json) {
    // Whoever is told "unchanged" must be able to read it.
    impl_->written.wait(lock,
                        [&] { return impl_->durable >= before->resourceVersion || impl_->failed; });
    return before;
  }
  event.object = Impl::make(resource, object, impl_->newest + 1);
  event.resourceVersion = ++impl_->newest;
  ObjectPtr result = event.object;
  impl_->write(lock, name, resource, key, std::move(event));
  return result;
}

ObjectPtr Store::modify(const ResourceName& resource, std::string_view ns, std::string_view name,
                        const std::function<bool(Json& object)>& change) {
  for (;;) {
    ObjectPtr present = get(resource, ns, name);
    if (!present) return nullptr;
    Json object = present->parse();
    if (!change(object)) return present;
    try {
      return update(resource, std::move(object), present->resourceVersion);
    } catch (const StatusError& e) {
      if (e.code() == 404) return nullptr;
      if (e.code() != 409) throw;
    }
  }
}

ObjectPtr Store::remove(const ResourceName& name, std::string_view ns, std::string_view objectName,
                        std::uint64_t expectedVersion) {
  const auto [group, plural] = splitName(name);
  const std::string key = keyOf(ns, objectName);
  std::unique_lock lock(impl_->mutex);
  Impl::Resource& resource = impl_->resourceOf(name);
  const ObjectPtr before = Impl::head(resource, key);
  if (!before) throw notFound(group, plural, std::string(objectName));
  if (expectedVersion != 0 && before->resourceVersion != expectedVersion) {
    throw conflict(group, plural, std::string(objectName),
                   "the object has been modified; please apply your changes to the latest version "
                   "and try again");
  }
  StoreEvent event;
  event.type = EventType::kDeleted;
  event.previous = before;
  Json last = before->parse();
  event.object = Impl::make(resource, last, impl_->newest + 1);
  event.resourceVersion = ++impl_->newest;
  ObjectPtr result = event.object;
  impl_->write(lock, name, resource, key, std::move(event));
  return result;
}

std::unique_ptr<Subscription> Store::watch(const ResourceName& name, std::uint64_t from,
                                           std::size_t limit) {
  const std::lock_guard lock(impl_->mutex);
  Impl::Resource& resource = impl_->resourceOf(name);
  // kube-apiserver's watch cache begins anew with each start.
  Impl::requireHistory(std::max(resource.floor, impl_->watchFloor), from);
  if (from > impl_->durable) {
    throw StatusError(504, "Timeout",
                      "Too large resource version: " + std::to_string(from) +
                          ", current: " + std::to_string(impl_->durable));
  }
  const auto first = std::upper_bound(
      resource.history.begin(), resource.history.end(), from,
      [](std::uint64_t version, const StoreEvent& e) { return version < e.resourceVersion; });
  const auto backlog = static_cast<std::size_t>(resource.history.end() - first);
  auto queue = std::make_unique<Impl::Queue>(*impl_, resource, limit + backlog);
  for (auto e = first; e != resource.history.end(); ++e)
    queue->push(*e);
  resource.queues.push_back(queue.get());
  return queue;
}

std::unique_ptr<Subscription> Store::listAndWatch(const ResourceName& name, Snapshot& snapshot,
                                                  std::size_t limit) {
  const std::lock_guard lock(impl_->mutex);
  Impl::Resource& resource = impl_->resourceOf(name);
  snapshot.objects.clear();
  for (const auto& [key, object] : resource.objects)
    snapshot.objects.push_back(object);
  snapshot.resourceVersion = impl_->durable;
  auto queue = std::make_unique<Impl::Queue>(*impl_, resource, limit);
  resource.queues.push_back(queue.get());
  return queue;
}

std::uint64_t Store::resourceVersion() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->durable;
}

std::vector<ResourceName> Store::resources() const {
  std::vector<ResourceName> names;
  const std::lock_guard lock(impl_->mutex);
  for (const auto& [name, resource] : impl_->resources)
    names.push_back(name);
  return names;
}

void Store::expireHistory() {
  const std::lock_guard lock(impl_->mutex);
  impl_->baseFloor = impl_->durable;
  for (auto& [name, resource] : impl_->resources) {
    resource->history.clear();
    resource->floor = impl_->durable;
  }
}

void Store::stopSubscriptions() {
  const std::lock_guard lock(impl_->mutex);
  for (auto& [name, resource] : impl_->resources) {
    for (Impl::Queue* queue : resource->queues)
      queue->stop();
  }
}

void Store::setFieldIndexer(const ResourceName& name, FieldIndexer indexer) {
  const std::lock_guard lock(impl_->mutex);
  Impl::Resource& resource = impl_->resourceOf(name);
  resource.indexer = std::move(indexer);
  for (auto& [key, object] : resource.objects) {
    auto again = std::make_shared<StoredObject>(*object);
    again->fields = resource.indexer(object->parse());
    object = std::move(again);
  }
}

}  // namespace pointsman::e2e
