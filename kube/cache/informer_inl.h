// The bodies of Informer<T>; included by informer.h.
#pragma once

#include <exception>
#include <utility>

#include <spdlog/spdlog.h>

#include "kube/cache/informer.h"
#include "kube/text/text.h"

namespace pointsman::kube {

template <typename T>
Informer<T>::Informer(Client& client, Resource resource, ReflectorOptions options, Decode decode,
                      Key key, Same same)
    : resource_(resource),
      decode_(std::move(decode)),
      key_(std::move(key)),
      same_(std::move(same)),
      reflector_(client, std::move(resource), std::move(options), *this) {}

template <typename T>
bool Informer<T>::HasSynced() const {
  const std::lock_guard lock(mutex_);
  return synced_;
}

template <typename T>
typename Informer<T>::Ptr Informer<T>::Get(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto it = store_.find(key);
  return it == store_.end() ? nullptr : it->second;
}

template <typename T>
std::vector<typename Informer<T>::Ptr> Informer<T>::All() const {
  const std::lock_guard lock(mutex_);
  std::vector<Ptr> all;
  all.reserve(store_.size());
  for (const auto& [key, object] : store_)
    all.push_back(object);
  return all;
}

template <typename T>
size_t Informer<T>::Size() const {
  const std::lock_guard lock(mutex_);
  return store_.size();
}

template <typename T>
uint64_t Informer<T>::DecodeErrors() const {
  const std::lock_guard lock(mutex_);
  return decode_errors_;
}

template <typename T>
std::optional<std::pair<std::string, typename Informer<T>::Ptr>> Informer<T>::TryDecode(
    std::string_view json) {
  try {
    auto object = std::make_shared<const T>(decode_(json));
    std::string key = key_(*object);
    return std::pair(std::move(key), Ptr(std::move(object)));
  } catch (const std::exception& e) {
    constexpr size_t kShown = 200;
    spdlog::error("{}: object left out: {}: {}", resource_.plural, e.what(),
                  text::Shorten(json, kShown));
    const std::lock_guard lock(mutex_);
    ++decode_errors_;
    return std::nullopt;
  }
}

template <typename T>
void Informer<T>::Report(const Ptr& before, const Ptr& after) {
  for (const Handler& handler : handlers_) {
    try {
      handler(before, after);
    } catch (const std::exception& e) {
      spdlog::error("{}: handler of {}: {}", resource_.plural, key_(after ? *after : *before),
                    e.what());
    }
  }
}

// store_ is written on the reflector's thread only: on it, reading needs no lock.

template <typename T>
void Informer<T>::OnListBegin() {
  listing_.clear();
}

template <typename T>
void Informer<T>::OnListItem(std::string_view object) {
  auto decoded = TryDecode(object);
  if (!decoded) return;
  auto& [key, after] = *decoded;
  // The old object when nothing changed: a relist then costs no memory.
  const auto before = store_.find(key);
  const bool same = before != store_.end() && same_ && same_(*before->second, *after);
  listing_[key] = same ? before->second : std::move(after);
}

template <typename T>
void Informer<T>::OnListEnd(const std::string& /*resource_version*/) {
  std::unordered_map<std::string, Ptr> old = std::move(listing_);
  listing_.clear();
  {
    const std::lock_guard lock(mutex_);
    store_.swap(old);
  }
  for (const auto& [key, before] : old) {
    if (!store_.contains(key)) Report(before, nullptr);
  }
  for (const auto& [key, after] : store_) {
    const auto before = old.find(key);
    if (before == old.end()) {
      Report(nullptr, after);
    } else if (before->second != after) {
      Report(before->second, after);
    }
  }
  {
    // Only now: who acts on HasSynced must have been told of every object.
    const std::lock_guard lock(mutex_);
    synced_ = true;
  }
  if (on_synced_) on_synced_();
}

template <typename T>
void Informer<T>::OnEvent(WatchEventType type, std::string_view object) {
  auto decoded = TryDecode(object);
  if (!decoded) return;
  auto& [key, after] = *decoded;
  const Ptr before = Get(key);
  if (type == WatchEventType::kDeleted) {
    if (before == nullptr) return;
    {
      const std::lock_guard lock(mutex_);
      store_.erase(key);
    }
    Report(before, nullptr);
    return;
  }
  // A watch that was taken up again may repeat its last events.
  if (before != nullptr && same_ && same_(*before, *after)) return;
  {
    const std::lock_guard lock(mutex_);
    store_[key] = after;
  }
  Report(before, after);
}

}  // namespace pointsman::kube
