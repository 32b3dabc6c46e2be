#include "kube/objects/interned_string.h"

#include <memory>
#include <mutex>
#include <unordered_map>

namespace pointsman::kube {

struct InternedString::Table {
  std::mutex mutex;
  // The keys are views of the values' own text.
  std::unordered_map<std::string_view, std::unique_ptr<Shared>> texts;
};

InternedString::Table& InternedString::TheTable() {
  // Never destroyed: objects with static storage may still hold strings then.
  static Table& table = *new Table;
  return table;
}

const std::string& InternedString::str() const {
  static const std::string kEmpty;
  return shared_ == nullptr ? kEmpty : shared_->text;
}

InternedString::Shared* InternedString::Acquire(std::string_view text) {
  Table& table = TheTable();
  const std::lock_guard lock(table.mutex);
  if (const auto found = table.texts.find(text); found != table.texts.end()) {
    found->second->users.fetch_add(1, std::memory_order_relaxed);
    return found->second.get();
  }
  auto shared = std::make_unique<Shared>(text);
  const std::string_view own = shared->text;
  return table.texts.emplace(own, std::move(shared)).first->second.get();
}

void InternedString::Release(Shared* shared) noexcept {
  // The count falls to 0 only under the lock, so that Acquire never finds a text that is going.
  size_t users = shared->users.load(std::memory_order_relaxed);
  while (users > 1) {
    if (shared->users.compare_exchange_weak(users, users - 1, std::memory_order_acq_rel)) return;
  }
  Table& table = TheTable();
  const std::lock_guard lock(table.mutex);
  if (shared->users.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    table.texts.erase(table.texts.find(shared->text));
  }
}

size_t InternedString::Count() {
  Table& table = TheTable();
  const std::lock_guard lock(table.mutex);
  return table.texts.size();
}

}  // namespace pointsman::kube
