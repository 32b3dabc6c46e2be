// The bodies of Informer<T>; included by informer.h.
#pragma once

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <spdlog/spdlog.h>

#include "kube/cache/informer.h"
#include "kube/cache/raw_object.h"
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
std::map<std::string, std::string> Informer<T>::Undecodable() const {
  const std::lock_guard lock(mutex_);
  return undecodable_;
}

template <typename T>
std::optional<std::pair<std::string, typename Informer<T>::Ptr>> Informer<T>::TryDecode(
    std::string_view json, std::string& why) {
  try {
    auto object = std::make_shared<const T>(decode_(json));
    std::string key = key_(*object);
    {
      const std::lock_guard lock(mutex_);
      if (!undecodable_.empty()) undecodable_.erase(key);
    }
    return std::pair(std::move(key), Ptr(std::move(object)));
  } catch (const std::exception& e) {
    why = e.what();
    return std::nullopt;
  }
}

template <typename T>
std::string Informer<T>::KeyOfUndecodable(std::string_view json) const {
  const ObjectName read = ReadObjectName(json);
  std::string key = read.ns.empty() ? read.name : read.ns + "/" + read.name;
  // Keys are made by whoever made this informer, with or without the namespace.
  return !store_.contains(key) && store_.contains(read.name) ? read.name : key;
}

template <typename T>
void Informer<T>::CountUndecodable(const std::string& key, std::string_view json,
                                   const std::string& why) {
  constexpr size_t kShown = 200;
  constexpr size_t kMostWhy = 500;
  const std::string cause = text::Message(why, kMostWhy);
  const bool kept = store_.contains(key);
  {
    const std::lock_guard lock(mutex_);
    ++decode_errors_;
    const auto known = undecodable_.find(key);
    if (known != undecodable_.end()) {
      if (known->second == cause) return;
      known->second = cause;
    } else if (undecodable_.size() < kMostUndecodable) {
      undecodable_.emplace(key, cause);
    } else {
      return;  // enough of them have been named
    }
  }
  spdlog::error("{} {} cannot be read and {}: {}: {}", resource_.plural, key,
                kept ? "stays as it was" : "is left out", cause, text::Shorten(json, kShown));
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
  // What of it still cannot be read is in this list again.
  const std::lock_guard lock(mutex_);
  undecodable_.clear();
}

template <typename T>
void Informer<T>::OnListItem(std::string_view object) {
  std::string why;
  auto decoded = TryDecode(object, why);
  if (!decoded) {
    const std::string key = KeyOfUndecodable(object);
    CountUndecodable(key, object, why);
    if (const auto before = store_.find(key); before != store_.end())
      listing_[key] = before->second;
    return;
  }
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
void Informer<T>::Delete(const std::string& key) {
  const Ptr before = Get(key);
  {
    const std::lock_guard lock(mutex_);
    undecodable_.erase(key);
    store_.erase(key);
  }
  if (before != nullptr) Report(before, nullptr);
}

template <typename T>
void Informer<T>::OnEvent(WatchEventType type, std::string_view object) {
  std::string why;
  auto decoded = TryDecode(object, why);
  if (!decoded) {
    const std::string key = KeyOfUndecodable(object);
    CountUndecodable(key, object, why);
    if (type == WatchEventType::kDeleted) Delete(key);
    return;
  }
  auto& [key, after] = *decoded;
  if (type == WatchEventType::kDeleted) return Delete(key);
  const Ptr before = Get(key);
  // A watch that was taken up again may repeat its last events.
  if (before != nullptr && same_ && same_(*before, *after)) return;
  {
    const std::lock_guard lock(mutex_);
    store_[key] = after;
  }
  Report(before, after);
}

}  // namespace pointsman::kube
